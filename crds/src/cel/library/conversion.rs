//! Conversions between types: `int('1')`, `string(1.5)`, `timestamp('2020-01-01T00:00:00Z')`.

use super::Declared;
use crate::cel::{
    number,
    time::{self, Moment},
    value::{EvalError, Outcome, Value},
};

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new("bool", &[("bool_to_bool", "(bool): bool", to_bool), ("string_to_bool", "(string): bool", to_bool)]),
    Declared::new(
        "bytes",
        &[("bytes_to_bytes", "(bytes): bytes", to_bytes), ("string_to_bytes", "(string): bytes", to_bytes)],
    ),
    Declared::new(
        "double",
        &[
            ("double_to_double", "(double): double", to_double),
            ("int64_to_double", "(int): double", to_double),
            ("string_to_double", "(string): double", to_double),
            ("uint64_to_double", "(uint): double", to_double),
        ],
    ),
    Declared::new(
        "duration",
        &[
            ("duration_to_duration", "(duration): duration", to_duration),
            ("int64_to_duration", "(int): duration", to_duration),
            ("string_to_duration", "(string): duration", to_duration),
        ],
    ),
    Declared::new(
        "int",
        &[
            ("int64_to_int64", "(int): int", to_int),
            ("double_to_int64", "(double): int", to_int),
            ("duration_to_int64", "(duration): int", to_int),
            ("string_to_int64", "(string): int", to_int),
            ("timestamp_to_int64", "(timestamp): int", to_int),
            ("uint64_to_int64", "(uint): int", to_int),
        ],
    ),
    Declared::new(
        "string",
        &[
            ("string_to_string", "(string): string", to_string),
            ("bool_to_string", "(bool): string", to_string),
            ("bytes_to_string", "(bytes): string", to_string),
            ("double_to_string", "(double): string", to_string),
            ("duration_to_string", "(duration): string", to_string),
            ("int64_to_string", "(int): string", to_string),
            ("timestamp_to_string", "(timestamp): string", to_string),
            ("uint64_to_string", "(uint): string", to_string),
            ("ip_to_string", "(net.IP): string", to_string),
            ("cidr_to_string", "(net.CIDR): string", to_string),
        ],
    ),
    Declared::new(
        "timestamp",
        &[
            ("timestamp_to_timestamp", "(timestamp): timestamp", to_timestamp),
            ("int64_to_timestamp", "(int): timestamp", to_timestamp),
            ("string_to_timestamp", "(string): timestamp", to_timestamp),
        ],
    ),
    Declared::new(
        "uint",
        &[
            ("uint64_to_uint64", "(uint): uint", to_uint),
            ("double_to_uint64", "(double): uint", to_uint),
            ("int64_to_uint64", "(int): uint", to_uint),
            ("string_to_uint64", "(string): uint", to_uint),
        ],
    ),
];

fn cannot<'a>(from: &[Value<'a>], to: &str) -> Outcome<'a> {
    let from = from.first().map_or_else(String::new, |value| value.type_of().name().to_owned());
    Err(EvalError::new(format!("type conversion error from '{from}' to '{to}'")))
}

/// Go reads numbers without blanks, underscores or a missing digit.
fn digits(text: &str) -> &str {
    text.strip_prefix('+').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text)
}

fn to_bool<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Bool(b)] => Ok(Value::Bool(*b)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => cannot(arguments, "bool"),
        },
        _ => cannot(arguments, "bool"),
    }
}

fn to_bytes<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [bytes @ Value::Bytes(_)] => Ok(bytes.clone()),
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        _ => cannot(arguments, "bytes"),
    }
}

fn to_double<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Double(n)] => Ok(Value::Double(*n)),
        [Value::Int(n)] => Ok(Value::Double(*n as f64)),
        [Value::Uint(n)] => Ok(Value::Double(*n as f64)),
        [Value::String(text)] => match text.parse::<f64>() {
            Ok(n) if n.is_finite() || text.to_ascii_lowercase().contains(['i', 'n']) => Ok(Value::Double(n)),
            _ => cannot(arguments, "double"),
        },
        _ => cannot(arguments, "double"),
    }
}

fn to_duration<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Duration(n) | Value::Int(n)] => Ok(Value::Duration(*n)),
        [Value::String(text)] => time::go_duration(text)
            .map_or_else(|| cannot(arguments, "google.protobuf.Duration"), |n| Ok(Value::Duration(n))),
        _ => cannot(arguments, "google.protobuf.Duration"),
    }
}

fn to_int<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || EvalError::new("integer overflow");
    match arguments {
        [Value::Int(n) | Value::Duration(n)] => Ok(Value::Int(*n)),
        [Value::Uint(n)] => i64::try_from(*n).map(Value::Int).map_err(|_| overflow()),
        [Value::Double(n)] if *n > i64::MIN as f64 && *n < i64::MAX as f64 => Ok(Value::Int(*n as i64)),
        [Value::Double(_)] => Err(overflow()),
        [Value::Timestamp(moment)] => Ok(Value::Int(moment.unix_seconds())),
        [Value::String(text)] => digits(text).parse().map_or_else(|_| cannot(arguments, "int"), |n| Ok(Value::Int(n))),
        _ => cannot(arguments, "int"),
    }
}

fn to_uint<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || EvalError::new("unsigned integer overflow");
    match arguments {
        [Value::Uint(n)] => Ok(Value::Uint(*n)),
        [Value::Int(n)] => u64::try_from(*n).map(Value::Uint).map_err(|_| overflow()),
        [Value::Double(n)] if *n >= 0.0 && *n < u64::MAX as f64 => Ok(Value::Uint(*n as u64)),
        [Value::Double(_)] => Err(overflow()),
        [Value::String(text)] if text.starts_with(|c: char| c.is_ascii_digit()) => {
            text.parse().map_or_else(|_| cannot(arguments, "uint"), |n| Ok(Value::Uint(n)))
        }
        _ => cannot(arguments, "uint"),
    }
}

fn to_string<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::text(match arguments {
        [text @ Value::String(_)] => return Ok(text.clone()),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        [Value::Double(n)] => number::general(*n),
        [
            value @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Ip(_)
            | Value::Cidr(_)),
        ] => value.to_string(),
        _ => return cannot(arguments, "string"),
    }))
}

fn to_timestamp<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let overflow = || EvalError::new("timestamp overflow");
    match arguments {
        [moment @ Value::Timestamp(_)] => Ok(moment.clone()),
        [Value::Int(seconds)] => Moment::from_seconds(*seconds).map(Value::Timestamp).ok_or_else(overflow),
        [Value::String(text)] => match Moment::rfc3339(text) {
            Some(moment) if moment.is_within_years() => Ok(Value::Timestamp(moment)),
            Some(_) => Err(overflow()),
            None => cannot(arguments, "google.protobuf.Timestamp"),
        },
        _ => cannot(arguments, "google.protobuf.Timestamp"),
    }
}

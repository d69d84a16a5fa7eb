//! Arithmetic, which tells of what it cannot hold.

use super::{Declared, standard::not_for};
use crate::cel::value::{EvalError, Outcome, Text, Value};

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::singleton(
        "_+_",
        &[
            ("add_bytes", "(bytes, bytes): bytes", add),
            ("add_double", "(double, double): double", add),
            ("add_duration_duration", "(duration, duration): duration", add),
            ("add_duration_timestamp", "(duration, timestamp): timestamp", add),
            ("add_timestamp_duration", "(timestamp, duration): timestamp", add),
            ("add_int64", "(int, int): int", add),
            ("add_list", "(list(A), list(A)): list(A)", add),
            ("add_string", "(string, string): string", add),
            ("add_uint64", "(uint, uint): uint", add),
        ],
    ),
    Declared::singleton(
        "_/_",
        &[
            ("divide_double", "(double, double): double", divide),
            ("divide_int64", "(int, int): int", divide),
            ("divide_uint64", "(uint, uint): uint", divide),
        ],
    ),
    Declared::singleton(
        "_%_",
        &[("modulo_int64", "(int, int): int", modulo), ("modulo_uint64", "(uint, uint): uint", modulo)],
    ),
    Declared::singleton(
        "_*_",
        &[
            ("multiply_double", "(double, double): double", multiply),
            ("multiply_int64", "(int, int): int", multiply),
            ("multiply_uint64", "(uint, uint): uint", multiply),
        ],
    ),
    Declared::singleton("-_", &[("negate_double", "(double): double", negate), ("negate_int64", "(int): int", negate)]),
    Declared::singleton(
        "_-_",
        &[
            ("subtract_double", "(double, double): double", subtract),
            ("subtract_duration_duration", "(duration, duration): duration", subtract),
            ("subtract_int64", "(int, int): int", subtract),
            ("subtract_timestamp_duration", "(timestamp, duration): timestamp", subtract),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp): duration", subtract),
            ("subtract_uint64", "(uint, uint): uint", subtract),
        ],
    ),
];

fn int<'a>(number: Option<i64>) -> Outcome<'a> {
    number.map(Value::Int).ok_or_else(|| EvalError::new("integer overflow"))
}

fn uint<'a>(number: Option<u64>) -> Outcome<'a> {
    number.map(Value::Uint).ok_or_else(|| EvalError::new("unsigned integer overflow"))
}

fn duration<'a>(nanos: Option<i64>) -> Outcome<'a> {
    nanos.map(Value::Duration).ok_or_else(|| EvalError::new("duration overflow"))
}

fn timestamp<'a>(moment: Option<crate::cel::time::Moment>) -> Outcome<'a> {
    moment.map(Value::Timestamp).ok_or_else(|| EvalError::new("timestamp overflow"))
}

/// The sum of two values; also that of lists of numbers.
pub(crate) fn sum<'a>(one: &Value<'a>, other: &Value<'a>) -> Outcome<'a> {
    match (one, other) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::String(Text::Shared([&**a, &**b].concat().into()))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::List(a), Value::List(b)) => a.clone().concat(b).map(Value::List),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(at), Value::Duration(nanos)) | (Value::Duration(nanos), Value::Timestamp(at)) => {
            timestamp(at.after(i128::from(*nanos)))
        }
        (
            Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Duration(_)
            | Value::Timestamp(_),
            _,
        ) => Err(EvalError::no_such_overload()),
        _ => Err(not_for("_+_")),
    }
}

fn add<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [one, other] => sum(one, other),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn subtract<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(at), Value::Duration(nanos)] => timestamp(at.after(-i128::from(*nanos))),
        [Value::Timestamp(a), Value::Timestamp(b)] => duration(i64::try_from(a.since(b)).ok()),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_) | Value::Timestamp(_), _] => {
            Err(EvalError::no_such_overload())
        }
        _ => Err(not_for("_-_")),
    }
}

fn multiply<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(not_for("_*_")),
    }
}

fn divide<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let by_zero = || Err(EvalError::new("division by zero"));
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => by_zero(),
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        [Value::Int(_) | Value::Uint(_) | Value::Double(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(not_for("_/_")),
    }
}

fn modulo<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::new("modulus by zero")),
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        [Value::Int(_) | Value::Uint(_), _] => Err(EvalError::no_such_overload()),
        _ => Err(not_for("_%_")),
    }
}

fn negate<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Int(a)] => int(a.checked_neg()),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        [Value::Duration(a)] => duration(a.checked_neg()),
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(not_for("-_")),
    }
}

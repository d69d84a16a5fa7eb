//! `'%s is %d'.format([…])`: the clauses, and what each may be applied to.

use super::super::{list::List, map::Map, number, typing::Type, value::Value};
use crate::field::quote;

const DECIMALS: usize = 6;
/// More decimals than this say nothing of a double.
const DECIMALS_MAX: usize = 1_000;

#[derive(Clone, Copy)]
enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex { upper: bool },
    Octal,
}

impl Clause {
    /// Reads what stands behind the percent sign; also how long it is.
    fn read(text: &str) -> Result<(Self, usize), String> {
        let wrong = |why: String| format!("could not parse formatting clause: {why}");
        let (precision, mut length) = match text.strip_prefix('.') {
            None => (DECIMALS, 0),
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                if digits == rest.len() {
                    let why = "error while parsing precision: could not find end of precision specifier";
                    return Err(wrong(why.to_owned()));
                }
                let precision = rest[..digits].parse::<usize>().map_err(|_| {
                    let digits = &rest[..digits];
                    let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
                    let why = format!("strconv.Atoi: parsing {digits:?}: {why}");
                    wrong(format!("error while parsing precision: error while converting precision to integer: {why}"))
                })?;
                (precision.min(DECIMALS_MAX), digits + 1)
            }
        };
        let letter = text[length..].chars().next().unwrap_or(' ');
        length += letter.len_utf8();
        let clause = match letter {
            's' => Self::Text,
            'd' => Self::Decimal,
            'f' => Self::Fixed(precision),
            'e' => Self::Scientific(precision),
            'b' => Self::Binary,
            'x' | 'X' => Self::Hex { upper: letter == 'X' },
            'o' => Self::Octal,
            other => return Err(wrong(format!("unrecognized formatting clause \"{other}\""))),
        };
        Ok((clause, length))
    }

    fn mismatch(self, given: &str) -> String {
        let rule = match self {
            Self::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                 durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific(_) => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("error during formatting: {rule}, was given {given}")
    }

    fn takes(self, ty: &Type) -> bool {
        let is = |types: &[Type]| ty.is_dyn() || types.contains(ty);
        match self {
            Self::Text => {
                let parametric = matches!(ty, Type::List(_) | Type::Map(_) | Type::Type(_));
                let times = [Type::Timestamp, Type::Duration, Type::Null, Type::Bytes, Type::String];
                parametric || is(&times) || is(&[Type::Int, Type::Uint, Type::Double, Type::Bool])
            }
            Self::Decimal | Self::Octal => is(&[Type::Int, Type::Uint]),
            Self::Fixed(_) | Self::Scientific(_) => is(&[Type::Double, Type::String]),
            Self::Binary => is(&[Type::Int, Type::Uint, Type::Bool]),
            Self::Hex { .. } => is(&[Type::Int, Type::Uint, Type::String, Type::Bytes]),
        }
    }

    fn write(self, value: &Value<'_>) -> Result<String, String> {
        let mismatch = || Err(self.mismatch(value.type_of().name()));
        let double = || match value {
            Value::Double(n) => Some(*n),
            Value::String(text) => match &**text {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        };
        let signed = |n: i64, unsigned: fn(u64) -> String| {
            format!("{}{}", if n < 0 { "-" } else { "" }, unsigned(n.unsigned_abs()))
        };
        let integer = |unsigned: fn(u64) -> String| match value {
            Value::Int(n) => Some(signed(*n, unsigned)),
            Value::Uint(n) => Some(unsigned(*n)),
            _ => None,
        };
        let written = match self {
            Self::Text => return plain(value).map_err(|given| self.mismatch(&given)),
            Self::Decimal => integer(|n| n.to_string()),
            Self::Fixed(decimals) => double().map(|n| grouped(n, decimals)),
            Self::Scientific(decimals) => double().map(|n| powers(n, decimals)),
            Self::Binary => match value {
                Value::Bool(b) => Some(u8::from(*b).to_string()),
                _ => integer(|n| format!("{n:b}")),
            },
            Self::Octal => integer(|n| format!("{n:o}")),
            Self::Hex { upper } => {
                let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let hex = match value {
                    Value::String(text) => Some(bytes(text.as_bytes())),
                    Value::Bytes(data) => Some(bytes(data)),
                    _ => integer(|n| format!("{n:x}")),
                };
                hex.map(|hex| if upper { hex.to_uppercase() } else { hex })
            }
        };
        written.map_or_else(mismatch, Ok)
    }
}

/// With commas between thousands, as in English.
fn grouped(number: f64, decimals: usize) -> String {
    if let Some(word) = word(number) {
        return word;
    }
    let written = number::fixed(number, decimals);
    let (sign, digits) = written.strip_prefix('-').map_or(("", &*written), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, f)| (whole, Some(f)));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `1.5×10⁰³`
fn powers(number: f64, decimals: usize) -> String {
    if let Some(word) = word(number) {
        return word;
    }
    let written = number::scientific(number, Some(decimals));
    let Some((digits, exponent)) = written.split_once('e') else {
        return written;
    };
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = exponent.chars().filter_map(|c| match c {
        '-' => Some('⁻'),
        c => c.to_digit(10).and_then(|digit| RAISED.get(digit as usize).copied()),
    });
    format!("{digits}×10{}", raised.collect::<String>())
}

fn word(number: f64) -> Option<String> {
    match number {
        n if n.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("∞".to_owned()),
        f64::NEG_INFINITY => Some("-∞".to_owned()),
        _ => None,
    }
}

/// A value by itself; the error is the name of its type.
fn plain(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::List(list) => written_list(list),
        Value::Map(map) => written_map(map),
        Value::Null => Ok("null".to_owned()),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => Ok(value.to_string()),
        other => Err(other.type_of().name().to_owned()),
    }
}

/// A value within a list or map.
fn inner(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => quote(text),
        Value::Bytes(bytes) => format!("b{}", quote(&String::from_utf8_lossy(bytes))),
        Value::Double(n) if !n.is_finite() => quote(&number::fixed(*n, DECIMALS)),
        Value::Double(n) => number::fixed(*n, DECIMALS),
        Value::Timestamp(moment) => format!("timestamp({})", quote(&moment.to_string())),
        Value::Duration(_) => format!("duration({})", quote(&value.to_string())),
        other => plain(other)?,
    })
}

fn written_list(list: &List<'_>) -> Result<String, String> {
    let items = list.iter().map(|item| inner(&item.map_err(|error| error.to_string())?));
    Ok(format!("[{}]", items.collect::<Result<Vec<_>, _>>()?.join(", ")))
}

fn written_map(map: &Map<'_>) -> Result<String, String> {
    let mut pairs = Vec::new();
    for (key, value) in map.iter() {
        pairs.push((inner(&key)?, inner(&value.map_err(|error| error.to_string())?)?));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", pairs.join(", ")))
}

/// Goes through a format; `each` is asked for what replaces a clause.
fn interpolate<E>(
    format: &str,
    wrong: impl Fn(String) -> E,
    mut each: impl FnMut(usize, &str) -> Result<(String, usize), E>,
) -> Result<String, E> {
    let (mut out, mut rest, mut index) = (String::new(), format, 0);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if after.is_empty() {
            return Err(wrong("unexpected end of string".to_owned()));
        }
        let (text, length) = each(index, after)?;
        out.push_str(&text);
        rest = &after[length..];
        index += 1;
    }
    out.push_str(rest);
    Ok(out)
}

/// The text with each clause replaced by the next item.
pub(super) fn format(format: &str, list: &List<'_>) -> Result<String, String> {
    interpolate(
        format,
        |why| why,
        |index, after| {
            let value = list.get(index).ok_or_else(|| format!("index {index} out of range"))?;
            let value = value.map_err(|error| error.to_string())?;
            let (clause, length) = Clause::read(after)?;
            Ok((clause.write(&value)?, length))
        },
    )
}

/// How many items a format uses; or what is wrong with it, and with which item.
pub(crate) fn check(format: &str, types: &[&Type]) -> Result<usize, (Option<usize>, String)> {
    let mut used = 0;
    interpolate(
        format,
        |why| (None, why),
        |index, after| {
            let ty = types.get(index).ok_or_else(|| (None, format!("index {index} out of range")))?;
            used = index + 1;
            let (clause, length) = Clause::read(after).map_err(|why| (None, why))?;
            if clause.takes(ty) { Ok((String::new(), length)) } else { Err((Some(index), clause.mismatch(ty.name()))) }
        },
    )?;
    Ok(used)
}

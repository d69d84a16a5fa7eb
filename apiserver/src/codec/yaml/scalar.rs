//! What a scalar of YAML 1.1 means, as go-yaml resolves it.

use std::fmt::{Display, LowerExp};

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::field::quote;
use serde_json::{Number, Value};

use super::{Read, YamlError, fail};

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Larger than an `i64`.
    Large(u64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "!!null",
            Self::Bool(_) => "!!bool",
            Self::Int(_) | Self::Large(_) => "!!int",
            Self::Float(_) => "!!float",
            Self::Text(_) => "!!str",
        }
    }

    pub fn into_json(self) -> Read<Value> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(number) => Value::from(number),
            Self::Large(number) => Value::from(number),
            Self::Text(text) => Value::String(text),
            // Go writes a whole number without a fraction, so that it is read as an integer.
            Self::Float(float) if float.fract() == 0.0 && float.abs() < 1e18 => Value::from(float as i64),
            Self::Float(float) => match Number::from_f64(float) {
                Some(number) => Value::Number(number),
                None => return Err(YamlError::Json(format!("json: unsupported value: {}", infinite(float)))),
            },
        })
    }

    /// The scalar as the key of a JSON object.
    pub fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Large(number) => number.to_string(),
            Self::Float(float) if !float.is_finite() => match infinite(*float) {
                "+Inf" => ".inf".to_owned(),
                "-Inf" => "-.inf".to_owned(),
                _ => ".nan".to_owned(),
            },
            Self::Float(float) => go_float(*float as f32, 6),
            Self::Text(text) => text.clone(),
        }
    }

    /// What tells it from the other keys of a mapping; none for a number that does not even equal itself.
    pub fn identity(&self) -> Option<String> {
        match self {
            Self::Float(float) if float.is_nan() => None,
            // Both zeros are one.
            Self::Float(float) => Some(format!("{} {:x}", self.tag(), (float + 0.0).to_bits())),
            other => Some(format!("{} {}", other.tag(), other.text())),
        }
    }

    /// As Go's `%#v` shows it.
    pub fn go(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Null => "<nil>".to_owned(),
            other => other.text(),
        }
    }
}

const fn infinite(float: f64) -> &'static str {
    match float {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => "NaN",
    }
}

/// Go's `%g`: an exponent of two digits at least, beyond so many digits or below four zeros.
fn go_float(float: impl LowerExp + Display, digits_max: i32) -> String {
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..digits_max).contains(&exponent) {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A number as go-yaml writes it.
pub fn short(float: f64) -> String {
    go_float(float, 21)
}

/// Resolves a scalar by its tag (empty where it has none) and its text; `plain` is one without quotes.
pub fn resolve(tag: &str, text: &str, plain: bool) -> Read<Scalar> {
    let found = match tag {
        "" if !plain => return Ok(Scalar::Text(text.to_owned())),
        "!!str" => return Ok(Scalar::Text(text.to_owned())),
        "!!binary" => {
            let bytes = BASE64_STANDARD.decode(text.replace(['\n', '\r', ' '], ""));
            return match bytes {
                Ok(bytes) => Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned())),
                Err(_) => fail("!!binary value contains invalid base64 data"),
            };
        }
        "" | "!!bool" | "!!int" | "!!float" | "!!null" => guess(text),
        _ => return Ok(Scalar::Text(text.to_owned())),
    };
    match (tag, found) {
        ("", found) => Ok(found),
        ("!!float", Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
        (tag, found) if found.tag() == tag => Ok(found),
        (tag, found) => fail(format!("cannot decode {} `{text}` as a {tag}", found.tag())),
    }
}

fn guess(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => number(&text.replace('_', "")),
        _ => None,
    }
    .unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if let Some(size) = integer(digits) {
        let signed = if negative { 0i128 - i128::from(size) } else { i128::from(size) };
        if let Ok(number) = i64::try_from(signed) {
            return Some(Scalar::Int(number));
        }
        if !text.starts_with(['+', '-']) {
            return Some(Scalar::Large(size));
        }
    }
    float(text)
}

/// Go's integers: a prefix tells the base, and so does a leading zero.
fn integer(digits: &str) -> Option<u64> {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some(text) if text.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, base).ok()
}

/// Only what is written as a decimal fraction; Rust would take `inf` and the like, too.
fn float(text: &str) -> Option<Scalar> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let written = digits.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !written || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse::<f64>().ok().filter(|float| float.is_finite()).map(Scalar::Float)
}

//! When values are equal, and which of two is the lesser; numbers compare across their types.

use std::cmp::Ordering;

use super::value::{EvalError, Value};

/// Whether two values are equal. Values that schemas type cannot be compared with what has another shape.
pub(crate) fn equal(one: &Value<'_>, other: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            numbers(one, other) == Some(Ordering::Equal)
        }
        (Value::List(a), Value::List(b)) => return a.equals(b),
        (Value::List(a), _) if !a.is_plain() => return Err(EvalError::no_such_overload()),
        (Value::Map(a), Value::Map(b)) => return a.equals(b),
        (Value::Map(a), _) if !a.is_plain() => return Err(EvalError::no_such_overload()),
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => return equal(a, b),
        (Value::Object(a), Value::Object(b)) => {
            if a.name != b.name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for (name, value) in &a.fields {
                match b.field(name) {
                    Some(found) if equal(value, found)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => a.cmp(b) == Ordering::Equal,
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        (
            Value::Quantity(_)
            | Value::Url(_)
            | Value::Ip(_)
            | Value::Cidr(_)
            | Value::Semver(_)
            | Value::Format(_)
            | Value::Authorizer(_)
            | Value::PathCheck(_)
            | Value::GroupCheck(_)
            | Value::ResourceCheck(_)
            | Value::Decision(_),
            _,
        ) => return Err(EvalError::no_such_overload()),
        _ => false,
    })
}

/// As expressions compare; what cannot be compared is not equal.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        matches!(equal(self, other), Ok(true))
    }
}

/// The order of two numbers; none with one that is not a number.
fn numbers(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    match (one, other) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => double_with_whole(*a, whole(b)?),
        (a, Value::Double(b)) => double_with_whole(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    }
}

fn double_with_whole(double: f64, whole: i128) -> Option<Ordering> {
    // The whole number is compared as a double, as upstream compares it.
    double.partial_cmp(&(whole as f64))
}

/// The order of two values of one type; doubles that are no numbers have none.
pub(crate) fn compare(one: &Value<'_>, other: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (one, other) {
        (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            return numbers(one, other).ok_or_else(|| EvalError::new("NaN values cannot be ordered"));
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => (**a).cmp(&**b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

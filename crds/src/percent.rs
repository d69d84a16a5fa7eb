//! Numbers that can be given as a part of another: `2` or `25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::{
    field::{Error, Errors, Path, not_negative},
    syntax,
};

/// The percentage, if it is one.
pub fn percent(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) if syntax::percent(text).is_empty() => text.strip_suffix('%')?.parse().ok(),
        _ => None,
    }
}

/// The number, whether of things or of percents.
pub fn number(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(n) => (*n).into(),
        IntOrString::String(text) => percent(value).or_else(|| text.parse().ok()).unwrap_or(0),
    }
}

pub fn text(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(n) => n.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

pub fn shown(value: &IntOrString) -> Value {
    match value {
        IntOrString::Int(n) => Value::from(*n),
        IntOrString::String(text) => Value::from(text.as_str()),
    }
}

/// The number of things out of `total` that is meant, fractions rounded up or down.
pub fn of(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    let Some(percent) = percent(value) else {
        return i32::try_from(number(value)).unwrap_or(i32::MAX);
    };
    let product = percent.saturating_mul(total.into());
    let rounded = if round_up { product.saturating_add(99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

/// A percentage, or a number that is not negative.
pub fn validate(value: &IntOrString, path: &Path, errors: &mut Errors) {
    match value {
        IntOrString::Int(n) => not_negative(*n, path, errors),
        IntOrString::String(text) => {
            errors.extend(syntax::percent(text).into_iter().map(|why| Error::invalid(path, shown(value), why)));
        }
    }
}

pub fn at_most_all(value: &IntOrString, path: &Path, errors: &mut Errors) {
    if percent(value).is_some_and(|p| p > 100) {
        errors.push(Error::invalid(path, shown(value), "must not be greater than 100%"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!((of(&quarter, 10, true), of(&quarter, 10, false)), (3, 2));
        assert_eq!(of(&IntOrString::Int(4), 10, true), 4);
        assert_eq!(number(&IntOrString::String("x".into())), 0);
    }
}

//! Limits of numbers.

use serde_json::{Number, Value};

use super::{Checker, Found, Types, limit};
use crate::custom::structural::Structural;

/// A number against the range of its type and format, and against what the schema allows.
pub(super) fn check(
    checker: &Checker,
    number: &Number,
    schema: &Structural,
    types: &Types,
    format: &str,
    path: &str,
) -> Found {
    let limits = &schema.limits;
    let kind = if matches!(types.single(), "integer" | "number") { types.single() } else { "" };
    let mut found = Found::default();
    let range = |value: &Number, what: &str| {
        let fits = in_range(value, kind, format);
        let words = match format {
            "" => format!("{what} value must be of type {kind} (default format) in {path}"),
            format => format!("{what} value must be of type {kind} with format {format} in {path}"),
        };
        (!fits).then(|| checker.composite(words))
    };
    found.add(range(number, "Checked"));
    let value = Value::Number(number.clone());
    let float = number.as_f64().unwrap_or_default();
    let whole = number.as_i64();
    if let Some(factor) = limits.multiple_of {
        let outside = bound(factor).and_then(|factor| range(&factor, "MultipleOf"));
        let integer = whole.filter(|_| outside.is_none());
        found.add(outside);
        let shown = limit(factor, integer.is_some());
        if factor <= 0.0 || integer.is_some() && factor < 1.0 {
            let words = format!("factor MultipleOf declared for {path} must be positive: {shown}");
            found.push(checker.invalid(path, factor, words));
        } else {
            let is_multiple = match integer {
                Some(integer) => integer % (factor as i64) == 0,
                None => (if factor < 1.0 { 1.0 / factor * float } else { float / factor }).fract() == 0.0,
            };
            if !is_multiple {
                let words = format!("{path} in body should be a multiple of {shown}");
                found.push(checker.invalid(path, value.clone(), words));
            }
        }
    }
    let sides = [
        (limits.minimum, limits.exclusive_minimum, "Minimum boundary", "greater than", true),
        (limits.maximum, limits.exclusive_maximum, "Maximum boundary", "less than", false),
    ];
    for (side, exclusive, what, words, is_minimum) in sides {
        let Some(side) = side else { continue };
        let outside = bound(side).and_then(|side| range(&side, what));
        let integer = whole.filter(|_| outside.is_none());
        found.add(outside);
        let order = match integer {
            Some(integer) => Some(integer.cmp(&(side as i64))),
            None => float.partial_cmp(&side),
        };
        let is_beyond = order.is_some_and(|order| if is_minimum { order.is_lt() } else { order.is_gt() });
        if is_beyond || (exclusive && order.is_some_and(std::cmp::Ordering::is_eq)) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let shown = limit(side, integer.is_some());
            let words = format!("{path} in body should be {words}{or_equal} {shown}");
            found.push(checker.invalid(path, value.clone(), words));
        }
    }
    found.matches += 1;
    found
}

fn bound(number: f64) -> Option<Number> {
    Number::from_f64(number)
}

fn in_range(number: &Number, kind: &str, format: &str) -> bool {
    let float = number.as_f64().unwrap_or_default();
    match (kind, format) {
        ("integer", format) => {
            let whole = number.as_i64().or_else(|| {
                let fits =
                    float.fract() == 0.0 && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&float);
                fits.then_some(float as i64)
            });
            whole.is_some_and(|whole| format != "int32" || i32::try_from(whole).is_ok())
        }
        (_, "float") => float.abs() <= f64::from(f32::MAX),
        _ => true,
    }
}

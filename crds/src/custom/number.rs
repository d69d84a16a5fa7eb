//! Numbers as Go holds and writes them where no type is declared.

use serde_json::Value;

/// Above this a float can no longer be told from its neighbours.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Go writes a whole number without a fraction, and reads it back as an integer: so numbers become throughout a value.
pub fn whole(mut value: Value) -> Value {
    make_whole(&mut value);
    value
}

pub fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= WHOLE_MAX);
            if let Some(number) = whole {
                *value = Value::from(number as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(members) => members.values_mut().for_each(make_whole),
        _ => {}
    }
}

/// What Go's `%v` makes of a float.
pub fn float(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// What Go's `%v` makes of a value.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(set) => set.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(float).unwrap_or_default(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}:{}", shown(value))).collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

/// The Go type of a value that was read without a declared one.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats() {
        for (number, want) in [
            (1.5, "1.5"),
            (10.0, "10"),
            (1e5, "100000"),
            (1_234_567.5, "1.2345675e+06"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(float(number), want);
        }
        let value = json!({"b": [1e20, null, "x"], "a": {}});
        assert_eq!(shown(&value), "map[a:map[] b:[1e+20 <nil> x]]");
        assert_eq!(whole(json!({"a": [2.0, 2.5]})), json!({"a": [2, 2.5]}));
    }
}

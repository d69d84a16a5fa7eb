//! JSON merge patch (RFC 7386); as upstream's library does it, nulls are also dropped inside of lists.

use serde_json::Value;

use crate::error::{ApiError, Result};

/// The document with the members of `patch` laid over it; null takes a member away. 400 for a patch that is no object.
pub fn merge(mut document: Value, patch: &Value) -> Result<Value> {
    let Value::Object(members) = patch else {
        return Err(match patch {
            Value::Null => ApiError::bad_request("Invalid JSON Patch"),
            other => ApiError::bad_request(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                match other {
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Number(_) => "number",
                    _ => "bool",
                }
            )),
        });
    };
    for (key, value) in members {
        lay(&mut document, key, value);
    }
    Ok(document)
}

fn lay(document: &mut Value, key: &str, patch: &Value) {
    let Value::Object(map) = document else { return };
    match (map.get_mut(key), patch) {
        (_, Value::Null) => {
            map.remove(key);
        }
        (Some(there @ Value::Object(_)), Value::Object(members)) => {
            for (key, value) in members {
                lay(there, key, value);
            }
        }
        // A list over an object is kept as it came; it will not decode anyhow.
        (Some(there @ Value::Object(_)), other) => *there = other.clone(),
        (_, other) => {
            map.insert(key.to_owned(), without_nulls(other));
        }
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges() {
        let document = json!({"a": {"b": 1, "c": 2}, "l": [1], "s": "x"});
        for (patch, expected) in [
            (json!({}), document.clone()),
            (json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}, "l": [1], "s": "x"})),
            (json!({"a": null, "none": null}), json!({"l": [1], "s": "x"})),
            (
                json!({"l": [{"x": null, "y": 1}, null]}),
                json!({"a": {"b": 1, "c": 2}, "l": [{"y": 1}, null], "s": "x"}),
            ),
            (json!({"s": {"t": null}}), json!({"a": {"b": 1, "c": 2}, "l": [1], "s": {}})),
        ] {
            assert_eq!(merge(document.clone(), &patch).unwrap(), expected, "{patch}");
        }
        assert_eq!(merge(document, &json!([1])).unwrap_err().reason(), "BadRequest");
    }
}

//! JSON patch (RFC 6902) as upstream's library understands it.
//!
//! It differs from the RFC, and from the crates that follow the RFC: `replace` of a missing member adds it, `copy` of one
//! adds null, indices may count from the end of a list, `test` takes a missing member for null.

use serde_json::{Map, Value};

use super::unfit;
use crate::error::{ApiError, Result};

/// Operations that one patch may have.
const OPERATIONS_MAX: usize = 10_000;
/// By how many bytes `copy` operations together may grow an object.
const COPY_BYTES_MAX: usize = 3 << 20;

/// The document after all operations of `patch`, a list of them. Errors: 400 for what is no JSON patch, 413 for too many
/// operations, 422 without a reason given for one that does not fit.
pub fn json(mut document: Value, patch: &Value) -> Result<Value> {
    let operations = decode(patch)?;
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        return Err(ApiError::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let mut copied = 0;
    for operation in &operations {
        operation.apply(&mut document, &mut copied).ok_or_else(unfit)?;
    }
    Ok(document)
}

/// What strict field validation has against a JSON patch: members of operations that mean nothing.
pub fn unknown_members(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let members =
        operations.iter().enumerate().flat_map(|(i, o)| o.as_object().into_iter().flatten().map(move |m| (i, m.0)));
    members
        .filter(|(_, member)| !matches!(member.as_str(), "op" | "path" | "from" | "value"))
        .map(|(i, member)| format!("json patch unknown field \"[{i}].{member}\""))
        .collect()
}

struct Operation<'a> {
    op: &'a str,
    path: Option<&'a str>,
    from: Option<&'a str>,
    value: Option<&'a Value>,
}

fn decode(patch: &Value) -> Result<Vec<Operation<'_>>> {
    let items = match patch {
        Value::Array(items) => items.as_slice(),
        Value::Null => &[],
        other => return Err(wrong_type(other, "[]handlers.jsonPatchOp")),
    };
    items.iter().map(Operation::decode).collect()
}

fn wrong_type(value: &Value, wanted: &str) -> ApiError {
    let found = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        _ => "bool",
    };
    ApiError::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
    ))
}

impl<'a> Operation<'a> {
    fn decode(item: &'a Value) -> Result<Self> {
        let text = |name: &str| match item.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(wrong_type(other, "string")),
        };
        if !matches!(item, Value::Object(_) | Value::Null) {
            return Err(wrong_type(item, "handlers.jsonPatchOp"));
        }
        Ok(Self {
            op: text("op")?.unwrap_or("unknown"),
            path: text("path")?,
            from: text("from")?,
            value: item.get("value"),
        })
    }

    /// None where it does not fit the document.
    fn apply(&self, document: &mut Value, copied: &mut usize) -> Option<()> {
        let value = || self.value.cloned().unwrap_or_default();
        match self.op {
            "add" => {
                let (mut container, key) = find(document, self.path?)?;
                container.add(&key, value())
            }
            "remove" => {
                let (mut container, key) = find(document, self.path?)?;
                container.remove(&key).map(drop)
            }
            "replace" if self.path?.is_empty() => {
                let value = self.value.filter(|v| v.is_object() || v.is_array())?;
                *document = value.clone();
                Some(())
            }
            "replace" => {
                let (mut container, key) = find(document, self.path?)?;
                container.replace(&key, value())
            }
            "move" => {
                let (mut container, key) = find(document, self.from?)?;
                let moved = container.remove(&key)?;
                let (mut container, key) = find(document, self.path?)?;
                container.add(&key, moved)
            }
            "copy" => {
                let (container, key) = find(document, self.from?)?;
                let copy = container.get(&key)?.cloned().unwrap_or_default();
                *copied += copy.to_string().len();
                if *copied > COPY_BYTES_MAX {
                    return None;
                }
                let (mut container, key) = find(document, self.path?)?;
                container.add(&key, copy)
            }
            "test" if self.path?.is_empty() => (Some(&*document) == self.value).then_some(()),
            "test" => {
                let (container, key) = find(document, self.path?)?;
                let is = container.get(&key)?.unwrap_or(&Value::Null);
                (is == self.value.unwrap_or(&Value::Null)).then_some(())
            }
            _ => None,
        }
    }
}

enum Container<'a> {
    Object(&'a mut Map<String, Value>),
    Array(&'a mut Vec<Value>),
}

/// The object or list that a pointer ends in, and its last part.
fn find<'a>(document: &'a mut Value, pointer: &str) -> Option<(Container<'a>, String)> {
    let (parents, last) = pointer.rsplit_once('/')?;
    let mut at = document;
    for part in parents.split('/').skip(1) {
        let part = unescape(part);
        at = match at {
            Value::Object(map) => map.get_mut(&part)?,
            Value::Array(items) => {
                let i = position(&part, items.len())?;
                items.get_mut(i)?
            }
            _ => return None,
        };
    }
    let container = match at {
        Value::Object(map) => Container::Object(map),
        Value::Array(items) => Container::Array(items),
        _ => return None,
    };
    Some((container, unescape(last)))
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// An index as it is, or counted from the end.
fn position(key: &str, len: usize) -> Option<usize> {
    let i: i64 = key.parse().ok()?;
    if i >= 0 { usize::try_from(i).ok() } else { len.checked_sub(usize::try_from(i.unsigned_abs()).ok()?) }
}

impl Container<'_> {
    /// The inner option: a missing member of an object is no error.
    fn get(&self, key: &str) -> Option<Option<&Value>> {
        match self {
            Self::Object(map) => Some(map.get(key)),
            Self::Array(items) => items.get(position(key, items.len())?).map(Some),
        }
    }

    fn add(&mut self, key: &str, value: Value) -> Option<()> {
        match self {
            Self::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Self::Array(items) if key == "-" => items.push(value),
            Self::Array(items) => {
                let i = position(key, items.len() + 1).filter(|i| *i <= items.len())?;
                items.insert(i, value);
            }
        }
        Some(())
    }

    fn replace(&mut self, key: &str, value: Value) -> Option<()> {
        match self {
            Self::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Self::Array(items) => {
                let i = position(key, items.len())?;
                *items.get_mut(i)? = value;
            }
        }
        Some(())
    }

    fn remove(&mut self, key: &str) -> Option<Value> {
        match self {
            Self::Object(map) => map.remove(key),
            Self::Array(items) => {
                let i = position(key, items.len()).filter(|i| *i < items.len())?;
                Some(items.remove(i))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json as j;

    use super::*;

    #[test]
    fn operations() {
        let document = j!({"a": {"b": 1, "x/y": 2}, "l": [1, 2, 3], "n": null});
        for (patch, expected) in [
            (
                j!({"op": "add", "path": "/a/c", "value": 3}),
                j!({"a": {"b": 1, "x/y": 2, "c": 3}, "l": [1, 2, 3], "n": null}),
            ),
            (
                j!({"op": "replace", "path": "/new", "value": 3}),
                j!({"a": {"b": 1, "x/y": 2}, "l": [1, 2, 3], "n": null, "new": 3}),
            ),
            (j!({"op": "remove", "path": "/a/x~1y"}), j!({"a": {"b": 1}, "l": [1, 2, 3], "n": null})),
            (
                j!({"op": "add", "path": "/l/1", "value": 9}),
                j!({"a": {"b": 1, "x/y": 2}, "l": [1, 9, 2, 3], "n": null}),
            ),
            (
                j!({"op": "add", "path": "/l/-1", "value": 9}),
                j!({"a": {"b": 1, "x/y": 2}, "l": [1, 2, 3, 9], "n": null}),
            ),
            (j!({"op": "remove", "path": "/l/-3"}), j!({"a": {"b": 1, "x/y": 2}, "l": [2, 3], "n": null})),
            (
                j!({"op": "move", "from": "/a/b", "path": "/b"}),
                j!({"a": {"x/y": 2}, "b": 1, "l": [1, 2, 3], "n": null}),
            ),
            (
                j!({"op": "copy", "from": "/none", "path": "/c"}),
                j!({"a": {"b": 1, "x/y": 2}, "c": null, "l": [1, 2, 3], "n": null}),
            ),
            (j!({"op": "test", "path": "/none", "value": null}), document.clone()),
            (j!({"op": "replace", "path": "", "value": {}}), j!({})),
        ] {
            assert_eq!(json(document.clone(), &j!([patch])).unwrap(), expected, "{patch}");
        }
    }

    #[test]
    fn refusals() {
        let document = j!({"a": {"b": 1}, "l": [1], "s": "x"});
        for (patch, code) in [
            (j!([{"op": "add", "path": "/x/y", "value": 1}]), 422),
            (j!([{"op": "add", "path": "/s/y", "value": 1}]), 422),
            (j!([{"op": "add", "path": "/l/2", "value": 1}]), 422),
            (j!([{"op": "add", "path": "", "value": 1}]), 422),
            (j!([{"op": "replace", "path": "/l/1", "value": 1}]), 422),
            (j!([{"op": "replace", "path": "/l/-", "value": 1}]), 422),
            (j!([{"op": "remove", "path": "/a/c"}]), 422),
            (j!([{"op": "move", "from": "/a/c", "path": "/d"}]), 422),
            (j!([{"op": "test", "path": "/a/b", "value": 2}]), 422),
            (j!([{"op": "frob", "path": "/a"}]), 422),
            (j!([{"op": "add"}]), 422),
            (j!([{"op": "add", "path": 1}]), 400),
            (j!({"op": "add"}), 400),
            (Value::Array(vec![j!({"op": "test", "path": "/none"}); OPERATIONS_MAX + 1]), 413),
        ] {
            assert_eq!(json(document.clone(), &patch).unwrap_err().code().as_u16(), code);
        }
        assert_eq!(
            unknown_members(&j!([{"op": "x", "path": "", "gadget": 1}])),
            ["json patch unknown field \"[0].gadget\""]
        );
    }

    #[test]
    fn copies_cannot_grow_without_limit() {
        let document = j!({"a": "x".repeat(2 << 20)});
        let copy = j!({"op": "copy", "from": "/a", "path": "/b"});
        assert!(json(document.clone(), &j!([copy])).is_ok());
        assert_eq!(json(document, &j!([copy, copy])).unwrap_err().code(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}

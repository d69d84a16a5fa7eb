//! JSON patch (RFC 6902) as upstream's library understands it.
//!
//! It differs from the RFC, and from the crates that follow the RFC: `replace` of a missing member adds it, `copy` of one
//! adds null, indices may count from the end of a list, `test` takes a missing member for null.

use crds::field::quote;
use serde_json::{Map, Value};

use super::unfit;
use crate::error::{ApiError, Result};

/// Operations that one patch may have.
const OPERATIONS_MAX: usize = 10_000;
/// By how many bytes `copy` operations together may grow an object.
const COPY_BYTES_MAX: usize = 3 << 20;
/// What upstream's library calls all that is not there.
const MISSING: &str = "missing value";

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
    apply(&mut document, &operations).map_err(|_| unfit())?;
    Ok(document)
}

/// The document after all operations of a patch that is no client's; the error tells why, as upstream's library does.
pub fn operations(mut document: Value, patch: &Value) -> std::result::Result<Value, String> {
    let operations = decode(patch).map_err(|error| error.message().to_owned())?;
    apply(&mut document, &operations)?;
    Ok(document)
}

fn apply(document: &mut Value, operations: &[Operation]) -> std::result::Result<(), String> {
    let mut copied = 0;
    operations.iter().try_for_each(|operation| operation.apply(document, &mut copied))
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

    /// The error tells why it does not fit the document.
    fn apply(&self, document: &mut Value, copied: &mut usize) -> std::result::Result<(), String> {
        let op = self.op;
        let value = || self.value.cloned().unwrap_or_default();
        let path = || self.path.ok_or_else(|| format!("{op} operation failed to decode path: {MISSING}"));
        let from = || self.from.ok_or_else(|| format!("{op} operation failed to decode from: {MISSING}"));
        let missing = |what: &str| format!("{op} operation does not apply: doc is missing {what}: {MISSING}");
        match op {
            "add" => {
                let path = path()?;
                let (mut container, key) = find(document, path).ok_or_else(|| missing(&format!("path: \"{path}\"")))?;
                container.add(&key, value()).map_err(|why| format!("error in add for path: '{path}': {why}"))
            }
            "remove" => {
                let path = path()?;
                let (mut container, key) = find(document, path).ok_or_else(|| missing(&format!("path: \"{path}\"")))?;
                let removed = container.remove(&key);
                removed.map(drop).map_err(|why| format!("error in remove for path: '{path}': {why}"))
            }
            "replace" if path()?.is_empty() => {
                let fits = |value: &&Value| value.is_object() || value.is_array();
                let why = || format!("replace operation value must be object or array: {MISSING}");
                *document = self.value.filter(fits).ok_or_else(why)?.clone();
                Ok(())
            }
            "replace" => {
                let path = path()?;
                let (mut container, key) = find(document, path).ok_or_else(|| missing(&format!("path: {path}")))?;
                container.replace(&key, value()).map_err(|_| missing(&format!("key: {path}")))
            }
            "move" => {
                let (from, path) = (from()?, path()?);
                let (mut container, key) =
                    find(document, from).ok_or_else(|| missing(&format!("from path: {from}")))?;
                let moved = container.remove(&key).map_err(|why| format!("error in move for path: '{key}': {why}"))?;
                let target = find(document, path);
                let (mut container, key) = target.ok_or_else(|| missing(&format!("destination path: {path}")))?;
                container.add(&key, moved).map_err(|why| format!("error in move for path: '{path}': {why}"))
            }
            "copy" => {
                let (from, path) = (from()?, path()?);
                let (container, key) = find(document, from).ok_or_else(|| missing(&format!("from path: {from}")))?;
                let copy = container.get(&key).map_err(|why| format!("error in copy for from: '{from}': {why}"))?;
                let copy = copy.cloned().unwrap_or_default();
                *copied += copy.to_string().len();
                if *copied > COPY_BYTES_MAX {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, \
                         exceeding the limit {COPY_BYTES_MAX}"
                    ));
                }
                let target = find(document, path);
                let (mut container, key) = target.ok_or_else(|| missing(&format!("destination path: {path}")))?;
                container.add(&key, copy).map_err(|why| format!("error while adding value during copy: {why}"))
            }
            "test" => {
                let path = path()?;
                let failed = || format!("testing value {path} failed: test failed");
                if path.is_empty() {
                    return (Some(&*document) == self.value).then_some(()).ok_or_else(failed);
                }
                let missing = || format!("test operation does not apply: is missing path: {path}: {MISSING}");
                let (container, key) = find(document, path).ok_or_else(missing)?;
                let is = container.get(&key).map_err(|why| format!("error in test for path: '{path}': {why}"))?;
                let is = is.unwrap_or(&Value::Null);
                (is == self.value.unwrap_or(&Value::Null)).then_some(()).ok_or_else(failed)
            }
            other => Err(format!("Unexpected kind: {other}")),
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
                let index = position(&part, items.len()).ok()?;
                items.get_mut(index)?
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

pub(super) fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

type Fits<T> = std::result::Result<T, String>;

/// An index as it is, or counted from the end, below `len`.
fn position(key: &str, len: usize) -> Fits<usize> {
    let why = || format!("strconv.Atoi: parsing {}: invalid syntax", quote(key));
    let index: i64 = key.parse().map_err(|_| why())?;
    let position = match usize::try_from(index) {
        Ok(index) => Some(index).filter(|index| *index < len),
        Err(_) => usize::try_from(index.unsigned_abs()).ok().and_then(|back| len.checked_sub(back)),
    };
    position.ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

impl Container<'_> {
    /// The option: a missing member of an object is no error.
    fn get(&self, key: &str) -> Fits<Option<&Value>> {
        match self {
            Self::Object(map) => Ok(map.get(key)),
            Self::Array(items) => Ok(items.get(position(key, items.len())?)),
        }
    }

    fn add(&mut self, key: &str, value: Value) -> Fits<()> {
        match self {
            Self::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Self::Array(items) if key == "-" => items.push(value),
            Self::Array(items) => {
                let index = position(key, items.len() + 1).map_err(|why| match why.starts_with("strconv") {
                    true => format!("value was not a proper array index: '{key}': {why}"),
                    false => why,
                })?;
                items.insert(index, value);
            }
        }
        Ok(())
    }

    fn replace(&mut self, key: &str, value: Value) -> Fits<()> {
        match self {
            Self::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Self::Array(items) => {
                let index = position(key, items.len())?;
                if let Some(place) = items.get_mut(index) {
                    *place = value;
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Fits<Value> {
        match self {
            Self::Object(map) => {
                map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
            }
            Self::Array(items) => {
                let index = position(key, items.len())?;
                Ok(items.remove(index))
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

//! Strategic merge patch: lists are merged by keys that the schema names, and directives say what plain JSON cannot.
//!
//! The directives: `$patch` (replace, delete, merge), `$retainKeys`, `$deleteFromPrimitiveList/<list>` and
//! `$setElementOrder/<list>`. Where upstream's outcome depends on the order of a Go map, the sorted order is taken.

mod list;
mod lookup;

use crds::schema::{Schema, TypeId};
use serde_json::{Map, Value};

use self::lookup::{Lookup, Merging};
use super::{print, unfit};
use crate::error::{ApiError, Result};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// What is wrong with a patch; upstream answers 400 to the first, 422 to the second and, by accident, 500 to the rest.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("invalid patch format of {0}")]
    Format(&'static str),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("{0}")]
    Other(String),
}

impl From<Wrong> for ApiError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Format(_) => Self::bad_request(wrong.to_string()),
            Wrong::ListOfLists => unfit(),
            Wrong::Other(why) => Self::unknown(why),
        }
    }
}

type Outcome<T> = std::result::Result<T, Wrong>;

/// The document of type `ty` with `patch` merged into it.
pub fn strategic(schema: &Schema, ty: TypeId, document: Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        let found = if patch.is_array() { "array" } else { print::type_of(patch) };
        let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
        return Err(ApiError::bad_request(why));
    };
    let Value::Object(document) = document else { return Err(unfit()) };
    Ok(Value::Object(merge_objects(document, patch.clone(), Lookup::root(schema, ty))?))
}

fn merge_objects(mut original: Object, mut patch: Object, lookup: Lookup) -> Outcome<Object> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => {
                let of = print::plain(&with_directive(patch, directive.clone()));
                Err(Wrong::Other(format!("unknown patch type: {} in map: {of}", print::plain(&directive))))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order_elements(&mut original, &mut patch, lookup)?;
    for (key, value) in patch {
        merge_member(&mut original, &key, value, lookup)?;
    }
    Ok(original)
}

fn with_directive(mut patch: Object, directive: Value) -> Value {
    patch.insert(PATCH.to_owned(), directive);
    Value::Object(patch)
}

fn merge_member(original: &mut Object, key: &str, mut value: Value, lookup: Lookup) -> Outcome<()> {
    let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
        Some(rest) => (rest.strip_prefix('/').ok_or(Wrong::Format("primitive list"))?, true),
        None => (key, false),
    };
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    let Some(there) = original.get_mut(key).filter(|there| print::type_of(there) == print::type_of(&value)) else {
        if !deletes {
            discard_nulls(&mut value);
            put(original, key, value);
        }
        return Ok(());
    };
    match (there, value) {
        (Value::Object(there), Value::Object(patch)) => {
            let (inner, how) = lookup.object(key)?;
            *there = match how.strategy {
                Merging::Replace => patch,
                _ => merge_objects(std::mem::take(there), patch, inner)?,
            };
        }
        (Value::Array(there), Value::Array(patch)) => {
            let (inner, how) = lookup.list(key)?;
            *there = list::merge(std::mem::take(there), patch, inner, &how, deletes)?;
        }
        (_, value) => put(original, key, value),
    }
    Ok(())
}

fn put(original: &mut Object, key: &str, value: Value) {
    match without_directives(value) {
        Some(value) => original.insert(key.to_owned(), value),
        None => original.remove(key),
    };
}

/// With a `$retainKeys` list, members that it does not name go away.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Outcome<()> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(Wrong::Format("retainKeys")) };
    let named = |key: &str| retained.iter().any(|r| r == key);
    let directive = |key: &str| key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !named(key)) {
        return Err(Wrong::Format("retainKeys"));
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// Merges the lists for which `$setElementOrder` is given, and takes them out of the patch.
fn order_elements(original: &mut Object, patch: &mut Object, lookup: Lookup) -> Outcome<()> {
    let directives: Vec<_> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(bad_list(&other.unwrap_or_default())),
        };
        let name = directive.strip_prefix(ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/'));
        let name = name.ok_or(Wrong::Format("setElementOrder list"))?;
        let there = original.get(name).map(as_list).transpose()?;
        let given = patch.get(name).map(as_list).transpose()?;
        let (inner, how) = lookup.list(name)?;
        if let Some(merged) = list::merge_in_order(there, given, order, inner, &how)? {
            original.insert(name.to_owned(), Value::Array(merged));
            patch.remove(name);
        }
    }
    Ok(())
}

fn as_list(value: &Value) -> Outcome<Vec<Value>> {
    value.as_array().cloned().ok_or_else(|| bad_list(value))
}

fn bad_list(value: &Value) -> Wrong {
    Wrong::Other(format!("expected a []interface {{}}, but received a {}", print::type_of(value)))
}

/// None for an object that is itself a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;

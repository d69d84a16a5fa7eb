//! Reading and changing objects as JSON: what is missing is made where it is needed.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};

/// An object as its type. It has been decoded strictly before, so that a failure is ours.
pub fn decode<T: DeserializeOwned>(object: &Value) -> Result<T> {
    T::deserialize(object).map_err(ApiError::internal)
}

/// The text at a JSON pointer, empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of the list at a JSON pointer.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The object below these members, made if it is missing; none where something else stands in the way.
pub fn object<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    let map = value.as_object_mut()?;
    match path {
        [] => Some(map),
        [first, rest @ ..] => object(map.entry(*first).or_insert(Value::Null), rest),
    }
}

/// Sets a member, making what is above it.
pub fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    let Some((last, above)) = path.split_last() else { return };
    if let Some(map) = object(value, above) {
        map.insert((*last).to_owned(), to.into());
    }
}

/// The list that is a member, made if it is missing.
pub fn list<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Vec<Value>> {
    let (last, above) = path.split_last()?;
    let list = object(value, above)?.entry(*last).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

/// The containers of a pod, regular ones first, each with whether it is an init container.
pub fn containers(pod: &mut Value) -> impl Iterator<Item = (&mut Value, bool)> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    let lists = spec.into_iter().flat_map(|spec| spec.iter_mut());
    let known = lists.filter_map(|(name, list)| match name.as_str() {
        "containers" => list.as_array_mut().map(|list| (list, false)),
        "initContainers" => list.as_array_mut().map(|list| (list, true)),
        _ => None,
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|(_, init)| *init);
    known.into_iter().flat_map(|(list, init)| list.iter_mut().map(move |container| (container, init)))
}

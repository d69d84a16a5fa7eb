//! Laying an applied configuration over the live object.

use std::collections::BTreeMap;

use crds::schema::{ListType, Schema};
use serde_json::{Map, Value};

use super::{
    atom::{Atom, Of, Place, item_element},
    path::Element,
};

/// `applied` over `live`: nothing is removed; where both have a leaf, the applied one is taken. Lists keep the live
/// order, and take the applied one for what is applied.
pub fn merge(schema: &Schema, place: Place, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (before, after) = (place.atom(schema, live), place.atom(schema, applied));
    let forms = std::mem::discriminant(&before) != std::mem::discriminant(&after);
    let atom = if applied.is_none() || (forms && applied.is_some_and(Value::is_null)) { before } else { after };
    let leaf = || applied.or(live).cloned();
    match atom {
        Atom::Scalar(_) | Atom::Map { atomic: true, .. } | Atom::List { list: ListType::Atomic, .. } => leaf(),
        Atom::Map { of, .. } => {
            let (old, new) = (live.and_then(Value::as_object), applied.and_then(Value::as_object));
            if old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty) {
                return leaf();
            }
            maps(schema, of, old, new)
        }
        Atom::List { list, item } => {
            let (old, new) = (live.and_then(Value::as_array), applied.and_then(Value::as_array));
            if old.is_none_or(Vec::is_empty) && new.is_none_or(Vec::is_empty) {
                return leaf();
            }
            let empty = Vec::new();
            lists(schema, list, item, old.unwrap_or(&empty), new.unwrap_or(&empty))
        }
    }
}

fn maps(schema: &Schema, of: Of, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> Option<Value> {
    let mut out = Map::new();
    for (key, live) in old.into_iter().flatten() {
        let merged = match (new.and_then(|new| new.get(key)), of.get(key)) {
            (Some(applied), Some(place)) => merge(schema, place, Some(live), Some(applied)),
            _ => Some(live.clone()),
        };
        out.extend(merged.map(|value| (key.clone(), value)));
    }
    for (key, applied) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(key)) {
            out.insert(key.clone(), applied.clone());
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn lists(schema: &Schema, list: &ListType, item: Place, live: &[Value], applied: &[Value]) -> Option<Value> {
    let index = |items| -> Vec<(Element, &Value)> {
        let known = <[Value]>::iter(items).filter_map(|v| Some((item_element(schema, list, item, v).ok()?, v)));
        known.collect()
    };
    let (live, applied) = (index(live), index(applied));
    // None for an item that the live list has twice: such items are not merged.
    let mut there: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, value) in &live {
        there.entry(element).and_modify(|v| *v = None).or_insert(Some(value));
    }
    let wanted: BTreeMap<&Element, &Value> = applied.iter().map(|(element, value)| (element, *value)).collect();
    let merged = |element: &Element| {
        let old = there.get(element).map(|old| old.unwrap_or(&Value::Null));
        merge(schema, item, old, wanted.get(element).copied())
    };
    let shared: Vec<&Element> = applied.iter().map(|(element, _)| element).filter(|e| there.contains_key(e)).collect();
    let mut shared = shared.into_iter().peekable();
    let mut done = std::collections::BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < applied.len() {
        if let (Some((left, _)), Some((right, _))) = (live.get(l), applied.get(r)) {
            if left == right {
                done.insert(right);
                out.extend(merged(left));
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            // An applied item that is not the next one of those in both lists has its place later.
            if wanted.contains_key(left) && shared.peek().is_some_and(|next| *next != left) {
                l += 1;
                continue;
            }
        }
        if let Some((left, value)) = live.get(l) {
            if !wanted.contains_key(left) {
                out.push((*value).clone());
                l += 1;
                continue;
            }
            if done.contains(left) {
                l += 1;
            }
        }
        if let Some((right, _)) = applied.get(r) {
            done.insert(right);
            out.extend(merged(right));
            r += 1;
            if shared.peek().is_some_and(|next| *next == right) {
                shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

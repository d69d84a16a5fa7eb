//! Merging of lists, and the order that comes out: what `$setElementOrder` says, then the patch, then the live list.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    ELEMENT_ORDER, Object, Outcome, PATCH, Wrong,
    lookup::{How, Lookup, Merging},
    merge_objects, print, without_directives,
};

/// `original` with `patch` merged into it, or with its items taken out if the patch `deletes`.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    lookup: Lookup,
    how: &How,
    deletes: bool,
) -> Outcome<Vec<Value>> {
    if how.strategy != Merging::Merge && !deletes {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !has_objects(&[&original, &patch])? {
        if deletes {
            let gone: HashSet<_> = patch.iter().map(Value::to_string).collect();
            return Ok(original.into_iter().filter(|item| !gone.contains(&item.to_string())).collect());
        }
        let mut seen = HashSet::new();
        let both = original.iter().chain(&patch).filter(|item| seen.insert(item.to_string())).cloned().collect();
        return in_order(both, &patch, &original, None);
    }
    let Some(key) = how.merge_key else {
        return Err(Wrong::Other(format!("cannot merge lists without merge key for {}", lookup.kind())));
    };
    let (kept, patch) = follow_directives(original, patch, key)?;
    let order = keys_only(&kept, key);
    let merged = merge_items(kept, &patch, key, lookup)?;
    in_order(merged, &patch, &order, Some(key))
}

/// The same where `$setElementOrder` is given. None if there is no such list on either side.
pub(super) fn merge_in_order(
    there: Option<Vec<Value>>,
    given: Option<Vec<Value>>,
    order: Vec<Value>,
    lookup: Lookup,
    how: &How,
) -> Outcome<Option<Vec<Value>>> {
    check_order(given.as_deref().unwrap_or_default(), &order, how.merge_key)?;
    let empty = Vec::new();
    let live = there.clone().unwrap_or_default();
    let objects = |given: &Vec<Value>| has_objects(&[&live, given]);
    let (merged, objects) = match (there, given) {
        (None, None) => return Ok(None),
        (Some(there), None) => (there, objects(&empty)),
        (None, Some(given)) => {
            let objects = objects(&given);
            (given.into_iter().filter_map(without_directives).collect(), objects)
        }
        (Some(there), Some(given)) => {
            let objects = objects(&given);
            (merge(there, given, lookup, how, false)?, objects)
        }
    };
    let key = if objects? { how.merge_key } else { None };
    in_order(merged, &order, &live, key).map(Some)
}

/// Whether the items are objects; they must all be of one type, and no lists.
fn has_objects(lists: &[&Vec<Value>]) -> Outcome<bool> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let Some(first) = items.next() else {
        return Err(Wrong::Other("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(Wrong::ListOfLists);
    }
    if items.any(|item| print::type_of(item) != print::type_of(first)) {
        let shown: Vec<_> = lists.iter().map(|list| print::plain(&Value::Array(list.to_vec()))).collect();
        return Err(Wrong::Other(format!("list element types are not identical: [{}]", shown.join(" "))));
    }
    Ok(first.is_object())
}

/// Deletes what `$patch: delete` items name, everything if one says `replace`; what is left of both lists.
fn follow_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Outcome<(Vec<Value>, Vec<Value>)> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(PATCH) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                gone.insert(item.get(key).ok_or_else(|| no_merge_key(&item, key))?.to_string());
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(Wrong::Other("merging lists cannot yet be specified in the patch".to_owned())),
            _ => {
                let (directive, item) = (print::plain(directive), print::plain(&item));
                return Err(Wrong::Other(format!("unknown patch type: {directive} in map: {item}")));
            }
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    original.retain(|item| item.get(key).is_none_or(|value| !gone.contains(&value.to_string())));
    Ok((original, rest))
}

fn keys_only(items: &[Value], key: &str) -> Vec<Value> {
    let only = |item: &Value| {
        let member = item.get(key).map(|value| (key.to_owned(), value.clone()));
        Value::Object(member.into_iter().collect::<Object>())
    };
    items.iter().map(only).collect()
}

fn merge_items(mut original: Vec<Value>, patch: &[Value], key: &str, lookup: Lookup) -> Outcome<Vec<Value>> {
    let mut places = HashMap::new();
    for (i, item) in original.iter().enumerate() {
        if let Some(value) = item.get(key) {
            places.entry(value.to_string()).or_insert(i);
        }
    }
    for item in patch {
        let (Value::Object(fields), Some(value)) = (item, item.get(key)) else {
            return Err(no_merge_key(item, key));
        };
        match places.get(&value.to_string()).and_then(|i| original.get_mut(*i)) {
            Some(Value::Object(there)) => *there = merge_objects(std::mem::take(there), fields.clone(), lookup)?,
            _ => {
                places.insert(value.to_string(), original.len());
                original.push(item.clone());
            }
        }
    }
    Ok(original)
}

fn no_merge_key(item: &Value, key: &str) -> Wrong {
    Wrong::Other(format!("map: {} does not contain declared merge key: {key}", print::plain(item)))
}

/// Where each item (by its merge key, else by itself) stands in a list.
fn ranks(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut ranks = HashMap::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        ranks.entry(identity(item, key)).or_insert(i);
    }
    ranks
}

fn identity(item: &Value, key: Option<&str>) -> String {
    match key {
        Some(key) => item.get(key).unwrap_or(&Value::Null).to_string(),
        None => item.to_string(),
    }
}

/// Items named in `first` in its order, the others in the order of `live`, put among them as they stood there.
fn in_order(items: Vec<Value>, first: &[Value], live: &[Value], key: Option<&str>) -> Outcome<Vec<Value>> {
    if let Some(key) = key
        && let Some(item) = items.iter().chain(first).find(|item| item.get(key).is_none())
    {
        return Err(no_merge_key(item, key));
    }
    let (first, live) = (ranks(first, key), ranks(live, key));
    let keyed = items.into_iter().map(|item| (identity(&item, key), item));
    let (mut patched, mut rest): (Vec<_>, Vec<_>) = keyed.partition(|(id, _)| first.contains_key(id));
    patched.sort_by_key(|(id, _)| first.get(id).copied());
    rest.sort_by_key(|(id, _)| live.get(id).copied().unwrap_or(usize::MAX));

    let mut merged = Vec::with_capacity(patched.len() + rest.len());
    let mut rest = rest.into_iter().peekable();
    for (id, item) in patched {
        let here = live.get(&id);
        while let Some((_, before)) =
            rest.next_if(|(id, _)| matches!((live.get(id), here), (Some(l), Some(r)) if l < r))
        {
            merged.push(before);
        }
        merged.push(item);
    }
    merged.extend(rest.map(|(_, item)| item));
    Ok(merged)
}

/// The items of a patch must stand in the order that is set, and all be named there.
fn check_order(given: &[Value], order: &[Value], key: Option<&str>) -> Outcome<()> {
    if given.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items = given.iter().filter(|item| item.get(PATCH).is_none()).peekable();
    for place in order {
        let Some(item) = items.peek() else { return Ok(()) };
        if let Some(key) = key
            && let Some(lacking) = [*item, place].into_iter().find(|value| value.get(key).is_none())
        {
            return Err(no_merge_key(lacking, key));
        }
        if identity(item, key) == identity(place, key) {
            items.next();
        }
    }
    if items.peek().is_none() {
        return Ok(());
    }
    let (given, order) = (Value::Array(given.to_vec()), Value::Array(order.to_vec()));
    Err(Wrong::Other(format!(
        "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
        print::plain(&given),
        print::plain(&order)
    )))
}

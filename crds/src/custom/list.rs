//! Lists that are sets or maps hold nothing twice.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::structural::Structural;
use crate::field::{Error, Errors};

/// Checks all lists of a value; `path` is empty for a whole object.
pub fn validate(value: &Value, schema: &Structural, path: &str, errors: &mut Errors) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if let Some(values) = schema.values().filter(|_| !schema.properties.contains_key(name)) {
                    validate(value, values, &format!("{path}[{name}]"), errors);
                } else if let Some(property) = schema.properties.get(name) {
                    validate(value, property, &super::child(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type.as_str() {
                "set" => {
                    for i in repeated(items) {
                        errors
                            .push(Error::duplicate(format!("{path}[{i}]"), items.get(i).cloned().unwrap_or_default()));
                    }
                }
                "map" => map(items, schema, path, errors),
                _ => {}
            }
            if let Some(inner) = &schema.items {
                for (i, item) in items.iter().enumerate() {
                    validate(item, inner, &format!("{path}[{i}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn map(items: &[Value], schema: &Structural, path: &str, errors: &mut Errors) {
    if let Some((i, item)) = items.iter().enumerate().find(|(_, item)| !item.is_null() && !item.is_object()) {
        let why = "must be an object for an array of list-type map";
        errors.push(Error::invalid(format!("{path}[{i}]"), item.clone(), why));
        return;
    }
    let keys: Vec<Value> = items.iter().map(|item| key(item, &schema.list_keys)).collect();
    for i in repeated(&keys) {
        errors.push(Error::duplicate(format!("{path}[{i}]"), keys.get(i).cloned().unwrap_or_default()));
    }
}

/// The items of a list that is known by keys, found by these.
pub struct ByKey<'a> {
    names: &'a [String],
    items: HashMap<String, &'a Value>,
}

impl<'a> ByKey<'a> {
    /// None for any other list, whose items cannot be told apart.
    pub fn of(list: &'a Value, schema: &'a Structural) -> Option<Self> {
        let list = list.as_array().filter(|_| schema.list_type == "map")?;
        let (names, mut items) = (schema.list_keys.as_slice(), HashMap::with_capacity(list.len()));
        for item in list {
            items.entry(key(item, names).to_string()).or_insert(item);
        }
        Some(Self { names, items })
    }

    /// The item that has the same keys.
    pub fn get(&self, item: &Value) -> Option<&'a Value> {
        self.items.get(&key(item, self.names).to_string()).copied()
    }
}

/// The members of an item that tell it from others.
fn key(item: &Value, names: &[String]) -> Value {
    let members = names.iter().filter_map(|name| Some((name.clone(), item.get(name)?.clone())));
    Value::Object(members.collect::<Map<_, _>>())
}

/// Where a value comes for the second time; later repetitions are not told.
fn repeated(values: &[Value]) -> Vec<usize> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(i);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_twice() {
        let schema = Structural::of(&json!({"properties": {
            "set": {"x-kubernetes-list-type": "set", "items": {}},
            "map": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": {}},
            "plain": {"items": {}},
        }}));
        let mut errors = Errors::new();
        let value = json!({"set": ["x", "y", "x", "x"], "map": [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 3}],
            "plain": [1, 1]});
        validate(&value, &schema, "", &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, [r#"map[2]: Duplicate value: {"a":1}"#, r#"set[2]: Duplicate value: "x""#]);
    }
}

//! Fields that a schema does not know are taken out, and nulls that it neither allows nor has a default for.

use serde_json::{Map, Value};

use super::structural::Structural;

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes unknown fields out of a whole object; gives their paths, sorted.
pub fn unknown(object: &mut Value, schema: &Structural) -> Vec<String> {
    within(object, schema, true)
}

/// The same for a part of an object, or (`is_resource`) for one that has kind and metadata.
pub fn within(value: &mut Value, schema: &Structural, is_resource: bool) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), found: Vec::new() };
    pruner.node(value, Some(schema), is_resource);
    pruner.found.sort();
    pruner.found
}

struct Pruner {
    path: String,
    found: Vec<String>,
}

impl Pruner {
    fn within(&mut self, step: &str, f: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        f(self);
        self.path.truncate(length);
    }

    fn key(&mut self, name: &str, f: impl FnOnce(&mut Self)) {
        let step = if self.path.is_empty() { name.to_owned() } else { format!(".{name}") };
        self.within(&step, f);
    }

    fn node(&mut self, value: &mut Value, schema: Option<&Structural>, is_root: bool) {
        let keeps = schema.is_some_and(|schema| schema.preserves);
        match value {
            Value::Object(members) => self.object(members, schema, is_root, keeps),
            Value::Array(items) => {
                let inner = schema.and_then(|schema| schema.items.as_deref());
                // What is preserved is looked into only where something is declared.
                if keeps && inner.is_none() {
                    return;
                }
                for (i, item) in items.iter_mut().enumerate() {
                    let step = format!("[{i}]");
                    self.within(&step, |pruner| {
                        if keeps {
                            pruner.preserved(item, inner);
                        } else {
                            pruner.node(item, inner, false);
                        }
                    });
                }
            }
            _ => {}
        }
    }

    /// An item of a preserved list is preserved too.
    fn preserved(&mut self, value: &mut Value, schema: Option<&Structural>) {
        let Some(schema) = schema else { return };
        match value {
            Value::Object(members) => self.object(members, Some(schema), false, true),
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let step = format!("[{i}]");
                    self.within(&step, |pruner| pruner.preserved(item, schema.items.as_deref()));
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, members: &mut Map<String, Value>, schema: Option<&Structural>, is_root: bool, keeps: bool) {
        let embedded = is_root || schema.is_some_and(|schema| schema.embedded);
        members.retain(|name, value| {
            if embedded && META.contains(&name.as_str()) {
                return true;
            }
            match schema.and_then(|schema| schema.member(name)) {
                Some(inner) => {
                    self.key(name, |pruner| pruner.node(value, Some(inner), false));
                    true
                }
                // `additionalProperties: true` keeps the member, of which nothing is known.
                None if schema.is_some_and(allows_any) => {
                    self.key(name, |pruner| pruner.node(value, None, false));
                    true
                }
                None if keeps => true,
                None => {
                    if !META.contains(&name.as_str()) || !self.path.is_empty() {
                        let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
                        self.found.push(path);
                    }
                    false
                }
            }
        });
    }
}

fn allows_any(schema: &Structural) -> bool {
    matches!(schema.additional, super::structural::Additional::Allowed(_))
}

/// Takes out nulls that are neither allowed nor have a default. Nulls in lists stay, and are found invalid.
pub fn nulls(value: &mut Value, schema: Option<&Structural>) {
    match value {
        Value::Object(members) => members.retain(|name, value| {
            let inner = schema.and_then(|schema| schema.member(name));
            if value.is_null() && inner.is_some_and(|inner| !inner.nullable && inner.default.is_none()) {
                return false;
            }
            nulls(value, inner);
            true
        }),
        Value::Array(items) => {
            let inner = schema.and_then(|schema| schema.items.as_deref());
            items.iter_mut().for_each(|item| nulls(item, inner));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_go_and_are_told() {
        let schema =
            Structural::of(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "integer"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "object", "properties": {"k": {}}}}},
            }}}}));
        let mut object = json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "n"}, "top": 1, "spec": {
            "a": "x", "b": 1, "list": [{"p": 1, "q": 2}], "free": {"any": {"z": 1}, "known": {"k": 1, "l": 2}}}});
        let found = unknown(&mut object, &schema);
        assert_eq!(found, ["spec.b", "spec.free.known.l", "spec.list[0].q", "top"]);
        let want = json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "n"}, "spec": {
            "a": "x", "list": [{"p": 1}], "free": {"any": {"z": 1}, "known": {"k": 1}}}});
        assert_eq!(object, want);
    }

    #[test]
    fn nulls_go_where_nothing_takes_them() {
        let schema = Structural::of(&json!({"properties": {"a": {"type": "string"}, "b": {"nullable": true},
            "c": {"default": 1}, "d": {"items": {"type": "object"}}}}));
        let mut object = json!({"a": null, "b": null, "c": null, "d": [null], "e": null});
        nulls(&mut object, Some(&schema));
        assert_eq!(object, json!({"b": null, "c": null, "d": [null], "e": null}));
    }
}

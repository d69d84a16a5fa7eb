//! Mutations of an object: what a client could have sent in its place, by what OpenAPI tells of its type.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::replay::Case;

/// Fields that others look after.
const LEFT_ALONE: [&str; 9] = [
    "managedFields",
    "ownerReferences",
    "selfLink",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "uid",
    "generation",
    "status",
];
/// Of a list, so many items are changed.
const ITEMS_MAX: usize = 2;
/// How deep what is set alone may lie below the field that is set.
const DEPTH_MAX: usize = 2;

/// Requests whose bodies can be changed without a meaning that only the case knows.
pub fn is_mutable(case: &Case) -> bool {
    let special = ["as", "anonymous", "fill", "watch"].iter().any(|directive| case.has(directive));
    let is_json = case.headers.iter().all(|(name, value)| name != "Content-Type" || value.contains("/json"));
    matches!(case.method.as_str(), "POST" | "PUT") && !special && is_json
}

/// A request that changes nothing.
pub fn dry_run(method: &str, path: &str, headers: &[(String, String)], body: &Value) -> Case {
    Case::request(method, with(path, "dryRun", "All"), headers.to_vec(), body.to_string())
}

/// A path with a parameter, unless it has that already.
pub fn with(path: &str, name: &str, value: &str) -> String {
    match (path.contains(name), path.contains('?')) {
        (true, _) => path.to_owned(),
        (false, true) => format!("{path}&{name}={value}"),
        (false, false) => format!("{path}?{name}={value}"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Remove,
    Set(Value),
    /// One more item at the end of a list.
    Append(Value),
}

/// One change of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mutation {
    /// The field's parents: names, and numbers of items.
    pub parents: Vec<String>,
    pub field: String,
    pub change: Change,
}

impl Mutation {
    /// The object after it; none if it has no such place.
    pub fn of(&self, object: &Value) -> Option<Value> {
        let mut object = object.clone();
        let parent = self.parents.iter().try_fold(&mut object, |value, name| match value {
            Value::Object(fields) => fields.get_mut(name),
            Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
            _ => None,
        })?;
        match (&self.change, parent) {
            (Change::Remove, Value::Object(fields)) => drop(fields.remove(&self.field)),
            (Change::Set(value), Value::Object(fields)) => drop(fields.insert(self.field.clone(), value.clone())),
            (Change::Append(value), Value::Array(items)) => items.push(value.clone()),
            _ => return None,
        }
        Some(object)
    }

    /// The merge patch that does the same; none for what is in a list.
    pub fn patch(&self) -> Option<Value> {
        let value = match &self.change {
            Change::Remove => Value::Null,
            Change::Set(value) => value.clone(),
            Change::Append(_) => return None,
        };
        if self.parents.iter().any(|name| name.parse::<usize>().is_ok()) {
            return None;
        }
        let field = json!({ self.field.as_str(): value });
        Some(self.parents.iter().rev().fold(field, |inner, name| json!({ name.as_str(): inner })))
    }

    /// Where it is, whichever item it is in.
    pub fn place(&self) -> String {
        let names = self.parents.iter().chain([&self.field]);
        names.map(|name| if name.parse::<usize>().is_ok() { "*" } else { name }).collect::<Vec<_>>().join(".")
    }
}

/// The types of an OpenAPI v2 document.
pub struct Types {
    definitions: Map<String, Value>,
    /// By group, version and kind.
    kinds: HashMap<(String, String, String), String>,
}

impl Types {
    pub fn of(mut document: Value) -> Self {
        let definitions = match document["definitions"].take() {
            Value::Object(definitions) => definitions,
            _ => Map::new(),
        };
        let text = |gvk: &Value, name: &str| gvk[name].as_str().unwrap_or_default().to_owned();
        let kinds = definitions.iter().flat_map(|(name, definition)| {
            let named = definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            named.map(|gvk| ((text(gvk, "group"), text(gvk, "version"), text(gvk, "kind")), name.clone()))
        });
        Self { kinds: kinds.collect(), definitions }
    }

    /// The type of an object, by its apiVersion and kind.
    pub fn of_object(&self, object: &Value) -> Option<&Value> {
        let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        self.definitions.get(self.kinds.get(&(group.to_owned(), version.to_owned(), kind.to_owned()))?)
    }

    fn resolve<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            schema = self.definitions.get(name).unwrap_or(&Value::Null);
        }
        schema
    }

    /// All mutations of an object of this type.
    pub fn mutations(&self, object: &Value, schema: &Value) -> Vec<Mutation> {
        let mut out = Vec::new();
        self.walk(object, schema, &mut Vec::new(), &mut out);
        out
    }

    fn walk(&self, value: &Value, schema: &Value, parents: &mut Vec<String>, out: &mut Vec<Mutation>) {
        let schema = self.resolve(schema);
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.change(name, value, schema, parents, out);
                }
                self.set_others(fields, schema, parents, out);
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate().take(ITEMS_MAX) {
                    parents.push(index.to_string());
                    self.walk(item, &schema["items"], parents, out);
                    parents.pop();
                }
                if let Some(first) = items.first() {
                    let change = Change::Append(first.clone());
                    out.push(Mutation { parents: parents.clone(), field: "-".to_owned(), change });
                }
            }
            _ => {}
        }
    }

    /// A field that is there: removed, made another, and changed inside.
    fn change(&self, name: &str, value: &Value, of: &Value, parents: &mut Vec<String>, out: &mut Vec<Mutation>) {
        if parents.is_empty() && matches!(name, "apiVersion" | "kind") {
            return;
        }
        let mut push = |change| out.push(Mutation { parents: parents.clone(), field: name.to_owned(), change });
        push(Change::Remove);
        if LEFT_ALONE.contains(&name) {
            return;
        }
        let known = &of["properties"][name];
        let schema = if known.is_null() { &of["additionalProperties"] } else { known };
        self.others(value, schema).into_iter().for_each(|other| push(Change::Set(other)));
        parents.push(name.to_owned());
        self.walk(value, schema, parents, out);
        parents.pop();
    }

    /// Fields that are not there, and what lies below them, each alone.
    fn set_others(&self, fields: &Map<String, Value>, of: &Value, parents: &[String], out: &mut Vec<Mutation>) {
        for (name, schema) in of["properties"].as_object().into_iter().flatten() {
            let known = fields.contains_key(name) || LEFT_ALONE.contains(&name.as_str());
            if known || (parents.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) {
                continue;
            }
            let mut values = self.samples(schema);
            values.extend(self.alone(schema, DEPTH_MAX));
            out.extend(values.into_iter().map(|value| Mutation {
                parents: parents.to_vec(),
                field: name.clone(),
                change: Change::Set(value),
            }));
        }
    }

    /// Objects (or lists of one) that have what they must and one field more.
    fn alone(&self, schema: &Value, depth: usize) -> Vec<Value> {
        let outer = self.resolve(schema);
        let is_list = outer["type"] == "array";
        let inner = if is_list { self.resolve(&outer["items"]) } else { outer };
        let required = self.required(inner);
        let mut out = Vec::new();
        for (name, schema) in inner["properties"].as_object().into_iter().flatten() {
            let mut values = self.samples(schema);
            if depth > 1 {
                values.extend(self.alone(schema, depth - 1));
            }
            for value in values {
                let mut object = required.clone();
                object.insert(name.clone(), value);
                out.push(if is_list { json!([object]) } else { Value::Object(object) });
            }
        }
        out
    }

    fn required(&self, schema: &Value) -> Map<String, Value> {
        let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let first = |name: &str| self.samples(&schema["properties"][name]).into_iter().next();
        names.filter_map(|name| Some((name.to_owned(), first(name)?))).collect()
    }

    /// Values that a field could have, good ones and bad ones.
    fn samples(&self, schema: &Value) -> Vec<Value> {
        let name = schema["$ref"].as_str().unwrap_or_default();
        let values = match name.rsplit('.').next().unwrap_or_default() {
            "IntOrString" => json!([0, -1, "50%", "x"]),
            "Quantity" => json!(["1", "-1", "1.5x"]),
            "Time" => json!(["2030-01-01T00:00:00Z", "x"]),
            "MicroTime" => json!(["2030-01-01T00:00:00.000000Z", "x"]),
            _ => return self.samples_of_type(self.resolve(schema)),
        };
        values.as_array().cloned().unwrap_or_default()
    }

    fn samples_of_type(&self, schema: &Value) -> Vec<Value> {
        let values = match schema["type"].as_str() {
            Some("string") if schema["format"] == "byte" => json!(["eA==", "!"]),
            Some("string") => json!(["x", "", "Bad_Value!", "a".repeat(300)]),
            Some("integer" | "number") => json!([1, 0, -1, 70_000]),
            Some("boolean") => json!([true, false]),
            Some("array") => match self.samples(&schema["items"]).first() {
                Some(item) => json!([[], [item], [item, item]]),
                None => json!([[]]),
            },
            _ if schema["additionalProperties"].is_object() => {
                let value = self.samples(&schema["additionalProperties"]).into_iter().next();
                json!([{}, {"a": value}, {"Bad key!": value}])
            }
            _ => json!([{}, self.required(schema)]),
        };
        values.as_array().cloned().unwrap_or_default()
    }

    /// What a value could be instead.
    fn others(&self, value: &Value, schema: &Value) -> Vec<Value> {
        let values = match value {
            Value::Bool(truth) => json!([null, !truth, "x"]),
            Value::Number(number) => {
                let next = number.as_i64().map_or(1, |number| number.saturating_add(1));
                json!([null, -1, 0, 1, next, 70_000, 3_000_000_000_u64, "x", "150%"])
            }
            Value::String(text) => json!([
                null,
                "",
                "Bad_Value!",
                "a".repeat(300),
                "a".repeat(64),
                "a/b",
                "A.b",
                "-a",
                format!(" {text}"),
                format!("{text}x"),
                1,
                "1.2.3.4",
                "0"
            ]),
            Value::Array(items) => {
                let twice: Vec<_> = items.iter().chain(items).collect();
                let sample = self.samples(&self.resolve(schema)["items"]).into_iter().next();
                json!([null, [], {}, [null], [sample], twice])
            }
            Value::Object(_) => json!([null, {}, []]),
            Value::Null => json!([]),
        };
        values.as_array().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Types {
        Types::of(json!({"definitions": {
            "v1.Thing": {
                "type": "object",
                "properties": {"spec": {"$ref": "#/definitions/v1.Spec"}},
                "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "Thing"}],
            },
            "v1.Spec": {"type": "object", "properties": {
                "names": {"type": "array", "items": {"type": "string"}},
                "limit": {"$ref": "#/definitions/v1.Limit"},
            }},
            "v1.Limit": {"type": "object", "required": ["of"], "properties": {
                "of": {"type": "string"}, "at": {"type": "integer"},
            }},
        }}))
    }

    #[test]
    fn what_is_there_is_changed_and_what_is_not_is_set() {
        let (types, object) = (types(), json!({"apiVersion": "g/v1", "kind": "Thing", "spec": {"names": ["a"]}}));
        let mutations = types.mutations(&object, types.of_object(&object).unwrap());
        let all: Vec<Value> = mutations.iter().filter_map(|mutation| mutation.of(&object)).collect();
        assert_eq!(all.len(), mutations.len());
        for spec in [
            json!({}),
            json!({"names": []}),
            json!({"names": ["a", "a"]}),
            json!({"names": ["a"], "limit": {"of": "x"}}),
            json!({"names": ["a"], "limit": {"of": "x", "at": 1}}),
        ] {
            assert!(all.iter().any(|mutated| mutated["spec"] == spec), "{spec}");
        }
        assert!(all.iter().all(|mutated| mutated["kind"] == "Thing"));
    }

    #[test]
    fn patches() {
        let set = Mutation { parents: vec!["spec".into()], field: "a".into(), change: Change::Set(json!(1)) };
        assert_eq!(set.patch(), Some(json!({"spec": {"a": 1}})));
        let remove = Mutation { change: Change::Remove, ..set.clone() };
        assert_eq!(remove.patch(), Some(json!({"spec": {"a": null}})));
        let inside = Mutation { parents: vec!["spec".into(), "0".into()], ..set };
        assert_eq!((inside.patch(), inside.place()), (None, "spec.*.a".to_owned()));
    }
}

//! Defaults of a structural schema.

use serde_json::Value;

use super::{
    expression::{Evaluation, Node, Place, Ratchet},
    metadata::{self, Malformed},
    prune,
    structural::Structural,
    value,
};
use crate::{
    cel::OBJECT_LIMIT,
    field::{Error, Errors},
};

/// Fills in what is missing, or null where null is not allowed. Objects that are missing and have no default are not
/// made; those that are there are looked into.
pub fn fill(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(members) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if members.get(name).is_none_or(|value| value.is_null() && !property.nullable) {
                    members.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in members.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    fill(value, property);
                } else if let Some(values) = schema.values() {
                    replace_null(value, values);
                    fill(value, values);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for item in items {
                replace_null(item, inner);
                fill(item, inner);
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Structural) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.clone().unwrap_or_default();
    }
}

/// Whether the defaults of a schema fit it; `path` is the schema's own.
pub fn validate(schema: &Structural, written: &Value, path: &str, errors: &mut Errors) {
    // The root is a resource as those are that are embedded.
    let root = Structural { embedded: true, ..schema.clone() };
    node(&root, written, path, true, false, errors);
}

/// `written`: the schema as it stands in the definition.
fn node(schema: &Structural, written: &Value, path: &str, is_root: bool, inside_metadata: bool, errors: &mut Errors) {
    let is_resource = is_root || schema.embedded;
    let inside_metadata = inside_metadata && !is_resource;
    if let Some(default) = &schema.default {
        let before = errors.len();
        let path = format!("{path}.default");
        one(default, schema, &path, is_resource, inside_metadata, errors);
        if errors.len() == before {
            keeps_rules(default, schema, written, &path, is_resource, errors);
        }
    }
    if let Some(items) = &schema.items {
        let written = written.get("items").unwrap_or(&Value::Null);
        node(items, written, &format!("{path}.items"), false, inside_metadata, errors);
    }
    for (name, property) in &schema.properties {
        let inside = inside_metadata || (is_resource && ["metadata", "apiVersion", "kind"].contains(&name.as_str()));
        let written =
            written.pointer("/properties").and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
        node(property, written, &format!("{path}.properties[{name}]"), false, inside, errors);
    }
}

fn one(
    default: &Value,
    schema: &Structural,
    path: &str,
    is_resource: bool,
    inside_metadata: bool,
    errors: &mut Errors,
) {
    let mut pruned = default.clone();
    if !inside_metadata && !prune::within(&mut pruned, schema, is_resource).is_empty() {
        errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
    }
    let mut coerced = default.clone();
    if let Err(mut error) = metadata::coerce_embedded(&mut coerced, schema, Malformed::Refused, &mut Vec::new()) {
        error.field = super::child(path, &error.field);
        errors.push(error);
        return;
    }
    let mut found = Errors::new();
    metadata::validate(default, schema, path, &mut found);
    if found.is_empty() {
        value::validate(default, schema, path, None, &mut found);
    }
    errors.append(&mut found);
}

/// A default must pass the rules of its schema, as a new value and as one that stays.
fn keeps_rules(
    default: &Value,
    schema: &Structural,
    written: &Value,
    path: &str,
    is_resource: bool,
    errors: &mut Errors,
) {
    let Some(rules) = Node::of(schema, written, is_resource) else { return };
    for old in [Some(default), None] {
        let mut found = Errors::new();
        let place = Place { value: default, old, schema, ratchet: Ratchet::NONE };
        let mut warnings = Vec::new();
        let budget = Some(OBJECT_LIMIT);
        Evaluation { errors: &mut found, warnings: &mut warnings, budget }.node(&rules, place, path);
        if !found.is_empty() {
            errors.append(&mut found);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fills() {
        let schema = Structural::of(&json!({"properties": {
            "a": {"default": 1}, "n": {"default": 2, "nullable": true},
            "o": {"default": {}, "properties": {"x": {"default": true}}},
            "p": {"properties": {"x": {"default": true}}},
            "m": {"additionalProperties": {"default": {"y": 1}, "properties": {"z": {"default": 2}}}},
        }}));
        for (given, want) in [
            (json!({}), json!({"a": 1, "n": 2, "o": {"x": true}})),
            (
                json!({"a": null, "n": null, "o": {}, "p": {}}),
                json!({"a": 1, "n": null, "o": {"x": true}, "p": {"x": true}}),
            ),
            (
                json!({"a": 0, "n": 0, "o": {}, "m": {"k": null}}),
                json!({"a": 0, "n": 0, "o": {"x": true}, "m": {"k": {"y": 1, "z": 2}}}),
            ),
        ] {
            let mut value = given;
            fill(&mut value, &schema);
            assert_eq!(value, want);
        }
    }
}

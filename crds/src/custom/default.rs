//! Defaults of a structural schema.

use serde_json::{Value, json};

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
    node(&root, written, path, Within::resource(&root), errors);
}

/// The resource that a schema is within.
struct Within<'s> {
    resource: &'s Structural,
    /// The way from the resource to here; none outside of its kind, version and metadata.
    steps: Option<Vec<Step<'s>>>,
    is_resource: bool,
}

#[derive(Clone, Copy)]
enum Step<'s> {
    Member(&'s str),
    Item,
}

impl<'s> Within<'s> {
    const fn resource(resource: &'s Structural) -> Self {
        Self { resource, steps: None, is_resource: true }
    }

    fn item(&self) -> Self {
        self.below(self.steps.is_some(), Step::Item)
    }

    fn member(&self, name: &'s str) -> Self {
        let is_of_all = self.is_resource && ["metadata", "apiVersion", "kind"].contains(&name);
        self.below(is_of_all || self.steps.is_some(), Step::Member(name))
    }

    fn below(&self, keeps_steps: bool, step: Step<'s>) -> Self {
        let steps = keeps_steps.then(|| self.steps.iter().flatten().copied().chain([step]).collect());
        Self { resource: self.resource, steps, is_resource: false }
    }
}

/// `written`: the schema as it stands in the definition.
fn node<'s>(schema: &'s Structural, written: &Value, path: &str, within: Within<'s>, errors: &mut Errors) {
    let within = if schema.embedded { Within::resource(schema) } else { within };
    if let Some(default) = &schema.default {
        let before = errors.len();
        let path = format!("{path}.default");
        one(default, schema, written, &path, &within, errors);
        if errors.len() == before {
            keeps_rules(default, schema, written, &path, within.is_resource, errors);
        }
    }
    if let Some(items) = &schema.items {
        let written = written.get("items").unwrap_or(&Value::Null);
        node(items, written, &format!("{path}.items"), within.item(), errors);
    }
    for (name, property) in &schema.properties {
        let written =
            written.pointer("/properties").and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
        node(property, written, &format!("{path}.properties[{name}]"), within.member(name), errors);
    }
}

fn one(default: &Value, schema: &Structural, written: &Value, path: &str, within: &Within, errors: &mut Errors) {
    match &within.steps {
        Some(steps) => {
            if let Err(why) = makes_metadata(default, within.resource, steps) {
                errors.push(Error::invalid(path, default.clone(), format!("must result in valid metadata: {why}")));
                return;
            }
        }
        None => {
            if !prune::within(&mut default.clone(), schema, within.is_resource).is_empty() {
                errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
            }
            let coerced = metadata::coerce_embedded(&mut default.clone(), schema, Malformed::Refused, &mut Vec::new());
            if let Err(mut error) = coerced {
                error.field = super::child(path, &error.field);
                errors.push(error);
                return;
            }
            let before = errors.len();
            metadata::validate(default, schema, path, errors);
            if errors.len() > before {
                return;
            }
        }
    }
    // A whole number may have been written as another, which is seen here only.
    value::validate_default(written.get("default").unwrap_or(default), schema, path, errors);
}

/// Whether a resource that has nothing but this default, where `steps` lead, has kind and metadata as they must be.
fn makes_metadata(default: &Value, resource: &Structural, steps: &[Step]) -> Result<(), String> {
    let mut whole = steps.iter().rev().fold(default.clone(), |inner, step| match step {
        Step::Member(name) => json!({ *name: inner }),
        Step::Item => json!([inner]),
    });
    if let Value::Object(members) = &mut whole {
        members.entry("kind").or_insert_with(|| "Validation".into());
        members.entry("apiVersion").or_insert_with(|| "validation/v1".into());
    }
    metadata::coerce_embedded(&mut whole, resource, Malformed::Refused, &mut Vec::new())
        .map_err(|error| error.to_string())?;
    let mut found = Errors::new();
    metadata::validate(&whole, resource, "", &mut found);
    let told: Vec<_> = found.iter().map(ToString::to_string).collect();
    match told.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
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

    #[test]
    fn defaults_fit_their_place() {
        let embedded = |metadata: Value| {
            json!({"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"metadata": {"type": "object", "default": metadata}}}}})
        };
        let field = |field: Value| json!({"type": "object", "properties": {"a": field}});
        for (schema, want) in [
            (
                json!({"type": "object", "default": {}}),
                vec!["s.default.apiVersion: Required value", "s.default.kind: Required value"],
            ),
            (embedded(json!({"name": "a"})), vec![]),
            (
                embedded(json!(1)),
                vec![
                    "s.properties[a].properties[metadata].default: Invalid value: 1: must result in valid metadata: metadata: \
                     Invalid value: 1: json: cannot unmarshal number into Go value of type v1.ObjectMeta",
                ],
            ),
            (field(json!({"x-kubernetes-int-or-string": true, "default": true})), vec![]),
            (field(json!({"type": "string", "format": "unheard-of", "default": []})), vec![]),
            (
                field(json!({"type": "string", "default": 1.0})),
                vec!["s.properties[a].default: Invalid value: \"number\":  in body must be of type string: \"number\""],
            ),
        ] {
            let mut errors = Errors::new();
            validate(&Structural::of(&schema), &schema, "s", &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{schema}");
        }
    }
}

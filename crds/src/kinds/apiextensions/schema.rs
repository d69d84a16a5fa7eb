//! The rules of a schema in a definition. Whether its defaults fit it and its expressions compile is checked elsewhere.

use std::{cell::LazyCell, collections::HashSet};

use serde_json::{Map, Value};

use super::rule;
use super::structural::{self, child, children, flag, list, text};
use crate::{
    custom::{self, field_path, format, structural::Structural},
    field::{Error, Errors, Path},
    go,
};

type Schema = Map<String, Value>;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const TYPE_NAME: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
const ITEMS_NAME: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray";
/// What a root may say if the status is apart from it, by Go's names.
const OF_ROOTS: &[&str] = &[
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// `path` is that of `openAPIV3Schema`; `has_status`: whether there is a subresource of that name.
pub fn validate(schema: &Schema, has_status: bool, path: &Path, errors: &mut Errors) {
    let mut of_root = Errors::new();
    if has_status {
        validate_root(schema, path, &mut of_root);
    }
    if flag(schema, "nullable") {
        of_root.push(Error::forbidden(path.child("nullable"), "nullable cannot be true at the root"));
    }
    let whole = Value::Object(schema.clone());
    let structural = Structural::of(&whole);
    let unreadable = structural::unreadable(schema);
    let mut of_structure = Errors::new();
    if unreadable.is_none() {
        structural::validate(schema, path, &mut of_structure);
        if of_structure.is_empty() {
            custom::validate_defaults(&structural, &whole, &path.to_string(), &mut of_structure);
        }
    }
    let mut found = Errors::new();
    node(schema, Place::ROOT, path, &mut found);
    // Rules are about types, which only a sound schema has.
    let mut of_rules = Errors::new();
    if unreadable.is_none() && of_structure.is_empty() {
        rule::validate(&whole, &structural, &path.to_string(), &found, &mut of_rules);
    }
    let before = errors.len();
    for mut some in [of_root, of_structure, found, of_rules] {
        errors.append(&mut some);
    }
    if let Some(why) = unreadable.filter(|_| errors.len() == before) {
        errors.push(Error::invalid(*path, "", why));
    }
}

/// The schema of the status is taken out of the root's, where more than this would be lost.
fn validate_root(schema: &Schema, path: &Path, errors: &mut Errors) {
    for name in go::fields_set(schema, TYPE_NAME) {
        if &*name == "Type" {
            let kind = text(schema, "type");
            if kind != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
                           enabled";
                errors.push(Error::invalid(path.child("type"), kind, why));
                return;
            }
        } else if !OF_ROOTS.contains(&&*name) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                OF_ROOTS.join(" ")
            );
            errors.push(Error::invalid(*path, "", why).showing_struct(schema, TYPE_NAME));
            return;
        }
    }
}

/// What the schemas around one say of it.
#[derive(Clone, Copy)]
struct Place<'a> {
    is_root: bool,
    is_in_metadata: bool,
    /// Why it may have no default.
    forbids_default: Option<Forbidden<'a>>,
}

#[derive(Clone, Copy)]
enum Forbidden<'a> {
    /// It is of this property of all objects.
    TopLevel(&'a str),
    InsideMap,
}

impl<'a> Place<'a> {
    const ROOT: Self = Place { is_root: true, is_in_metadata: false, forbids_default: None };

    const fn below(self) -> Self {
        Place { is_root: false, ..self }
    }

    fn of_property(self, schema: &Schema, name: &'a str) -> Self {
        let is_of_all = ["metadata", "kind", "apiVersion"].contains(&name);
        if !is_of_all || !(self.is_root || flag(schema, "x-kubernetes-embedded-resource")) {
            return self.below();
        }
        let forbids_default = if self.is_root { Some(Forbidden::TopLevel(name)) } else { self.forbids_default };
        Place { is_root: false, is_in_metadata: true, forbids_default }
    }

    const fn of_values(self) -> Self {
        if self.is_in_metadata {
            return Place { is_root: false, forbids_default: Some(Forbidden::InsideMap), ..self };
        }
        self.below()
    }
}

/// Formats in a schema that nothing is checked against.
pub fn unknown_formats(schema: &Schema, found: &mut Vec<String>) {
    let (kind, format) = (text(schema, "type"), text(schema, "format"));
    if !format.is_empty() && !format::is_known(kind, format) {
        found.push(format.to_owned());
    }
    inner(schema).for_each(|schema| unknown_formats(schema, found));
}

/// Whether a schema, or one below it, has a default.
pub fn has_defaults(schema: &Schema) -> bool {
    schema.contains_key("default") || inner(schema).any(has_defaults)
}

/// The schemas below one, in upstream's order.
fn inner(schema: &Schema) -> impl Iterator<Item = &Schema> {
    let single = |name: &str| child(schema, name);
    let all = |name: &str| list(schema, name);
    let keyed = |name: &'static str| children(schema, name).map(|(_, inner)| inner);
    let items = single("items").into_iter().chain(all("items"));
    let branches = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(all).chain(single("not"));
    let properties = keyed("properties").chain(single("additionalProperties"));
    let unsupported = keyed("patternProperties").chain(single("additionalItems"));
    let unsupported = unsupported.chain(keyed("definitions")).chain(keyed("dependencies"));
    items.chain(branches).chain(properties).chain(unsupported)
}

fn node(schema: &Schema, place: Place, path: &Path, errors: &mut Errors) {
    keywords(schema, place, path, errors);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(path.child("uniqueItems"), why));
    }
    let additional = path.child("additionalProperties");
    let has_properties = children(schema, "properties").next().is_some();
    let excludes = schema.get("additionalProperties").is_some_and(|value| *value != Value::Bool(true));
    if has_properties && excludes {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Error::forbidden(additional, why));
    }
    if let Some(inner) = child(schema, "additionalProperties") {
        node(inner, place.of_values(), &additional, errors);
    }
    let properties = path.child("properties");
    for (name, property) in children(schema, "properties") {
        node(property, place.of_property(schema, name), &properties.key(name), errors);
    }
    let below = place.below();
    if let Some(not) = child(schema, "not") {
        node(not, below, &path.child("not"), errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        nodes(schema, name, below, path, errors);
    }
    keyed(schema, "definitions", below, path, errors);
    if let Some(items) = child(schema, "items") {
        node(items, below, &path.child("items"), errors);
    }
    nodes(schema, "items", below, path, errors);
    keyed(schema, "dependencies", below, path, errors);
    topology(schema, path, errors);
    rules(schema, path, errors);
}

/// The schemas in a list.
fn nodes(schema: &Schema, name: &str, place: Place, path: &Path, errors: &mut Errors) {
    let path = path.child(name);
    for (i, inner) in list(schema, name).into_iter().enumerate() {
        node(inner, place, &path.index(i), errors);
    }
}

/// The schemas in a map.
fn keyed(schema: &Schema, name: &str, place: Place, path: &Path, errors: &mut Errors) {
    let path = path.child(name);
    for (key, inner) in children(schema, name) {
        node(inner, place, &path.key(key), errors);
    }
}

fn keywords(schema: &Schema, place: Place, path: &Path, errors: &mut Errors) {
    let (kind, type_path) = (text(schema, "type"), path.child("type"));
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Error::not_supported(type_path, kind, TYPES));
    }
    if let Some(forbidden) = place.forbids_default.filter(|_| schema.contains_key("default")) {
        let why = match forbidden {
            Forbidden::TopLevel(name) => format!("must not be set in top-level {name}"),
            Forbidden::InsideMap => {
                "must not be set inside additionalProperties applying to object metadata".to_owned()
            }
        };
        errors.push(Error::forbidden(path.child("default"), why));
    }
    let has_entries = |name: &str| child(schema, name).is_some_and(|entries| !entries.is_empty());
    for (name, is_used) in [
        ("id", !text(schema, "id").is_empty()),
        ("additionalItems", schema.contains_key("additionalItems")),
        ("patternProperties", has_entries("patternProperties")),
        ("definitions", has_entries("definitions")),
        // These two even if they are empty.
        ("dependencies", schema.contains_key("dependencies")),
        ("$ref", schema.contains_key("$ref")),
    ] {
        if is_used {
            errors.push(Error::forbidden(path.child(name), format!("{name} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(type_path, why));
    }
    if schema.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        errors.push(Error::forbidden(path.child("items"), "items must be a schema object and not an array"));
    }
    if place.is_in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        errors.push(Error::forbidden(path.child("x-kubernetes-embedded-resource"), why));
    }
}

fn is_kind(schema: &Schema, wanted: &str, extension: &str, path: &Path, errors: &mut Errors) {
    let why = format!("must be {wanted} if {extension} is specified");
    match text(schema, "type") {
        "" => errors.push(Error::required(path.child("type"), why)),
        kind if kind != wanted => errors.push(Error::invalid(path.child("type"), kind, why)),
        _ => {}
    }
}

/// How lists and maps are merged.
fn topology(schema: &Schema, path: &Path, errors: &mut Errors) {
    const MAP: &str = "x-kubernetes-map-type";
    const LIST: &str = "x-kubernetes-list-type";
    const KEYS: &str = "x-kubernetes-list-map-keys";
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        errors.push(Error::invalid(path.child(PRESERVE), false, "must be true or undefined"));
    }
    if schema.contains_key(MAP) {
        is_kind(schema, "object", MAP, path, errors);
        one_of(text(schema, MAP), &["atomic", "granular"], &path.child(MAP), errors);
    }
    let (list_type, list_path) = (schema.get(LIST).and_then(Value::as_str), path.child(LIST));
    let items = child(schema, "items");
    let items_path = path.child("items");
    if let Some(list_type) = list_type {
        is_kind(schema, "array", LIST, path, errors);
        if let Some(items) = items.filter(|_| list_type == "set" && text(schema, "type") == "array") {
            validate_set(items, &items_path, errors);
        }
        one_of(list_type, &["atomic", "set", "map"], &list_path, errors);
    }
    let keys: Vec<String> =
        schema.get(KEYS).and_then(|keys| serde_json::from_value(keys.clone()).ok()).unwrap_or_default();
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => Error::required(list_path, why),
            Some(other) => Error::invalid(list_path, other, why),
        });
    }
    if list_type == Some("map") {
        validate_map(schema, &keys, path, errors);
    }
    if let (Some(list_type @ ("set" | "map")), Some(items)) = (list_type, items) {
        validate_items(items, list_type, &keys, &items_path, errors);
    }
}

/// A list that is a map has keys, and items that have them.
fn validate_map(schema: &Schema, keys: &[String], path: &Path, errors: &mut Errors) {
    let (keys_path, items_path) = (path.child("x-kubernetes-list-map-keys"), path.child("items"));
    if keys.is_empty() {
        errors.push(Error::required(keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    match schema.get("items") {
        None => errors.push(Error::required(items_path, "must have a schema if x-kubernetes-list-type is map")),
        Some(Value::Object(items)) => validate_keys(items, keys, &items_path, &keys_path, errors),
        Some(other) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid(items_path, "", why).showing_struct(other, ITEMS_NAME));
        }
    }
}

fn one_of(value: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if !allowed.contains(&value) {
        errors.push(Error::not_supported(*path, value, allowed));
    }
}

fn validate_set(items: &Schema, path: &Path, errors: &mut Errors) {
    let (name, is_wrong) = match text(items, "type") {
        "array" => {
            let own = items.get("x-kubernetes-list-type");
            ("x-kubernetes-list-type", own.is_some_and(|own| *own != "atomic"))
        }
        "object" => ("x-kubernetes-map-type", text(items, "x-kubernetes-map-type") != "atomic"),
        _ => return,
    };
    if is_wrong {
        let shown = items.get("x-kubernetes-list-type").cloned().unwrap_or(Value::Null);
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errors.push(Error::invalid(path.child(name), shown, why));
    }
}

fn validate_keys(items: &Schema, keys: &[String], path: &Path, keys_path: &Path, errors: &mut Errors) {
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(path.child("type"), kind, why));
        return;
    }
    let none = Map::new();
    let (properties, list) = (child(items, "properties").unwrap_or(&none), path.child("properties"));
    let mut seen = HashSet::new();
    for key in keys {
        match properties.get(key).and_then(Value::as_object) {
            None => {
                let why = "entries must all be names of item properties";
                errors.push_with(|| Error::invalid(*keys_path, keys, why));
            }
            Some(property) if ["array", "object"].contains(&text(property, "type")) => {
                // Upstream shows the type of the item.
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let key_path = list.key(key);
                errors.push(Error::invalid(key_path.child("type"), kind, why));
            }
            Some(_) => {}
        }
        if !seen.insert(key) {
            errors.push_with(|| Error::invalid(*keys_path, keys, "must not contain duplicate entries"));
        }
    }
}

/// Items of sets and maps are never null, and those of maps always have their keys.
fn validate_items(items: &Schema, list_type: &str, keys: &[String], path: &Path, errors: &mut Errors) {
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(path.child("nullable"), why));
    }
    if list_type != "map" {
        return;
    }
    let required: Vec<_> = items.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let list = path.child("properties");
    for key in keys {
        let property = child(items, "properties").and_then(|properties| child(properties, key));
        let Some(property) = property else { continue };
        let is_sure = required.iter().any(|name| name.as_str() == Some(key)) || property.contains_key("default");
        let key_path = list.key(key);
        if !is_sure {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(key_path.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(key_path.child("nullable"), why));
        }
    }
}

fn rules(schema: &Schema, path: &Path, errors: &mut Errors) {
    let all = path.child("x-kubernetes-validations");
    let structural = LazyCell::new(|| structural::unreadable(schema).is_none().then(|| Structural::of_map(schema)));
    for (i, rule) in list(schema, "x-kubernetes-validations").into_iter().enumerate() {
        let path = all.index(i);
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        let has_breaks = |text: &str| text.contains(['\n', '\r']);
        let message_path = path.child("message");
        if expression.is_empty() {
            errors.push(Error::required(path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(message_path, message, "must be non-empty if specified"));
        } else if has_breaks(message.trim()) {
            errors.push(Error::invalid(message_path, message, "must not contain line breaks"));
        } else if has_breaks(expression) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(message_path, why));
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(path.child("messageExpression"), why));
        }
        if rule.contains_key("reason") {
            one_of(text(rule, "reason"), REASONS, &path.child("reason"), errors);
        }
        let (field_path, field) = (path.child("fieldPath"), text(rule, "fieldPath"));
        if !field.is_empty() && field.trim().is_empty() {
            errors.push(Error::invalid(field_path, field, "must be non-empty if specified"));
        }
        if has_breaks(field) {
            errors.push(Error::invalid(field_path, field, "must not contain line breaks"));
        }
        let leads_nowhere = |structural: &Structural| field_path::resolve(field, structural, true).is_err();
        if !field.is_empty() && structural.as_ref().is_some_and(leads_nowhere) {
            errors.push(Error::invalid(field_path, field, "must be a valid path"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(schema: Value, has_status: bool) -> Vec<String> {
        let Value::Object(schema) = schema else { unreachable!("an object") };
        let mut errors = Errors::new();
        validate(&schema, has_status, &Path::new("s"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_refused() {
        let list = |items: Value| {
            json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"], "items": items}}})
        };
        let ref_twice =
            ["s.type: Required value: must not be empty at the root", "s.$ref: Forbidden: $ref is not supported"];
        for (schema, want) in [
            (json!({"type": "object", "definitions": {}, "patternProperties": {}}), vec![]),
            (
                json!({"type": "object", "dependencies": {}}),
                vec!["s.dependencies: Forbidden: dependencies is not supported"],
            ),
            (json!({"$ref": ""}), ref_twice.to_vec()),
            // Told where nothing else is wrong.
            (json!({"$schema": "x"}), vec!["s: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"]),
            (
                json!({"type": "object", "definitions": {"x": {"type": "0"}}}),
                vec![
                    "s.definitions: Forbidden: definitions is not supported",
                    "s.definitions[x].type: Unsupported value: \"0\": supported values: \"array\", \"boolean\", \"integer\", \
                     \"number\", \"object\", \"string\"",
                ],
            ),
            (
                json!({"type": "object", "properties": {"kind": {"type": "string", "default": "x"}}}),
                vec!["s.properties[kind].default: Forbidden: must not be set in top-level kind"],
            ),
            (
                list(json!([])),
                vec![
                    "s.properties[l].items: Required value: must be specified",
                    "s.properties[l].items: Invalid value: {\"Schema\":null,\"JSONSchemas\":[]}: must only have a single schema \
                     if x-kubernetes-list-type is map",
                ],
            ),
            (
                list(
                    json!({"type": "object", "nullable": true, "properties": {"k": {"type": "string", "default": ""}}}),
                ),
                vec![
                    "s.properties[l].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-preserve-unknown-fields": true,
                    "x-kubernetes-validations": [{"rule": "true"}]}}}),
                vec![
                    "s.properties[a].x-kubernetes-validations: Internal error: internal error: failed to construct type \
                     information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
                ],
            ),
            // Of a list that is none the rules below know enough by themselves.
            (
                json!({"type": "object", "properties": {"l": {"type": "0", "items": {"type": "string",
                    "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}),
                vec![
                    "s.properties[l].type: Unsupported value: \"0\": supported values: \"array\", \"boolean\", \"integer\", \
                     \"number\", \"object\", \"string\"",
                    "s.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot \
                     be used on the uncorrelatable portion of the schema within s.properties[l]",
                ],
            ),
        ] {
            assert_eq!(told(schema.clone(), false), want, "{schema}");
        }
    }

    #[test]
    fn types_of_a_number_or_text_may_be_named() {
        let both = json!([{"type": "integer"}, {"type": "string"}]);
        for (field, is_sound) in [
            (json!({"type": "string", "anyOf": both}), true),
            (json!({"type": "string", "allOf": [{"maxLength": 1, "anyOf": both}]}), true),
            (json!({"type": "string", "allOf": [{"maxLength": 1}, {"anyOf": both}]}), false),
            (json!({"type": "string", "anyOf": [{"type": "string"}, {"type": "integer"}]}), false),
            (json!({"type": "string", "anyOf": [{"type": "integer", "required": []}, {"type": "string"}]}), false),
        ] {
            let schema = json!({"type": "object", "properties": {"a": field}});
            assert_eq!(told(schema.clone(), false).is_empty(), is_sound, "{schema}");
        }
    }

    #[test]
    fn little_stands_beside_a_status() {
        assert!(told(json!({"type": "object", "required": [], "description": "d"}), true).is_empty());
        let found = told(json!({"type": "object", "allOf": []}), true);
        let shown = "\"Items\":null,\"AllOf\":[],\"OneOf\":null";
        assert!(
            found.len() == 1 && found[0].contains(shown) && found[0].contains(": only [Description Type "),
            "{found:?}"
        );
        assert_eq!(told(json!({"type": "object", "x-kubernetes-map-type": "atomic"}), false), Vec::<String>::new());
    }

    #[test]
    fn errors_of_rules_below_come_first() {
        let rule = json!([{"rule": "1"}]);
        let schema = json!({"type": "object", "x-kubernetes-validations": rule, "properties": {
            "a": {"type": "object", "x-kubernetes-map-type": "atomic", "x-kubernetes-validations": rule,
                "properties": {"b": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}});
        let found = told(schema, false);
        let fields: Vec<_> = found.iter().filter_map(|error| error.split(": ").next()).collect();
        assert_eq!(fields, ["s.properties[a].x-kubernetes-validations[0].rule", "s.x-kubernetes-validations[0].rule"]);
    }
}

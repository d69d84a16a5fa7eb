//! The rules of a schema in a definition. Whether its defaults fit it and its expressions compile is checked elsewhere.

use serde_json::{Map, Value};

use super::rule;
use super::structural::{self, child, children, flag, list, text};
use crate::{
    custom::{self, field_path, format, structural::Structural},
    field::{Error, Errors, Path},
};

type Schema = Map<String, Value>;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const UNSUPPORTED: &[&str] = &["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// `path` is that of `openAPIV3Schema`.
pub fn validate(schema: &Schema, path: &Path, errors: &mut Errors) {
    if flag(schema, "nullable") {
        errors.push(Error::forbidden(path.child("nullable"), "nullable cannot be true at the root"));
    }
    let mut found = Errors::new();
    let whole = Value::Object(schema.clone());
    let structural = Structural::of(&whole);
    node(schema, true, path, &mut found);
    let before = errors.len();
    if !is_unsupported(schema) {
        structural::validate(schema, path, errors);
        if errors.len() == before {
            custom::validate_defaults(&structural, &whole, &path.to_string(), errors);
        }
    }
    // Rules are about types, which only a sound schema has.
    let mut of_rules = Errors::new();
    if errors.len() == before {
        rule::validate(&whole, &structural, &path.to_string(), &found, &mut of_rules);
    }
    errors.append(&mut found);
    errors.append(&mut of_rules);
}

/// Upstream cannot look at the structure where one of these is used.
fn is_unsupported(schema: &Schema) -> bool {
    UNSUPPORTED.iter().any(|name| schema.contains_key(*name)) || inner(schema).into_iter().any(is_unsupported)
}

/// Formats in a schema that nothing is checked against.
pub fn unknown_formats(schema: &Schema, found: &mut Vec<String>) {
    let (kind, format) = (text(schema, "type"), text(schema, "format"));
    if !format.is_empty() && !format::is_known(kind, format) {
        found.push(format.to_owned());
    }
    inner(schema).into_iter().for_each(|schema| unknown_formats(schema, found));
}

fn inner(schema: &Schema) -> Vec<&Schema> {
    let single = ["items", "additionalProperties", "not"].into_iter().filter_map(|name| child(schema, name));
    let branches = ["allOf", "oneOf", "anyOf"].into_iter().flat_map(|name| list(schema, name));
    single.chain(children(schema, "properties").map(|(_, inner)| inner)).chain(branches).collect()
}

fn node(schema: &Schema, is_root: bool, path: &Path, errors: &mut Errors) {
    keywords(schema, path, errors);
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
        node(inner, false, &additional, errors);
    }
    let properties = path.child("properties");
    for (name, property) in children(schema, "properties") {
        let property_path = properties.key(name);
        if is_root && ["metadata", "kind", "apiVersion"].contains(&name.as_str()) && property.contains_key("default") {
            let why = format!("must not be set in top-level {name}");
            errors.push(Error::forbidden(property_path.child("default"), why));
        }
        node(property, false, &property_path, errors);
    }
    if let Some(not) = child(schema, "not") {
        node(not, false, &path.child("not"), errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        let branches = path.child(name);
        for (i, branch) in list(schema, name).into_iter().enumerate() {
            node(branch, false, &branches.index(i), errors);
        }
    }
    if let Some(items) = child(schema, "items") {
        node(items, false, &path.child("items"), errors);
    }
    topology(schema, path, errors);
    rules(schema, path, errors);
}

fn keywords(schema: &Schema, path: &Path, errors: &mut Errors) {
    let (kind, type_path) = (text(schema, "type"), path.child("type"));
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Error::not_supported(type_path, kind, TYPES));
    }
    for name in UNSUPPORTED.iter().filter(|name| schema.contains_key(**name)) {
        errors.push(Error::forbidden(path.child(name), format!("{name} is not supported")));
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(type_path, why));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.push(Error::forbidden(path.child("items"), "items must be a schema object and not an array"));
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
    let (list_type, list_path) = (text(schema, LIST), path.child(LIST));
    let items = child(schema, "items");
    let items_path = path.child("items");
    if schema.contains_key(LIST) {
        is_kind(schema, "array", LIST, path, errors);
        if let Some(items) = items.filter(|_| list_type == "set" && text(schema, "type") == "array") {
            validate_set(items, &items_path, errors);
        }
        one_of(list_type, &["atomic", "set", "map"], &list_path, errors);
    }
    let keys: Vec<String> =
        schema.get(KEYS).and_then(|keys| serde_json::from_value(keys.clone()).ok()).unwrap_or_default();
    let keys_path = path.child(KEYS);
    if list_type == "map" {
        if keys.is_empty() {
            errors.push(Error::required(keys_path, "must not be empty if x-kubernetes-list-type is map"));
        }
        match items {
            None => errors.push(Error::required(items_path, "must have a schema if x-kubernetes-list-type is map")),
            Some(items) => validate_keys(items, &keys, &items_path, &keys_path, errors),
        }
    } else if !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            "" => Error::required(list_path, why),
            other => Error::invalid(list_path, other, why),
        });
    }
}

fn one_of(value: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if !allowed.contains(&value) {
        errors.push(Error::not_supported(*path, value, allowed));
    }
}

fn validate_set(items: &Schema, path: &Path, errors: &mut Errors) {
    let (name, is_wrong) = match text(items, "type") {
        "array" => ("x-kubernetes-list-type", !["", "atomic"].contains(&text(items, "x-kubernetes-list-type"))),
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
    for (i, key) in keys.iter().enumerate() {
        match properties.get(key).and_then(Value::as_object) {
            None => errors.push(Error::invalid(*keys_path, keys, "entries must all be names of item properties")),
            Some(property) if ["array", "object"].contains(&text(property, "type")) => {
                // Upstream shows the type of the item.
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let key_path = list.key(key);
                errors.push(Error::invalid(key_path.child("type"), kind, why));
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            errors.push(Error::invalid(*keys_path, keys, "must not contain duplicate entries"));
        }
    }
    let required: Vec<_> = items.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    for (i, key) in keys.iter().enumerate().filter(|(i, key)| !keys[..*i].contains(key)) {
        let Some(property) = properties.get(key).filter(|_| i < keys.len()) else { continue };
        let is_sure = required.iter().any(|name| name.as_str() == Some(key)) || property.get("default").is_some();
        let key_path = list.key(key);
        if !is_sure {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(key_path.child("default"), why));
        }
        if property.get("nullable") == Some(&Value::Bool(true)) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(key_path.child("nullable"), why));
        }
    }
}

fn rules(schema: &Schema, path: &Path, errors: &mut Errors) {
    let all = path.child("x-kubernetes-validations");
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
        if !field.is_empty() && field_path::resolve(field, &Structural::of_map(schema), true).is_err() {
            errors.push(Error::invalid(field_path, field, "must be a valid path"));
        }
    }
}

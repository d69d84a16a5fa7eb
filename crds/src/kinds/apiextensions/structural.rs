//! Whether a schema is structural: each node has one type, and what only restricts does not define.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use super::complete;
use crate::field::{Error, Errors, Path};

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Field,
    Item,
}

type Schema = Map<String, Value>;

const SPEC: Path = Path::new("spec");
/// Fields of texts that are set even if they are empty.
const POINTERS: &[&str] = &["default", "x-kubernetes-list-type", "x-kubernetes-map-type"];

/// Causes are sorted, as upstream sorts them.
pub fn validate(schema: &Schema, path: &Path, errors: &mut Errors) {
    let mut found = Errors::new();
    node(schema, Level::Root, path, &mut found);
    complete::validate(schema, path, &mut found);
    found.sort_by_key(ToString::to_string);
    errors.append(&mut found);
}

/// What keeps the schemas of a definition from being structural, as its status tells it; none if they are.
pub fn violations(definition: &CustomResourceDefinition) -> Option<String> {
    let mut errors = Errors::new();
    if definition.spec.preserve_unknown_fields == Some(true) {
        errors.push(Error::invalid(SPEC.child("preserveUnknownFields"), true, "must be false"));
    }
    let versions = SPEC.child("versions");
    for (i, version) in definition.spec.versions.iter().enumerate() {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(Ok(Value::Object(schema))) = schema.map(serde_json::to_value) {
            let path = versions.index(i);
            let path = path.child("schema");
            validate(&schema, &path.child("openAPIV3Schema"), &mut errors);
        }
    }
    let mut told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    told.sort();
    match told.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}

/// Why upstream cannot tell the structure of a schema; none if it can.
pub fn unreadable(schema: &Schema) -> Option<&'static str> {
    let below = |names: &[&str]| names.iter().flat_map(|name| list(schema, name)).find_map(unreadable);
    unsupported(schema)
        .or_else(|| child(schema, "not").and_then(unreadable))
        .or_else(|| below(&["allOf", "anyOf", "oneOf"]))
        .or_else(|| {
            let refuses = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false));
            refuses.then_some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")
        })
        .or_else(|| {
            let is_list = !list(schema, "items").is_empty();
            is_list.then_some("OpenAPIV3Schema 'items' must be a schema, but is an array")
        })
        .or_else(|| child(schema, "items").and_then(unreadable))
        .or_else(|| children(schema, "properties").find_map(|(_, property)| unreadable(property)))
        .or_else(|| child(schema, "additionalProperties").and_then(unreadable))
}

fn unsupported(schema: &Schema) -> Option<&'static str> {
    let is_set = |name: &str| !text(schema, name).is_empty();
    let has_entries = |name: &str| child(schema, name).is_some_and(|entries| !entries.is_empty());
    [
        (is_set("id"), "OpenAPIV3Schema 'id' is not supported"),
        (is_set("$schema"), "OpenAPIV3Schema 'schema' is not supported"),
        (is_set("$ref"), "OpenAPIV3Schema '$ref' is not supported"),
        (has_entries("patternProperties"), "OpenAPIV3Schema 'patternProperties' is not supported"),
        (has_entries("dependencies"), "OpenAPIV3Schema 'dependencies' is not supported"),
        (schema.contains_key("additionalItems"), "OpenAPIV3Schema 'additionalItems' is not supported"),
        (has_entries("definitions"), "OpenAPIV3Schema 'definitions' is not supported"),
    ]
    .into_iter()
    .find_map(|(is_used, why)| is_used.then_some(why))
}

pub fn text<'a>(schema: &'a Schema, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or("")
}

pub fn flag(schema: &Schema, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

pub fn child<'a>(schema: &'a Schema, name: &str) -> Option<&'a Schema> {
    schema.get(name).and_then(Value::as_object)
}

pub fn children<'a>(schema: &'a Schema, name: &str) -> impl Iterator<Item = (&'a String, &'a Schema)> {
    child(schema, name).into_iter().flatten().filter_map(|(name, inner)| inner.as_object().map(|inner| (name, inner)))
}

pub fn list<'a>(schema: &'a Schema, name: &str) -> Vec<&'a Schema> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect()
}

fn node(schema: &Schema, level: Level, path: &Path, errors: &mut Errors) {
    let kind = text(schema, "type");
    let items_path = path.child("items");
    match child(schema, "items") {
        None if kind == "array" => errors.push(Error::required(items_path, "must be specified")),
        None => {}
        Some(items) => node(items, Level::Item, &items_path, errors),
    }
    let properties = path.child("properties");
    for (name, property) in children(schema, "properties") {
        node(property, Level::Field, &properties.key(name), errors);
    }
    let additional = path.child("additionalProperties");
    if schema.contains_key("additionalProperties") && level == Level::Root {
        errors.push(Error::forbidden(additional, "must not be used at the root"));
    }
    if let Some(inner) = child(schema, "additionalProperties") {
        node(inner, Level::Field, &additional, errors);
    }
    extensions(schema, path, errors);
    let skips_first = list(schema, "allOf").first().is_some_and(|first| is_int_or_string(first));
    restrictions(schema, is_int_or_string(schema), skips_first, path, errors);
    own_type(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Schema, path: &Path, errors: &mut Errors) {
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, "x-kubernetes-int-or-string") && flag(schema, name) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Error::invalid(path.child(name), true, why));
        }
    }
}

fn own_type(schema: &Schema, level: Level, path: &Path, errors: &mut Errors) {
    let (kind, type_path) = (text(schema, "type"), path.child("type"));
    let is_embedded = flag(schema, "x-kubernetes-embedded-resource");
    let is_free = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let why = "must be object if x-kubernetes-embedded-resource is true";
    match kind {
        "" if is_embedded => errors.push(Error::required(type_path, why)),
        "" if flag(schema, "x-kubernetes-int-or-string") || is_free => {}
        "" => {
            let of = match level {
                Level::Root => "at the root",
                Level::Item => "for specified array items",
                Level::Field => "for specified object fields",
            };
            errors.push(Error::required(type_path, format!("must not be empty {of}")));
        }
        "object" => {}
        kind if is_embedded => errors.push(Error::invalid(type_path, kind, why)),
        _ => {}
    }
    if is_embedded && schema.contains_key("additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(path.child("additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Error::invalid(type_path, kind, "must be object at the root"));
    }
    if is_embedded && !is_free && children(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(path.child("properties"), why));
    }
}

/// What each object has anyway may hardly be restricted.
fn metadata(schema: &Schema, level: Level, path: &Path, errors: &mut Errors) {
    if level != Level::Root && !flag(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    let list = path.child("properties");
    for (name, property) in children(schema, "properties") {
        let (path, kind) = (list.key(name), text(property, "type"));
        match name.as_str() {
            "kind" | "apiVersion" if kind != "string" => {
                errors.push(Error::invalid(path.child("type"), kind, "must be string"));
            }
            "metadata" => {
                if kind != "object" {
                    errors.push(Error::invalid(path.child("type"), kind, "must be object"));
                }
                if level == Level::Root && !only_names(property) {
                    let why = "must not specify anything other than name and generateName, but metadata is implicitly \
                               specified";
                    errors.push(Error::forbidden(path, why));
                }
            }
            _ => {}
        }
    }
}

/// Whether a schema of metadata says nothing but what its names are.
fn only_names(metadata: &Schema) -> bool {
    let are_names = children(metadata, "properties").all(|(name, _)| ["name", "generateName"].contains(&name.as_str()));
    are_names && says_only(metadata, &["type", "properties", "default"], Kept::AsDeclared)
}

/// How Go keeps a schema: one that declares, or one that only restricts.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    AsDeclared,
    AsRestriction,
}

/// Whether a schema holds nothing beside the fields named, as Go has it: some of what is empty is told from what is
/// absent.
fn says_only(schema: &Schema, names: &[&str], kept: Kept) -> bool {
    schema.iter().filter(|(name, _)| !names.contains(&name.as_str())).all(|(name, value)| {
        match (name.as_str(), value) {
            (_, Value::Null) => true,
            ("id" | "$schema" | "$ref" | "dependencies" | "definitions" | "patternProperties", _) => true,
            ("required" | "x-kubernetes-list-map-keys" | "x-kubernetes-validations", _) => false,
            ("default" | "example" | "x-kubernetes-list-type" | "x-kubernetes-map-type", _) => false,
            ("properties", properties) => kept == Kept::AsDeclared && *properties == json!({}),
            ("additionalProperties", allowed) => kept == Kept::AsRestriction && *allowed == Value::Bool(false),
            ("items", items) => !items.is_object(),
            (_, Value::Bool(set)) => !set,
            (_, Value::String(text)) => text.is_empty(),
            (_, Value::Array(items)) => items.is_empty(),
            _ => false,
        }
    })
}

/// Whether `anyOf` says that a value is an integer or a text, which restrictions otherwise may not.
fn is_int_or_string(schema: &Schema) -> bool {
    let is_type =
        |schema: &Schema, kind| text(schema, "type") == kind && says_only(schema, &["type"], Kept::AsRestriction);
    matches!(list(schema, "anyOf").as_slice(), [one, other] if is_type(one, "integer") && is_type(other, "string"))
}

/// What a schema restricts; `skips_any_of`: its own `anyOf` is free to name types.
fn restrictions(schema: &Schema, skips_any_of: bool, skips_first: bool, path: &Path, errors: &mut Errors) {
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && skips_any_of {
            continue;
        }
        let branches = path.child(name);
        for (i, branch) in list(schema, name).into_iter().enumerate() {
            nested(branch, skips_first && name == "allOf" && i == 0, &branches.index(i), errors);
        }
    }
    if let Some(not) = child(schema, "not") {
        nested(not, false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = regex::Regex::new(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {}", go_words(pattern, &error));
        errors.push(Error::invalid(path.child("pattern"), pattern, why));
    }
}

/// The most common complaints in the words of Go's parser.
fn go_words(pattern: &str, error: &regex::Error) -> String {
    let shown = error.to_string();
    let last = shown.lines().last().unwrap_or("").trim_start_matches("error: ");
    match last {
        "unclosed character class" => {
            let rest = pattern.rfind('[').map_or(pattern, |at| &pattern[at..]);
            format!("error parsing regexp: missing closing ]: `{rest}`")
        }
        "unclosed group" => format!("error parsing regexp: missing closing ): `{pattern}`"),
        "unopened group" => format!("error parsing regexp: unexpected ): `{pattern}`"),
        other => format!("error parsing regexp: {other}: `{pattern}`"),
    }
}

/// A schema below `allOf` and its like restricts, and defines nothing.
fn nested(schema: &Schema, skips_any_of: bool, path: &Path, errors: &mut Errors) {
    restrictions(schema, skips_any_of, false, path, errors);
    if let Some(items) = child(schema, "items") {
        nested(items, false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in children(schema, "properties") {
        nested(property, false, &properties.key(name), errors);
    }
    for (name, how) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let is_set = schema.get(name).is_some_and(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::String(text) => !text.is_empty() || POINTERS.contains(&name),
            _ => true,
        });
        if is_set {
            errors.push(Error::forbidden(path.child(name), format!("must be {how} to be structural")));
        }
    }
    if child(schema, "properties").is_some_and(|properties| properties.contains_key("metadata")) {
        let why = "must not be specified in a nested context";
        errors.push(Error::forbidden(properties.key("metadata"), why));
    }
}

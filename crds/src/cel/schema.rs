//! Declared types from OpenAPI schemas, structural ones and those that a server publishes.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::decl::{Decl, ListType, Scalar};

/// The largest request, of which the most items of an unlimited list are reckoned.
pub const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// Schemas that refer to themselves end here.
const DEPTH_MAX: usize = 64;

/// Finds the schema that a `$ref` means.
pub type Resolve<'r> = &'r dyn Fn(&str) -> Option<Json>;

/// The type that a structural schema declares. `name` is that of its objects: of the root itself, with the path added
/// below. A `resource` root has `apiVersion`, `kind` and `metadata` with `name` and `generateName`, whatever the
/// schema says. `None` where a schema says nothing that expressions could use.
pub fn declared(schema: &Json, name: &str, resource: bool) -> Option<Decl> {
    with_references(schema, name, resource, &|_| None)
}

/// As `declared`, for schemas that refer to others.
pub fn with_references(schema: &Json, name: &str, resource: bool, resolve: Resolve<'_>) -> Option<Decl> {
    Reader { resolve }.read(schema, name, resource, 0)
}

struct Reader<'r> {
    resolve: Resolve<'r>,
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name).and_then(Json::as_i64).map(|n| u64::try_from(n).unwrap_or(0))
}

fn text<'s>(schema: &'s Json, name: &str) -> &'s str {
    schema.get(name).and_then(Json::as_str).unwrap_or("")
}

impl Reader<'_> {
    fn read(&self, schema: &Json, name: &str, resource: bool, depth: usize) -> Option<Decl> {
        if depth > DEPTH_MAX {
            return None;
        }
        if let Some(found) = reference(schema) {
            return self.read(&(self.resolve)(found)?, name, resource, depth + 1);
        }
        let decl = self.shape(schema, name, resource, depth)?;
        Some(decl.nullable(flag(schema, "nullable")))
    }

    fn shape(&self, schema: &Json, name: &str, resource: bool, depth: usize) -> Option<Decl> {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Some(Decl::int_or_string().max_elements(most_characters(schema)));
        }
        let complete;
        let (schema, kind) = if resource {
            complete = with_object_meta(schema);
            (&complete, "object")
        } else {
            (schema, text(schema, "type"))
        };
        match kind {
            "array" => {
                let items = schema.get("items")?;
                let item = self.below(items, &format!("{name}.@idx"), depth)?;
                let most = limit(schema, "maxItems").unwrap_or((REQUEST_BYTES_MAX - 2) / (item.least_bytes() + 1));
                Some(Decl::list(item, list_type(schema)).max_elements(most))
            }
            "object" => match schema.get("additionalProperties").filter(|s| s.is_object()) {
                Some(values) => {
                    let value = self.below(values, &format!("{name}.@elem"), depth)?;
                    let most =
                        limit(schema, "maxProperties").unwrap_or((REQUEST_BYTES_MAX - 2) / (value.least_bytes() + 6));
                    Some(Decl::map(Decl::string(), value).max_elements(most))
                }
                None => Some(self.object(schema, name, depth)),
            },
            "string" => Some(string(schema)),
            "boolean" => Some(Decl::scalar(Scalar::Bool)),
            "number" => Some(Decl::scalar(Scalar::Double)),
            "integer" => Some(Decl::scalar(Scalar::Int)),
            _ => None,
        }
    }

    fn below(&self, schema: &Json, name: &str, depth: usize) -> Option<Decl> {
        self.read(schema, name, flag(schema, "x-kubernetes-embedded-resource"), depth + 1)
    }

    fn object(&self, schema: &Json, name: &str, depth: usize) -> Decl {
        let required: Vec<&str> =
            schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
        let mut fields = Vec::new();
        let mut least = 2;
        for (property, schema) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let Some(decl) = self.below(schema, &format!("{name}.{property}"), depth) else {
                continue;
            };
            if required.contains(&property.as_str()) && schema.get("default").is_none_or(Json::is_null) {
                least += property.len() as u64 + decl.least_bytes() + 4;
            }
            fields.push((property.clone(), decl));
        }
        Decl::object(name, fields).min_size(least)
    }
}

/// A reference, alone or as the one part of an `allOf`, as published schemas write it beside a default.
fn reference(schema: &Json) -> Option<&str> {
    let whole = schema.get("$ref").and_then(Json::as_str);
    let part = || match schema.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
        Some([one]) if schema.get("type").is_none() => one.get("$ref").and_then(Json::as_str),
        _ => None,
    };
    whole.or_else(part)
}

fn list_type(schema: &Json) -> ListType {
    match text(schema, "x-kubernetes-list-type") {
        "set" => ListType::Set,
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            let keys = keys.into_iter().flatten().filter_map(Json::as_str);
            ListType::Map(keys.map(|key| super::escape::escape(key).unwrap_or_else(|| key.to_owned()).into()).collect())
        }
        _ => ListType::Atomic,
    }
}

fn string(schema: &Json) -> Decl {
    let scalar = match text(schema, "format") {
        "byte" => Scalar::Bytes,
        "duration" => Scalar::Duration,
        "date" => Scalar::Date,
        "date-time" => Scalar::DateTime,
        _ => Scalar::String,
    };
    let most = match (scalar, limit(schema, "maxLength")) {
        (Scalar::Bytes, Some(most)) => most,
        _ => most_characters(schema),
    };
    Decl::scalar(scalar).max_elements(most)
}

fn most_characters(schema: &Json) -> u64 {
    if flag(schema, "x-kubernetes-int-or-string") {
        return limit(schema, "maxLength").map_or(REQUEST_BYTES_MAX - 2, |most| most.saturating_mul(4));
    }
    match text(schema, "format") {
        "duration" | "date-time" => return 32,
        "date" => return 12,
        "byte" => return REQUEST_BYTES_MAX - 2,
        _ => {}
    }
    if let Some(most) = limit(schema, "maxLength") {
        // A character may take four bytes.
        return most.saturating_mul(4);
    }
    let values = schema.get("enum").and_then(Json::as_array).filter(|values| !values.is_empty());
    values.map_or(REQUEST_BYTES_MAX - 2, |values| {
        values.iter().filter_map(Json::as_str).map(|value| value.len() as u64).max().unwrap_or(0)
    })
}

fn with_object_meta(schema: &Json) -> Json {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    let mut properties: Map<String, Json> =
        schema.get("properties").and_then(Json::as_object).cloned().unwrap_or_default();
    let text = json!({"type": "string"});
    properties.insert("kind".to_owned(), text.clone());
    properties.insert("apiVersion".to_owned(), text.clone());
    let names = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    properties.insert("metadata".to_owned(), names);
    schema.insert("properties".to_owned(), Json::Object(properties));
    Json::Object(schema)
}

/// How often at most a value of this type can occur in one request.
pub fn cardinality(decl: &Arc<Decl>) -> u64 {
    REQUEST_BYTES_MAX / (decl.least_bytes() + 1)
}

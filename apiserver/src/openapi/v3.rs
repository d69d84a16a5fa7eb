//! Documents as OpenAPI v3 writes them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Definitions,
    definition::{self, Of, Version},
    operation::{Model, Operation, status_text},
    parameter::Parameter,
    path::PathItem,
};

/// Documents of custom resources have a title of their own, and say nothing of authentication.
pub fn document(root: &str, items: &[PathItem], definitions: &dyn Definitions, custom: bool) -> Value {
    let paths: Map<_, _> = items.iter().map(|item| (item.path.clone(), path(item))).collect();
    let mut components = if custom {
        json!({})
    } else {
        json!({
            "securitySchemes": {"BearerToken": {
                "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
            }},
        })
    };
    let of = if custom { Of::Custom } else { version_of(root) };
    let schemas = schemas(items, |name| definition::schema(name, Version::V3, of).or_else(|| definitions.v3(name)));
    if !schemas.is_empty() {
        components["schemas"] = schemas.into();
    }
    json!({
        "openapi": "3.0.0",
        "info": if custom { json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}) } else { super::v2::info() },
        "paths": paths,
        "components": components,
    })
}

/// The group and version of `api/v1` or `apis/apps/v1`.
fn version_of(root: &str) -> Of<'_> {
    match *root.split('/').collect::<Vec<_>>() {
        ["api", version] => Of::Version("", version),
        ["apis", group, version] => Of::Version(group, version),
        _ => Of::Everything,
    }
}

/// The types that the operations name, and all that these are made of.
pub fn schemas(items: &[PathItem], schema: impl Fn(&str) -> Option<Value>) -> Map<String, Value> {
    let mut waiting: BTreeSet<String> = items.iter().flat_map(|item| &item.operations).flat_map(models).collect();
    let mut done = Map::new();
    while let Some(name) = waiting.pop_first() {
        let Some(schema) = schema(&name) else { continue };
        references(&schema, &mut |name| {
            if !done.contains_key(name) {
                waiting.insert(name.to_owned());
            }
        });
        done.insert(name, schema);
    }
    done
}

fn models(operation: &Operation) -> Vec<String> {
    let answers = operation.responses.iter().filter_map(|(_, model)| match model {
        Model::Type(name) => Some(name.clone()),
        Model::Text => None,
    });
    answers.chain(operation.body.iter().map(|body| body.model.clone())).collect()
}

fn references(schema: &Value, found: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found(reference.rsplit('/').next().unwrap_or(reference));
            }
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The parameters that all operations of a path have, and for each operation the rest; both in order.
pub fn split(item: &PathItem) -> (Vec<&Parameter>, Vec<Vec<&Parameter>>) {
    let everywhere = |p: &Parameter| {
        item.operations.iter().all(|op| op.parameters.iter().any(|q| (&q.name, q.place) == (&p.name, p.place)))
    };
    let sorted = |mut all: Vec<_>| {
        all.sort();
        all
    };
    let first = item.operations.first().map(|op| op.parameters.as_slice()).unwrap_or_default();
    let common = sorted(first.iter().filter(|p| everywhere(p)).collect::<Vec<_>>());
    let rest = item.operations.iter().map(|op| sorted(op.parameters.iter().filter(|p| !everywhere(p)).collect()));
    (common, rest.collect())
}

fn path(item: &PathItem) -> Value {
    let (common, rest) = split(item);
    let mut out = Map::new();
    if !common.is_empty() {
        out.insert("parameters".to_owned(), common.into_iter().map(parameter).collect());
    }
    for (op, parameters) in item.operations.iter().zip(rest) {
        out.insert(op.method.to_owned(), operation(op, &parameters));
    }
    Value::Object(out)
}

fn parameter(parameter: &Parameter) -> Value {
    let mut out = json!({
        "name": parameter.name,
        "in": parameter.place.name(),
        "schema": {"type": parameter.kind, "uniqueItems": true},
    });
    if !parameter.prose.is_empty() {
        out["description"] = parameter.prose.as_str().into();
    }
    if parameter.place == super::parameter::Place::Path {
        out["required"] = true.into();
    }
    out
}

fn operation(op: &Operation, parameters: &[&Parameter]) -> Value {
    let mut out = json!({
        "description": op.prose,
        "operationId": op.id,
        "tags": [op.tag],
        "responses": responses(op),
    });
    if !parameters.is_empty() {
        out["parameters"] = parameters.iter().map(|p| parameter(p)).collect();
    }
    if let Some(body) = &op.body {
        let schema = Version::V3.reference(&body.model);
        out["requestBody"] = json!({"content": content(&op.consumes, &schema)});
        if body.required {
            out["requestBody"]["required"] = true.into();
        }
    }
    kubernetes(op, &mut out);
    out
}

/// The extensions that tell clients what an operation is for.
pub fn kubernetes(op: &Operation, out: &mut Value) {
    if !op.action.is_empty() {
        out["x-kubernetes-action"] = op.action.into();
    }
    if let Some([group, version, kind]) = &op.kind {
        out["x-kubernetes-group-version-kind"] = json!({"group": group, "version": version, "kind": kind});
    }
}

fn content(media: &[&str], schema: &Value) -> Value {
    Value::Object(media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect())
}

fn responses(op: &Operation) -> Value {
    let mut out = json!({"401": {"description": status_text(401)}});
    for (code, model) in &op.responses {
        let schema = match model {
            Model::Text => json!({"type": "string"}),
            Model::Type(name) => Version::V3.reference(name),
        };
        out[code.to_string()] = json!({"description": status_text(*code), "content": content(&op.produces, &schema)});
    }
    out
}

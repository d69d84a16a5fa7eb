//! The document as OpenAPI v2 (Swagger) writes it.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE};
use serde_json::{Map, Value, json};

use super::{
    Definitions,
    definition::{self, Of, Version},
    operation::{Body, Model, Operation, status_text},
    parameter::{Parameter, Place},
    path::PathItem,
    v3::{kubernetes, schemas, split},
};

pub fn info() -> Value {
    json!({"title": "Kubernetes", "version": "1.36"})
}

pub fn document(items: &[PathItem], definitions: &dyn Definitions) -> Value {
    let mut shared = Shared::default();
    let paths: Map<_, _> = items.iter().map(|item| (item.path.clone(), path(item, &mut shared))).collect();
    let types =
        schemas(items, |name| definition::schema(name, Version::V2, Of::Everything).or_else(|| definitions.v2(name)));
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": types,
        "parameters": shared.all,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// Parameters that many operations have, by a name that holds a hash of them.
#[derive(Default)]
struct Shared {
    all: BTreeMap<String, Value>,
}

impl Shared {
    /// Puts a parameter aside; gives the reference to it. `text` is its JSON in upstream's order, which is hashed.
    fn reference(&mut self, name: &str, text: &str, value: Value) -> Value {
        let hash = fnv(text.as_bytes()).to_be_bytes();
        let name = format!("{name}-{}", BASE64_URL_SAFE.encode(&hash[..6]));
        let reference = json!({"$ref": format!("#/parameters/{name}")});
        self.all.insert(name, value);
        reference
    }
}

/// FNV-1, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte))
}

fn path(item: &PathItem, shared: &mut Shared) -> Value {
    let (common, rest) = split(item);
    let mut out = Map::new();
    if !common.is_empty() {
        out.insert("parameters".to_owned(), common.into_iter().map(|p| parameter(p, shared)).collect());
    }
    for (op, parameters) in item.operations.iter().zip(rest) {
        out.insert(op.method.to_owned(), operation(op, &parameters, shared));
    }
    Value::Object(out)
}

/// Clients of old look for `dryRun` and `fieldValidation` in place; a name tells of its kind and is not shared.
fn parameter(parameter: &Parameter, shared: &mut Shared) -> Value {
    let Parameter { name, place, kind, prose } = parameter;
    let mut out = json!({"name": name, "in": place.name(), "type": kind, "uniqueItems": true});
    if !prose.is_empty() {
        out["description"] = prose.as_str().into();
    }
    let required = if *place == Place::Path { r#","required":true"# } else { "" };
    if *place == Place::Path {
        out["required"] = true.into();
    }
    if name == "name" || (*place == Place::Query && (name == "dryRun" || name == "fieldValidation")) {
        return out;
    }
    let prose =
        if prose.is_empty() { String::new() } else { format!(r#""description":{},"#, Value::from(prose.as_str())) };
    let text =
        format!(r#"{{"uniqueItems":true,"type":"{kind}",{prose}"name":"{name}","in":"{}"{required}}}"#, place.name());
    shared.reference(name, &text, out)
}

fn body(body: &Body, shared: &mut Shared) -> Value {
    let schema = Version::V2.reference(&body.model);
    let mut out = json!({"name": "body", "in": "body", "schema": schema});
    if body.required {
        out["required"] = true.into();
    }
    if !body.model.starts_with("io.k8s.apimachinery") {
        return out;
    }
    let required = if body.required { r#","required":true"# } else { "" };
    shared.reference("body", &format!(r#"{{"name":"body","in":"body"{required},"schema":{schema}}}"#), out)
}

fn operation(op: &Operation, parameters: &[&Parameter], shared: &mut Shared) -> Value {
    let mut responses = json!({"401": {"description": status_text(401)}});
    for (code, model) in &op.responses {
        let schema = match model {
            Model::Text => json!({"type": "string"}),
            Model::Type(name) => Version::V2.reference(name),
        };
        responses[code.to_string()] = json!({"description": status_text(*code), "schema": schema});
    }
    let mut out = json!({
        "description": op.prose,
        "operationId": op.id,
        "produces": op.produces,
        "responses": responses,
        "schemes": ["https"],
        "tags": [op.tag],
    });
    if !op.consumes.is_empty() {
        out["consumes"] = json!(op.consumes);
    }
    let own = op.body.iter().map(|b| body(b, shared)).collect::<Vec<_>>();
    let all: Vec<Value> = own.into_iter().chain(parameters.iter().map(|p| parameter(p, shared))).collect();
    if !all.is_empty() {
        out["parameters"] = all.into();
    }
    kubernetes(op, &mut out);
    out
}

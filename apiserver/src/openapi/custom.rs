//! Custom resources in OpenAPI: their types, from the schemas of their definitions, and their paths.

use std::sync::Arc;

use crds::{
    kind::{Definition, Subresource},
    schema::prose,
};
use serde_json::{Map, Value, json};

use super::{
    Definitions,
    definition::Version,
    operation::{Body, Model, Operation, id, tag},
    parameter::{self, Parameter, in_path, namespace, pretty},
    path::PathItem,
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const MEDIA: &[&str] = &["application/json", "application/yaml"];
const PATCH_MEDIA: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// The types of the custom kinds among these.
pub struct CustomTypes(pub Vec<Arc<Definition>>);

impl Definitions for CustomTypes {
    fn v3(&self, name: &str) -> Option<Value> {
        self.schema(name, Version::V3)
    }

    fn v2(&self, name: &str) -> Option<Value> {
        self.schema(name, Version::V2)
    }
}

impl CustomTypes {
    fn schema(&self, name: &str, version: Version) -> Option<Value> {
        let mut custom = self.0.iter().filter(|definition| definition.is_custom());
        custom.find_map(|definition| {
            if *definition.schema_name == *name {
                Some(object(definition, version))
            } else {
                (list_name(definition) == name).then(|| list(definition, version))
            }
        })
    }
}

fn list_name(definition: &Definition) -> String {
    let name = &*definition.schema_name;
    format!("{}{}", name.strip_suffix(&*definition.gvk.kind).unwrap_or(name), definition.list_kind)
}

fn reference(name: &str, description: &str, version: Version) -> Value {
    let mut reference = version.reference(name);
    match version {
        Version::V2 => reference["description"] = description.into(),
        Version::V3 => reference = json!({"allOf": [reference], "description": description}),
    }
    reference
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn set_type_meta(properties: &mut Map<String, Value>) {
    for name in ["apiVersion", "kind"] {
        properties.insert(name.to_owned(), text(prose::of_field(&format!("{META}.Status"), name)));
    }
}

fn standard_metadata(version: Version) -> Value {
    let description = format!("Standard object's metadata. More info: {CONVENTIONS}#metadata");
    reference(&format!("{META}.ObjectMeta"), &description, version)
}

fn extend(schema: &mut Value, definition: &Definition, kind: &str) {
    let gvk = &definition.gvk;
    schema["x-kubernetes-group-version-kind"] = json!([{"group": gvk.group, "version": gvk.version, "kind": kind}]);
    if !definition.selectable.is_empty() {
        let fields: Vec<_> = definition.selectable.iter().map(|path| json!({ "fieldPath": path })).collect();
        schema["x-kubernetes-selectable-fields"] = fields.into();
    }
}

fn object(definition: &Definition, version: Version) -> Value {
    let own = definition.custom.as_ref().and_then(|custom| custom.family.version(&definition.gvk.version));
    // kubectl refuses unknown fields wherever it sees known ones, so that it is told of none.
    let mut schema = match own.filter(|own| version == Version::V3 || !own.structural.preserves) {
        Some(own) if own.schema.is_object() => {
            let mut schema = node(&own.schema, version);
            let mut properties = Map::new();
            properties.insert("metadata".to_owned(), standard_metadata(version));
            set_type_meta(&mut properties);
            add_properties(&mut schema, properties);
            schema
        }
        _ => json!({"type": "object"}),
    };
    extend(&mut schema, definition, &definition.gvk.kind);
    schema
}

fn list(definition: &Definition, version: Version) -> Value {
    let (kind, list_kind) = (&definition.gvk.kind, &definition.list_kind);
    let mut properties = Map::new();
    set_type_meta(&mut properties);
    let prose = format!("List of {}. More info: {CONVENTIONS}", definition.plural);
    let items = version.reference(&definition.schema_name);
    properties.insert("items".to_owned(), json!({"type": "array", "items": items, "description": prose}));
    let prose = format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds");
    properties.insert("metadata".to_owned(), reference(&format!("{META}.ListMeta"), &prose, version));
    let mut schema = json!({
        "type": "object", "description": format!("{list_kind} is a list of {kind}"),
        "required": ["items"], "properties": properties,
    });
    extend(&mut schema, definition, list_kind);
    schema
}

/// Gives a schema these properties, beside or in place of its own.
fn add_properties(schema: &mut Value, added: Map<String, Value>) {
    match &mut schema["properties"] {
        Value::Object(properties) => properties.extend(added),
        other => *other = Value::Object(added),
    }
}

/// A schema as it is published: what is only said in words of Kubernetes is said in those of OpenAPI, too.
fn node(schema: &Value, version: Version) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            (_, Value::Null | Value::Bool(false)) if name != "default" && name != "additionalProperties" => continue,
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, inner)| (name.clone(), node(inner, version))).collect())
            }
            ("items" | "additionalProperties", inner) => node(inner, version),
            (_, value) => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    let is = |out: &Map<String, Value>, name: &str| out.get(name) == Some(&Value::Bool(true));
    if is(&out, INT_OR_STRING) {
        either(&mut out);
    }
    if version == Version::V2 {
        simplify(&mut out);
    }
    let mut out = Value::Object(out);
    let embedded = out[EMBEDDED] == true && !(version == Version::V2 && out[PRESERVES] == true);
    if embedded {
        let mut properties = Map::new();
        let version_prose = format!(
            "apiVersion defines the versioned schema of this representation of an object. More info: {CONVENTIONS}#resources"
        );
        let kind_prose = format!(
            "kind is a string value representing the type of this object. In CamelCase. More info: {CONVENTIONS}#types-kinds"
        );
        properties.insert("apiVersion".to_owned(), text(&version_prose));
        properties.insert("kind".to_owned(), text(&kind_prose));
        properties.insert("metadata".to_owned(), standard_metadata(version));
        add_properties(&mut out, properties);
        let mut required = out["required"].as_array().cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
        out["required"] = required.into();
    }
    out
}

/// `x-kubernetes-int-or-string` as `anyOf`.
fn either(out: &mut Map<String, Value>) {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let is_told = out.get("anyOf") == Some(&both)
        || out.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf")) == Some(&both);
    if is_told {
        return;
    }
    if !out.contains_key("anyOf") {
        out.insert("anyOf".to_owned(), both);
        return;
    }
    let mut all = vec![json!({ "anyOf": both })];
    all.extend(out.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default());
    out.insert("allOf".to_owned(), all.into());
}

/// What OpenAPI v2 cannot say, or kubectl cannot cope with, is left out.
fn simplify(out: &mut Map<String, Value>) {
    for name in ["allOf", "oneOf", "anyOf", "not"] {
        out.remove(name);
    }
    let nullable: Vec<String> = out
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| property.get("nullable") == Some(&Value::Bool(true)))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = out.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|known| name == known));
        if required.is_empty() {
            out.remove("required");
        }
    }
    // Properties are asked for `nullable` above, so that it goes only with their own parent.
    if let Some(Value::Object(properties)) = out.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(|property| drop(property.remove("nullable")));
    }
    if out.get("nullable") == Some(&Value::Bool(true)) {
        for name in ["type", "items", "properties"] {
            out.remove(name);
        }
    }
    if out.get(PRESERVES) == Some(&Value::Bool(true)) {
        out.remove("items");
        out.remove("properties");
        if out.get("type").is_some_and(|kind| kind == "object") {
            out.remove("type");
        }
    }
    if !out.contains_key("items") && out.get("type").is_some_and(|kind| kind == "array") {
        out.remove("type");
    }
}

/// The paths of a custom kind, as upstream's builder of their documents makes them.
pub fn paths(root: &str, definition: &Definition, items: &mut Vec<PathItem>) {
    let maker = Maker { root, definition };
    let kind = &definition.gvk.kind;
    let namespaced = if definition.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{root}/{namespaced}{}", definition.plural);
    if definition.namespaced {
        let list = Operation { id: id("list", root, &format!("{kind}ForAllNamespaces")), ..maker.list(false) };
        items.push(PathItem { path: format!("/{root}/{}", definition.plural), operations: vec![list] });
    }
    let object = Model::Type(definition.schema_name.to_string());
    let operations = vec![maker.list(true), maker.create(&object), maker.delete_collection()];
    items.push(PathItem { path: collection.clone(), operations });
    let mut operations = maker.part("", &object);
    operations.push(maker.delete());
    items.push(PathItem { path: format!("{collection}/{{name}}"), operations });
    for part in &definition.subresources {
        let (name, model) = match part {
            Subresource::Status => ("status", object.clone()),
            Subresource::Scale(_) => ("scale", Model::Type("io.k8s.api.autoscaling.v1.Scale".to_owned())),
            Subresource::Other { .. } => continue,
        };
        items.push(PathItem { path: format!("{collection}/{{name}}/{name}"), operations: maker.part(name, &model) });
    }
}

struct Maker<'a> {
    root: &'a str,
    definition: &'a Definition,
}

impl Maker<'_> {
    fn operation(&self, method: &'static str, action: &'static str, verb: &str, part: &str) -> Operation {
        let scope = if self.definition.namespaced { "Namespaced" } else { "" };
        let kind = &self.definition.gvk.kind;
        let mut title = part.to_owned();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let gvk = &self.definition.gvk;
        Operation {
            method,
            id: id(verb, self.root, &format!("{scope}{kind}{title}")),
            tag: tag(self.root),
            action,
            kind: Some([gvk.group.to_string(), gvk.version.to_string(), gvk.kind.to_string()]),
            consumes: MEDIA.to_vec(),
            produces: MEDIA.to_vec(),
            ..Operation::default()
        }
    }

    fn place(&self, named: bool) -> Vec<Parameter> {
        let mut place = vec![pretty()];
        if self.definition.namespaced {
            place.push(namespace());
        }
        if named {
            place.push(in_path("name", format!("name of the {}", self.definition.gvk.kind)));
        }
        place
    }

    fn with(&self, named: bool, options: Vec<Parameter>) -> Vec<Parameter> {
        self.place(named).into_iter().chain(options).collect()
    }

    fn list(&self, in_namespace: bool) -> Operation {
        let place = if in_namespace { self.place(false) } else { vec![pretty()] };
        Operation {
            prose: format!("list objects of kind {}", self.definition.gvk.kind),
            parameters: place.into_iter().chain(parameter::list()).collect(),
            responses: vec![(200, Model::Type(list_name(self.definition)))],
            ..self.operation("get", "list", "list", "")
        }
    }

    fn create(&self, model: &Model) -> Operation {
        let kind = &self.definition.gvk.kind;
        Operation {
            prose: format!("create{}{kind}", super::path::article(kind)),
            parameters: self.with(false, parameter::create()),
            body: body(model),
            responses: [200, 201, 202].map(|code| (code, model.clone())).to_vec(),
            ..self.operation("post", "post", "create", "")
        }
    }

    fn delete_collection(&self) -> Operation {
        let kind = &self.definition.gvk.kind;
        let scope = if self.definition.namespaced { "Namespaced" } else { "" };
        Operation {
            id: id("delete", self.root, &format!("Collection{scope}{kind}")),
            prose: format!("delete collection of {kind}"),
            parameters: self.with(false, parameter::list()),
            responses: vec![(200, status())],
            ..self.operation("delete", "deletecollection", "delete", "")
        }
    }

    fn delete(&self) -> Operation {
        let kind = &self.definition.gvk.kind;
        Operation {
            prose: format!("delete{}{kind}", super::path::article(kind)),
            parameters: self.with(true, parameter::delete()),
            body: Some(Body { model: format!("{META}.DeleteOptions"), required: false }),
            responses: vec![(200, status()), (202, status())],
            ..self.operation("delete", "delete", "delete", "")
        }
    }

    /// What can be done with an object, or with a part of it.
    fn part(&self, part: &str, model: &Model) -> Vec<Operation> {
        let kind = &self.definition.gvk.kind;
        let of = if part.is_empty() { String::new() } else { format!(" {part} of") };
        let answer = |codes: &[u16]| codes.iter().map(|code| (*code, model.clone())).collect();
        vec![
            Operation {
                prose: format!("read{of} the specified {kind}"),
                parameters: self.with(true, parameter::options(&format!("{META}.GetOptions"))),
                responses: answer(&[200]),
                ..self.operation("get", "get", "read", part)
            },
            Operation {
                prose: format!("replace{of} the specified {kind}"),
                parameters: self.with(true, parameter::update()),
                body: body(model),
                responses: answer(&[200, 201]),
                ..self.operation("put", "put", "replace", part)
            },
            Operation {
                prose: format!("partially update{of} the specified {kind}"),
                parameters: self.with(true, parameter::patch()),
                body: Some(Body { model: format!("{META}.Patch"), required: true }),
                consumes: PATCH_MEDIA.to_vec(),
                responses: answer(&[200]),
                ..self.operation("patch", "patch", "patch", part)
            },
        ]
    }
}

fn status() -> Model {
    Model::Type(format!("{META}.Status"))
}

fn body(model: &Model) -> Option<Body> {
    match model {
        Model::Type(name) => Some(Body { model: name.clone(), required: true }),
        Model::Text => None,
    }
}

//! The schema of a type, as v2 and v3 write it.

use crds::schema::{Field, Or, Schema, Shape, Type, builtin, prose};
use serde_json::{Map, Value, json};

/// Which OpenAPI a schema is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
}

impl Version {
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    pub fn reference(self, name: &str) -> Value {
        json!({ "$ref": format!("{}{name}", self.prefix()) })
    }
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Whose document a schema is for: of which groups kinds are told that every group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    Everything,
    /// This version of a group, and core/v1.
    Version(&'a str, &'a str),
    /// Those groups that upstream's own server has.
    Custom,
}

/// Groups of servers beside it, and of reviews that nobody is served.
const ELSEWHERE: [&str; 4] =
    ["admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io"];

impl Of<'_> {
    fn tells(self, group: &str, version: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Version(own, of) => (own, of) == (group, version) || (group, version) == ("", "v1"),
            Self::Custom => !ELSEWHERE.contains(&group),
        }
    }
}

/// The schema of a built-in type; none if there is no such type.
pub fn schema(name: &str, version: Version, of: Of) -> Option<Value> {
    let mut schema = match builtin().named(name) {
        Some(ty) => object(builtin(), ty, version, of),
        None => own(name, version)?,
    };
    describe(&mut schema, prose::of_type(name));
    Some(Value::Object(schema))
}

/// The types that write their own JSON.
fn own(name: &str, version: Version) -> Option<Map<String, Value>> {
    let short = name.rsplit('.').next().unwrap_or(name);
    let schema = match (short, version) {
        ("Quantity", Version::V2) => json!({"type": "string"}),
        ("Quantity", Version::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("IntOrString", Version::V2) => json!({"type": "string", "format": "int-or-string"}),
        ("IntOrString", Version::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        ("Time" | "MicroTime", _) => json!({"type": "string", "format": "date-time"}),
        ("Duration", _) => json!({"type": "string"}),
        ("FieldsV1" | "Patch" | "RawExtension", _) => json!({"type": "object"}),
        ("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray", _) => json!({}),
        _ => return None,
    };
    if let Value::Object(schema) = schema { Some(schema) } else { None }
}

fn describe(schema: &mut Map<String, Value>, prose: &str) {
    if !prose.is_empty() {
        schema.insert("description".to_owned(), prose.into());
    }
}

fn object(schema: &Schema, ty: &Type, version: Version, of: Of) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), "object".into());
    let properties: Map<_, _> =
        ty.fields.iter().map(|f| (f.json.to_string(), property(schema, ty, f, version))).collect();
    if !properties.is_empty() {
        out.insert("properties".to_owned(), properties.into());
    }
    let required: Vec<&str> = ty.fields.iter().filter(|f| f.required).map(|f| &*f.json).collect();
    if !required.is_empty() {
        out.insert("required".to_owned(), required.into());
    }
    if ty.atomic {
        out.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some(unions) = &ty.unions {
        out.insert("x-kubernetes-unions".to_owned(), unions.clone());
    }
    let kinds = kinds(schema, ty, of);
    if !kinds.is_empty() {
        out.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
    }
    out
}

fn kinds(schema: &Schema, ty: &Type, of: Of) -> Vec<Value> {
    let tell = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let Some(everywhere) = &ty.everywhere else {
        return ty.kinds.iter().map(|[group, version, kind]| tell(group, version, kind)).collect();
    };
    let versions = schema.versions.iter().filter(|(group, version)| of.tells(group, version));
    versions.map(|(group, version)| tell(group, version, everywhere)).collect()
}

fn property(schema: &Schema, ty: &Type, field: &Field, version: Version) -> Value {
    let mut out = value(schema, field, &field.shape, version);
    if version == Version::V3
        && let Some(default) = &field.default
    {
        out.insert("default".to_owned(), default.clone());
    }
    describe(&mut out, prose::of_field(&ty.name, &field.json));
    extensions(field, &mut out);
    wrap(out, version)
}

fn extensions(field: &Field, out: &mut Map<String, Value>) {
    let mut tell = |name: &str, value: Value| {
        out.insert(format!("x-kubernetes-{name}"), value);
    };
    if field.list_declared {
        let kind = match &field.list {
            crds::schema::ListType::Atomic => "atomic",
            crds::schema::ListType::Set => "set",
            crds::schema::ListType::Map(_) => "map",
        };
        tell("list-type", kind.into());
    }
    if let crds::schema::ListType::Map(keys) = &field.list {
        tell("list-map-keys", keys.iter().map(|key| Value::from(&**key)).collect());
    }
    if field.atomic {
        tell("map-type", "atomic".into());
    }
    if field.granular {
        tell("map-type", "granular".into());
    }
    if let Some(key) = &field.patch_merge_key {
        tell("patch-merge-key", (&**key).into());
    }
    if !field.patch_strategies.is_empty() {
        tell("patch-strategy", field.patch_strategies.join(",").into());
    }
}

/// In v3 a reference stands alone: what is said beside it goes around it.
fn wrap(mut out: Map<String, Value>, version: Version) -> Value {
    if version == Version::V3
        && out.len() > 1
        && let Some(reference) = out.remove("$ref")
    {
        out.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
    Value::Object(out)
}

fn value(schema: &Schema, field: &Field, shape: &Shape, version: Version) -> Map<String, Value> {
    let simple = |kind: &str, format: &str| {
        let mut out = Map::from_iter([("type".to_owned(), Value::from(kind))]);
        if !format.is_empty() {
            out.insert("format".to_owned(), format.into());
        }
        out
    };
    let reference =
        |name: &str| Map::from_iter([("$ref".to_owned(), Value::from(format!("{}{name}", version.prefix())))]);
    match shape {
        Shape::Bool => simple("boolean", ""),
        Shape::Int32 => simple("integer", "int32"),
        Shape::Int64 => simple("integer", "int64"),
        Shape::Double => simple("number", "double"),
        Shape::Bytes => simple("string", "byte"),
        Shape::String => {
            let mut out = simple("string", "");
            if !field.one_of.is_empty() {
                let values = field.one_of.iter().map(|value| Value::from(&**value)).collect();
                out.insert("enum".to_owned(), values);
            }
            out
        }
        Shape::Time => reference(&format!("{META}.Time")),
        Shape::MicroTime => reference(&format!("{META}.MicroTime")),
        Shape::Duration => reference(&format!("{META}.Duration")),
        Shape::FieldsV1 => reference(&format!("{META}.FieldsV1")),
        Shape::Quantity => reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Shape::IntOrString => reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Shape::Raw => reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
        Shape::Any => reference(&format!("{EXTENSIONS}.JSON")),
        Shape::Either(_, Or::Bool) => reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrBool")),
        Shape::Either(_, Or::List) => reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrArray")),
        Shape::Either(_, Or::Texts) => reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray")),
        Shape::Object(id) => reference(&schema.get(*id).name),
        Shape::List(item) => {
            let mut out = simple("array", "");
            out.insert("items".to_owned(), item_value(schema, field, item, version));
            out
        }
        Shape::Map(item) => {
            let mut out = simple("object", "");
            out.insert("additionalProperties".to_owned(), item_value(schema, field, item, version));
            out
        }
    }
}

/// Items have the default that Go gives them, except where Go would write null.
fn item_value(schema: &Schema, field: &Field, shape: &Shape, version: Version) -> Value {
    let mut out = value(schema, field, shape, version);
    let zero = match shape {
        Shape::Object(_) => json!({}),
        Shape::String => json!(""),
        Shape::Bool => json!(false),
        Shape::Int32 | Shape::Int64 | Shape::Double => json!(0),
        _ => Value::Null,
    };
    if version == Version::V3 && !zero.is_null() {
        out.insert("default".to_owned(), zero);
    }
    wrap(out, version)
}

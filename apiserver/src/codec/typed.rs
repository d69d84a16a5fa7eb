//! Objects by their types: Go's form of JSON, and protobuf. Kinds without a type in the schema are written as they are.

use bytes::Bytes;
use crds::{
    kind::{Definition, Gvk, split_group_version},
    kinds,
    schema::{self, Schema, TypeId, encode, protobuf, stored},
};
use serde_json::Value;

use crate::{
    cache::{Object, list::Listing},
    error::{ApiError, Result},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// A built-in type.
pub fn type_of(gvk: &Gvk) -> Option<(&'static Schema, TypeId)> {
    let schema = schema::builtin();
    Some((schema, schema.kind(&gvk.group, &gvk.version, &gvk.kind)?))
}

/// The group, version and kind that a value says it is of.
fn said(value: &Value) -> (&str, &str, &str) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = split_group_version(text("apiVersion"));
    (group, version, text("kind"))
}

/// The type that a value says it is of.
fn type_of_value(value: &Value) -> Option<(&'static Schema, TypeId)> {
    let (group, version, kind) = said(value);
    // The discovery documents of the core group do not say their version.
    let version = if version.is_empty() { "v1" } else { version };
    let schema = schema::builtin();
    let known = schema.kind(group, version, kind);
    // Nothing is served as these: they are forms of other objects.
    let form = || (group == "meta.k8s.io").then(|| schema.id(&format!("{META}{kind}"))).flatten();
    Some((schema, known.or_else(form)?))
}

/// The built-in kind that a value says it is of.
fn definition_of(value: &Value) -> Option<&'static Definition> {
    let (group, version, kind) = said(value);
    kinds::find(group, version, kind)
}

/// Leaves out what Go would leave out, and fills in what Go would write. Custom resources keep their own form, but for
/// their metadata.
pub fn canonical(definition: &Definition, object: &mut Value) {
    if definition.is_custom() {
        let schema = schema::builtin();
        if let (Some(ty), Some(metadata)) = (schema.id(OBJECT_META), object.get_mut("metadata")) {
            encode::canonical(schema, ty, metadata);
        }
    } else if let Some((schema, ty)) = definition.facts.get() {
        encode::canonical(schema, ty, object);
    }
}

/// The same for a built-in type that is no kind of its own.
pub fn canonical_form(kind: &Gvk, object: &mut Value) {
    if let Some((schema, ty)) = type_of(kind) {
        encode::canonical(schema, ty, object);
    }
}

/// JSON of a value as Go writes it: fields stand in the order in which the type that it says it is of declares them, and
/// in that of the alphabet where there is no such type, as of custom resources.
pub fn json(value: &Value) -> Vec<u8> {
    match type_of_value(value) {
        Some((schema, ty)) => encode::json(schema, ty, value),
        None => encode::any(value),
    }
}

/// The same with its line end.
pub fn line(value: &Value) -> Bytes {
    super::json::ended(json(value))
}

/// The same of an object of a kind that is known, as it is stored.
pub fn to_json(definition: &Definition, object: &Value) -> Bytes {
    match definition.facts.get().filter(|_| !definition.is_custom()) {
        Some((schema, ty)) => encode::json(schema, ty, object).into(),
        None => encode::any(object).into(),
    }
}

/// The same of a list's metadata. Upstream knows lists of custom resources as maps only.
pub fn list_metadata_json(metadata: &Value, custom: bool) -> Vec<u8> {
    let schema = schema::builtin();
    match schema.id(LIST_META).filter(|_| !custom) {
        Some(ty) => encode::json(schema, ty, metadata),
        None => encode::any(metadata),
    }
}

/// What an upstream server has stored of a built-in kind, as it would be stored here: with the defaults that upstream
/// sets whenever it reads. None: it is so already.
pub fn adopted(stored: &[u8]) -> Option<std::result::Result<Bytes, String>> {
    let value = if stored.starts_with(protobuf::MAGIC) {
        stored::decode(schema::builtin(), stored).map_err(|why| why.to_string())
    } else if stored::is_older(stored) {
        serde_json::from_slice(stored).map_err(|why| why.to_string()).map(|mut value| {
            stored::renew(&mut value);
            value
        })
    } else {
        return None;
    };
    let mut value = match value {
        Ok(value) => value,
        Err(why) => return Some(Err(why)),
    };
    if let Some(definition) = definition_of(&value)
        && let Err(why) = definition.rules.set_defaults(&mut value)
    {
        return Some(Err(why.to_string()));
    }
    if let Some((schema, ty)) = type_of_value(&value) {
        encode::canonical(schema, ty, &mut value);
    }
    Some(Ok(json(&value).into()))
}

fn failed(error: protobuf::ProtobufError) -> ApiError {
    ApiError::internal(error)
}

/// Enveloped protobuf of a value that has kind and apiVersion.
pub fn to_protobuf(value: &Value) -> Result<Bytes> {
    let (schema, ty) = type_of_value(value).ok_or_else(|| {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        ApiError::internal(format!("{kind} has no protobuf form"))
    })?;
    protobuf::encode(schema, ty, value).map(Bytes::from).map_err(failed)
}

/// The bytes of an object without envelope; made once for the version that is stored.
fn raw(object: &Object, definition: &Definition) -> Result<Bytes> {
    let make = || -> Result<Bytes> {
        let (schema, ty) =
            definition.facts.get().ok_or_else(|| ApiError::internal("a kind without a protobuf form"))?;
        let mut out = Vec::with_capacity(object.line.len());
        protobuf::encode_raw(schema, ty, &object.value_as(definition)?, &mut out).map_err(failed)?;
        Ok(out.into())
    };
    if !object.is_of(definition) {
        return make();
    }
    object.protobuf(make).cloned()
}

/// An object of the cache as enveloped protobuf.
pub fn object_to_protobuf(object: &Object, definition: &Definition) -> Result<Bytes> {
    let raw = raw(object, definition)?;
    Ok(protobuf::wrap(&definition.gvk.api_version(), &definition.gvk.kind, &raw).into())
}

/// A list as enveloped protobuf, put together from its objects.
pub fn list_to_protobuf(definition: &Definition, listing: &Listing, metadata: &Value) -> Result<Bytes> {
    let schema = schema::builtin();
    let list_meta = schema.id(LIST_META).ok_or_else(|| ApiError::internal("no type of list metadata"))?;
    let mut meta = Vec::with_capacity(64);
    protobuf::encode_raw(schema, list_meta, metadata, &mut meta).map_err(failed)?;
    let mut out = Vec::new();
    field(1, &meta, &mut out);
    for object in &listing.objects {
        field(2, &raw(object, definition)?, &mut out);
    }
    Ok(protobuf::wrap(&definition.gvk.api_version(), &definition.list_kind, &out).into())
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

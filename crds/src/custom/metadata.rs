//! The metadata of custom resources and of resources embedded in them: brought into Go's form, and checked.

use serde_json::{Map, Value};

use super::structural::Structural;
use crate::{
    field::{self, Error, Errors},
    meta,
    schema::{self, decode, encode},
};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const UNKNOWN: &str = "unknown field ";

/// What becomes of metadata that is not of the form of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is an error, as in requests.
    Refused,
    /// It is left out, as in what was stored.
    Dropped,
}

/// Brings the metadata of an object into Go's form; gives the paths of unknown fields. The error is Go's own.
pub fn coerce_root(object: &mut Map<String, Value>, malformed: Malformed) -> Result<Vec<String>, String> {
    let Some(metadata) = object.get_mut("metadata") else { return Ok(Vec::new()) };
    coerce_one(metadata, "metadata", malformed)
}

fn coerce_one(metadata: &mut Value, path: &str, malformed: Malformed) -> Result<Vec<String>, String> {
    let (schema, Some(ty)) = (schema::builtin(), schema::builtin().id(OBJECT_META)) else { return Ok(Vec::new()) };
    let decoded = match (decode::value(schema, ty, metadata), &metadata, malformed) {
        (Ok(decoded), ..) => decoded,
        (Err(_), Value::Object(fields), Malformed::Dropped) => {
            let sound: Map<_, _> = fields
                .iter()
                .filter(|(name, value)| {
                    let one = Map::from_iter([((*name).clone(), (*value).clone())]);
                    decode::value(schema, ty, &Value::Object(one)).is_ok()
                })
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            decode::value(schema, ty, &Value::Object(sound)).map_err(|why| why.to_string())?
        }
        (Err(why), ..) => return Err(why.to_string()),
    };
    let unknown = decoded.strict.iter().filter_map(|found| found.strip_prefix(UNKNOWN));
    let unknown = unknown.map(|found| format!("{path}.{}", found.trim_matches('"'))).collect();
    let mut value = decoded.value;
    encode::canonical(schema, ty, &mut value);
    *metadata = value;
    Ok(unknown)
}

/// The same for embedded resources, and their kind and version are texts. The error is a field's.
pub fn coerce_embedded(
    value: &mut Value,
    schema: &Structural,
    malformed: Malformed,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    let before = unknown.len();
    embedded(value, schema, "", malformed, unknown)?;
    unknown[before..].sort();
    Ok(())
}

fn embedded(
    value: &mut Value,
    schema: &Structural,
    path: &str,
    malformed: Malformed,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    match value {
        Value::Object(members) => {
            if schema.embedded {
                resource(members, path, malformed, unknown)?;
            }
            for (name, value) in members.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    embedded(value, property, &super::child(path, name), malformed, unknown)?;
                } else if let Some(values) = schema.values() {
                    embedded(value, values, &format!("{path}[{name}]"), malformed, unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                embedded(item, inner, &format!("{path}[{i}]"), malformed, unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn resource(
    members: &mut Map<String, Value>,
    path: &str,
    malformed: Malformed,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    for name in ["apiVersion", "kind"] {
        let Some(value) = members.get(name).filter(|value| !value.is_string()) else { continue };
        if malformed == Malformed::Refused {
            return Err(Error::invalid(super::child(path, name), value.clone(), "must be a string"));
        }
        members.remove(name);
    }
    let Some(metadata) = members.get_mut("metadata") else { return Ok(()) };
    let path = super::child(path, "metadata");
    match coerce_one(metadata, &path, malformed) {
        Ok(found) => unknown.extend(found),
        Err(why) if malformed == Malformed::Refused => return Err(Error::invalid(path, metadata.clone(), why)),
        Err(_) => {}
    }
    Ok(())
}

/// Checks embedded resources as objects are checked.
pub fn validate(value: &Value, schema: &Structural, path: &str, errors: &mut Errors) {
    match value {
        Value::Object(members) => {
            if schema.embedded {
                validate_resource(members, path, errors);
            }
            for (name, value) in members {
                if let Some(property) = schema.properties.get(name) {
                    validate(value, property, &super::child(path, name), errors);
                } else if let Some(values) = schema.values() {
                    validate(value, values, &format!("{path}[{name}]"), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for (i, item) in items.iter().enumerate() {
                validate(item, inner, &format!("{path}[{i}]"), errors);
            }
        }
        _ => {}
    }
}

fn validate_resource(members: &Map<String, Value>, path: &str, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        if !members.contains_key(name) {
            errors.push(Error::required(super::child(path, name), ""));
        }
    }
    for (name, value) in members {
        let path = super::child(path, name);
        match (name.as_str(), value.as_str()) {
            ("apiVersion" | "kind", None) => errors.push(Error::invalid(path, value.clone(), "must be a string")),
            ("apiVersion" | "kind", Some("")) => errors.push(Error::invalid(path, "", "must not be empty")),
            ("apiVersion", Some(version)) if version.matches('/').count() > 1 => {
                errors.push(Error::invalid(path, version, format!("unexpected GroupVersion string: {version}")));
            }
            ("kind", Some(kind)) => {
                let wrong = field::dns_1035_label(&kind.to_lowercase());
                if !wrong.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(Error::invalid(path, kind, why));
                }
            }
            ("metadata", _) => validate_metadata(value, &path, errors),
            _ => {}
        }
    }
}

/// An embedded resource need not have a name, and may have one of another syntax than stored objects.
fn validate_metadata(value: &Value, path: &str, errors: &mut Errors) {
    let mut metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        match serde::Deserialize::deserialize(value) {
            Ok(metadata) => metadata,
            Err(why) => {
                errors.push(Error::invalid(path, value.clone(), why.to_string()));
                return;
            }
        };
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        // An error about a missing name would be none of an embedded resource.
        metadata.name = Some("fakename".to_owned());
    }
    let namespaced = metadata.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty());
    let rule =
        meta::Rule { namespaced, standard_finalizers: false, checks_prefix: true, validate_name: &field::path_segment };
    let mut found = Errors::new();
    meta::create(&metadata, &rule, &mut found);
    for error in found.iter_mut() {
        if let Some(rest) = error.field.strip_prefix("metadata") {
            error.field = format!("{path}{rest}");
        }
    }
    errors.append(&mut found);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_of_gos_form() {
        let mut object = json!({"metadata": {"name": "a", "junk": 1, "creationTimestamp": null}});
        let unknown = coerce_root(object.as_object_mut().unwrap(), Malformed::Refused).unwrap();
        assert_eq!((unknown, object), (vec!["metadata.junk".to_owned()], json!({"metadata": {"name": "a"}})));
        let mut object = json!({"metadata": {"name": 5, "uid": "u"}});
        let why = coerce_root(object.as_object_mut().unwrap(), Malformed::Refused).unwrap_err();
        assert_eq!(why, "json: cannot unmarshal number into Go struct field ObjectMeta.name of type string");
        coerce_root(object.as_object_mut().unwrap(), Malformed::Dropped).unwrap();
        assert_eq!(object, json!({"metadata": {"uid": "u"}}));
    }

    #[test]
    fn embedded_resources() {
        let schema = Structural::of(&json!({"properties": {"t": {"x-kubernetes-embedded-resource": true}}}));
        let mut errors = Errors::new();
        validate(&json!({"t": {"apiVersion": "a/b/c"}}), &schema, "", &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let want = "t.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c";
        assert_eq!(told, ["t.kind: Required value", want]);
        let mut value = json!({"t": {"metadata": {"name": 1}}});
        let error = coerce_embedded(&mut value, &schema, Malformed::Refused, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("t.metadata: Invalid value: {\"name\":1}: json: cannot"), "{error}");
    }
}

//! Objects as upstream's servers store them: a few kinds in versions that are not served any more, or not served here.

use serde_json::{Map, Value, json};

use super::{
    Schema,
    protobuf::{
        self, ProtobufError,
        wire::{self, Payload},
    },
};

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const DEFINITION: &str = "CustomResourceDefinition";
/// Kinds that upstream stores as v1beta1, with what their JSON begins with then.
const OLDER: [(&str, &str, &str); 3] = [
    (
        "apiextensions.k8s.io",
        DEFINITION,
        r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","#,
    ),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicy",
        r#"{"kind":"MutatingAdmissionPolicy","apiVersion":"admissionregistration.k8s.io/v1beta1","#,
    ),
    (
        "admissionregistration.k8s.io",
        "MutatingAdmissionPolicyBinding",
        r#"{"kind":"MutatingAdmissionPolicyBinding","apiVersion":"admissionregistration.k8s.io/v1beta1","#,
    ),
];

/// Whether an object, in upstream's JSON, is of such a version: [`renew`] makes it newer.
pub fn is_older(json: &[u8]) -> bool {
    OLDER.iter().any(|(_, _, begin)| json.starts_with(begin.as_bytes()))
}

/// An enveloped object, as v1 if it is of an older version.
pub fn decode(schema: &Schema, data: &[u8]) -> Result<Value, ProtobufError> {
    let unknown = protobuf::envelope(data)?;
    let is_of = |(group, kind, _): &&(&str, &str, &str)| {
        unknown.kind == *kind && unknown.api_version.strip_prefix(group) == Some("/v1beta1")
    };
    let Some((group, kind, _)) = OLDER.iter().find(is_of) else { return protobuf::decode(schema, data, None) };
    let missing = || ProtobufError::UnknownKind { api_version: format!("{group}/v1"), kind: (*kind).to_owned() };
    let ty = schema.kind(group, "v1", kind).ok_or_else(missing)?;
    let mut value = if *kind == DEFINITION {
        let (newer, older) = split(schema, unknown.raw)?;
        let mut value = protobuf::decode_as(schema, ty, &newer)?;
        if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
            spec.extend(older);
        }
        value
    } else {
        // The fields have the same numbers.
        protobuf::decode_as(schema, ty, unknown.raw)?
    };
    value["apiVersion"] = unknown.api_version.into();
    value["kind"] = unknown.kind.into();
    renew(&mut value);
    Ok(value)
}

/// An object of an older version as v1.
pub fn renew(object: &mut Value) {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").strip_suffix("/v1beta1");
    let Some((group, kind, _)) = OLDER.iter().find(|(g, kind, _)| Some(*g) == group && text("kind") == *kind) else {
        return;
    };
    let api_version = format!("{group}/v1");
    if *kind == DEFINITION
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        renew_definition(spec);
    }
    object["apiVersion"] = api_version.into();
}

/// Once a CustomResourceDefinition said for all of its versions what now each says for itself.
fn renew_definition(spec: &mut Map<String, Value>) {
    let only = spec.remove("version");
    let mut versions = match spec.remove("versions") {
        Some(Value::Array(versions)) => versions,
        _ => Vec::new(),
    };
    if let (true, Some(name)) = (versions.is_empty(), only) {
        versions.push(json!({"name": name, "served": true, "storage": true}));
    }
    for (older, newer) in [
        ("validation", "schema"),
        ("subresources", "subresources"),
        ("additionalPrinterColumns", "additionalPrinterColumns"),
        ("selectableFields", "selectableFields"),
    ] {
        let Some(shared) = spec.remove(older) else { continue };
        for version in &mut versions {
            version[newer] = shared.clone();
        }
    }
    let columns = versions.iter_mut().filter_map(|version| version.get_mut("additionalPrinterColumns")?.as_array_mut());
    for column in columns.flatten().filter_map(Value::as_object_mut) {
        if let Some(path) = column.remove("JSONPath") {
            column.insert("jsonPath".to_owned(), path);
        }
    }
    spec.insert("versions".to_owned(), versions.into());
    let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut) else { return };
    let mut webhook = Map::new();
    for (older, newer) in
        [("webhookClientConfig", "clientConfig"), ("conversionReviewVersions", "conversionReviewVersions")]
    {
        if let Some(value) = conversion.remove(older) {
            webhook.insert(newer.to_owned(), value);
        }
    }
    if !webhook.is_empty() {
        conversion.insert("webhook".to_owned(), webhook.into());
    }
}

/// A CustomResourceDefinition of v1beta1: what v1 has under the same numbers, and the fields of its spec that v1 has not.
fn split(schema: &Schema, raw: &[u8]) -> Result<(Vec<u8>, Map<String, Value>), ProtobufError> {
    let (mut newer, mut older) = (Vec::with_capacity(raw.len()), Map::new());
    for field in wire::fields(DEFINITION, raw) {
        let field = field?;
        let bytes = field.bytes(DEFINITION)?;
        if field.number == 2 {
            wire::nested(2, &mut newer, |out| split_spec(schema, bytes, out, &mut older))?;
        } else {
            wire::bytes(field.number, bytes, &mut newer);
        }
    }
    Ok((newer, older))
}

fn split_spec(
    schema: &Schema,
    raw: &[u8],
    newer: &mut Vec<u8>,
    older: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    for field in wire::fields("CustomResourceDefinitionSpec", raw) {
        let field = field?;
        let bytes = match field.payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Varint(number) => {
                wire::number(field.number, number, newer);
                continue;
            }
            _ => continue,
        };
        match field.number {
            2 if !bytes.is_empty() => drop(older.insert("version".to_owned(), protobuf::text(bytes)?.into())),
            2 => {}
            5 => drop(older.insert("validation".to_owned(), part(schema, "CustomResourceValidation", bytes)?)),
            6 => drop(older.insert("subresources".to_owned(), part(schema, "CustomResourceSubresources", bytes)?)),
            8 => push(older, "additionalPrinterColumns", part(schema, "CustomResourceColumnDefinition", bytes)?),
            9 => drop(older.insert("conversion".to_owned(), conversion(schema, bytes)?)),
            11 => push(older, "selectableFields", part(schema, "SelectableField", bytes)?),
            number => wire::bytes(number, bytes, newer),
        }
    }
    Ok(())
}

fn conversion(schema: &Schema, raw: &[u8]) -> Result<Value, ProtobufError> {
    let mut conversion = Map::new();
    for field in wire::fields("CustomResourceConversion", raw) {
        let field = field?;
        let bytes = field.bytes("CustomResourceConversion")?;
        match field.number {
            1 => drop(conversion.insert("strategy".to_owned(), protobuf::text(bytes)?.into())),
            2 => {
                let config = part(schema, "WebhookClientConfig", bytes)?;
                conversion.insert("webhookClientConfig".to_owned(), config);
            }
            3 => push(&mut conversion, "conversionReviewVersions", protobuf::text(bytes)?.into()),
            _ => {}
        }
    }
    Ok(conversion.into())
}

fn part(schema: &Schema, name: &str, raw: &[u8]) -> Result<Value, ProtobufError> {
    let missing =
        || ProtobufError::UnknownKind { api_version: "apiextensions.k8s.io/v1".to_owned(), kind: name.to_owned() };
    let ty = schema.id(&format!("{EXTENSIONS}.{name}")).ok_or_else(missing)?;
    protobuf::decode_as(schema, ty, raw)
}

fn push(object: &mut Map<String, Value>, name: &str, item: Value) {
    if let Value::Array(items) = object.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
        items.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(spec: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut raw = Vec::new();
        wire::nested(1, &mut raw, |out| wire::bytes(1, b"a.example.com", out));
        wire::nested(2, &mut raw, spec);
        protobuf::wrap("apiextensions.k8s.io/v1beta1", DEFINITION, &raw)
    }

    #[test]
    fn older_definitions_are_as_they_are_served() {
        let data = definition(|out| {
            wire::bytes(1, b"example.com", out);
            wire::bytes(2, b"v1", out);
            wire::nested(5, out, |out| wire::nested(1, out, |out| wire::bytes(5, b"object", out)));
            for name in [b"v1", b"v2"] {
                wire::nested(7, out, |out| {
                    wire::bytes(1, name, out);
                    wire::number(2, 1, out);
                });
            }
            wire::nested(8, out, |out| wire::bytes(6, b".spec", out));
            wire::nested(9, out, |out| {
                wire::bytes(1, b"Webhook", out);
                wire::nested(2, out, |out| wire::bytes(3, b"https://a", out));
                wire::bytes(3, b"v1", out);
            });
            wire::nested(11, out, |out| wire::bytes(1, b".spec.a", out));
        });
        let object = decode(super::super::builtin(), &data).unwrap();
        assert_eq!(object["apiVersion"], "apiextensions.k8s.io/v1");
        let spec = &object["spec"];
        assert_eq!((spec.get("version"), spec.get("validation")), (None, None));
        for (at, name) in ["v1", "v2"].into_iter().enumerate() {
            let version = &spec["versions"][at];
            assert_eq!((&version["name"], &version["served"]), (&json!(name), &json!(true)));
            assert_eq!(version["schema"]["openAPIV3Schema"]["type"], "object");
            assert_eq!(version["additionalPrinterColumns"][0]["jsonPath"], ".spec");
            assert_eq!(version["selectableFields"], json!([{"jsonPath": ".spec.a"}]));
        }
        let conversion = &spec["conversion"];
        assert_eq!(conversion["strategy"], "Webhook");
        assert_eq!(conversion["webhook"]["clientConfig"]["url"], "https://a");
        assert_eq!(conversion["webhook"]["conversionReviewVersions"], json!(["v1"]));
    }

    #[test]
    fn one_version_may_be_all() {
        let json = br#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","spec":
            {"group":"example.com","version":"v1","additionalPrinterColumns":[{"name":"A","JSONPath":".a"}]}}"#;
        assert!(is_older(json));
        let mut object: Value = serde_json::from_slice(json).unwrap();
        renew(&mut object);
        let columns = json!([{"name": "A", "jsonPath": ".a"}]);
        let version = json!({"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns});
        assert_eq!(object["spec"], json!({"group": "example.com", "versions": [version]}));
    }
}

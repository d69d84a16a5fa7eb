//! Bodies of requests: what kind of object they are, and the object.

use std::borrow::Cow;

use crds::{
    kind::{Definition, Gvk, split_group_version},
    kinds,
    schema::{Schema, TypeId, decode, encode, protobuf},
};
use serde_json::Value;

use super::{Media, typed, yaml};
use crate::{
    error::{ApiError, Result},
    options::{DeleteOptions, FieldValidation},
};

/// Bytes of a body that an error shows.
const SUMMARY_LENGTH: usize = 30;

/// A body that could be read.
pub struct Decoded {
    pub object: Value,
    /// What strict validation found and may be told as warnings.
    pub warnings: Vec<String>,
}

/// An object that a client sends, of the kind that the path names (or of another, for some subresources).
pub fn object(body: &[u8], media: Media, kind: &Gvk, validation: FieldValidation) -> Result<Decoded> {
    let unrecognized = |why: &dyn std::fmt::Display| unrecognized(kind, body, why);
    if media == Media::Protobuf {
        return protobuf_object(body, kind, &unrecognized);
    }
    let (json, repeated) = as_json(body, media).map_err(|why| unrecognized(&why))?;
    let (given_version, given_kind) = decode::kind(&json)
        .map_err(|why| unrecognized(&format!("couldn't get version/kind; json parse error: {why}")))?;
    let given = given(kind, &given_version, &given_kind);
    let cannot = |why: &dyn std::fmt::Display| cannot_be_handled(kind, &given, why);
    same_kind(kind, &given, |schema, ty| decode::json(schema, ty, &json).map(drop).map_err(|why| why.to_string()))?;
    let decoded = match typed::type_of(kind) {
        Some((schema, ty)) => decode::json(schema, ty, &json),
        None => decode::any(&json),
    };
    let mut decoded = decoded.map_err(|why| cannot(&why))?;
    same_version(kind, &given)?;
    accept(kind, &mut decoded.value).map_err(|why| cannot(&why))?;
    let object = named(decoded.value, kind);
    let warnings = judged(validation, repeated, decoded.strict).map_err(|why| cannot(&why))?;
    Ok(Decoded { object, warnings })
}

/// A body as JSON, and what it repeats if it is YAML.
fn as_json(body: &[u8], media: Media) -> std::result::Result<(Cow<'_, [u8]>, Vec<String>), impl std::fmt::Display> {
    match media {
        Media::Yaml => {
            yaml::parse(body).map(|parsed| (parsed.value.to_string().into_bytes().into(), parsed.duplicates))
        }
        _ => Ok((body.into(), Vec::new())),
    }
}

/// What becomes of what a strict decoder found: the warnings, or why the body is refused.
fn judged(
    validation: FieldValidation,
    repeated: Vec<String>,
    strict: Vec<String>,
) -> std::result::Result<Vec<String>, String> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok([repeated, strict].concat()),
        FieldValidation::Strict if repeated.is_empty() && strict.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            let all: Vec<_> = yaml::strict_error(&repeated).into_iter().chain(strict).collect();
            Err(format!("strict decoding error: {}", all.join(", ")))
        }
    }
}

/// A custom resource that a client sends. It may say that it is of another kind, which is found later.
pub fn custom(body: &[u8], media: Media, definition: &Definition, validation: FieldValidation) -> Result<Decoded> {
    let kind = &definition.gvk;
    let unrecognized = |why: &dyn std::fmt::Display| unrecognized(kind, body, why);
    let (json, repeated) = as_json(body, media).map_err(|why| unrecognized(&why))?;
    let (given_version, given_kind) = decode::kind(&json)
        .map_err(|why| unrecognized(&format!("couldn't get version/kind; json parse error: {why}")))?;
    if given_kind.is_empty() {
        let text = String::from_utf8_lossy(body);
        return Err(unrecognized(&format!("Object 'Kind' is missing in '{text}'")));
    }
    let (group, version) = split_group_version(&given_version);
    let given = Gvk { group: group.to_owned().into(), version: version.to_owned().into(), kind: given_kind.into() };
    let cannot = |why: &dyn std::fmt::Display| cannot_be_handled(kind, &given, why);
    let decoded = decode::any(&json).map_err(|why| cannot(&why))?;
    let mut object = decoded.value;
    let unknown = definition.rules.accept(&mut object).map_err(|why| cannot(&why))?;
    same_version(kind, &given)?;
    let unknown = unknown.iter().map(|path| format!("unknown field {}", crds::field::quote(path)));
    let strict: Vec<String> = decoded.strict.into_iter().chain(unknown).collect();
    let warnings = judged(validation, repeated, strict).map_err(|why| cannot(&why))?;
    Ok(Decoded { object, warnings })
}

/// The same for a custom resource that a patch has made.
pub fn custom_value(object: &Value, definition: &Definition) -> std::result::Result<(Value, Vec<String>), String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let expected = definition.gvk.api_version();
    if text("apiVersion") != expected {
        let given = text("apiVersion");
        return Err(format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        ));
    }
    let mut accepted = object.clone();
    let unknown = definition.rules.accept(&mut accepted)?;
    Ok((accepted, unknown.iter().map(|path| format!("unknown field {}", crds::field::quote(path))).collect()))
}

fn unrecognized(kind: &Gvk, body: &[u8], why: &dyn std::fmt::Display) -> ApiError {
    let summary = summarize(body);
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        kind.kind
    ))
}

fn protobuf_object(
    body: &[u8],
    kind: &Gvk,
    unrecognized: &dyn Fn(&dyn std::fmt::Display) -> ApiError,
) -> Result<Decoded> {
    let envelope = protobuf::envelope(body).map_err(|why| unrecognized(&why))?;
    let given = given(kind, envelope.api_version, envelope.kind);
    same_kind(kind, &given, |schema, ty| {
        protobuf::decode(schema, body, Some(ty)).map(drop).map_err(|why| why.to_string())
    })?;
    let (schema, ty) = typed::type_of(kind).ok_or_else(|| unrecognized(&"it has no protobuf form"))?;
    let mut object = protobuf::decode(schema, body, Some(ty)).map_err(|why| cannot_be_handled(kind, &given, &why))?;
    same_version(kind, &given)?;
    accept(kind, &mut object).map_err(|why| cannot_be_handled(kind, &given, &why))?;
    encode::canonical(schema, ty, &mut object);
    Ok(Decoded { object: named(object, kind), warnings: Vec::new() })
}

/// What a body says that it is; what it leaves out is as expected.
fn given(kind: &Gvk, api_version: &str, given_kind: &str) -> Gvk {
    let (group, version) = match api_version {
        "" => (kind.group.to_string(), kind.version.to_string()),
        _ => {
            let (group, version) = split_group_version(api_version);
            (group.to_owned(), version.to_owned())
        }
    };
    let given_kind = if given_kind.is_empty() { kind.kind.to_string() } else { given_kind.to_owned() };
    Gvk { group: group.into(), version: version.into(), kind: given_kind.into() }
}

fn cannot_be_handled(kind: &Gvk, given: &Gvk, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        given.kind, given.version, kind.kind
    ))
}

/// A body of another kind is read as of that before it is refused.
fn same_kind(
    kind: &Gvk,
    given: &Gvk,
    read: impl FnOnce(&'static Schema, TypeId) -> std::result::Result<(), String>,
) -> Result<()> {
    if given.kind == kind.kind {
        return Ok(());
    }
    let why = match typed::type_of(given) {
        Some((schema, ty)) => read(schema, ty).err().unwrap_or_else(|| {
            let (version, package) = (&given.version, internal_package(kind));
            format!("converting ({version}.{}) to ({package}.{}): unknown conversion", given.kind, kind.kind)
        }),
        None => format!(
            "no kind \"{}\" is registered for version \"{}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            given.kind,
            given.api_version()
        ),
    };
    Err(cannot_be_handled(kind, given, &why))
}

fn same_version(kind: &Gvk, given: &Gvk) -> Result<()> {
    let (given, expected) = (given.api_version(), kind.api_version());
    if given == expected {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({expected})"
    )))
}

fn named(mut object: Value, kind: &Gvk) -> Value {
    object["kind"] = kind.kind.clone().into();
    object["apiVersion"] = kind.api_version().into();
    object
}

/// A YAML document as JSON, and what a strict reader refuses of it: keys that are given twice.
pub fn yaml(body: &[u8]) -> std::result::Result<(Value, Vec<String>), String> {
    if let Some(value) = plain(body) {
        return Ok((value, Vec::new()));
    }
    let parsed = yaml::parse(body).map_err(|why| why.to_string())?;
    let value = if parsed.value.is_null() { Value::Object(serde_json::Map::new()) } else { parsed.value };
    Ok((value, parsed.duplicates))
}

/// JSON that YAML reads in the same way, as most clients send: nothing repeated, no fractions, no strange characters.
fn plain(body: &[u8]) -> Option<Value> {
    let strange = |c: &u8| !matches!(c, b' '..=b'~' | b'\n');
    if !body.starts_with(b"{") || body.iter().any(strange) || body.windows(2).any(|pair| pair == b"\\u") {
        return None;
    }
    let decoded = decode::any(body).ok().filter(|decoded| decoded.strict.is_empty())?;
    whole(&decoded.value).then_some(decoded.value)
}

fn whole(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(whole),
        Value::Object(fields) => fields.values().all(whole),
        _ => true,
    }
}

/// Checks an object that a patch has made: what is left of it, and its unknown fields.
pub fn value(object: &Value, kind: &Gvk) -> std::result::Result<(Value, Vec<String>), String> {
    value_by(
        |schema, ty, object| {
            let mut decoded = decode::value(schema, ty, object).map_err(|why| why.to_string())?;
            accept(kind, &mut decoded.value)?;
            Ok(decoded)
        },
        object,
        kind,
    )
}

/// The same for what upstream converts rather than reads; whether it is to [`accept`] is asked apart.
pub fn converted(object: &Value, kind: &Gvk) -> std::result::Result<(Value, Vec<String>), String> {
    value_by(|schema, ty, object| decode::converted(schema, ty, object).map_err(|why| why.to_string()), object, kind)
}

fn value_by(
    read: impl FnOnce(&Schema, TypeId, &Value) -> std::result::Result<decode::Decoded, String>,
    object: &Value,
    kind: &Gvk,
) -> std::result::Result<(Value, Vec<String>), String> {
    let Some((schema, ty)) = typed::type_of(kind) else { return Ok((object.clone(), Vec::new())) };
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let given = given(kind, text("apiVersion"), text("kind"));
    if given != *kind {
        let why = same_kind(kind, &given, |_, _| Ok(())).and_then(|()| same_version(kind, &given)).err();
        return Err(why.map(|e| e.message().to_owned()).unwrap_or_default());
    }
    let decoded = read(schema, ty, object)?;
    Ok((named(decoded.value, kind), decoded.strict))
}

/// Whether an object that fits its type is of its kind; the error tells why it is not.
pub fn accept(kind: &Gvk, object: &mut Value) -> std::result::Result<(), String> {
    let definition = kinds::find(&kind.group, &kind.version, &kind.kind);
    definition.map_or(Ok(()), |definition| definition.rules.accept(object).map(drop))
}

/// The Go package of the internal type, which errors name.
fn internal_package(kind: &Gvk) -> &str {
    match &*kind.group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

fn summarize(body: &[u8]) -> String {
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => {
            let text = String::from_utf8_lossy(&body[..body.len().min(SUMMARY_LENGTH)]).into_owned();
            if body.len() > SUMMARY_LENGTH { format!("{text} ...") } else { text }
        }
        Some(_) => {
            let shown = &body[..body.len().min(SUMMARY_LENGTH)];
            let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
            if body.len() > SUMMARY_LENGTH { format!("{hex} ...") } else { hex }
        }
    }
}

/// The options in the body of a DELETE; every group has them under its own version.
pub fn delete_options(body: &[u8], media: Media) -> Result<DeleteOptions> {
    if media == Media::Protobuf {
        let schema = crds::schema::builtin();
        let options = protobuf::decode(schema, body, schema.kind("", "v1", "DeleteOptions"));
        return from_value(options.map_err(|why| ApiError::bad_request(why.to_string()))?);
    }
    let bad = |error: serde_json::Error| {
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
    };
    let value: Value = match media {
        Media::Yaml => yaml(body).map_err(ApiError::bad_request)?.0,
        _ => serde_json::from_slice(body).map_err(bad)?,
    };
    from_value(value)
}

fn from_value(value: Value) -> Result<DeleteOptions> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
    if kind != "DeleteOptions" {
        return Err(ApiError::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    serde_json::from_value(value).map_err(|error| ApiError::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quick way through plain JSON is not to be told from the way through YAML.
    #[test]
    fn plain_json_is_as_yaml_reads_it() {
        for (is_plain, body) in [
            (true, r#"{"a": [1, -2, true, null, "x: #y"], "b": {"c": "d\n\"e\""}, "f": 9007199254740993}"#),
            (true, "{\n  \"a\": \"1\",\n  \"b\": {}\n}\n"),
            (false, r#"{"a": 1.0, "b": 1e3}"#),
            (false, r#"{"a": 1, "a": 2}"#),
            (false, r#"{"a": "\u00e9"}"#),
            (false, "{\"a\": \"\u{2028}\"}"),
            (false, "{a: b}"),
            (false, "a: b"),
        ] {
            assert_eq!(plain(body.as_bytes()).is_some(), is_plain, "{body}");
            if is_plain {
                let parsed = yaml::parse(body.as_bytes()).map(|parsed| parsed.value).unwrap();
                assert_eq!(yaml(body.as_bytes()), Ok((parsed, Vec::new())), "{body}");
            }
        }
    }
}

//! The versions of a definition: their schemas, subresources and columns.
//!
//! What is the same in all versions is told of the definition as a whole, where older forms of the API had it.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionVersion, CustomResourceSubresources,
};
use serde_json::Value;

use super::schema;
use crate::{
    custom::{field_path, structural::Structural},
    equal,
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    go,
};

const SPEC: Path = Path::new("spec");
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const WARNING_LENGTH_MAX: usize = 256;
const SELECTABLE_MAX: usize = 8;

type Version = CustomResourceDefinitionVersion;

fn is_shared<T: serde::Serialize>(versions: &[Version], part: impl Fn(&Version) -> &T) -> bool {
    versions.windows(2).all(|pair| equal::same(part(&pair[0]), part(&pair[1])))
}

pub fn validate_all(versions: &[Version], errors: &mut Errors) {
    let list = SPEC.child("versions");
    for (i, version) in versions.iter().enumerate() {
        let path = list.index(i);
        if version.schema.as_ref().is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            let path = path.child("schema");
            errors.push(Error::required(path.child("openAPIV3Schema"), ""));
        }
    }
    let selectable = is_shared(versions, |v| &v.selectable_fields);
    let (schemas, subresources, columns) = (
        is_shared(versions, |v| &v.schema),
        is_shared(versions, |v| &v.subresources),
        is_shared(versions, |v| &v.additional_printer_columns),
    );
    for (i, version) in versions.iter().enumerate() {
        let path = list.index(i);
        let wrong = field::dns_1035_label(&version.name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(path.child("name"), version.name.as_str(), wrong.join(",")));
        }
        validate_warning(version, &path.child("deprecationWarning"), errors);
        if !selectable {
            validate_selectable(version, &path.child("selectableFields"), errors);
        }
        if !schemas {
            validate_schema(version, &path.child("schema"), errors);
        }
        if !subresources {
            validate_subresources(version.subresources.as_ref(), &path.child("subresources"), errors);
        }
        if !columns {
            validate_columns(version, &path.child("additionalPrinterColumns"), errors);
        }
    }
    validate_names(versions, &list, errors);
}

/// Fields that can be selected by are scalars outside of metadata, each named once.
fn validate_selectable(version: &Version, path: &Path, errors: &mut Errors) {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default();
    let schema = Structural::of(&schema);
    let mut seen = BTreeSet::new();
    for (i, selectable) in version.selectable_fields.items().iter().enumerate() {
        let (path, value) = (path.index(i), selectable.json_path.as_str());
        let path = path.child("jsonPath");
        if value.is_empty() {
            errors.push(Error::required(path, ""));
            continue;
        }
        let found = match field_path::resolve(value, &schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Error::invalid(path, value, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.names.first().is_some_and(|name| name == "metadata") {
            errors.push(Error::invalid(path, value, "must not point to fields in metadata"));
        }
        if !["string", "boolean", "integer"].contains(&found.schema.kind.as_str()) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(Error::invalid(path, value, why));
        }
        if !seen.insert(found.text) {
            errors.push(Error::duplicate(path, value));
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(Error::too_many(*path, seen.len() as i64, SELECTABLE_MAX as i64));
    }
}

/// What all versions have alike.
pub fn validate_shared(versions: &[Version], errors: &mut Errors) {
    let Some(first) = versions.first() else { return };
    if is_shared(versions, |v| &v.schema) {
        validate_schema(first, &SPEC.child("validation"), errors);
    }
    if is_shared(versions, |v| &v.subresources) {
        validate_subresources(first.subresources.as_ref(), &SPEC.child("subresources"), errors);
    }
    if is_shared(versions, |v| &v.selectable_fields) {
        validate_selectable(first, &SPEC.child("selectableFields"), errors);
    }
    if is_shared(versions, |v| &v.additional_printer_columns) {
        validate_columns(first, &SPEC.child("additionalPrinterColumns"), errors);
    }
}

fn validate_names(versions: &[Version], path: &Path, errors: &mut Errors) {
    let is_repeated = (0..versions.len()).any(|i| versions[..i].iter().any(|other| other.name == versions[i].name));
    let name = "[]io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion";
    let shown = || if versions.is_empty() { "null".to_owned() } else { go::show(versions, name) };
    if is_repeated {
        errors.push(Error::invalid(*path, "", "must contain unique version names").showing(shown()));
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(*path, "", why).showing(shown()));
    }
    if let Some(first) = versions.first() {
        let wrong = field::dns_1035_label(&first.name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(SPEC.child("version"), first.name.as_str(), wrong.join(",")));
        }
    }
}

fn validate_warning(version: &Version, path: &Path, errors: &mut Errors) {
    let Some(warning) = &version.deprecation_warning else { return };
    let mut wrong = Vec::new();
    if version.deprecated != Some(true) {
        wrong.push("can only be set for deprecated versions".to_owned());
    } else if warning.is_empty() {
        wrong.push("must not be an empty string".to_owned());
    } else {
        if warning.len() > WARNING_LENGTH_MAX {
            wrong.push(format!("must be <= {WARNING_LENGTH_MAX} characters long"));
        }
        if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {i}"
            ));
        }
    }
    errors.extend(wrong.into_iter().map(|why| Error::invalid(*path, warning.as_str(), why)));
}

fn validate_schema(version: &Version, path: &Path, errors: &mut Errors) {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    if let Some(Ok(Value::Object(schema))) = schema.map(serde_json::to_value) {
        schema::validate(&schema, &path.child("openAPIV3Schema"), errors);
    }
}

fn validate_subresources(subresources: Option<&CustomResourceSubresources>, path: &Path, errors: &mut Errors) {
    let Some(scale) = subresources.and_then(|subresources| subresources.scale.as_ref()) else { return };
    let path = path.child("scale");
    for (name, value, below) in [
        ("specReplicasPath", scale.spec_replicas_path.as_str(), ".spec"),
        ("statusReplicasPath", scale.status_replicas_path.as_str(), ".status"),
    ] {
        let path = path.child(name);
        if value.is_empty() {
            errors.push(Error::required(path, ""));
        } else if is_simple(value, &path, errors) && !value.starts_with(&format!("{below}.")) {
            errors.push(Error::invalid(path, value, format!("should be a json path under {below}")));
        }
    }
    let (path, value) = (path.child("labelSelectorPath"), scale.label_selector_path.text());
    let is_below = value.starts_with(".spec.") || value.starts_with(".status.");
    if !value.is_empty() && is_simple(value, &path, errors) && !is_below {
        errors.push(Error::invalid(path, value, "should be a json path under either .spec or .status"));
    }
}

fn is_simple(value: &str, path: &Path, errors: &mut Errors) -> bool {
    if !value.starts_with('.') {
        errors.push(Error::invalid(*path, value, "must be a simple json path starting with ."));
    }
    value.starts_with('.')
}

fn validate_columns(version: &Version, path: &Path, errors: &mut Errors) {
    for (i, column) in version.additional_printer_columns.items().iter().enumerate() {
        validate_column(column, &path.index(i), errors);
    }
}

fn validate_column(column: &CustomResourceColumnDefinition, path: &Path, errors: &mut Errors) {
    if column.name.is_empty() {
        errors.push(Error::required(path.child("name"), ""));
    }
    let one_of = |allowed: &[&str]| format!("must be one of {}", allowed.join(","));
    match column.type_.as_str() {
        "" => errors.push(Error::required(path.child("type"), one_of(COLUMN_TYPES))),
        kind if !COLUMN_TYPES.contains(&kind) => {
            errors.push(Error::invalid(path.child("type"), kind, one_of(COLUMN_TYPES)));
        }
        _ => {}
    }
    let format = column.format.text();
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(Error::invalid(path.child("format"), format, one_of(COLUMN_FORMATS)));
    }
    let path = path.child("JSONPath");
    match column.json_path.as_str() {
        "" => errors.push(Error::required(path, "")),
        value => {
            is_simple(value, &path, errors);
        }
    }
}

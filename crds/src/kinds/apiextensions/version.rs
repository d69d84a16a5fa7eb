//! The versions of a definition: their schemas, subresources and columns.
//!
//! What is the same in all versions is told of the definition as a whole, where older forms of the API had it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresources,
};
use regex::Regex;
use serde_json::{Map, Value};

use super::{schema, structural};
use crate::{
    custom::{field_path, structural::Structural},
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    go,
    schema::{builtin, encode},
};

const SPEC: Path = Path::new("spec");
const TYPE_NAME: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion";
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const WARNING_LENGTH_MAX: usize = 256;
const SELECTABLE_MAX: usize = 8;

type Version = CustomResourceDefinitionVersion;

/// Which parts all versions have alike. Upstream holds those once, and no version has them.
#[derive(Clone, Copy)]
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    fn of(versions: &[Version]) -> Self {
        let plain: Vec<_> = versions.iter().map(plain).collect();
        let has_one = |name: &str| plain.windows(2).all(|pair| pair[0].get(name) == pair[1].get(name));
        Self {
            schema: has_one("schema"),
            subresources: has_one("subresources"),
            columns: has_one("additionalPrinterColumns"),
            selectable: has_one("selectableFields"),
        }
    }

    /// The versions as upstream holds them.
    fn show(self, versions: &[Version]) -> String {
        let own = |version: &Version| {
            let mut version = version.clone();
            version.schema = version.schema.filter(|_| !self.schema);
            version.subresources = version.subresources.filter(|_| !self.subresources);
            version.additional_printer_columns = version.additional_printer_columns.filter(|_| !self.columns);
            version.selectable_fields = version.selectable_fields.filter(|_| !self.selectable);
            version
        };
        go::show(&versions.iter().map(own).collect::<Vec<_>>(), &format!("[]{TYPE_NAME}"))
    }
}

/// A version in the form in which two of them are compared: what is empty is absent, unless it is behind a pointer.
fn plain(version: &Version) -> Value {
    let mut plain = serde_json::to_value(version).unwrap_or_default();
    if let Some(id) = builtin().id(TYPE_NAME) {
        encode::canonical(builtin(), id, &mut plain);
    }
    plain
}

fn has_status(version: &Version) -> bool {
    version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some())
}

fn schema_of(version: &Version) -> Option<Map<String, Value>> {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref())?;
    let Ok(Value::Object(schema)) = serde_json::to_value(schema) else { return None };
    Some(schema)
}

/// `has_list`: whether there is a list of versions, which may be empty.
pub fn validate_all(spec: &CustomResourceDefinitionSpec, has_list: bool, errors: &mut Errors) {
    let (list, versions) = (SPEC.child("versions"), spec.versions.as_slice());
    for (i, version) in versions.iter().enumerate() {
        if version.schema.as_ref().is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            let path = list.index(i);
            let path = path.child("schema");
            errors.push(Error::required(path.child("openAPIV3Schema"), ""));
        }
    }
    let has_defaults = || versions.iter().filter_map(schema_of).any(|schema| schema::has_defaults(&schema));
    if spec.preserve_unknown_fields == Some(true) && has_defaults() {
        let why = "must be false in order to use defaults in the schema";
        errors.push(Error::invalid(SPEC.child("preserveUnknownFields"), true, why));
    }
    let shared = Shared::of(versions);
    for (i, version) in versions.iter().enumerate() {
        let path = list.index(i);
        let wrong = field::dns_1035_label(&version.name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(path.child("name"), version.name.as_str(), wrong.join(",")));
        }
        validate_warning(version, &path.child("deprecationWarning"), errors);
        if !shared.schema {
            // As upstream, which looks for the subresources by the name of the version.
            let named = versions.iter().find(|other| other.name == version.name).unwrap_or(version);
            validate_schema(version, has_status(named), &path.child("schema"), errors);
        }
        if !shared.subresources {
            validate_subresources(version.subresources.as_ref(), &path.child("subresources"), errors);
        }
        if !shared.columns {
            validate_columns(version, &path.child("additionalPrinterColumns"), errors);
        }
        if !shared.selectable && !version.selectable_fields.items().is_empty() {
            validate_own_selectable(version, shared, &path, errors);
        }
    }
    let shown = || if has_list { shared.show(versions) } else { "null".to_owned() };
    validate_names(versions, shown, &list, errors);
}

fn validate_own_selectable(version: &Version, shared: Shared, path: &Path, errors: &mut Errors) {
    let fields = path.child("selectableFields");
    match schema_of(version).filter(|_| !shared.schema) {
        Some(schema) => {
            let path = path.child("schema");
            validate_selectable(version, &schema, &fields, &path.child("openAPIV3Schema"), errors);
        }
        None => {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(Error::invalid(fields, "", why));
        }
    }
}

/// Fields that can be selected by are scalars outside of metadata, each named once.
fn validate_selectable(
    version: &Version,
    schema: &Map<String, Value>,
    path: &Path,
    schema_path: &Path,
    errors: &mut Errors,
) {
    if let Some(why) = structural::unreadable(schema) {
        errors.push(Error::invalid(*schema_path, "", why));
    }
    let schema = Structural::of_map(schema);
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
    let shared = Shared::of(versions);
    if shared.schema {
        validate_schema(first, versions.iter().any(has_status), &SPEC.child("validation"), errors);
    }
    if shared.subresources {
        validate_subresources(first.subresources.as_ref(), &SPEC.child("subresources"), errors);
    }
    if shared.columns {
        validate_columns(first, &SPEC.child("additionalPrinterColumns"), errors);
    }
    if !shared.selectable || first.selectable_fields.items().is_empty() {
        return;
    }
    let path = SPEC.child("selectableFields");
    if !shared.schema || first.schema.is_none() {
        errors.push(Error::invalid(path, "", "may only be set when validations.schema is included"));
        return;
    }
    let schema_path = SPEC.child("schema");
    let schema = schema_of(first).unwrap_or_default();
    validate_selectable(first, &schema, &path, &schema_path.child("openAPIV3Schema"), errors);
}

fn validate_names(versions: &[Version], shown: impl Fn() -> String, path: &Path, errors: &mut Errors) {
    let names: HashSet<&str> = versions.iter().map(|version| version.name.as_str()).collect();
    if names.len() < versions.len() {
        errors.push(Error::invalid(*path, "", "must contain unique version names").showing(shown()));
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(*path, "", why).showing(shown()));
    }
    if let Some(first) = versions.first().filter(|first| !first.name.is_empty()) {
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
    } else {
        if warning.len() > WARNING_LENGTH_MAX {
            wrong.push(format!("must be <= {WARNING_LENGTH_MAX} characters long"));
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((i, _)) = warning.char_indices().find(|(_, c)| !is_printable(*c)) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {i}"
            ));
        }
    }
    errors.extend(wrong.into_iter().map(|why| Error::invalid(*path, warning.as_str(), why)));
}

/// Whether Go takes a character for a letter, mark, number, punctuation or symbol, or it is a plain space.
fn is_printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$").ok());
    let mut buffer = [0; 4];
    PRINTABLE.as_ref().is_none_or(|printable| printable.is_match(c.encode_utf8(&mut buffer)))
}

fn validate_schema(version: &Version, has_status: bool, path: &Path, errors: &mut Errors) {
    if let Some(schema) = schema_of(version) {
        schema::validate(&schema, has_status, &path.child("openAPIV3Schema"), errors);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(spec: Value, has_list: bool) -> Vec<String> {
        let spec = serde_json::from_value(spec).unwrap();
        let mut errors = Errors::new();
        validate_all(&spec, has_list, &mut errors);
        validate_shared(&spec.versions, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn spec(versions: Value) -> Value {
        json!({"group": "g", "scope": "Cluster", "names": {"plural": "p", "kind": "P"}, "versions": versions})
    }

    #[test]
    fn what_versions_share_is_told_once() {
        let schema = |kind| json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": kind}}}});
        let version = |name, kind, fields: Value| json!({"name": name, "served": true, "storage": name == "v1", "schema": schema(kind), "selectableFields": fields});
        let fields = json!([{"jsonPath": ".b"}]);
        for (versions, want) in [
            (
                json!([version("v1", "string", fields.clone()), version("v2", "string", fields.clone())]),
                vec![
                    "spec.selectableFields[0].jsonPath: Invalid value: \".b\": is an invalid path: does not refer to a valid \
                     field",
                ],
            ),
            (
                json!([version("v1", "string", fields.clone()), version("v2", "integer", fields.clone())]),
                vec!["spec.selectableFields: Invalid value: \"\": may only be set when validations.schema is included"],
            ),
            (
                json!([version("v1", "string", fields), version("v2", "string", json!([]))]),
                vec![
                    "spec.versions[0].selectableFields: Invalid value: \"\": may only be set when \
                     `version.schema.openAPIV3Schema` is not included",
                ],
            ),
        ] {
            assert_eq!(told(spec(versions), true), want);
        }
    }

    #[test]
    fn no_version_is_stored() {
        let why = "must have exactly one version marked as storage version";
        assert_eq!(told(spec(json!([])), true), [format!("spec.versions: Invalid value: []: {why}")]);
        assert_eq!(told(spec(json!([])), false), [format!("spec.versions: Invalid value: null: {why}")]);
        let one = json!([{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]);
        let shown = "[{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\"DeprecationWarning\":null,\
                     \"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}]";
        assert_eq!(told(spec(one), true), [format!("spec.versions: Invalid value: {shown}: {why}")]);
    }

    #[test]
    fn defaults_want_pruning() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "default": "x"}}});
        let mut spec =
            spec(json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]));
        spec["preserveUnknownFields"] = true.into();
        let want =
            "spec.preserveUnknownFields: Invalid value: true: must be false in order to use defaults in the schema";
        assert_eq!(told(spec, true), [want]);
    }

    #[test]
    fn warnings_can_be_printed() {
        for (c, want) in [('é', true), ('😀', true), (' ', true), ('\n', false), ('\u{a0}', false), ('\u{200b}', false)]
        {
            assert_eq!(is_printable(c), want, "{c:?}");
        }
    }
}

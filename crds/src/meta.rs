//! Rules of the metadata that all objects have: names, labels, annotations, owners, finalizers, managed fields.
//!
//! A create checks [`create`], then the kind's rules, and if all of these pass, [`segments`]. An update first [`keep`]s
//! what nobody may change, then checks [`update`], [`update_again`] and the kind's rules: upstream checks metadata once
//! for all kinds and once more in each kind, so that a cause comes twice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use serde_json::{Map, Value};

use crate::{
    field::{self, Error, Errors, Path, quote},
    kind::{Kind, Scoped},
};

pub const IMMUTABLE: &str = "field is immutable";
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// In bytes, keys and values together.
pub const ANNOTATIONS_SIZE_MAX: usize = 256 << 10;
pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

const METADATA: Path = Path::new("metadata");
const MANAGER_LENGTH_MAX: usize = 128;
const SUBRESOURCE_LENGTH_MAX: usize = 256;

/// What is stored and shown has no fractions of seconds.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// What decides whether metadata is right, beside the metadata.
pub struct Rule<'a> {
    pub namespaced: bool,
    /// Finalizers need a domain unless they are well known.
    pub standard_finalizers: bool,
    /// Whether a prefix must have the syntax of a name.
    pub checks_prefix: bool,
    pub validate_name: &'a dyn Fn(&str) -> Vec<String>,
}

/// Whether the kinds of a built-in group look at the domains of finalizers, upstream: those outside its core do not.
pub fn wants_standard_finalizers(group: &str) -> bool {
    !matches!(
        group,
        "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "coordination.k8s.io"
            | "node.k8s.io"
    )
}

/// Metadata of a new object; its name is generated already.
pub fn create(meta: &ObjectMeta, rule: &Rule, errors: &mut Errors) {
    if rule.checks_prefix {
        prefix(meta, rule.validate_name, errors);
    }
    name(meta, rule.validate_name, errors);
    common(meta, rule.namespaced, errors);
    if rule.standard_finalizers {
        standard_finalizers(meta, errors);
    }
}

/// The same for an object of a built-in kind: some kinds check all of it on updates, too.
pub fn create_of<K: Kind>(object: &K, errors: &mut Errors) {
    create_named(object, &K::validate_name, errors);
}

/// The same where the kind alone does not say what is a name.
pub fn create_named<K: Kind>(object: &K, validate_name: &dyn Fn(&str) -> Vec<String>, errors: &mut Errors) {
    let rule = Rule {
        namespaced: K::Scope::NAMESPACED,
        standard_finalizers: wants_standard_finalizers(K::GROUP),
        checks_prefix: K::ABOUT.checks_prefix,
        validate_name,
    };
    create(object.metadata(), &rule, errors);
}

/// What has changed of the metadata, for kinds whose own rules do not begin with that.
pub fn update_of<K: Kind>(object: &K, old: &K, errors: &mut Errors) {
    update_again(object.metadata(), old.metadata(), wants_standard_finalizers(K::GROUP), errors);
}

/// Metadata of a new object of a kind that does not see to it itself.
pub fn create_any(meta: &ObjectMeta, namespaced: bool, errors: &mut Errors) {
    segments(meta, errors);
    common(meta, namespaced, errors);
}

/// What must hold for the names of all kinds, whatever their own rules: they are segments of a path.
pub fn segments(meta: &ObjectMeta, errors: &mut Errors) {
    prefix(meta, &field::path_segment, errors);
    name(meta, &field::path_segment, errors);
}

/// Takes over what an update cannot change, and ignores attempts to.
pub fn keep(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    if new.get("uid").and_then(Value::as_str).unwrap_or_default().is_empty() {
        take_over(new, old, "uid");
    }
    if !new.contains_key("deletionGracePeriodSeconds") {
        take_over(new, old, "deletionGracePeriodSeconds");
    }
    new.remove("generation");
    ["generation", "creationTimestamp", "deletionTimestamp"].iter().for_each(|name| take_over(new, old, name));
}

/// The generation after that of `old`.
pub fn count_up(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.generation = Some(old.generation.unwrap_or(0) + 1);
}

fn take_over(new: &mut Map<String, Value>, old: &Map<String, Value>, name: &str) {
    if let Some(value) = old.get(name) {
        new.insert(name.to_owned(), value.clone());
    }
}

/// What a status update may not change of metadata: all but labels, annotations and managed fields come from `old`.
pub fn keep_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.self_link.clone_from(&old.self_link);
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.finalizers.clone_from(&old.finalizers);
    new.owner_references.clone_from(&old.owner_references);
}

/// Metadata of a changed object, as it is checked for all kinds.
pub fn update(new: &ObjectMeta, old: &ObjectMeta, namespaced: bool, errors: &mut Errors) {
    segments(new, errors);
    common(new, namespaced, errors);
    changes(new, old, errors);
}

/// Metadata of a changed object, as nearly every kind checks it again.
pub fn update_again(new: &ObjectMeta, old: &ObjectMeta, standard: bool, errors: &mut Errors) {
    changes(new, old, errors);
    if standard {
        standard_finalizers(new, errors);
    }
}

fn prefix(meta: &ObjectMeta, validate_name: &dyn Fn(&str) -> Vec<String>, errors: &mut Errors) {
    let generate_name = meta.generate_name.as_deref().unwrap_or("");
    if !generate_name.is_empty() {
        let path = METADATA.child("generateName");
        let wrong = validate_name(&mask_trailing_dash(generate_name));
        errors.extend(wrong.into_iter().map(|w| Error::invalid(path, generate_name, w)));
    }
}

fn name(meta: &ObjectMeta, validate_name: &dyn Fn(&str) -> Vec<String>, errors: &mut Errors) {
    let path = METADATA.child("name");
    match meta.name.as_deref().unwrap_or("") {
        "" => errors.push(Error::required(path, "name or generateName is required")),
        name => errors.extend(validate_name(name).into_iter().map(|w| Error::invalid(path, name, w))),
    }
}

/// A prefix may end in a dash; upstream swaps its last two characters for a letter before it looks.
fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut kept = rest.to_owned();
            kept.pop();
            kept + "a"
        }
        _ => name.to_owned(),
    }
}

fn common(meta: &ObjectMeta, namespaced: bool, errors: &mut Errors) {
    let path = METADATA.child("namespace");
    match (namespaced, meta.namespace.as_deref().unwrap_or("")) {
        (true, "") => errors.push(Error::required(path, "")),
        (true, namespace) => {
            errors.extend(field::dns_label(namespace).into_iter().map(|w| Error::invalid(path, namespace, w)));
        }
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(path, "not allowed on this type")),
    }
    if let Some(generation) = meta.generation.filter(|g| *g < 0) {
        errors.push(Error::invalid(METADATA.child("generation"), generation, NOT_NEGATIVE));
    }
    labels(meta.labels.as_ref(), METADATA.child("labels"), errors);
    annotations(meta.annotations.as_ref(), METADATA.child("annotations"), errors);
    owners(meta.owner_references.as_deref().unwrap_or_default(), METADATA.child("ownerReferences"), errors);
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), errors);
    managed_fields(meta.managed_fields.as_deref().unwrap_or_default(), METADATA.child("managedFields"), errors);
}

/// Keys and values of labels.
pub fn labels(labels: Option<&BTreeMap<String, String>>, path: Path, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        label_name(key, path, errors);
        errors.extend(field::label_value(value).into_iter().map(|w| Error::invalid(path, value.as_str(), w)));
    }
}

pub fn label_name(name: &str, path: Path, errors: &mut Errors) {
    errors.extend(field::qualified_name(name).into_iter().map(|w| Error::invalid(path, name, w)));
}

/// Keys of annotations, in whatever case, and their size in all.
pub fn annotations(annotations: Option<&BTreeMap<String, String>>, path: Path, errors: &mut Errors) {
    let Some(annotations) = annotations else { return };
    for key in annotations.keys() {
        let wrong = field::qualified_name(&key.to_lowercase());
        errors.extend(wrong.into_iter().map(|w| Error::invalid(path, key.as_str(), w)));
    }
    annotations_size(annotations, path, errors);
}

/// The size of annotations in all.
pub fn annotations_size(annotations: &BTreeMap<String, String>, path: Path, errors: &mut Errors) {
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_SIZE_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_SIZE_MAX as i64));
    }
}

fn owners(owners: &[OwnerReference], path: Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners {
        owner_reference(owner, path, errors);
        if owner.controller != Some(true) {
            continue;
        }
        let this = format!("{}/{}", owner.kind, owner.name);
        match &controller {
            None => controller = Some(this),
            Some(first) => errors.push_with(|| {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                let shown: Vec<_> = owners.iter().map(show_owner).collect();
                Error::invalid(path, "", why).showing(format!("[{}]", shown.join(",")))
            }),
        }
    }
}

fn owner_reference(owner: &OwnerReference, path: Path, errors: &mut Errors) {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    if version.is_empty() || version.contains('/') {
        errors.push(Error::invalid(path.child("apiVersion"), owner.api_version.as_str(), "version must not be empty"));
    }
    for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(Error::invalid(path.child(name), value.as_str(), "must not be empty"));
        }
    }
    if (group, version, owner.kind.as_str()) == ("", "v1", "Event") {
        let why = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(Error::invalid(path, "", why).showing(show_owner(owner)));
    }
}

/// In the order of Go's declaration.
fn show_owner(owner: &OwnerReference) -> String {
    let text = |s: &str| Value::from(s).to_string();
    let mut shown = format!(
        "{{\"apiVersion\":{},\"kind\":{},\"name\":{},\"uid\":{}",
        text(&owner.api_version),
        text(&owner.kind),
        text(&owner.name),
        text(&owner.uid)
    );
    for (name, flag) in [("controller", owner.controller), ("blockOwnerDeletion", owner.block_owner_deletion)] {
        if let Some(flag) = flag {
            shown.push_str(&format!(",\"{name}\":{flag}"));
        }
    }
    shown + "}"
}

fn finalizers(finalizers: &[String], errors: &mut Errors) {
    let path = METADATA.child("finalizers");
    for finalizer in finalizers {
        label_name(finalizer, path, errors);
    }
    if [ORPHAN, FOREGROUND].iter().all(|f| finalizers.iter().any(|have| have == f)) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(Error::invalid(path, finalizers.to_vec(), why));
    }
}

fn standard_finalizers(meta: &ObjectMeta, errors: &mut Errors) {
    let path = METADATA.child("finalizers");
    for (i, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        standard_finalizer(finalizer, path.index(i), errors);
    }
}

/// A finalizer outside the metadata.
pub fn finalizer(finalizer: &str, path: Path, errors: &mut Errors) {
    label_name(finalizer, path, errors);
    standard_finalizer(finalizer, path, errors);
}

fn standard_finalizer(finalizer: &str, path: Path, errors: &mut Errors) {
    if !finalizer.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&finalizer) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, finalizer, why));
    }
}

fn managed_fields(entries: &[ManagedFieldsEntry], path: Path, errors: &mut Errors) {
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        let operation = entry.operation.as_deref().unwrap_or("");
        if !["Apply", "Update"].contains(&operation) {
            errors.push(Error::invalid(path.child("operation"), operation, "must be `Apply` or `Update`"));
        }
        let fields_type = entry.fields_type.as_deref().unwrap_or("");
        if !["", "FieldsV1"].contains(&fields_type) {
            errors.push(Error::invalid(path.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        field_manager(entry.manager.as_deref().unwrap_or(""), path.child("manager"), errors);
        if entry.subresource.as_ref().is_some_and(|s| s.len() > SUBRESOURCE_LENGTH_MAX) {
            errors.push(Error::too_long(path.child("subresource"), SUBRESOURCE_LENGTH_MAX as i64));
        }
    }
}

/// The name of a field manager, in `managedFields` and as a query option.
pub fn field_manager(manager: &str, path: Path, errors: &mut Errors) {
    if manager.len() > MANAGER_LENGTH_MAX {
        errors.push(Error::too_long(path, MANAGER_LENGTH_MAX as i64));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| !is_print(*c)) {
        let shown = if c.is_control() { String::new() } else { format!(" '{c}'") };
        let why = format!("invalid character U+{:04X}{shown} (at position {at})", c as u32);
        errors.push(Error::invalid(path, manager, why));
    }
}

/// As Go's `unicode.IsPrint`: of all white space only the ASCII space is printable.
fn is_print(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{ad}'))
}

fn changes(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    if old.deletion_timestamp.is_some() {
        no_new_finalizers(new, old, errors);
    }
    if new.resource_version.as_deref().unwrap_or("").is_empty() {
        errors.push(Error::invalid(METADATA.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = new.generation.unwrap_or(0);
    if generation < old.generation.unwrap_or(0) {
        errors.push(Error::invalid(METADATA.child("generation"), generation, "must not be decremented"));
    }
    immutable(METADATA.child("name"), &new.name, &old.name, errors);
    immutable(METADATA.child("namespace"), &new.namespace, &old.namespace, errors);
    immutable(METADATA.child("uid"), &new.uid, &old.uid, errors);
    let time =
        |t: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| serde_json::to_value(t).unwrap_or_default();
    for (name, new, old) in [
        ("creationTimestamp", &new.creation_timestamp, &old.creation_timestamp),
        ("deletionTimestamp", &new.deletion_timestamp, &old.deletion_timestamp),
    ] {
        if new != old {
            errors.push(Error::invalid(METADATA.child(name), "", IMMUTABLE).showing(time(new).to_string()));
        }
    }
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds {
        let shown = new.deletion_grace_period_seconds.map_or(Value::Null, Value::from);
        errors.push(Error::invalid(METADATA.child("deletionGracePeriodSeconds"), shown, IMMUTABLE));
    }
    labels(new.labels.as_ref(), METADATA.child("labels"), errors);
    annotations(new.annotations.as_ref(), METADATA.child("annotations"), errors);
    owners(new.owner_references.as_deref().unwrap_or_default(), METADATA.child("ownerReferences"), errors);
    managed_fields(new.managed_fields.as_deref().unwrap_or_default(), METADATA.child("managedFields"), errors);
}

fn immutable(path: Path, new: &Option<String>, old: &Option<String>, errors: &mut Errors) {
    let (new, old) = (new.as_deref().unwrap_or(""), old.as_deref().unwrap_or(""));
    if new != old {
        errors.push(Error::invalid(path, new, IMMUTABLE));
    }
}

fn no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, errors: &mut Errors) {
    let set = |meta: &ObjectMeta| meta.finalizers.iter().flatten().cloned().collect::<BTreeSet<_>>();
    let extra: Vec<_> = set(new).difference(&set(old)).map(|f| quote(f)).collect();
    if !extra.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            extra.join(", ")
        );
        errors.push(Error::forbidden(METADATA.child("finalizers"), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn texts(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        let rule = Rule {
            namespaced: true,
            standard_finalizers: true,
            checks_prefix: true,
            validate_name: &field::dns_subdomain,
        };
        for (value, want) in [
            (json!({"name": "a", "namespace": "n"}), vec![]),
            (json!({"generateName": "a-", "name": "a-x", "namespace": "n"}), vec![]),
            (json!({"namespace": "n"}), vec!["metadata.name: Required value: name or generateName is required"]),
            (json!({"name": "a"}), vec!["metadata.namespace: Required value"]),
            (
                json!({"name": "a", "namespace": "n", "finalizers": ["x"]}),
                vec![
                    "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
            (
                json!({"name": "a", "namespace": "n", "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]}),
                vec![
                    "metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"e\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
                ],
            ),
        ] {
            let mut errors = Errors::new();
            create(&meta(value), &rule, &mut errors);
            assert_eq!(texts(&errors), want);
        }
    }

    /// The metadata as an update keeps it, and what it was.
    fn kept(mut new: Value, old: Value) -> (ObjectMeta, ObjectMeta) {
        keep(new.as_object_mut().unwrap(), old.as_object().unwrap());
        (meta(new), meta(old))
    }

    #[test]
    fn change() {
        let (new, old) = kept(
            json!({"name": "b", "resourceVersion": "1", "generation": 7}),
            json!({"name": "a", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2024-01-01T00:00:00Z"}),
        );
        assert_eq!((new.uid.as_deref(), new.generation), (Some("u"), None));
        assert_eq!(new.creation_timestamp, old.creation_timestamp);
        let mut errors = Errors::new();
        update(&new, &old, false, &mut errors);
        assert_eq!(texts(&errors), ["metadata.name: Invalid value: \"b\": field is immutable"]);
    }

    #[test]
    fn finalizers_of_the_deleted() {
        let (new, old) = kept(
            json!({"name": "a", "resourceVersion": "1", "finalizers": ["a/b", "c/d"]}),
            json!({"name": "a", "resourceVersion": "1", "deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a/b"]}),
        );
        let mut errors = Errors::new();
        update_again(&new, &old, true, &mut errors);
        assert_eq!(
            texts(&errors),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}"
            ]
        );
    }
}

//! The spec of a claim to a volume: in a PersistentVolumeClaim, a template of one, and a Pod's ephemeral volume.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    meta,
    quantity::Quantity,
    resource::{self, STORAGE},
    selector,
};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub fn default(spec: &mut PersistentVolumeClaimSpec) {
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    if let Some(own) = &mut spec.resources {
        resource::default(&mut own.limits);
        resource::default(&mut own.requests);
    }
}

pub fn access_modes(modes: &[String], required: &str, path: &Path, errors: &mut Errors) {
    if modes.is_empty() {
        errors.push(Error::required(*path, required));
    }
}

/// Which modes are known, and that the exclusive one stands alone.
pub fn known_access_modes(modes: &[String], path: &Path, errors: &mut Errors) {
    for mode in modes.iter().filter(|m| !ACCESS_MODES.contains(&m.as_str())) {
        errors.push(Error::not_supported(*path, mode.as_str(), ACCESS_MODES));
    }
    let exclusive = modes.iter().any(|m| m == "ReadWriteOncePod");
    if exclusive && modes.iter().any(|m| m != "ReadWriteOncePod" && ACCESS_MODES.contains(&m.as_str())) {
        errors.push(Error::forbidden(*path, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub fn validate(spec: &PersistentVolumeClaimSpec, path: &Path, errors: &mut Errors) {
    let modes_path = path.child("accessModes");
    access_modes(spec.access_modes.items(), "at least 1 access mode is required", &modes_path, errors);
    selector::validate::label_selector(spec.selector.as_ref(), &path.child("selector"), errors);
    known_access_modes(spec.access_modes.items(), &modes_path, errors);
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let resources_path = path.child("resources");
    let storage_path = resources_path.key(STORAGE);
    match requests.and_then(|r| r.get(STORAGE)) {
        None => errors.push(Error::required(storage_path, "")),
        Some(size) => resource::validate_positive(Quantity::of(Some(size)), &storage_path, errors),
    }
    class_name(spec.storage_class_name.text(), &path.child("storageClassName"), errors);
    volume_mode(spec.volume_mode.as_deref(), &path.child("volumeMode"), errors);
    if let Some(source) = &spec.data_source {
        data_source(&source.name, &source.kind, source.api_group.text(), &path.child("dataSource"), errors);
    }
    if let Some(source) = &spec.data_source_ref {
        let path = path.child("dataSourceRef");
        data_source(&source.name, &source.kind, source.api_group.text(), &path, errors);
        let namespace = source.namespace.text();
        if !namespace.is_empty() {
            extend(errors, path.child("namespace"), namespace, field::dns_label(namespace));
        }
    }
    if let Some(both) = spec.data_source.as_ref().zip(spec.data_source_ref.as_ref()) {
        // Upstream shows the path where a value should be; a path has no fields that JSON could show.
        let (old, new) = both;
        if !new.namespace.text().is_empty() {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(Error::invalid(*path, json!({}), why));
        } else if (&old.api_group, &old.kind, &old.name) != (&new.api_group, &new.kind, &new.name) {
            errors.push(Error::invalid(*path, json!({}), "must match dataSourceRef"));
        }
    }
    class_name(spec.volume_attributes_class_name.text(), &path.child("volumeAttributesClassName"), errors);
}

pub fn class_name(name: &str, path: &Path, errors: &mut Errors) {
    if !name.is_empty() {
        extend(errors, *path, name, field::dns_subdomain(name));
    }
}

pub fn volume_mode(mode: Option<&str>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|m| !VOLUME_MODES.contains(m)) {
        errors.push(Error::not_supported(*path, mode, VOLUME_MODES));
    }
}

fn data_source(name: &str, kind: &str, group: &str, path: &Path, errors: &mut Errors) {
    for (field, value) in [("name", name), ("kind", kind)] {
        if value.is_empty() {
            errors.push(Error::required(path.child(field), ""));
        }
    }
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(*path, kind, why));
    }
    if !group.is_empty() {
        extend(errors, path.child("apiGroup"), group, field::dns_subdomain(group));
    }
}

/// The template of a claim that a Pod's ephemeral volume makes.
pub fn template(template: &PersistentVolumeClaimTemplate, path: &Path, errors: &mut Errors) {
    if let Some(meta) = &template.metadata {
        template_meta(meta, &path.child("metadata"), errors);
    }
    validate(&template.spec, &path.child("spec"), errors);
}

/// Of metadata only labels and annotations can be given.
fn template_meta(given: &ObjectMeta, path: &Path, errors: &mut Errors) {
    meta::annotations(given.annotations.as_ref(), path.child("annotations"), errors);
    meta::labels(given.labels.as_ref(), path.child("labels"), errors);
    for (name, is_given) in [
        ("name", given.name.is_some()),
        ("generateName", given.generate_name.is_some()),
        ("namespace", given.namespace.is_some()),
        ("selfLink", given.self_link.is_some()),
        ("uID", given.uid.is_some()),
        ("resourceVersion", given.resource_version.is_some()),
        ("generation", given.generation.is_some()),
        ("creationTimestamp", given.creation_timestamp.is_some()),
        ("deletionTimestamp", given.deletion_timestamp.is_some()),
        ("deletionGracePeriodSeconds", given.deletion_grace_period_seconds.is_some()),
        ("ownerReferences", given.owner_references.is_some()),
        ("finalizers", given.finalizers.is_some()),
        ("managedFields", given.managed_fields.is_some()),
    ] {
        if is_given {
            errors.push(Error::forbidden(path.child(name), "cannot be set"));
        }
    }
}

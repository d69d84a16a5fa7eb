//! Volumes whose files are made from objects: Secrets, ConfigMaps, the downward API, tokens.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, ProjectedVolumeSource, VolumeProjection,
};

use super::{FILE_MODE, source::free_path};
use crate::{
    field::{Error, Errors, Path},
    given::Items,
    pod,
};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub fn default(projected: &mut ProjectedVolumeSource) {
    projected.default_mode.get_or_insert(FILE_MODE);
    for source in projected.sources.iter_mut().flatten() {
        for file in source.downward_api.iter_mut().flat_map(|d| d.items.iter_mut().flatten()) {
            default_file(file);
        }
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
    }
}

pub fn default_file(file: &mut DownwardAPIVolumeFile) {
    pod::default::field_ref(&mut file.field_ref);
    if let Some(divisor) = file.resource_field_ref.as_mut().and_then(|r| r.divisor.as_mut())
        && let Ok(quantity) = divisor.0.parse::<crate::quantity::Quantity>()
    {
        *divisor = quantity.into();
    }
}

/// Files from a Secret or a ConfigMap: its name, the mode of its files, and which keys become which.
pub fn files_of(
    name_field: &str,
    name: &str,
    mode: Option<i32>,
    items: &[KeyToPath],
    path: &Path,
    errors: &mut Errors,
) {
    if name.is_empty() {
        errors.push(Error::required(path.child(name_field), ""));
    }
    file_mode(mode, &path.child("defaultMode"), errors);
    let list = path.child("items");
    for (i, item) in items.iter().enumerate() {
        key_to_path(item, &list.index(i), errors);
    }
}

fn file_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.push(Error::invalid(*path, mode, MODE));
    }
}

fn key_to_path(item: &KeyToPath, path: &Path, errors: &mut Errors) {
    super::source::required(path, &[("key", &item.key), ("path", &item.path)], errors);
    free_path(&item.path, &path.child("path"), errors);
    file_mode(item.mode, &path.child("mode"), errors);
}

pub fn downward_api(source: &DownwardAPIVolumeSource, path: &Path, errors: &mut Errors) {
    file_mode(source.default_mode, &path.child("defaultMode"), errors);
    for file in source.items.items() {
        downward_file(file, path, errors);
    }
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &Path, errors: &mut Errors) {
    super::source::required(path, &[("path", &file.path)], errors);
    free_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            pod::validate::field_ref(field, FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(*path, "resource", why));
            }
        }
        (None, Some(resource)) => {
            pod::validate::resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => errors.push(Error::required(*path, "one of fieldRef and resourceFieldRef is required")),
    }
    file_mode(file.mode, &path.child("mode"), errors);
}

pub fn validate(projected: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    file_mode(projected.default_mode, &path.child("defaultMode"), errors);
    let mut taken = BTreeSet::new();
    let list = path.child("sources");
    for (i, source) in projected.sources.items().iter().enumerate() {
        self::source(source, &mut taken, path, &list.index(i), errors);
    }
}

/// Errors about two files of one name are told of the whole volume, at `volume`.
fn source<'a>(
    source: &'a VolumeProjection,
    taken: &mut BTreeSet<&'a str>,
    volume: &Path,
    path: &Path,
    errors: &mut Errors,
) {
    let mut count = 0;
    let named = [
        ("secret", source.secret.as_ref().map(|s| (&s.name, s.items.items()))),
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, s.items.items()))),
    ];
    for (kind, from) in named {
        let Some((name, items)) = from else {
            continue;
        };
        count += 1;
        let path = path.child(kind);
        super::source::required(&path, &[("name", name)], errors);
        let list = path.child("items");
        for (i, item) in items.iter().enumerate() {
            key_to_path(item, &list.index(i), errors);
            if !item.path.is_empty() && !taken.insert(&item.path) {
                errors.push(Error::invalid(*volume, name.as_str(), "conflicting duplicate paths"));
            }
        }
    }
    if let Some(api) = &source.downward_api {
        count += 1;
        for file in api.items.items() {
            downward_file(file, &path.child("downwardAPI"), errors);
            if !file.path.is_empty() && !taken.insert(&file.path) {
                errors.push(Error::invalid(*volume, file.path.as_str(), "conflicting duplicate paths"));
            }
        }
    }
    if let Some(token) = &source.service_account_token {
        count += 1;
        let list = path.child("serviceAccountToken");
        let seconds = token.expiration_seconds.unwrap_or(0);
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(Error::invalid(list.child("expirationSeconds"), seconds, why));
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(Error::invalid(list.child("expirationSeconds"), seconds, why));
        }
        // Upstream tells of the token's path at the volume, without the source.
        match token.path.as_str() {
            "" => errors.push(Error::required(volume.child("path"), "")),
            target => free_path(target, &volume.child("path"), errors),
        }
    }
    if count > 1 {
        errors.push(Error::forbidden(*path, "may not specify more than 1 volume type per source"));
    }
}

//! Environment variables: their names, and where their values come from.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, FileKeySelector};

use super::{field_ref, resource_ref};
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Text,
    syntax,
    volume::source::no_backsteps,
};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub fn variables(variables: &[EnvVar], path: &Path, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let path = path.index(i);
        match variable.name.as_str() {
            "" => errors.push(Error::required(path.child("name"), "")),
            name => extend(errors, path.child("name"), name, syntax::variable_name(name)),
        }
        if let Some(from) = &variable.value_from {
            value_from(from, !variable.value.text().is_empty(), &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(from: &EnvVarSource, has_value: bool, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    if let Some(field) = &from.field_ref {
        count += 1;
        field_ref(field, FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &from.resource_field_ref {
        count += 1;
        resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    if let Some(key) = &from.config_map_key_ref {
        count += 1;
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &from.secret_key_ref {
        count += 1;
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(file) = &from.file_key_ref {
        count += 1;
        file_ref(file, &path.child("fileKeyRef"), errors);
    }
    let why = match count {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(*path, "", why));
}

fn key_ref(name: &str, key: &str, path: &Path, errors: &mut Errors) {
    extend(errors, path.child("name"), name, field::dns_subdomain(name));
    match key {
        "" => errors.push(Error::required(path.child("key"), "")),
        key => extend(errors, path.child("key"), key, syntax::config_key(key)),
    }
}

fn file_ref(file: &FileKeySelector, path: &Path, errors: &mut Errors) {
    match file.key.as_str() {
        "" => errors.push(Error::required(path.child("key"), "")),
        key => extend(errors, path.child("key"), key, syntax::variable_name(key)),
    }
    match file.volume_name.as_str() {
        "" => errors.push(Error::required(path.child("volumeName"), "")),
        name => extend(errors, path.child("volumeName"), name, field::dns_label(name)),
    }
    match file.path.as_str() {
        "" => errors.push(Error::required(path.child("path"), "")),
        target => no_backsteps(target, &path.child("path"), errors),
    }
}

/// Whole objects whose keys become variables.
pub fn sources(sources: &[EnvFromSource], path: &Path, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let item = path.index(i);
        let prefix = source.prefix.text();
        if !prefix.is_empty() {
            extend(errors, item.child("prefix"), prefix, syntax::variable_name(prefix));
        }
        let given = [
            ("configMapRef", source.config_map_ref.as_ref().map(|r| &r.name)),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
        ];
        for (field, name) in given {
            let list = item.child(field);
            match name.map(String::as_str) {
                None => {}
                Some("") => errors.push(Error::required(list.child("name"), "")),
                Some(name) => extend(errors, list.child("name"), name, field::dns_subdomain(&unmasked(name))),
            }
        }
        let why = match given.iter().filter(|(_, name)| name.is_some()).count() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(Error::invalid(*path, "", why));
    }
}

/// Upstream checks these names as prefixes, which may end in a dash.
fn unmasked(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            format!("{}a", &rest[..rest.len() - rest.chars().last().map_or(0, char::len_utf8)])
        }
        _ => name.to_owned(),
    }
}

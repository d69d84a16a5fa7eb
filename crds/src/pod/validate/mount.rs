//! Volumes inside containers: as folders, as block devices, as files of variables.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};

use super::containers;
use crate::{
    field::{Error, Errors, Path},
    given::{Items, Text},
    volume::source::relative_path,
};

type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

pub fn mounts(container: &Container, volumes: &Volumes, path: &Path, errors: &mut Errors) {
    let devices = container.volume_devices.items();
    let device_names: BTreeSet<&str> = devices.iter().map(|d| d.name.as_str()).collect();
    let device_places: BTreeSet<&str> = devices.iter().map(|d| d.device_path.as_str()).collect();
    let mut places = BTreeSet::new();
    for (i, mount) in container.volume_mounts.items().iter().enumerate() {
        let item = path.index(i);
        let (name, place) = (mount.name.as_str(), mount.mount_path.as_str());
        if name.is_empty() {
            errors.push(Error::required(item.child("name"), ""));
        }
        if !volumes.contains_key(name) {
            errors.push(Error::not_found(item.child("name"), name));
        }
        if place.is_empty() {
            errors.push(Error::required(item.child("mountPath"), ""));
        }
        if !places.insert(place) {
            errors.push(Error::invalid(item.child("mountPath"), place, "must be unique"));
        }
        if device_names.contains(name) {
            errors.push(Error::invalid(item.child("name"), name, "must not already exist in volumeDevices"));
        }
        if device_places.contains(place) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(item.child("mountPath"), place, why));
        }
        sub_paths(mount, path, &item, errors);
        propagation(mount, container, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

/// Upstream tells of these at the list, without the index.
fn sub_paths(mount: &VolumeMount, list: &Path, item: &Path, errors: &mut Errors) {
    let (plain, expanded) = (mount.sub_path.text(), mount.sub_path_expr.text());
    if !plain.is_empty() {
        relative_path(plain, &list.child("subPath"), errors);
    }
    if !expanded.is_empty() {
        if !plain.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(Error::invalid(item.child("subPathExpr"), expanded, why));
        }
        relative_path(expanded, &list.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &VolumeMount, container: &Container, path: &Path, errors: &mut Errors) {
    let Some(mode) = mount.mount_propagation.as_deref() else {
        return;
    };
    let supported = ["Bidirectional", "HostToContainer", "None"];
    if !supported.contains(&mode) {
        errors.push(Error::not_supported(*path, mode, &supported));
    }
    let privileged = container.security_context.as_ref().is_some_and(|c| c.privileged == Some(true));
    if mode == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(*path, why));
    }
}

fn recursive_read_only(mount: &VolumeMount, path: &Path, errors: &mut Errors) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.push(Error::forbidden(*path, "may only be specified when readOnly is true"));
            }
            if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(*path, why));
            }
        }
        Some(other) => {
            errors.push(Error::not_supported(*path, other, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

pub fn devices(container: &Container, volumes: &Volumes, path: &Path, errors: &mut Errors) {
    let mounts = container.volume_mounts.items();
    let mount_names: BTreeSet<&str> = mounts.iter().map(|m| m.name.as_str()).collect();
    let mount_places: BTreeSet<&str> = mounts.iter().map(|m| m.mount_path.as_str()).collect();
    let (mut places, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.volume_devices.items().iter().enumerate() {
        let path = path.index(i);
        let (name, place) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.push(Error::required(path.child("name"), ""));
        }
        if names.contains(name) {
            errors.push(Error::invalid(path.child("name"), name, "must be unique"));
        }
        match volumes.get(name) {
            Some(v) if v.persistent_volume_claim.is_none() && v.ephemeral.is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(path.child("name"), name, why));
            }
            Some(_) => {}
            None => errors.push(Error::not_found(path.child("name"), name)),
        }
        if place.is_empty() {
            errors.push(Error::required(path.child("devicePath"), ""));
        }
        if places.contains(place) {
            errors.push(Error::invalid(path.child("devicePath"), place, "must be unique"));
        }
        if place.split('/').any(|part| part == "..") {
            errors.push(Error::invalid(path.child("devicePath"), place, "can not contain backsteps ('..')"));
        } else {
            places.insert(place);
        }
        if mount_names.contains(name) {
            errors.push(Error::invalid(path.child("name"), name, "must not already exist in volumeMounts"));
        }
        if mount_places.contains(place) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(path.child("devicePath"), place, why));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

/// Variables from files name a volume that starts empty.
pub fn file_variables(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for seen in containers::all(spec) {
        let list = path.child(seen.list);
        let path = list.index(seen.index);
        let list = path.child("env");
        for (i, variable) in seen.container.env.items().iter().enumerate() {
            let Some(file) = variable.value_from.as_ref().and_then(|from| from.file_key_ref.as_ref()) else {
                continue;
            };
            let path = list.index(i);
            let path = path.child("valueFrom");
            let path = path.child("fileKeyRef");
            let (at, name) = (path.child("volumeName"), file.volume_name.as_str());
            match spec.volumes.items().iter().rfind(|v| v.name == name) {
                None => errors.push(Error::not_found(at, name)),
                Some(volume) if volume.empty_dir.is_none() => {
                    errors.push(Error::invalid(at, name, "referenced volume must be of type emptyDir"));
                }
                Some(_) => {}
            }
        }
    }
}

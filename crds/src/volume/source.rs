//! Rules of the sources of volumes that Pods and PersistentVolumes have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    AzureDiskVolumeSource, CSIVolumeSource, FCVolumeSource, FlockerVolumeSource, HostPathVolumeSource,
    ISCSIVolumeSource, NFSVolumeSource, QuobyteVolumeSource,
};

use crate::{
    field::{self, Error, Errors, Path, extend, extend_number},
    given::{Items, Text},
    syntax,
};

pub const ISCSI_NAME_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Texts that may not be empty.
pub fn required(path: &Path, fields: &[(&str, &String)], errors: &mut Errors) {
    let empty = fields.iter().filter(|(_, value)| value.is_empty());
    errors.extend(empty.map(|(name, _)| Error::required(path.child(name), "")));
}

pub fn no_backsteps(target: &str, path: &Path, errors: &mut Errors) {
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(*path, target, "must not contain '..'"));
    }
}

/// A path that stays below the folder it is in.
pub fn relative_path(target: &str, path: &Path, errors: &mut Errors) {
    if target.starts_with('/') {
        errors.push(Error::invalid(*path, target, "must be a relative path"));
    }
    no_backsteps(target, path, errors);
}

/// A relative path whose first part does not begin with two dots, which the kubelet keeps for itself.
pub fn free_path(target: &str, path: &Path, errors: &mut Errors) {
    relative_path(target, path, errors);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(*path, target, "must not start with '..'"));
    }
}

pub fn host_path(source: &HostPathVolumeSource, path: &Path, errors: &mut Errors) {
    if source.path.is_empty() {
        errors.push(Error::required(path.child("path"), ""));
        return;
    }
    no_backsteps(&source.path, &path.child("path"), errors);
    if let Some(kind) = source.type_.as_deref().filter(|t| !HOST_PATH_TYPES.contains(t)) {
        errors.push(Error::not_supported(path.child("type"), kind, HOST_PATH_TYPES));
    }
}

/// A cloud's disk: its id and a partition.
pub fn disk(id_field: &str, id: &String, partition: Option<i32>, path: &Path, errors: &mut Errors) {
    required(path, &[(id_field, id)], errors);
    if let Some(partition) = partition.filter(|p| !(0..=255).contains(p)) {
        errors.push(Error::invalid(path.child("partition"), partition, syntax::range_text(1, 255)));
    }
}

pub fn nfs(source: &NFSVolumeSource, path: &Path, errors: &mut Errors) {
    required(path, &[("server", &source.server), ("path", &source.path)], errors);
    if !source.path.starts_with('/') {
        errors.push(Error::invalid(path.child("path"), source.path.as_str(), "must be an absolute path"));
    }
}

pub fn iscsi(source: &ISCSIVolumeSource, path: &Path, errors: &mut Errors) {
    required(path, &[("targetPortal", &source.target_portal)], errors);
    let prefix_text = "must be valid format starting with iqn, eui, or naa";
    match source.iqn.as_str() {
        "" => errors.push(Error::required(path.child("iqn"), "")),
        iqn => errors.extend(iscsi_name(iqn, prefix_text).map(|why| Error::invalid(path.child("iqn"), iqn, why))),
    }
    let chap = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    iscsi_rest(source.lun, chap, source.secret_ref.is_some(), path, errors);
    iscsi_initiator(source.initiator_name.as_deref(), prefix_text, path, errors);
}

pub fn iscsi_rest(lun: i32, chap: bool, has_secret: bool, path: &Path, errors: &mut Errors) {
    extend_number(errors, path.child("lun"), lun.into(), syntax::in_range(lun.into(), 0, 255));
    if chap && !has_secret {
        errors.push(Error::required(path.child("secretRef"), ""));
    }
}

pub fn iscsi_initiator(name: Option<&str>, prefix_text: &'static str, path: &Path, errors: &mut Errors) {
    let Some(name) = name else {
        return;
    };
    errors.extend(iscsi_name(name, prefix_text).map(|why| Error::invalid(path.child("initiatorname"), name, why)));
}

/// What is wrong with the name of a target or an initiator.
pub fn iscsi_name(name: &str, prefix_text: &'static str) -> Option<&'static str> {
    let right = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => name.len() == 20 && name[4..].bytes().all(|c| c.is_ascii_alphanumeric()),
        Some("naa") => name.len() == 36 && name[4..].bytes().all(|c| c.is_ascii_alphanumeric()),
        _ => return Some(prefix_text),
    };
    (!right).then_some("must be valid format")
}

/// `iqn.2001-04.com.example:storage`
fn is_iqn(name: &str) -> bool {
    let Some((head, tail)) = name.split_once(':') else {
        return false;
    };
    let mut parts = head.splitn(3, '.');
    let (iqn, date, domain) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let date_right =
        date.len() == 7 && date.bytes().enumerate().all(|(i, c)| if i == 4 { c == b'-' } else { c.is_ascii_digit() });
    iqn == Some("iqn")
        && date_right
        && !domain.is_empty()
        && domain.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
        && !tail.is_empty()
        && !tail.contains([',', ';', '*', '&', '$', '|'])
        && !tail.contains(char::is_whitespace)
}

pub fn flocker(source: &FlockerVolumeSource, path: &Path, errors: &mut Errors) {
    let (name, uuid) = (source.dataset_name.text(), source.dataset_uuid.text());
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(*path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(*path, "resource", why));
    }
    if name.contains('/') {
        errors.push(Error::invalid(path.child("datasetName"), name, "must not contain '/'"));
    }
}

pub fn rbd(monitors: &[String], image: &String, path: &Path, errors: &mut Errors) {
    ceph_fs(monitors, path, errors);
    required(path, &[("image", image)], errors);
}

pub fn ceph_fs(monitors: &[String], path: &Path, errors: &mut Errors) {
    if monitors.is_empty() {
        errors.push(Error::required(path.child("monitors"), ""));
    }
}

/// The name of a Secret, where one is referred to.
pub fn secret_name(name: Option<&str>, path: &Path, errors: &mut Errors) {
    if name == Some("") {
        let list = path.child("secretRef");
        errors.push(Error::required(list.child("name"), ""));
    }
}

/// The same for a reference into any namespace.
pub fn secret_reference(name: &str, namespace: &str, path: &Path, errors: &mut Errors) {
    let list = path.child("secretRef");
    for (field, value) in [("name", name), ("namespace", namespace)] {
        if value.is_empty() {
            errors.push(Error::required(list.child(field), ""));
        }
    }
}

pub fn quobyte(source: &QuobyteVolumeSource, path: &Path, errors: &mut Errors) {
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    if source.registry.is_empty() {
        errors.push(Error::required(path.child("registry"), pairs));
    } else if source.tenant.text().len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(path.child("tenant"), why));
    } else {
        for pair in source.registry.split(',') {
            if pair.rsplit_once(':').is_none_or(|(host, _)| host.contains(':') && !host.starts_with('[')) {
                errors.push(Error::invalid(path.child("registry"), source.registry.as_str(), pairs));
            }
        }
    }
    required(path, &[("volume", &source.volume)], errors);
}

pub fn fc(source: &FCVolumeSource, path: &Path, errors: &mut Errors) {
    let (names, ids) = (source.target_wwns.items(), source.wwids.items());
    let names_path = path.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        errors.push(Error::required(names_path, "must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(names_path, names.to_vec(), why));
    }
    if names.is_empty() {
        return;
    }
    match source.lun {
        None => errors.push(Error::required(path.child("lun"), "lun is required if targetWWNs is specified")),
        Some(lun) => extend_number(errors, path.child("lun"), lun.into(), syntax::in_range(lun.into(), 0, 255)),
    }
}

pub fn flex(driver: &String, options: Option<&BTreeMap<String, String>>, path: &Path, errors: &mut Errors) {
    required(path, &[("driver", driver)], errors);
    for key in options.into_iter().flat_map(BTreeMap::keys) {
        let domain = format!(".{}", key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let list = path.child("options");
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(list.key(key), key.as_str(), why));
        }
    }
}

pub fn azure_disk(source: &AzureDiskVolumeSource, path: &Path, errors: &mut Errors) {
    required(path, &[("diskName", &source.disk_name), ("diskURI", &source.disk_uri)], errors);
    let modes = ["None", "ReadOnly", "ReadWrite"];
    if let Some(mode) = source.caching_mode.as_deref().filter(|m| !modes.contains(m)) {
        errors.push(Error::not_supported(path.child("cachingMode"), mode, &modes));
    }
    let Some(kind) = source.kind.as_deref() else {
        return;
    };
    let kinds = ["Dedicated", "Managed", "Shared"];
    if !kinds.contains(&kind) {
        errors.push(Error::not_supported(path.child("kind"), kind, &kinds));
    }
    let (prefix, form) = match kind {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if !source.disk_uri.starts_with(prefix) {
        errors.push(Error::not_supported(path.child("diskURI"), source.disk_uri.as_str(), &[form]));
    }
}

pub fn storage_os(volume: &str, namespace: &str, path: &Path, errors: &mut Errors) {
    match volume {
        "" => errors.push(Error::required(path.child("volumeName"), "")),
        name => extend(errors, path.child("volumeName"), name, field::dns_label(name)),
    }
    if !namespace.is_empty() {
        extend(errors, path.child("volumeNamespace"), namespace, field::dns_label(namespace));
    }
}

/// The name of a CSI driver, in whatever case.
pub fn csi_driver(driver: &str, path: &Path, errors: &mut Errors) {
    if driver.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    if driver.len() > 63 {
        errors.push(Error::too_long(*path, 63));
    }
    extend(errors, *path, driver, field::dns_subdomain(&driver.to_lowercase()));
}

pub fn csi(source: &CSIVolumeSource, path: &Path, errors: &mut Errors) {
    csi_driver(&source.driver, &path.child("driver"), errors);
    match source.node_publish_secret_ref.as_ref().map(|r| r.name.as_str()) {
        None => {}
        Some("") => {
            let list = path.child("nodePublishSecretRef");
            errors.push(Error::required(list.child("name"), ""));
        }
        Some(name) => extend(errors, path.child("name"), name, field::dns_subdomain(name)),
    }
}

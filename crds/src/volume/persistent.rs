//! The spec of a PersistentVolume: defaults and rules.

use k8s_openapi::api::core::v1::{PersistentVolumeSpec, SecretReference};

use super::{One, claim, source};
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    pod::affinity,
    quantity::Quantity,
    resource::{self, STORAGE},
};

const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];

pub fn default(spec: &mut PersistentVolumeSpec) {
    spec.persistent_volume_reclaim_policy.or_set("Retain");
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    default_source(spec);
}

/// The part that a volume without an object of its own has, too.
pub fn default_source(spec: &mut PersistentVolumeSpec) {
    resource::default(&mut spec.capacity);
    if let Some(path) = &mut spec.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(rbd) = &mut spec.rbd {
        rbd.pool.or_set("rbd");
        rbd.user.or_set("admin");
        rbd.keyring.or_set("/etc/ceph/keyring");
    }
    if let Some(iscsi) = &mut spec.iscsi {
        iscsi.iscsi_interface.or_set("default");
    }
    if let Some(disk) = &mut spec.azure_disk {
        super::default_azure_disk(disk);
    }
    if let Some(io) = &mut spec.scale_io {
        io.storage_mode.or_set("ThinProvisioned");
        io.fs_type.or_set("xfs");
    }
}

pub fn validate(spec: &PersistentVolumeSpec, name: &str, path: &Path, errors: &mut Errors) {
    let modes_path = path.child("accessModes");
    claim::access_modes(spec.access_modes.items(), "", &modes_path, errors);
    claim::known_access_modes(spec.access_modes.items(), &modes_path, errors);
    capacity(spec, &path.child("capacity"), errors);
    let reclaim = spec.persistent_volume_reclaim_policy.text();
    let reclaim_path = path.child("persistentVolumeReclaimPolicy");
    if !reclaim.is_empty() && !RECLAIM_POLICIES.contains(&reclaim) {
        errors.push(Error::not_supported(reclaim_path, reclaim, RECLAIM_POLICIES));
    }
    if let Some(affinity) = &spec.node_affinity {
        let path = path.child("nodeAffinity");
        match &affinity.required {
            None => errors.push(Error::required(path.child("required"), "must specify required node constraints")),
            Some(required) => affinity::node_selector(required, &path.child("required"), errors),
        }
    }
    sources(spec, name, path, errors);
    if spec.host_path.as_ref().is_some_and(|h| is_root(&h.path)) && reclaim == "Recycle" {
        errors.push(Error::forbidden(reclaim_path, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    claim::class_name(spec.storage_class_name.text(), &path.child("storageClassName"), errors);
    claim::volume_mode(spec.volume_mode.as_deref(), &path.child("volumeMode"), errors);
    if let Some(class) = &spec.volume_attributes_class_name {
        let class_path = path.child("volumeAttributesClassName");
        match class.as_str() {
            "" => errors.push(Error::required(class_path, "an empty string is disallowed")),
            class => claim::class_name(class, &class_path, errors),
        }
        if spec.csi.is_none() {
            errors.push(Error::required(path.child("csi"), "has to be specified when using volumeAttributesClassName"));
        }
    }
}

/// The spec of a volume that has no object of its own: a CSI volume, and little beside.
pub fn validate_inline(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    const WHY: &str = "may not be specified in the context of inline volumes";
    if spec.claim_ref.is_some() {
        errors.push(Error::forbidden(path.child("claimRef"), WHY));
    }
    if spec.capacity.as_ref().is_some_and(|capacity| !capacity.is_empty()) {
        errors.push(Error::forbidden(path.child("capacity"), WHY));
    }
    if spec.csi.is_none() {
        errors.push(Error::required(path.child("csi"), "has to be specified in the context of inline volumes"));
    }
    let modes_path = path.child("accessModes");
    claim::access_modes(spec.access_modes.items(), "", &modes_path, errors);
    claim::known_access_modes(spec.access_modes.items(), &modes_path, errors);
    if !["", "Retain"].contains(&spec.persistent_volume_reclaim_policy.text()) {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(Error::forbidden(path.child("persistentVolumeReclaimPolicy"), why));
    }
    if spec.node_affinity.is_some() {
        errors.push(Error::forbidden(path.child("nodeAffinity"), WHY));
    }
    sources(spec, "", path, errors);
    if !spec.storage_class_name.text().is_empty() {
        errors.push(Error::forbidden(path.child("storageClassName"), WHY));
    }
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Error::forbidden(path.child("volumeMode"), why));
    }
}

/// The path cleaned of empty, `.` and `..` parts is the root.
fn is_root(path: &str) -> bool {
    let mut depth = 0usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn capacity(spec: &PersistentVolumeSpec, path: &Path, errors: &mut Errors) {
    let capacity = resource::amounts(spec.capacity.as_ref());
    if capacity.is_empty() {
        errors.push(Error::required(*path, ""));
    }
    if !capacity.contains_key(STORAGE) || capacity.len() > 1 {
        let shown = match &spec.capacity {
            None => "null".to_owned(),
            Some(list) => serde_json::to_string(list).unwrap_or_default(),
        };
        errors.push(Error::not_supported(*path, "", &[STORAGE]).showing(shown));
    }
    for (name, amount) in capacity {
        let path = path.key(&name);
        validate_basic(amount, &path, errors);
        resource::validate_positive(amount, &path, errors);
    }
}

/// A whole amount that is not negative.
pub fn validate_basic(amount: Quantity, path: &Path, errors: &mut Errors) {
    if amount.units() < 0 {
        errors.push(Error::invalid(*path, amount.units(), "must be a valid resource quantity"));
    }
}

fn sources(s: &PersistentVolumeSpec, name: &str, path: &Path, errors: &mut Errors) {
    let mut one = One::new(path);
    one.check(s.host_path.as_ref(), "hostPath", errors, |s, e| source::host_path(s, &path.child("hostPath"), e));
    one.check(s.gce_persistent_disk.as_ref(), "gcePersistentDisk", errors, |s, e| {
        source::disk("pdName", &s.pd_name, s.partition, &path.child("persistentDisk"), e);
    });
    one.check(s.aws_elastic_block_store.as_ref(), "awsElasticBlockStore", errors, |s, e| {
        source::disk("volumeID", &s.volume_id, s.partition, &path.child("awsElasticBlockStore"), e);
    });
    one.check(s.glusterfs.as_ref(), "glusterfs", errors, |s, e| {
        let path = path.child("glusterfs");
        source::required(&path, &[("endpoints", &s.endpoints), ("path", &s.path)], e);
        let namespace_path = path.child("endpointsNamespace");
        match s.endpoints_namespace.as_deref() {
            None => {}
            Some("") => {
                let why = "if the endpointnamespace is set, it must be a valid namespace name";
                e.push(Error::invalid(namespace_path, "", why));
            }
            Some(namespace) => extend(e, namespace_path, namespace, field::dns_label(namespace)),
        }
    });
    one.check(s.flocker.as_ref(), "flocker", errors, |s, e| source::flocker(s, &path.child("flocker"), e));
    one.check(s.nfs.as_ref(), "nfs", errors, |s, e| source::nfs(s, &path.child("nfs"), e));
    one.check(s.rbd.as_ref(), "rbd", errors, |s, e| source::rbd(&s.monitors, &s.image, &path.child("rbd"), e));
    one.check(s.quobyte.as_ref(), "quobyte", errors, |s, e| source::quobyte(s, &path.child("quobyte"), e));
    one.check(s.cephfs.as_ref(), "cephFS", errors, |s, e| source::ceph_fs(&s.monitors, &path.child("cephfs"), e));
    one.check(s.iscsi.as_ref(), "iscsi", errors, |s, e| iscsi(s, name, &path.child("iscsi"), e));
    one.check(s.cinder.as_ref(), "cinder", errors, |s, e| {
        let path = path.child("cinder");
        source::required(&path, &[("volumeID", &s.volume_id)], e);
        if let Some(secret) = &s.secret_ref {
            source::secret_reference(secret.name.text(), secret.namespace.text(), &path, e);
        }
    });
    one.check(s.fc.as_ref(), "fc", errors, |s, e| source::fc(s, &path.child("fc"), e));
    if let Some(flex) = &s.flex_volume {
        one.count += 1;
        source::flex(&flex.driver, flex.options.as_ref(), &path.child("flexVolume"), errors);
    }
    one.check(s.azure_file.as_ref(), "azureFile", errors, |s, e| {
        let path = path.child("azureFile");
        source::required(&path, &[("secretName", &s.secret_name), ("shareName", &s.share_name)], e);
        if s.secret_namespace.as_deref() == Some("") {
            e.push(Error::required(path.child("secretNamespace"), ""));
        }
    });
    one.check(s.vsphere_volume.as_ref(), "vsphereVolume", errors, |s, e| {
        source::required(&path.child("vsphereVolume"), &[("volumePath", &s.volume_path)], e);
    });
    one.check(s.photon_persistent_disk.as_ref(), "photonPersistentDisk", errors, |s, e| {
        source::required(&path.child("photonPersistentDisk"), &[("pdID", &s.pd_id)], e);
    });
    one.check(s.portworx_volume.as_ref(), "portworxVolume", errors, |s, e| {
        source::required(&path.child("portworxVolume"), &[("volumeID", &s.volume_id)], e);
    });
    one.check(s.azure_disk.as_ref(), "azureDisk", errors, |s, e| source::azure_disk(s, &path.child("azureDisk"), e));
    one.check(s.scale_io.as_ref(), "scaleIO", errors, |s, e| {
        let volume = s.volume_name.clone().unwrap_or_default();
        let parts = [("gateway", &s.gateway), ("system", &s.system), ("volumeName", &volume)];
        source::required(&path.child("scaleIO"), &parts, e);
    });
    one.check(s.local.as_ref(), "local", errors, |local, e| {
        let list = path.child("local");
        match local.path.as_str() {
            "" => e.push(Error::required(list.child("path"), "")),
            target => source::no_backsteps(target, &list.child("path"), e),
        }
        if s.node_affinity.is_none() {
            e.push(Error::required(path.child("nodeAffinity"), "Local volume requires node affinity"));
        }
    });
    one.check(s.storageos.as_ref(), "storageos", errors, |s, e| {
        let path = path.child("storageos");
        source::storage_os(s.volume_name.text(), s.volume_namespace.text(), &path, e);
        if let Some(secret) = &s.secret_ref {
            source::secret_reference(secret.name.text(), secret.namespace.text(), &path, e);
        }
    });
    one.check(s.csi.as_ref(), "csi", errors, |s, e| {
        let path = path.child("csi");
        source::csi_driver(&s.driver, &path.child("driver"), e);
        source::required(&path, &[("volumeHandle", &s.volume_handle)], e);
        for (name, secret) in [
            ("controllerPublishSecretRef", &s.controller_publish_secret_ref),
            ("controllerExpandSecretRef", &s.controller_expand_secret_ref),
            ("nodePublishSecretRef", &s.node_publish_secret_ref),
            ("nodeExpandSecretRef", &s.node_expand_secret_ref),
        ] {
            if let Some(secret) = secret {
                secret_reference(secret, &path.child(name), e);
            }
        }
    });
    if one.count == 0 {
        errors.push(Error::required(*path, "must specify a volume type"));
    }
}

fn secret_reference(secret: &SecretReference, path: &Path, errors: &mut Errors) {
    match secret.name.text() {
        "" => errors.push(Error::required(path.child("name"), "")),
        name => extend(errors, path.child("name"), name, field::dns_subdomain(name)),
    }
    match secret.namespace.text() {
        "" => errors.push(Error::required(path.child("namespace"), "")),
        namespace => extend(errors, path.child("namespace"), namespace, field::dns_label(namespace)),
    }
}

fn iscsi(
    iscsi: &k8s_openapi::api::core::v1::ISCSIPersistentVolumeSource,
    name: &str,
    path: &Path,
    errors: &mut Errors,
) {
    source::required(path, &[("targetPortal", &iscsi.target_portal)], errors);
    if iscsi.initiator_name.is_some() && name.len() + 1 + iscsi.target_portal.len() > 64 {
        let portal = iscsi.target_portal.as_str();
        errors.push(Error::invalid(path.child("targetportal"), portal, source::ISCSI_NAME_TOO_LONG));
    }
    let prefix_text = "must be valid format";
    match iscsi.iqn.as_str() {
        "" => errors.push(Error::required(path.child("iqn"), "")),
        iqn => {
            let wrong = source::iscsi_name(iqn, prefix_text);
            errors.extend(wrong.map(|why| Error::invalid(path.child("iqn"), iqn, why)));
        }
    }
    let chap = iscsi.chap_auth_discovery == Some(true) || iscsi.chap_auth_session == Some(true);
    source::iscsi_rest(iscsi.lun, chap, iscsi.secret_ref.is_some(), path, errors);
    source::secret_name(iscsi.secret_ref.as_ref().map(|r| r.name.text()), path, errors);
    source::iscsi_initiator(iscsi.initiator_name.as_deref(), prefix_text, path, errors);
}

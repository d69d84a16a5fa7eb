//! Volumes of a Pod: where each comes from, with defaults and rules.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{AzureDiskVolumeSource, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    pod, resource,
};

pub mod claim;
pub mod persistent;
pub mod projected;
pub mod source;

/// The mode of files that are made from objects, unless another is given: `0644`.
pub const FILE_MODE: i32 = 0o644;

pub fn default(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(image) = &mut volume.image
        && image.pull_policy.text().is_empty()
    {
        image.pull_policy = Some(pod::image::default_pull_policy(image.reference.text()).to_owned());
    }
    if let Some(empty) = &mut volume.empty_dir
        && let Some(limit) = &mut empty.size_limit
        && let Ok(quantity) = limit.0.parse::<crate::quantity::Quantity>()
    {
        *limit = quantity.into();
    }
    if let Some(path) = &mut volume.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(iscsi) = &mut volume.iscsi {
        iscsi.iscsi_interface.or_set("default");
    }
    if let Some(rbd) = &mut volume.rbd {
        rbd.pool.or_set("rbd");
        rbd.user.or_set("admin");
        rbd.keyring.or_set("/etc/ceph/keyring");
    }
    if let Some(disk) = &mut volume.azure_disk {
        default_azure_disk(disk);
    }
    if let Some(io) = &mut volume.scale_io {
        io.storage_mode.or_set("ThinProvisioned");
        io.fs_type.or_set("xfs");
    }
    if let Some(api) = &mut volume.downward_api {
        api.default_mode.get_or_insert(FILE_MODE);
        api.items.iter_mut().flatten().for_each(projected::default_file);
    }
    if let Some(projected) = &mut volume.projected {
        projected::default(projected);
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        claim::default(&mut template.spec);
    }
}

pub fn default_azure_disk(disk: &mut AzureDiskVolumeSource) {
    disk.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
    disk.fs_type.get_or_insert_with(|| "ext4".to_owned());
    disk.read_only.get_or_insert(false);
    disk.kind.get_or_insert_with(|| "Shared".to_owned());
}

/// The volumes that are right, by name; `meta` is the Pod's, and none in a template.
pub fn validate<'a>(
    volumes: &'a [Volume],
    meta: Option<&ObjectMeta>,
    path: &Path,
    errors: &mut Errors,
) -> BTreeMap<&'a str, &'a Volume> {
    let pod_name = meta.map_or("", |m| m.name.text());
    let created: BTreeSet<String> = volumes
        .iter()
        .filter(|v| !pod_name.is_empty() && v.ephemeral.is_some())
        .map(|v| format!("{pod_name}-{}", v.name))
        .collect();
    let mut right = BTreeMap::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.index(i);
        let before = errors.len();
        validate_source(volume, meta, &path, errors);
        let name_path = path.child("name");
        match volume.name.as_str() {
            "" => errors.push(Error::required(name_path, "")),
            name => extend(errors, name_path, name, field::dns_label(name)),
        }
        if right.contains_key(volume.name.as_str()) {
            errors.push(Error::duplicate(name_path, volume.name.as_str()));
        }
        if errors.len() == before {
            right.insert(volume.name.as_str(), volume);
        }
        if let Some(claim) = volume.persistent_volume_claim.as_ref().filter(|c| created.contains(&c.claim_name)) {
            let list = path.child("persistentVolumeClaim");
            errors.push(Error::invalid(
                list.child("claimName"),
                claim.claim_name.as_str(),
                "must not reference a PVC that gets created for an ephemeral volume",
            ));
        }
    }
    right
}

/// Counts the sources of a volume: the second one is refused and not looked at.
pub struct One<'a> {
    path: &'a Path<'a>,
    pub count: usize,
}

impl<'a> One<'a> {
    pub fn new(path: &'a Path<'a>) -> Self {
        Self { path, count: 0 }
    }

    pub fn check<S>(
        &mut self,
        source: Option<&S>,
        name: &str,
        errors: &mut Errors,
        validate: impl FnOnce(&S, &mut Errors),
    ) {
        let Some(source) = source else {
            return;
        };
        if self.count > 0 {
            errors.push(Error::forbidden(self.path.child(name), "may not specify more than 1 volume type"));
            return;
        }
        self.count += 1;
        validate(source, errors);
    }
}

fn validate_source(v: &Volume, meta: Option<&ObjectMeta>, path: &Path, errors: &mut Errors) {
    let mut one = One::new(path);
    if let Some(empty) = &v.empty_dir {
        one.count += 1;
        if crate::quantity::Quantity::of(empty.size_limit.as_ref()).is_negative() {
            let list = path.child("emptyDir");
            errors.push(Error::forbidden(list.child("sizeLimit"), "SizeLimit field must be a valid resource quantity"));
        }
    }
    one.check(v.host_path.as_ref(), "hostPath", errors, |s, e| source::host_path(s, &path.child("hostPath"), e));
    one.check(v.git_repo.as_ref(), "gitRepo", errors, |s, e| {
        let path = path.child("gitRepo");
        source::required(&path, &[("repository", &s.repository)], e);
        source::relative_path(s.directory.text(), &path.child("directory"), e);
    });
    one.check(v.gce_persistent_disk.as_ref(), "gcePersistentDisk", errors, |s, e| {
        source::disk("pdName", &s.pd_name, s.partition, &path.child("persistentDisk"), e);
    });
    one.check(v.aws_elastic_block_store.as_ref(), "awsElasticBlockStore", errors, |s, e| {
        source::disk("volumeID", &s.volume_id, s.partition, &path.child("awsElasticBlockStore"), e);
    });
    one.check(v.secret.as_ref(), "secret", errors, |s, e| {
        let path = path.child("secret");
        projected::files_of("secretName", s.secret_name.text(), s.default_mode, s.items.items(), &path, e);
    });
    one.check(v.nfs.as_ref(), "nfs", errors, |s, e| source::nfs(s, &path.child("nfs"), e));
    if let Some(s) = &v.iscsi {
        one.check(Some(s), "iscsi", errors, |s, e| source::iscsi(s, &path.child("iscsi"), e));
        if s.initiator_name.is_some() && v.name.len() + 1 + s.target_portal.len() > 64 {
            errors.push(Error::invalid(path.child("name"), v.name.as_str(), source::ISCSI_NAME_TOO_LONG));
        }
    }
    one.check(v.glusterfs.as_ref(), "glusterfs", errors, |s, e| {
        source::required(&path.child("glusterfs"), &[("endpoints", &s.endpoints), ("path", &s.path)], e);
    });
    one.check(v.flocker.as_ref(), "flocker", errors, |s, e| source::flocker(s, &path.child("flocker"), e));
    one.check(v.persistent_volume_claim.as_ref(), "persistentVolumeClaim", errors, |s, e| {
        source::required(&path.child("persistentVolumeClaim"), &[("claimName", &s.claim_name)], e);
    });
    one.check(v.rbd.as_ref(), "rbd", errors, |s, e| {
        source::rbd(&s.monitors, &s.image, &path.child("rbd"), e);
    });
    one.check(v.cinder.as_ref(), "cinder", errors, |s, e| {
        let path = path.child("cinder");
        source::required(&path, &[("volumeID", &s.volume_id)], e);
        source::secret_name(s.secret_ref.as_ref().map(|r| r.name.as_str()), &path, e);
    });
    one.check(v.cephfs.as_ref(), "cephFS", errors, |s, e| source::ceph_fs(&s.monitors, &path.child("cephfs"), e));
    one.check(v.quobyte.as_ref(), "quobyte", errors, |s, e| source::quobyte(s, &path.child("quobyte"), e));
    one.check(v.downward_api.as_ref(), "downwarAPI", errors, |s, e| {
        projected::downward_api(s, &path.child("downwardAPI"), e);
    });
    one.check(v.fc.as_ref(), "fc", errors, |s, e| source::fc(s, &path.child("fc"), e));
    one.check(v.flex_volume.as_ref(), "flexVolume", errors, |s, e| {
        source::flex(&s.driver, s.options.as_ref(), &path.child("flexVolume"), e);
    });
    one.check(v.config_map.as_ref(), "configMap", errors, |s, e| {
        projected::files_of("name", &s.name, s.default_mode, s.items.items(), &path.child("configMap"), e);
    });
    one.check(v.azure_file.as_ref(), "azureFile", errors, |s, e| {
        source::required(&path.child("azureFile"), &[("secretName", &s.secret_name), ("shareName", &s.share_name)], e);
    });
    one.check(v.vsphere_volume.as_ref(), "vsphereVolume", errors, |s, e| {
        source::required(&path.child("vsphereVolume"), &[("volumePath", &s.volume_path)], e);
    });
    one.check(v.photon_persistent_disk.as_ref(), "photonPersistentDisk", errors, |s, e| {
        source::required(&path.child("photonPersistentDisk"), &[("pdID", &s.pd_id)], e);
    });
    one.check(v.portworx_volume.as_ref(), "portworxVolume", errors, |s, e| {
        source::required(&path.child("portworxVolume"), &[("volumeID", &s.volume_id)], e);
    });
    one.check(v.azure_disk.as_ref(), "azureDisk", errors, |s, e| source::azure_disk(s, &path.child("azureDisk"), e));
    one.check(v.storageos.as_ref(), "storageos", errors, |s, e| {
        let path = path.child("storageos");
        source::storage_os(s.volume_name.text(), s.volume_namespace.text(), &path, e);
        source::secret_name(s.secret_ref.as_ref().map(|r| r.name.as_str()), &path, e);
    });
    one.check(v.projected.as_ref(), "projected", errors, |s, e| projected::validate(s, &path.child("projected"), e));
    one.check(v.scale_io.as_ref(), "scaleIO", errors, |s, e| {
        let volume = s.volume_name.clone().unwrap_or_default();
        let parts = [("gateway", &s.gateway), ("system", &s.system), ("volumeName", &volume)];
        source::required(&path.child("scaleIO"), &parts, e);
    });
    one.check(v.csi.as_ref(), "csi", errors, |s, e| source::csi(s, &path.child("csi"), e));
    one.check(v.ephemeral.as_ref(), "ephemeral", errors, |s, e| {
        let list = path.child("ephemeral");
        match &s.volume_claim_template {
            None => e.push(Error::required(list.child("volumeClaimTemplate"), "")),
            Some(template) => claim::template(template, &list.child("volumeClaimTemplate"), e),
        }
        let pod_name = meta.map_or("", |m| m.name.text());
        if !pod_name.is_empty() && !v.name.is_empty() {
            let claim = format!("{pod_name}-{}", v.name);
            let wrong = field::dns_subdomain(&claim).into_iter().map(|w| format!("PVC name {claim:?}: {w}")).collect();
            extend(e, path.child("name"), &v.name, wrong);
        }
    });
    one.check(v.image.as_ref(), "image", errors, |s, e| {
        let path = path.child("image");
        if meta.is_some() {
            source::required(&path, &[("reference", &s.reference.clone().unwrap_or_default())], e);
        }
        pod::validate::pull_policy(s.pull_policy.text(), &path.child("pullPolicy"), e);
    });
    if one.count == 0 {
        errors.push(Error::required(*path, "must specify a volume type"));
    }
}

/// The size that a claim asks for, or a volume has.
pub fn storage(list: Option<&resource::Written>) -> crate::quantity::Quantity {
    crate::quantity::Quantity::of(list.and_then(|l| l.get(resource::STORAGE)))
}

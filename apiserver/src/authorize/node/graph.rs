//! Which objects the pods of a node refer to, kept up with every change.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::{
    certificates::v1beta1::PodCertificateRequest,
    core::v1::{Container, EnvFromSource, EnvVar, PersistentVolume, Pod, PodSpec, Volume},
    resource::v1::ResourceSlice,
    storage::v1::VolumeAttachment,
};
use serde::Deserialize;

use crate::authorize::Change;

const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pod,
    Secret,
    ConfigMap,
    ServiceAccount,
    /// A PersistentVolumeClaim.
    Claim,
    /// A PersistentVolume.
    Volume,
    ResourceClaim,
    Attachment,
    Slice,
    /// A PodCertificateRequest.
    PodCertificate,
}

/// Kind, namespace, name.
type Key = (Kind, String, String);

#[derive(Default)]
pub struct Graph {
    /// What each pod, attachment, slice and request refers to, and on which node.
    sources: HashMap<Key, (String, HashSet<Key>)>,
    /// How many sources of a node refer to an object.
    referrers: HashMap<Key, HashMap<String, usize>>,
    /// The claim that a volume is bound to, and the secrets that it needs.
    volumes: HashMap<String, (Key, HashSet<Key>)>,
    /// The volumes that need a secret.
    secret_volumes: HashMap<Key, HashSet<String>>,
}

impl Graph {
    pub fn observe(&mut self, change: &Change) -> Result<(), serde_json::Error> {
        let key = |kind| (kind, change.namespace.to_owned(), change.name.to_owned());
        let Some(object) = change.object else {
            match change.resource {
                "pods" => self.remove(&key(Kind::Pod)),
                "volumeattachments" => self.remove(&key(Kind::Attachment)),
                "resourceslices" => self.remove(&key(Kind::Slice)),
                "podcertificaterequests" => self.remove(&key(Kind::PodCertificate)),
                "persistentvolumes" => self.remove_volume(change.name),
                _ => {}
            }
            return Ok(());
        };
        match change.resource {
            "pods" => {
                let pod = Pod::deserialize(object)?;
                let node = pod.spec.as_ref().and_then(|s| s.node_name.clone());
                self.put(key(Kind::Pod), node, references(change.namespace, &pod));
            }
            "volumeattachments" => {
                let node = VolumeAttachment::deserialize(object)?.spec.node_name;
                self.put(key(Kind::Attachment), Some(node), HashSet::new());
            }
            "resourceslices" => {
                let node = ResourceSlice::deserialize(object)?.spec.node_name;
                self.put(key(Kind::Slice), node, HashSet::new());
            }
            "podcertificaterequests" => {
                let node = PodCertificateRequest::deserialize(object)?.spec.node_name;
                self.put(key(Kind::PodCertificate), Some(node), HashSet::new());
            }
            "persistentvolumes" => self.put_volume(change.name, &PersistentVolume::deserialize(object)?),
            _ => {}
        }
        Ok(())
    }

    /// Whether something on the node refers to the object, directly or through a claim and its volume.
    pub fn relates(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let volume = |name: &String| self.volumes.get(name).is_some_and(|(claim, _)| self.refers(claim, node));
        match kind {
            Kind::Volume => volume(&key.2),
            Kind::Secret if !self.refers(&key, node) => {
                self.secret_volumes.get(&key).is_some_and(|volumes| volumes.iter().any(volume))
            }
            _ => self.refers(&key, node),
        }
    }

    fn refers(&self, key: &Key, node: &str) -> bool {
        self.referrers.get(key).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn put(&mut self, source: Key, node: Option<String>, mut references: HashSet<Key>) {
        let node = node.filter(|n| !n.is_empty());
        references.insert(source.clone());
        if let (Some((old_node, old)), Some(node)) = (self.sources.get(&source), &node)
            && old_node == node
            && *old == references
        {
            return;
        }
        self.remove(&source);
        let Some(node) = node else { return };
        for key in &references {
            *self.referrers.entry(key.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.sources.insert(source, (node, references));
    }

    fn remove(&mut self, source: &Key) {
        let Some((node, references)) = self.sources.remove(source) else { return };
        for key in references {
            let Some(nodes) = self.referrers.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.referrers.remove(&key);
            }
        }
    }

    fn put_volume(&mut self, name: &str, volume: &PersistentVolume) {
        self.remove_volume(name);
        let Some(claim) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return };
        let namespace = claim.namespace.clone().unwrap_or_default();
        let secrets = volume_secrets(&namespace, volume);
        for secret in &secrets {
            self.secret_volumes.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        let claim = (Kind::Claim, namespace, claim.name.clone().unwrap_or_default());
        self.volumes.insert(name.to_owned(), (claim, secrets));
    }

    fn remove_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else { return };
        for secret in secrets {
            let Some(volumes) = self.secret_volumes.get_mut(&secret) else { continue };
            volumes.remove(name);
            if volumes.is_empty() {
                self.secret_volumes.remove(&secret);
            }
        }
    }
}

fn references(namespace: &str, pod: &Pod) -> HashSet<Key> {
    let mut found = Vec::new();
    // A node writes its mirror pods itself: they must not open anything to it.
    let mirror = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR));
    if let Some(spec) = pod.spec.as_ref().filter(|_| !mirror) {
        found.extend(spec.service_account_name.clone().map(|name| (Kind::ServiceAccount, name)));
        let pull = spec.image_pull_secrets.iter().flatten();
        found.extend(pull.map(|reference| (Kind::Secret, reference.name.clone())));
        environment(spec, &mut found);
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        spec.volumes.iter().flatten().for_each(|volume| volume_references(pod_name, volume, &mut found));
        resource_claims(pod, spec, &mut found);
    }
    found
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(kind, name)| (kind, namespace.to_owned(), name))
        .collect()
}

fn environment(spec: &PodSpec, found: &mut Vec<(Kind, String)>) {
    let of = |c: &Container| (c.env.clone(), c.env_from.clone());
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers).map(of);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (c.env.clone(), c.env_from.clone()));
    for (env, env_from) in containers.chain(ephemeral) {
        env.iter().flatten().for_each(|variable| variable_reference(variable, found));
        env_from.iter().flatten().for_each(|source| source_reference(source, found));
    }
}

fn variable_reference(variable: &EnvVar, found: &mut Vec<(Kind, String)>) {
    let Some(from) = &variable.value_from else { return };
    found.extend(from.secret_key_ref.as_ref().map(|r| (Kind::Secret, r.name.clone())));
    found.extend(from.config_map_key_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.clone())));
}

fn source_reference(source: &EnvFromSource, found: &mut Vec<(Kind, String)>) {
    found.extend(source.secret_ref.as_ref().map(|r| (Kind::Secret, r.name.clone())));
    found.extend(source.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, r.name.clone())));
}

fn volume_references(pod: &str, volume: &Volume, found: &mut Vec<(Kind, String)>) {
    let local = [
        volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|v| &v.secret_ref),
        volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref()),
    ];
    found.extend(local.into_iter().flatten().map(|r| (Kind::Secret, r.name.clone())));
    found.extend(volume.azure_file.as_ref().map(|v| (Kind::Secret, v.secret_name.clone())));
    found.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()).map(|name| (Kind::Secret, name)));
    found.extend(volume.config_map.as_ref().map(|v| (Kind::ConfigMap, v.name.clone())));
    for source in volume.projected.iter().flat_map(|v| v.sources.iter().flatten()) {
        found.extend(source.secret.as_ref().map(|s| (Kind::Secret, s.name.clone())));
        found.extend(source.config_map.as_ref().map(|c| (Kind::ConfigMap, c.name.clone())));
    }
    found.extend(volume.persistent_volume_claim.as_ref().map(|v| (Kind::Claim, v.claim_name.clone())));
    found.extend(volume.ephemeral.as_ref().map(|_| (Kind::Claim, format!("{pod}-{}", volume.name))));
}

fn resource_claims(pod: &Pod, spec: &PodSpec, found: &mut Vec<(Kind, String)>) {
    let status = pod.status.as_ref();
    let made = || status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    for claim in spec.resource_claims.iter().flatten() {
        let name = claim
            .resource_claim_name
            .clone()
            .or_else(|| made().find(|s| s.name == claim.name).and_then(|s| s.resource_claim_name.clone()));
        found.extend(name.map(|name| (Kind::ResourceClaim, name)));
    }
    let extended = status.and_then(|s| s.extended_resource_claim_status.as_ref());
    found.extend(extended.map(|s| (Kind::ResourceClaim, s.resource_claim_name.clone())));
}

/// The secrets that a kubelet needs to mount the volume; those of a CSI controller are not its business.
fn volume_secrets(claim_namespace: &str, volume: &PersistentVolume) -> HashSet<Key> {
    let Some(spec) = &volume.spec else { return HashSet::new() };
    let beside_claim = [
        spec.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
        spec.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()),
        spec.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
        spec.scale_io.as_ref().map(|v| &v.secret_ref),
        spec.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
    ];
    let elsewhere = [
        spec.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
        spec.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref()),
        spec.csi.as_ref().and_then(|v| v.node_stage_secret_ref.as_ref()),
        spec.csi.as_ref().and_then(|v| v.node_expand_secret_ref.as_ref()),
    ];
    let or_beside = |namespace: &Option<String>| {
        namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| claim_namespace.to_owned())
    };
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let mut found = Vec::new();
    found.extend(beside_claim.into_iter().flatten().map(|r| (or_beside(&r.namespace), name(&r.name))));
    found.extend(spec.azure_file.as_ref().map(|v| (or_beside(&v.secret_namespace), v.secret_name.clone())));
    let given = |namespace: &Option<String>| namespace.clone().unwrap_or_default();
    found.extend(elsewhere.into_iter().flatten().map(|r| (given(&r.namespace), name(&r.name))));
    let storage_os = spec.storageos.as_ref().and_then(|v| v.secret_ref.as_ref());
    found.extend(storage_os.map(|r| (given(&r.namespace), name(&r.name))));
    found
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(namespace, name)| (Kind::Secret, namespace, name))
        .collect()
}

//! The volume claims of a StatefulSet's pods, and who is to take them along.

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::identity;
use crate::runtime::object::{name, uid};

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(&template.metadata), name(&set.metadata))
}

/// The claims of one ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.labels.get_or_insert_default().extend(selected.clone());
        claim.status = None;
        claim
    };
    templates(set).iter().map(claim).collect()
}

/// Gives a pod the volumes of its ordinal, in place of those of the same names.
pub fn mount(set: &StatefulSet, ordinal: i32, spec: &mut PodSpec) {
    let claimed = templates(set).iter().map(|template| Volume {
        name: name(&template.metadata).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    });
    let mut volumes: Vec<Volume> = claimed.collect();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(others.into_iter().filter(|v| !templates(set).iter().any(|t| name(&t.metadata) == v.name)));
    spec.volumes = Some(volumes).filter(|v| !v.is_empty());
}

fn is_controller_of<K: Resource>(reference: &OwnerReference, meta: &ObjectMeta) -> bool {
    reference.kind == K::KIND && reference.api_version == K::API_VERSION && reference.name == name(meta)
}

/// The owners that a claim should have by the set's retention policy; none if it has them.
pub fn retained_by(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    in_range: bool,
) -> Option<Vec<OwnerReference>> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let ours = |r: &OwnerReference| {
        is_controller_of::<StatefulSet>(r, &set.metadata) || is_controller_of::<Pod>(r, &pod.metadata)
    };
    let mut after: Vec<OwnerReference> = before.iter().filter(|r| !ours(r)).cloned().collect();
    // Somebody else manages the claim: it is not ours to delete.
    if !after.iter().any(|r| r.controller == Some(true)) {
        let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.clone());
        let deletes = |when: Option<String>| when.as_deref() == Some("Delete");
        let (scaled, deleted) = policy.map_or((false, false), |p| (deletes(p.when_scaled), deletes(p.when_deleted)));
        if scaled && !in_range {
            after.push(reference::<Pod>(&pod.metadata));
        } else if deleted {
            after.push(reference::<StatefulSet>(&set.metadata));
        }
    }
    (after != before).then_some(after)
}

fn reference<K: Resource>(meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: name(meta).to_owned(),
        uid: uid(meta).to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Whether a pod has the volumes of its ordinal.
pub fn is_mounted(set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = identity::ordinal(name(&set.metadata), pod) else {
        return false;
    };
    templates(set).iter().all(|template| {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let mut of_name = volumes.filter(|v| v.name == name(&template.metadata));
        of_name.any(|v| {
            v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == claim_name(set, template, ordinal))
        })
    })
}

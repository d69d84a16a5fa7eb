//! What a claim is bound to.

use std::sync::Arc;

use crds::{quantity::Quantity, selector::Selector};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};

use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, ObservedClaim, SELECTED_NODE, is_of};
use crate::{
    plan::{Event, Plan, Write},
    runtime::object::{annotation, name, reference},
};

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&claim.metadata, OLD_CLASS).or(class).unwrap_or_default()
}

pub fn plan(seen: &ObservedClaim) -> Plan {
    let claim = &*seen.claim;
    if claim.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|n| !n.is_empty());
    let Some(wanted) = wanted else {
        return search(seen);
    };
    match seen.volumes.iter().find(|v| name(&v.metadata) == wanted) {
        Some(volume) if is_of(volume, claim) => bind(claim, volume),
        Some(volume) if is_free(volume) => bind(claim, volume),
        Some(_) if annotation(&claim.metadata, BIND_COMPLETED).is_none() => phase(claim, "Pending"),
        None if annotation(&claim.metadata, BIND_COMPLETED).is_none() => phase(claim, "Pending"),
        lost => {
            let (reason, message) = match lost {
                None => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
                Some(_) => ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
            };
            let plan = phase(claim, "Lost");
            match plan.is_empty() {
                true => plan,
                false => plan.tell(Event::warning(reference(claim), reason, message)),
            }
        }
    }
}

/// Looks for the smallest volume that will do.
fn search(seen: &ObservedClaim) -> Plan {
    let claim = &*seen.claim;
    let own = seen.volumes.iter().find(|v| is_of(v, claim) && v.metadata.deletion_timestamp.is_none());
    if let Some(volume) = own {
        return bind(claim, volume);
    }
    let waits = seen.class.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if waits && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        let message = "waiting for first consumer to be created before binding";
        return phase(claim, "Pending").tell(Event::normal(reference(claim), "WaitForFirstConsumer", message));
    }
    let fitting = seen.volumes.iter().filter(|v| is_free(v) && fits(v, claim));
    if let Some(volume) = fitting.min_by_key(|v| (capacity(v).nanos(), v.metadata.name.clone())) {
        return bind(claim, volume);
    }
    let event = match &seen.class {
        None if class_of(claim).is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            Event::normal(reference(claim), "FailedBinding", message)
        }
        None => {
            let message = format!("storageclass.storage.k8s.io {:?} not found", class_of(claim));
            Event::warning(reference(claim), "ProvisioningFailed", message)
        }
        Some(class) => {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
                class.provisioner
            );
            Event::normal(reference(claim), "ExternalProvisioning", message)
        }
    };
    let pending = phase(claim, "Pending");
    // The status first: each of the two writes changes the version that the other one needs.
    let asking = if pending.steps.is_empty() { ask_provisioner(seen) } else { Vec::new() };
    pending.together(asking).tell(event)
}

/// Tells an external provisioner that it is meant.
fn ask_provisioner(seen: &ObservedClaim) -> Vec<Write> {
    const PROVISIONERS: [&str; 2] =
        ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
    let Some(class) = seen.class.as_ref().filter(|c| c.provisioner != "kubernetes.io/no-provisioner") else {
        return Vec::new();
    };
    let asked = |key: &str| annotation(&seen.claim.metadata, key) == Some(class.provisioner.as_str());
    if PROVISIONERS.iter().all(|key| asked(key)) {
        return Vec::new();
    }
    let mut claim = PersistentVolumeClaim::clone(&seen.claim);
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.extend(PROVISIONERS.iter().map(|key| ((*key).to_owned(), class.provisioner.clone())));
    vec![Write::update(&claim)]
}

fn is_free(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none()) && volume.metadata.deletion_timestamp.is_none()
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    Quantity::of(capacity.and_then(|c| c.get("storage")))
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(have), Some(want)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let modes = have.access_modes.as_deref().unwrap_or_default();
    let requested = want.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage"));
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let old_class = annotation(&volume.metadata, OLD_CLASS);
    let class = old_class.or(have.storage_class_name.as_deref()).unwrap_or_default();
    want.access_modes.iter().flatten().all(|m| modes.contains(m))
        && Quantity::of(requested).nanos() <= capacity(volume).nanos()
        && class == class_of(claim)
        && mode(&have.volume_mode) == mode(&want.volume_mode)
        && want.selector.as_ref().is_none_or(|s| Selector::from_object(Some(s)).matches(&labels))
        && have.volume_attributes_class_name == want.volume_attributes_class_name
}

/// The steps of a binding, each only if it is still to be made: the volume first, so that nobody else takes it.
fn bind(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Plan {
    let mut plan = Plan::default();
    let spec = volume.spec.clone().unwrap_or_default();
    let complete = spec.claim_ref.as_ref().is_some_and(|r| r.uid == claim.metadata.uid);
    if !complete {
        let mut taken = PersistentVolume::clone(volume);
        if spec.claim_ref.is_none() {
            let annotations = taken.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        taken.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        plan = plan.then(Write::update(&taken));
    }
    let given = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|n| !n.is_empty());
    if given.is_none() || annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        let mut bound = claim.clone();
        let annotations = bound.metadata.annotations.get_or_insert_default();
        if given.is_none() {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        bound.spec.get_or_insert_default().volume_name.clone_from(&volume.metadata.name);
        // The claim's status follows once this is seen.
        return plan.then(Write::update(&bound));
    }
    let before = claim.status.clone().unwrap_or_default();
    let status = PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: spec.access_modes,
        // A claim that grows keeps telling what it had until its volume is as large.
        capacity: before.capacity.clone().filter(|c| !c.is_empty()).or(spec.capacity),
        ..before.clone()
    };
    match status == before {
        true => plan,
        false => plan.then(Write::status(&PersistentVolumeClaim { status: Some(status), ..claim.clone() })),
    }
}

fn phase(claim: &PersistentVolumeClaim, phase: &str) -> Plan {
    let mut updated = claim.clone();
    let status = updated.status.get_or_insert_default();
    if status.phase.as_deref() == Some(phase) {
        return Plan::default();
    }
    status.phase = Some(phase.to_owned());
    Plan::of(Write::status(&updated))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::storage::v1::StorageClass;
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, class: &str) -> Arc<PersistentVolume> {
        let volume = json!({"metadata": {"name": name, "uid": name}, "spec": {"capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"], "storageClassName": class}});
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    fn claim(spec: Value) -> Arc<PersistentVolumeClaim> {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}, "storageClassName": "fast"}});
        claim["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Arc::new(serde_json::from_value(claim).unwrap())
    }

    fn text(plan: &Plan) -> Vec<String> {
        let write = |w: &Write| format!("{} {} {}", w.resource.kind, w.name, w.subresource).trim_end().to_owned();
        plan.writes().map(write).collect()
    }

    #[test]
    fn the_smallest_that_fits() {
        let volumes = || {
            vec![
                volume("large", "20Gi", "fast"),
                volume("fits", "10Gi", "fast"),
                volume("small", "1Gi", "fast"),
                volume("slow", "6Gi", "slow"),
            ]
        };
        for (spec, want) in [
            (json!({}), &["PersistentVolume fits", "PersistentVolumeClaim c"][..]),
            (json!({"storageClassName": "slow"}), &["PersistentVolume slow", "PersistentVolumeClaim c"]),
            (json!({"accessModes": ["ReadWriteMany"]}), &["PersistentVolumeClaim c status"]),
            (json!({"volumeName": "large"}), &["PersistentVolume large", "PersistentVolumeClaim c"]),
        ] {
            let seen = ObservedClaim { claim: claim(spec.clone()), volumes: volumes(), class: None };
            assert_eq!(text(&plan(&seen)), want, "{spec}");
        }
    }

    #[test]
    fn waits_for_its_first_consumer() {
        let class: StorageClass = serde_json::from_value(
            json!({"metadata": {"name": "fast"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"}),
        )
        .unwrap();
        let mut seen = ObservedClaim {
            claim: claim(json!({})),
            volumes: vec![volume("fits", "10Gi", "fast")],
            class: Some(Arc::new(class)),
        };
        assert_eq!(text(&plan(&seen)), ["PersistentVolumeClaim c status"]);
        Arc::make_mut(&mut seen.claim).metadata.annotations = Some([(SELECTED_NODE.to_owned(), "n".to_owned())].into());
        assert_eq!(text(&plan(&seen)).len(), 2);
    }

    #[test]
    fn bound_in_steps_and_lost() {
        let mut seen =
            ObservedClaim { claim: claim(json!({})), volumes: vec![volume("v", "10Gi", "fast")], class: None };
        for write in plan(&seen).writes() {
            let body = write.body().unwrap().clone();
            match &*write.resource.kind {
                "PersistentVolume" => seen.volumes = vec![Arc::new(serde_json::from_value(body).unwrap())],
                _ => seen.claim = Arc::new(serde_json::from_value(body).unwrap()),
            }
        }
        let told = plan(&seen);
        assert_eq!(told.writes().next().unwrap().body().unwrap()["status"]["phase"], "Bound");
        seen.volumes.clear();
        assert_eq!(plan(&seen).writes().next().unwrap().body().unwrap()["status"]["phase"], "Lost");
    }
}

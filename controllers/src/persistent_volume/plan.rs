//! The phase of a volume.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{ObservedVolume, is_of};
use crate::{
    plan::{Event, Plan, Write},
    runtime::object::reference,
};

pub fn plan(seen: &ObservedVolume) -> Plan {
    let volume = &*seen.volume;
    let spec = volume.spec.clone().unwrap_or_default();
    let Some(claimed_by) = spec.claim_ref else {
        return set_phase(volume, "Available", None);
    };
    // Set aside for a claim that is not there, or not bound yet.
    if claimed_by.uid.as_deref().is_none_or(str::is_empty) {
        return set_phase(volume, "Available", None);
    }
    if let Some(claim) = seen.claim.as_ref().filter(|c| is_of(volume, c)) {
        let taken = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        return match taken == volume.metadata.name.as_deref() {
            true => set_phase(volume, "Bound", None),
            false => Plan::default(),
        };
    }
    if volume.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    match spec.persistent_volume_reclaim_policy.as_deref() {
        // A driver's own provisioner sees to the deletion of what it made.
        Some("Delete") if spec.csi.is_none() => {
            let message = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
            set_phase(volume, "Failed", Some(message))
        }
        _ => set_phase(volume, "Released", None),
    }
}

fn set_phase(volume: &PersistentVolume, phase: &str, failure: Option<&str>) -> Plan {
    let mut updated = volume.clone();
    let status = updated.status.get_or_insert_default();
    if status.phase.as_deref() == Some(phase) {
        return Plan::default();
    }
    status.phase = Some(phase.to_owned());
    status.message = failure.map(str::to_owned);
    let plan = Plan::of(Write::status(&updated));
    match failure {
        Some(message) => plan.tell(Event::warning(reference(volume), "VolumeFailedDelete", message)),
        None => plan,
    }
}

//! VolumeBinding: a pod waits for the claims of its volumes.

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal},
    snapshot::{Claim, Pod, Snapshot},
};

pub struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        for (claim, ephemeral) in claims(pod) {
            let reason = match snapshot.claims.get(&(pod.namespace.clone(), claim.clone())) {
                Some(Claim::Bound | Claim::WaitsForPod) => continue,
                Some(Claim::Unbound) => "pod has unbound immediate PersistentVolumeClaims".to_owned(),
                Some(Claim::Deleting) => format!("persistentvolumeclaim \"{claim}\" is being deleted"),
                None if ephemeral => {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{claim}\"")
                }
                None => format!("persistentvolumeclaim \"{claim}\" not found"),
            };
            return Err(Refusal::for_good(self.name(), reason));
        }
        Ok(None)
    }

    fn may_help(&self, _: &Pod, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::Other | ClusterEvent::NodeAdded(_) | ClusterEvent::NodeChanged(..))
    }
}

/// The names of a pod's claims, and whether they are made for it.
fn claims(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let volumes = pod.spec().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{}-{}", pod.name, volume.name), true)),
        _ => None,
    })
}

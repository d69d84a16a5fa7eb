//! Makes the claims of pods' generic ephemeral volumes.

use std::sync::Arc;

use crds::owner;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    plan::{Event, Plan, Write},
    pod,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub pod: Arc<Pod>,
    /// The claims that there are under the names of the pod's volumes.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

#[derive(Default)]
pub struct EphemeralVolumeController;

impl Controller for EphemeralVolumeController {
    const NAME: &'static str = "ephemeral-volume";
    const ACCOUNT: &'static str = "ephemeral-volume-controller";
    const COMPONENT: &'static str = "ephemeral_volume";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.map::<Pod>(|_, change| {
            let ephemeral = |p: &&Arc<Pod>| volumes(p).next().is_some() && pod::is_active(p);
            change.new.filter(ephemeral).map(|p| Key::of(&p.metadata)).into_iter().collect()
        });
        wiring.owned::<PersistentVolumeClaim, Pod>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(pod) = view.caches.get::<Pod>().get(key).filter(|p| pod::is_active(p)) else {
            return Ok(None);
        };
        let cache = view.caches.get::<PersistentVolumeClaim>();
        let claims = volumes(&pod).filter_map(|v| cache.find(&key.namespace, &claim_name(&pod, &v.name)));
        let claims = claims.collect();
        Ok(Some(Observed { pod, claims }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let (pod, meta) = (&*seen.pod, &seen.pod.metadata);
        let mut plan = Plan::default();
        for volume in volumes(pod) {
            let name = claim_name(pod, &volume.name);
            let about = object::reference(pod);
            match seen.claims.iter().find(|c| object::name(&c.metadata) == name) {
                Some(claim) if owner::is_controlled_by(&claim.metadata, object::uid(meta)) => {}
                Some(_) => {
                    let message = format!(
                        "PVC {:?} was not created for pod {:?} (pod is not owner)",
                        format!("{}/{name}", object::namespace(meta)),
                        format!("{}/{}", object::namespace(meta), object::name(meta)),
                    );
                    plan = plan.tell(Event::warning(about, "EphemeralVolumeConflict", message));
                }
                None => {
                    let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.clone());
                    let template = template.unwrap_or_default();
                    let shape = template.metadata.unwrap_or_default();
                    let claim = PersistentVolumeClaim {
                        metadata: ObjectMeta {
                            name: Some(name),
                            namespace: meta.namespace.clone(),
                            labels: shape.labels,
                            annotations: shape.annotations,
                            owner_references: Some(vec![owner::controller_reference::<Pod>(meta)]),
                            ..ObjectMeta::default()
                        },
                        spec: Some(template.spec),
                        status: None,
                    };
                    let failed = Event::warning(about, "FailedCreate", "Error creating claim: {error}");
                    plan = plan.then(Write::create(&claim).told_failed(failed));
                }
            }
        }
        plan
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Volume> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter(|v| v.ephemeral.as_ref().is_some_and(|e| e.volume_claim_template.is_some()))
}

fn claim_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", object::name(&pod.metadata))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_for_each_volume() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}}))
        .unwrap();
        let mut seen = Observed { pod: Arc::new(pod), claims: Vec::new() };
        let made = EphemeralVolumeController.plan(&seen).writes().next().unwrap().body().unwrap().clone();
        assert_eq!(made["metadata"]["name"], "p-v");
        let claim: PersistentVolumeClaim = serde_json::from_value(made).unwrap();
        seen.claims = vec![Arc::new(claim.clone())];
        assert!(EphemeralVolumeController.plan(&seen).is_empty());
        let foreign =
            PersistentVolumeClaim { metadata: ObjectMeta { owner_references: None, ..claim.metadata }, ..claim };
        seen.claims = vec![Arc::new(foreign)];
        assert_eq!(EphemeralVolumeController.plan(&seen).events[0].reason, "EphemeralVolumeConflict");
    }
}

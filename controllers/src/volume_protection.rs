//! Keeps volumes, claims, and classes of their attributes that are deleted while in use, until they are in use no more.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::VolumeAttributesClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    plan::{Plan, Write},
    pod,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key, has_finalizer},
        server::Error,
    },
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";

/// An object and whether something uses it.
#[derive(Debug)]
pub struct Observed<T> {
    pub object: Arc<T>,
    pub used: bool,
}

fn plan<T: crds::kind::Kind>(seen: &Observed<T>, finalizer: &str) -> Plan {
    let meta = seen.object.metadata();
    let (protected, leaving) = (has_finalizer(meta, finalizer), meta.deletion_timestamp.is_some());
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    match (leaving, protected) {
        (true, true) if !seen.used => finalizers.retain(|f| f != finalizer),
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return Plan::default(),
    }
    let mut object = T::clone(&seen.object);
    object.metadata_mut().finalizers = Some(finalizers);
    Plan::of(Write::update(&object).forgiving(&[404]))
}

/// The claims that a pod names; its ephemeral volumes' claims are named after both.
pub fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let name = |volume: &k8s_openapi::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral)
    {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", object::name(&pod.metadata), volume.name)),
        (None, None) => None,
    };
    volumes.filter_map(name).collect()
}

fn claim_keys(meta: &ObjectMeta, names: Vec<String>) -> Vec<Key> {
    names.into_iter().map(|name| Key::new(object::namespace(meta), name)).collect()
}

#[derive(Default)]
pub struct ClaimProtectionController;

impl Controller for ClaimProtectionController {
    const NAME: &'static str = "persistentvolumeclaim-protection";
    const COMPONENT: &'static str = "pvc-protection-controller";
    type Observed = Observed<PersistentVolumeClaim>;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<PersistentVolumeClaim>();
        wiring.map::<Pod>(|_, change| {
            let over = change.new.is_none_or(|p| pod::is_finished(p));
            let last = change.last().filter(|_| over);
            last.map(|p| claim_keys(&p.metadata, claim_names(p))).unwrap_or_default()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Self::Observed>, Error> {
        let Some(object) = view.caches.get::<PersistentVolumeClaim>().get(key) else {
            return Ok(None);
        };
        // A pod that was never bound uses nothing yet; one that is over uses nothing any more.
        let uses =
            |p: &Arc<Pod>| !pod::is_finished(p) && !pod::node_name(p).is_empty() && claim_names(p).contains(&key.name);
        let pods = view.caches.get::<Pod>().in_namespace(&key.namespace);
        let used = object.metadata.deletion_timestamp.is_some() && pods.iter().any(uses);
        Ok(Some(Observed { object, used }))
    }

    fn plan(&self, seen: &Self::Observed) -> Plan {
        plan(seen, CLAIM_FINALIZER)
    }
}

#[derive(Default)]
pub struct VolumeProtectionController;

impl Controller for VolumeProtectionController {
    const NAME: &'static str = "persistentvolume-protection";
    const COMPONENT: &'static str = "pv-protection-controller";
    type Observed = Observed<PersistentVolume>;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<PersistentVolume>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Self::Observed>, Error> {
        let object = view.caches.get::<PersistentVolume>().get(key);
        Ok(object.map(|object| {
            let phase = object.status.as_ref().and_then(|s| s.phase.as_deref());
            Observed { used: phase == Some("Bound"), object }
        }))
    }

    fn plan(&self, seen: &Self::Observed) -> Plan {
        plan(seen, VOLUME_FINALIZER)
    }
}

#[derive(Default)]
pub struct AttributesClassProtectionController;

impl Controller for AttributesClassProtectionController {
    const NAME: &'static str = "volumeattributesclass-protection";
    const COMPONENT: &'static str = "volumeattributesclass-protection-controller";
    type Observed = Observed<VolumeAttributesClass>;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<VolumeAttributesClass>();
        let keys = |names: Vec<String>| names.into_iter().map(|name| Key::new("", name)).collect();
        wiring.map::<PersistentVolumeClaim>(move |_, change| {
            keys(change.states().flat_map(|claim| classes_of_claim(claim)).collect())
        });
        wiring.map::<PersistentVolume>(move |_, change| {
            keys(change.states().filter_map(|volume| class_of_volume(volume)).collect())
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Self::Observed>, Error> {
        let Some(object) = view.caches.get::<VolumeAttributesClass>().get(key) else {
            return Ok(None);
        };
        let used = object.metadata.deletion_timestamp.is_some()
            && (view
                .caches
                .get::<PersistentVolumeClaim>()
                .all()
                .iter()
                .any(|c| classes_of_claim(c).contains(&key.name))
                || view
                    .caches
                    .get::<PersistentVolume>()
                    .all()
                    .iter()
                    .any(|v| class_of_volume(v).as_ref() == Some(&key.name)));
        Ok(Some(Observed { object, used }))
    }

    fn plan(&self, seen: &Self::Observed) -> Plan {
        plan(seen, CLASS_FINALIZER)
    }
}

/// The class that a claim wants, has, and is on the way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target =
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone());
    [wanted, current, target].into_iter().flatten().collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.volume_attributes_class_name.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kept_while_used() {
        for (leaving, protected, used, want) in [
            (false, false, false, Some(1)),
            (false, true, false, None),
            (true, true, true, None),
            (true, true, false, Some(0)),
            (true, false, false, None),
        ] {
            let meta = json!({"name": "c", "namespace": "n",
                "deletionTimestamp": leaving.then_some("2026-01-01T00:00:00Z"),
                "finalizers": if protected { json!([CLAIM_FINALIZER]) } else { json!([]) }});
            let object: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": meta})).unwrap();
            let plan = plan(&Observed { object: Arc::new(object), used }, CLAIM_FINALIZER);
            let left =
                plan.writes().next().map(|w| w.body().unwrap()["metadata"]["finalizers"].as_array().unwrap().len());
            assert_eq!(left, want, "{leaving} {protected} {used}");
        }
    }
}

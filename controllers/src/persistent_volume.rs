//! Binds claims to volumes that are there, and tells what becomes of volumes whose claims are gone.

pub mod claim;
pub mod plan;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use crate::{
    plan::Plan,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

/// A claim, and what it could be bound to.
#[derive(Debug)]
pub struct ObservedClaim {
    pub claim: Arc<PersistentVolumeClaim>,
    pub volumes: Vec<Arc<PersistentVolume>>,
    pub class: Option<Arc<StorageClass>>,
}

#[derive(Default)]
pub struct ClaimBinderController;

impl Controller for ClaimBinderController {
    const NAME: &'static str = "persistentvolume-binder";
    const ACCOUNT: &'static str = "persistent-volume-binder";
    const COMPONENT: &'static str = "persistentvolume-controller";
    /// No two claims may be given the same volume.
    const WORKERS: usize = 1;
    type Observed = ObservedClaim;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<PersistentVolumeClaim>();
        wiring.reads::<StorageClass>();
        wiring.map::<PersistentVolume>(|caches, change| {
            let reference = change.last().and_then(|v| v.spec.as_ref()?.claim_ref.clone());
            match reference {
                Some(claim) => {
                    vec![Key::new(claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default())]
                }
                // A free volume may be what some claim has waited for.
                None => {
                    let claims = caches.get::<PersistentVolumeClaim>().all();
                    let waiting = claims.iter().filter(|c| c.spec.as_ref().is_some_and(|s| s.volume_name.is_none()));
                    waiting.map(|c| Key::of(&c.metadata)).collect()
                }
            }
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<ObservedClaim>, Error> {
        let Some(claim) = view.caches.get::<PersistentVolumeClaim>().get(key) else {
            return Ok(None);
        };
        let class = view.caches.get::<StorageClass>().find("", claim::class_of(&claim));
        let volumes = view.caches.get::<PersistentVolume>().all();
        Ok(Some(ObservedClaim { claim, volumes, class }))
    }

    fn plan(&self, seen: &ObservedClaim) -> Plan {
        claim::plan(seen)
    }
}

/// A volume, and its claim if that exists.
#[derive(Debug)]
pub struct ObservedVolume {
    pub volume: Arc<PersistentVolume>,
    pub claim: Option<Arc<PersistentVolumeClaim>>,
}

#[derive(Default)]
pub struct VolumeBinderController;

impl Controller for VolumeBinderController {
    const NAME: &'static str = "persistentvolume-phase";
    const ACCOUNT: &'static str = "persistent-volume-binder";
    const COMPONENT: &'static str = "persistentvolume-controller";
    type Observed = ObservedVolume;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<PersistentVolume>();
        wiring.map::<PersistentVolumeClaim>(|caches, change| {
            let Some(claim) = change.last() else {
                return Vec::new();
            };
            let volumes = caches.get::<PersistentVolume>().all();
            let of_claim = volumes.iter().filter(|v| {
                let reference = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
                reference.is_some_and(|r| r.name == claim.metadata.name && r.namespace == claim.metadata.namespace)
            });
            of_claim.map(|v| Key::of(&v.metadata)).collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<ObservedVolume>, Error> {
        let Some(volume) = view.caches.get::<PersistentVolume>().get(key) else {
            return Ok(None);
        };
        let mut claim = None;
        if let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
            let namespace = reference.namespace.as_deref().unwrap_or_default();
            let name = reference.name.as_deref().unwrap_or_default();
            claim = view.caches.get::<PersistentVolumeClaim>().find(namespace, name);
            if claim.is_none() && reference.uid.is_some() {
                // A volume is given up only when its claim is surely gone.
                claim = view.server.get::<PersistentVolumeClaim>(namespace, name).await?.map(Arc::new);
            }
        }
        Ok(Some(ObservedVolume { volume, claim }))
    }

    fn plan(&self, seen: &ObservedVolume) -> Plan {
        plan::plan(seen)
    }
}

/// The name by which a volume was bound by a controller, and by whom it was completed.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Whether a volume is this very claim's.
pub fn is_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    reference.is_some_and(|r| {
        r.name == claim.metadata.name
            && r.namespace == claim.metadata.namespace
            && r.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == object::uid(&claim.metadata))
    })
}

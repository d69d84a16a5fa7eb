//! Keeps pods with stable names and volumes, one for each ordinal.

pub mod identity;
pub mod plan;
pub mod status;
pub mod volume;

use std::{collections::BTreeMap, sync::Arc};

use crds::selector::{Labels, Selector};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};

use crate::{
    claim::Claim,
    plan::Plan,
    replica_set::orphan_keys,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub set: Arc<StatefulSet>,
    pub claim: Claim<Pod>,
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The claims of the set's namespace, by name.
    pub volumes: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct StatefulSetController;

impl Controller for StatefulSetController {
    const NAME: &'static str = "statefulset";
    const COMPONENT: &'static str = "statefulset-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<StatefulSet>();
        wiring.owned::<Pod, StatefulSet>();
        wiring.owned::<ControllerRevision, StatefulSet>();
        wiring.reads::<PersistentVolumeClaim>();
        wiring.map::<Pod>(|caches, change| orphan_keys(caches, change, selects));
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(set) = view.caches.get::<StatefulSet>().get(key) else {
            return Ok(None);
        };
        let Some(spec) = &set.spec else {
            return Ok(None);
        };
        let selector = Selector::from_object(Some(&spec.selector));
        let pods = view.caches.get::<Pod>().in_namespace(&key.namespace);
        // Only pods that are named like the set's are its own.
        let named = pods.into_iter().filter(|p| identity::ordinal(&key.name, p).is_some());
        let mut claim = Claim::sort(&set.metadata, &selector, named);
        if !claim.adopt.is_empty() && !view.may_adopt(&*set).await? {
            claim.adopt.clear();
        }
        let volumes = match spec.volume_claim_templates.as_ref().is_none_or(Vec::is_empty) {
            true => Vec::new(),
            false => view.caches.get::<PersistentVolumeClaim>().in_namespace(&key.namespace),
        };
        Ok(Some(Observed {
            revisions: view.caches.get::<ControllerRevision>().owned_by(object::uid(&set.metadata)),
            volumes: volumes.into_iter().map(|v| (object::name(&v.metadata).to_owned(), v)).collect(),
            set,
            claim,
            now: view.now,
        }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

fn selects(set: &StatefulSet, labels: &Labels) -> bool {
    set.spec.as_ref().is_some_and(|s| Selector::from_object(Some(&s.selector)).matches(labels))
}

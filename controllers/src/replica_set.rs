//! Keeps as many pods of one template as a ReplicaSet (or a ReplicationController) asks for.

pub mod plan;
pub mod status;

use std::sync::Arc;

use crds::{
    owner,
    selector::{Labels, Selector},
};
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{ObjectReference, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::{
    claim::Claim,
    plan::{Outcome, Plan, Write},
    pod,
    runtime::{
        Caches, Controller, View, Wiring,
        cache::Change,
        object::{self, Key},
        server::Error,
    },
};

/// What ReplicaSets and ReplicationControllers have in common.
#[derive(Clone, Debug)]
pub struct Set {
    pub meta: ObjectMeta,
    pub regarding: ObjectReference,
    pub reference: OwnerReference,
    pub selector: Selector,
    pub template: PodTemplateSpec,
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub status: status::Status,
}

#[derive(Debug)]
pub struct Observed {
    pub set: Set,
    pub claim: Claim<Pod>,
    /// Owned pods that are on their way out.
    pub terminating: usize,
    /// The pods of all sets that share this set's owner.
    pub related: Vec<Arc<Pod>>,
    pub now: jiff::Timestamp,
}

impl Observed {
    /// The active pods, adopted ones included.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.claim.all()
    }
}

#[derive(Default)]
pub struct ReplicaSetController;

impl Controller for ReplicaSetController {
    const NAME: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";
    type Observed = (Arc<ReplicaSet>, Observed);

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<ReplicaSet>();
        wiring.owned::<Pod, ReplicaSet>();
        wiring.map::<Pod>(|caches, change| orphan_keys(caches, change, selects));
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Self::Observed>, Error> {
        let Some(root) = view.caches.get::<ReplicaSet>().get(key) else {
            return Ok(None);
        };
        let Some(spec) = &root.spec else {
            return Ok(None);
        };
        let set = Set {
            meta: root.metadata.clone(),
            regarding: object::reference(&*root),
            reference: owner::controller_reference::<ReplicaSet>(&root.metadata),
            selector: Selector::from_object(Some(&spec.selector)),
            template: spec.template.clone().unwrap_or_default(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            status: status::Status::of(root.status.as_ref()),
        };
        let mut seen = observe(view, set);
        seen.related = related(&view.caches, &root);
        if !seen.claim.adopt.is_empty() && !view.may_adopt(&*root).await? {
            seen.claim.adopt.clear();
        }
        Ok(Some((root, seen)))
    }

    fn plan(&self, (_, seen): &Self::Observed) -> Plan {
        plan::plan(seen)
    }

    fn status(&self, (root, seen): &Self::Observed, outcome: &Outcome) -> Option<Write> {
        let status = status::status(seen, outcome)?;
        let mut updated = ReplicaSet::clone(root);
        updated.status = Some(status.into_replica_set());
        Some(Write::status(&updated))
    }
}

/// Finds the set's pods; for both kinds.
pub fn observe(view: &View, set: Set) -> Observed {
    let pods = view.caches.get::<Pod>();
    let candidates = pods.in_namespace(object::namespace(&set.meta));
    let terminating = candidates
        .iter()
        .filter(|p| pod::is_terminating(p) && !pod::is_finished(p))
        .filter(|p| owner::is_controlled_by(&p.metadata, object::uid(&set.meta)))
        .filter(|p| set.selector.matches(p.metadata.labels.as_ref().unwrap_or(&Labels::new())))
        .count();
    let active = candidates.into_iter().filter(|p| pod::is_active(p));
    let claim = Claim::sort(&set.meta, &set.selector, active);
    Observed { set, claim, terminating, related: Vec::new(), now: view.now }
}

fn related(caches: &Caches, root: &ReplicaSet) -> Vec<Arc<Pod>> {
    let Some(owner) = owner::controller(&root.metadata) else {
        return Vec::new();
    };
    let pods = caches.get::<Pod>();
    let siblings = caches.get::<ReplicaSet>().owned_by(&owner.uid);
    siblings.iter().flat_map(|s| pods.owned_by(object::uid(&s.metadata))).collect()
}

fn selects(set: &ReplicaSet, labels: &Labels) -> bool {
    set.spec.as_ref().is_some_and(|s| Selector::from_object(Some(&s.selector)).matches(labels))
}

/// A pod without a managing owner concerns every controller that selects it, before or after the change.
pub fn orphan_keys<K: crds::kind::Kind>(
    caches: &Caches,
    change: &Change<'_, Pod>,
    selects: fn(&K, &Labels) -> bool,
) -> Vec<Key> {
    let Some(pod) = change.new.filter(|p| owner::controller(&p.metadata).is_none() && !pod::is_terminating(p)) else {
        return Vec::new();
    };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let sets = caches.get::<K>().in_namespace(object::namespace(&pod.metadata));
    sets.iter().filter(|s| selects(s, &labels)).map(|s| Key::of(s.metadata())).collect()
}

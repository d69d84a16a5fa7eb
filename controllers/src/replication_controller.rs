//! Keeps as many pods as a ReplicationController asks for: a ReplicaSet in older words.

use std::sync::Arc;

use crds::{
    owner,
    selector::{Labels, Selector},
};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};

use crate::{
    plan::{Outcome, Plan, Write},
    replica_set::{self, Observed, Set, orphan_keys, plan, status},
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Default)]
pub struct ReplicationControllerController;

impl Controller for ReplicationControllerController {
    const NAME: &'static str = "replicationcontroller";
    const COMPONENT: &'static str = "replication-controller";
    type Observed = (Arc<ReplicationController>, Observed);

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<ReplicationController>();
        wiring.owned::<Pod, ReplicationController>();
        wiring.map::<Pod>(|caches, change| orphan_keys(caches, change, selects));
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Self::Observed>, Error> {
        let Some(root) = view.caches.get::<ReplicationController>().get(key) else {
            return Ok(None);
        };
        let Some(spec) = &root.spec else {
            return Ok(None);
        };
        let set = Set {
            meta: root.metadata.clone(),
            regarding: object::reference(&*root),
            reference: owner::controller_reference::<ReplicationController>(&root.metadata),
            selector: selector(&root),
            template: spec.template.clone().unwrap_or_default(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            status: status::Status::of_replication_controller(root.status.as_ref()),
        };
        let mut seen = replica_set::observe(view, set);
        if !seen.claim.adopt.is_empty() && !view.may_adopt(&*root).await? {
            seen.claim.adopt.clear();
        }
        Ok(Some((root, seen)))
    }

    fn plan(&self, (_, seen): &Self::Observed) -> Plan {
        plan::plan(seen)
    }

    fn status(&self, (root, seen): &Self::Observed, outcome: &Outcome) -> Option<Write> {
        // This kind does not report terminating pods.
        let status = status::Status { terminating: None, ..status::status(seen, outcome)? };
        if status == seen.set.status {
            return None;
        }
        let mut updated = ReplicationController::clone(root);
        updated.status = Some(status.into_replication_controller());
        Some(Write::status(&updated))
    }
}

fn selector(set: &ReplicationController) -> Selector {
    match set.spec.as_ref().and_then(|s| s.selector.as_ref()) {
        Some(labels) if !labels.is_empty() => Selector::from_labels(labels),
        _ => Selector::nothing(),
    }
}

fn selects(set: &ReplicationController, labels: &Labels) -> bool {
    selector(set).matches(labels)
}

//! Rolls a Deployment's pods from template to template by way of ReplicaSets.

pub mod plan;
pub mod status;

use std::sync::Arc;

use crds::{
    owner,
    selector::{Labels, Selector},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};

use crate::{
    claim::Claim,
    plan::{Outcome, Plan, Write},
    pod,
    revision::hash,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub deployment: Arc<Deployment>,
    pub claim: Claim<ReplicaSet>,
    /// What a new ReplicaSet would be called.
    pub new_name: String,
    pub new_hash: String,
    /// Whoever has that name already.
    pub namesake: Option<Arc<ReplicaSet>>,
    /// The unfinished pods of each of the sets, by the set's uid.
    pub pods: Vec<(String, usize)>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct DeploymentController;

impl Controller for DeploymentController {
    const NAME: &'static str = "deployment";
    const COMPONENT: &'static str = "deployment-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Deployment>();
        wiring.owned::<ReplicaSet, Deployment>();
        wiring.map::<ReplicaSet>(|caches, change| {
            let Some(set) = change.new.filter(|s| owner::controller(&s.metadata).is_none()) else {
                return Vec::new();
            };
            let labels = set.metadata.labels.clone().unwrap_or_default();
            let all = caches.get::<Deployment>().in_namespace(object::namespace(&set.metadata));
            all.iter().filter(|d| selects(d, &labels)).map(|d| Key::of(&d.metadata)).collect()
        });
        // A Deployment that recreates its pods waits for the last old one to go.
        wiring.map::<Pod>(|caches, change| {
            let (Some(pod), None) = (change.old, change.new) else {
                return Vec::new();
            };
            let namespace = object::namespace(&pod.metadata);
            let set =
                owner::controller(&pod.metadata).and_then(|o| caches.get::<ReplicaSet>().find(namespace, &o.name));
            let owner = set.as_ref().and_then(|s| owner::controller(&s.metadata)).map(|o| o.name.clone());
            owner.map(|name| Key::new(namespace, name)).into_iter().collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(deployment) = view.caches.get::<Deployment>().get(key) else {
            return Ok(None);
        };
        let Some(spec) = &deployment.spec else {
            return Ok(None);
        };
        let selector = Selector::from_object(Some(&spec.selector));
        let sets = view.caches.get::<ReplicaSet>();
        let mut claim = Claim::sort(&deployment.metadata, &selector, sets.in_namespace(&key.namespace));
        if !claim.adopt.is_empty() && !view.may_adopt(&*deployment).await? {
            claim.adopt.clear();
        }
        let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
        let new_hash = hash(&spec.template, collisions);
        let new_name = plan::set_name(&key.name, &new_hash);
        let pods = view.caches.get::<Pod>();
        let unfinished = |set: &Arc<ReplicaSet>| {
            let uid = object::uid(&set.metadata);
            (uid.to_owned(), pods.owned_by(uid).iter().filter(|p| !pod::is_finished(p)).count())
        };
        Ok(Some(Observed {
            pods: claim.owned.iter().map(unfinished).collect(),
            namesake: sets.find(&key.namespace, &new_name),
            deployment,
            claim,
            new_name,
            new_hash,
            now: view.now,
        }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }

    fn status(&self, seen: &Observed, outcome: &Outcome) -> Option<Write> {
        plan::status_after_failure(seen, outcome)
    }
}

fn selects(deployment: &Deployment, labels: &Labels) -> bool {
    let selector = deployment.spec.as_ref().map(|s| Selector::from_object(Some(&s.selector)));
    selector.is_some_and(|s| !s.is_everything() && s.matches(labels))
}

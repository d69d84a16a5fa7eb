//! Keeps the reckoning of PodDisruptionBudgets: how many of their pods may be disrupted now.

pub mod plan;

use std::{collections::BTreeMap, sync::Arc};

use crds::{
    owner,
    selector::{Labels, Selector},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::Value;

use crate::{
    plan::Plan,
    runtime::{
        Controller, View, Wiring,
        discovery::discover,
        object::{self, Key, refers_to},
        server::{Error, Form},
    },
};

#[derive(Debug)]
pub struct Observed {
    pub budget: Arc<PodDisruptionBudget>,
    pub pods: Vec<Arc<Pod>>,
    /// The sizes of the pods' controllers, by uid; not gathered if the budget does not need them.
    pub scales: BTreeMap<String, i32>,
    /// Why the sizes could not be found.
    pub failure: Option<String>,
    pub unmanaged: bool,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct DisruptionController;

impl Controller for DisruptionController {
    const NAME: &'static str = "disruption";
    const ACCOUNT: &'static str = "disruption-controller";
    const COMPONENT: &'static str = "controllermanager";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<PodDisruptionBudget>();
        wiring.map::<Pod>(|caches, change| {
            let Some(pod) = change.last() else {
                return Vec::new();
            };
            let budgets = caches.get::<PodDisruptionBudget>().in_namespace(object::namespace(&pod.metadata));
            let concerned = budgets.iter().filter(|b| change.states().any(|p| selects(b, p)));
            concerned.map(|b| Key::of(&b.metadata)).collect()
        });
        wiring.map::<ReplicaSet>(|caches, change| of_scale(caches, change.last().map(|s| &s.metadata)));
        wiring.map::<StatefulSet>(|caches, change| of_scale(caches, change.last().map(|s| &s.metadata)));
        wiring.map::<ReplicationController>(|caches, change| of_scale(caches, change.last().map(|s| &s.metadata)));
        wiring.map::<Deployment>(|caches, change| {
            let replicas = |d: &Arc<Deployment>| d.spec.as_ref().and_then(|s| s.replicas);
            let resized = change.old.map(replicas) != change.new.map(replicas);
            of_scale(caches, change.last().filter(|_| resized).map(|d| &d.metadata))
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(budget) = view.caches.get::<PodDisruptionBudget>().get(key) else {
            return Ok(None);
        };
        let pods = view.caches.get::<Pod>().in_namespace(&key.namespace);
        let pods: Vec<_> = pods.into_iter().filter(|p| selects(&budget, p)).collect();
        let mut seen =
            Observed { budget, pods, scales: BTreeMap::new(), failure: None, unmanaged: false, now: view.now };
        if plan::needs_scales(&seen.budget) {
            gather_scales(view, &mut seen).await;
        }
        Ok(Some(seen))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

/// All budgets of the namespace: few, and which of them a set's pods fall under is told by the pods.
fn of_scale(
    caches: &crate::runtime::Caches,
    meta: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
) -> Vec<Key> {
    let Some(meta) = meta else {
        return Vec::new();
    };
    let budgets = caches.get::<PodDisruptionBudget>().in_namespace(object::namespace(meta));
    budgets.iter().filter(|b| plan::needs_scales(b)).map(|b| Key::of(&b.metadata)).collect()
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    Selector::from_object(selector).matches(pod.metadata.labels.as_ref().unwrap_or(&Labels::new()))
}

async fn gather_scales(view: &View, seen: &mut Observed) {
    let namespace = object::namespace(&seen.budget.metadata).to_owned();
    for pod in seen.pods.clone() {
        let Some(reference) = owner::controller(&pod.metadata) else {
            seen.unmanaged = true;
            continue;
        };
        if seen.scales.contains_key(&reference.uid) {
            continue;
        }
        match scale_of(view, &namespace, reference).await {
            Ok(Some((uid, scale))) => {
                seen.scales.insert(reference.uid.clone(), 0);
                seen.scales.insert(uid, scale);
            }
            Ok(None) => {
                seen.failure = Some(format!("found no controllers for pod {:?}", object::name(&pod.metadata)));
                return;
            }
            Err(error) => {
                seen.failure = Some(error.to_string());
                return;
            }
        }
    }
}

/// The size that a pod's controller, or the Deployment above it, is meant to have.
async fn scale_of(view: &View, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Error> {
    let caches = &view.caches;
    let same = |uid: &Option<String>, reference: &OwnerReference| uid.as_deref() == Some(&reference.uid);
    if refers_to::<ReplicaSet>(owner) {
        let set = caches.get::<ReplicaSet>().find(namespace, &owner.name).filter(|s| same(&s.metadata.uid, owner));
        let Some(set) = set else {
            return Ok(None);
        };
        let above = owner::controller(&set.metadata).filter(|r| refers_to::<Deployment>(r));
        let deployment = above
            .and_then(|r| caches.get::<Deployment>().find(namespace, &r.name).filter(|d| same(&d.metadata.uid, r)));
        return Ok(Some(match deployment {
            Some(d) => (object::uid(&d.metadata).to_owned(), d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)),
            None => (owner.uid.clone(), set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)),
        }));
    }
    if refers_to::<StatefulSet>(owner) {
        let set = caches.get::<StatefulSet>().find(namespace, &owner.name).filter(|s| same(&s.metadata.uid, owner));
        return Ok(set.map(|s| (owner.uid.clone(), s.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1))));
    }
    if refers_to::<ReplicationController>(owner) {
        let set = caches.get::<ReplicationController>().find(namespace, &owner.name);
        let set = set.filter(|s| same(&s.metadata.uid, owner));
        return Ok(set.map(|s| (owner.uid.clone(), s.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1))));
    }
    scale_subresource(view, namespace, owner).await
}

/// Any other kind is asked for its scale.
async fn scale_subresource(
    view: &View,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<(String, i32)>, Error> {
    let (group, kind) = (owner.api_version.split_once('/').map_or("", |(g, _)| g), owner.kind.as_str());
    let served = discover(&view.server).await?.kinds;
    let Some(kind) = served.into_iter().find(|k| k.resource.group == group && k.resource.kind == kind) else {
        return Ok(None);
    };
    let scale: Option<Value> =
        view.server.fetch(&kind.resource.path(namespace, &owner.name, "scale"), Form::Whole).await?;
    let Some(scale) = scale.filter(|s| s["metadata"]["uid"].as_str().is_none_or(|u| u == owner.uid)) else {
        let (namespace, name) = (namespace, &owner.name);
        return Err(Error::NotYet(format!(
            "{}.{group} {namespace}/{name} does not implement the scale subresource",
            kind.resource.plural
        )));
    };
    let replicas = scale["spec"]["replicas"].as_i64().and_then(|r| i32::try_from(r).ok()).unwrap_or(0);
    Ok(Some((owner.uid.clone(), replicas)))
}

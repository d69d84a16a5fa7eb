//! Adds up what a namespace's objects use of its ResourceQuotas.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crds::{
    quantity::Quantity,
    quota::{self, Evaluator, Object},
    resource::{self, Amounts},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, Secret, Service},
    resource::v1::ResourceClaim,
};

use crate::{
    plan::{Plan, Write},
    runtime::{
        Caches, Controller, View, Wiring,
        discovery::discover,
        object::{self, Key, Meta},
        server::{Error, Form},
    },
};

/// Kinds that are counted without being watched are counted again after so long.
const RECOUNT: Duration = Duration::from_secs(30);
/// And all others after so long: somebody may have changed what the status says.
const RESYNC: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
pub struct Observed {
    pub quota: Arc<ResourceQuota>,
    /// Objects that a quota can measure, with what measures them.
    pub objects: Vec<(Evaluator, Object)>,
    /// Some of them are of kinds that are not watched.
    pub unwatched: bool,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct ResourceQuotaController;

impl Controller for ResourceQuotaController {
    const NAME: &'static str = "resourcequota";
    const COMPONENT: &'static str = "resourcequota-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        // What is taken up is counted by admission, which knows it first: here it would be forgotten again if a cache is
        // behind. Only what is freed, and what the quota is about, is counted here.
        wiring.map::<ResourceQuota>(|_, change| match (change.old, change.new) {
            (Some(old), Some(new)) if old.spec == new.spec => Vec::new(),
            _ => change.last().map(|quota| Key::of(&quota.metadata)).into_iter().collect(),
        });
        wiring.map::<Pod>(|caches, change| match (change.old, change.new) {
            (None, _) => Vec::new(),
            // Of a running pod's many updates only these can free something.
            (Some(old), Some(new)) if !frees(old, new) => Vec::new(),
            _ => of_namespace(caches, change.last().map(|p| object::namespace(&p.metadata))),
        });
        macro_rules! changed {
            ($($kind:ty),*) => { $(
                wiring.map::<$kind>(|caches, change| match change.old {
                    None => Vec::new(),
                    Some(old) => of_namespace(caches, Some(object::namespace(&old.metadata))),
                });
            )* };
        }
        changed!(Service, PersistentVolumeClaim, ResourceClaim);
        macro_rules! counted {
            ($($kind:ty),*) => { $(
                wiring.map::<$kind>(|caches, change| match (change.old, change.new) {
                    (Some(gone), None) => of_namespace(caches, Some(object::namespace(&gone.metadata))),
                    _ => Vec::new(),
                });
            )* };
        }
        counted!(ConfigMap, Secret, ReplicationController);
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(quota) = view.caches.get::<ResourceQuota>().get(key) else {
            return Ok(None);
        };
        let mut seen = Observed { quota, objects: Vec::new(), unwatched: false, now: view.now };
        let wanted = BTreeSet::from_iter(hard(&seen.quota).into_keys());
        let (caches, namespace) = (&view.caches, key.namespace.as_str());
        macro_rules! measured {
            ($($group:literal $plural:literal $kind:ty => $object:expr),* $(,)?) => { $(
                if let Some(evaluator) = used($group, $plural, &wanted) {
                    for object in caches.get::<$kind>().in_namespace(namespace) {
                        seen.objects.push((evaluator.clone(), $object(&object)));
                    }
                }
            )* };
        }
        measured! {
            "" "pods" Pod => |o: &Arc<Pod>| Object::Pod(Box::new(Pod::clone(o))),
            "" "services" Service => |o: &Arc<Service>| Object::Service(Box::new(Service::clone(o))),
            "" "persistentvolumeclaims" PersistentVolumeClaim =>
                |o: &Arc<PersistentVolumeClaim>| Object::Claim(Box::new(PersistentVolumeClaim::clone(o))),
            "resource.k8s.io" "resourceclaims" ResourceClaim =>
                |o: &Arc<ResourceClaim>| Object::DeviceClaim(Box::new(ResourceClaim::clone(o))),
            "" "configmaps" ConfigMap => |_: &Arc<ConfigMap>| Object::Other,
            "" "secrets" Secret => |_: &Arc<Secret>| Object::Other,
            "" "replicationcontrollers" ReplicationController => |_: &Arc<ReplicationController>| Object::Other,
            "" "resourcequotas" ResourceQuota => |_: &Arc<ResourceQuota>| Object::Other,
        }
        count_others(view, &wanted, namespace, &mut seen).await?;
        Ok(Some(seen))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan(seen)
    }
}

const WATCHED: [(&str, &str); 8] = [
    ("", "pods"),
    ("", "services"),
    ("", "persistentvolumeclaims"),
    ("resource.k8s.io", "resourceclaims"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "replicationcontrollers"),
    ("", "resourcequotas"),
];

/// `count/widgets.example.com`: kinds that only their number is asked of. The garbage collector's caches have most.
async fn count_others(
    view: &View,
    wanted: &BTreeSet<String>,
    namespace: &str,
    seen: &mut Observed,
) -> Result<(), Error> {
    let split = |name: &String| {
        let rest = name.strip_prefix("count/")?;
        let (plural, group) = rest.split_once('.').unwrap_or((rest, ""));
        Some((group.to_owned(), plural.to_owned()))
    };
    let others: Vec<_> =
        wanted.iter().filter_map(split).filter(|(g, p)| !WATCHED.contains(&(g.as_str(), p.as_str()))).collect();
    if others.is_empty() {
        return Ok(());
    }
    seen.unwatched = true;
    for kind in discover(&view.server).await?.kinds {
        let id = (kind.resource.group.to_string(), kind.resource.plural.to_string());
        let Some(evaluator) = quota::evaluator(&id.0, &id.1).filter(|_| others.contains(&id) && kind.can("list"))
        else {
            continue;
        };
        let path = kind.resource.collection(namespace);
        let (items, _) = view.server.list::<Meta>(&path, Form::Metadata).await?;
        seen.objects.extend(items.iter().map(|_| (evaluator.clone(), Object::Other)));
    }
    Ok(())
}

/// What measures a kind, if one of these resources is used by it.
fn used(group: &str, plural: &str, wanted: &BTreeSet<String>) -> Option<Evaluator> {
    quota::evaluator(group, plural).filter(|e| wanted.iter().any(|name| e.counts(name)))
}

fn of_namespace(caches: &Caches, namespace: Option<&str>) -> Vec<Key> {
    let quotas = namespace.map(|n| caches.get::<ResourceQuota>().in_namespace(n)).unwrap_or_default();
    quotas.iter().map(|q| Key::of(&q.metadata)).collect()
}

fn frees(old: &Pod, new: &Pod) -> bool {
    let shape = |p: &Pod| {
        let resources = p.spec.iter().flat_map(|s| &s.containers).map(|c| c.resources.clone()).collect::<Vec<_>>();
        (crate::pod::is_finished(p), p.metadata.deletion_timestamp.clone(), resources)
    };
    shape(old) != shape(new)
}

fn hard(quota: &ResourceQuota) -> Amounts {
    resource::amounts(quota.spec.as_ref().and_then(|s| s.hard.as_ref()))
}

fn plan(seen: &Observed) -> Plan {
    let hard = hard(&seen.quota);
    // A quota is measured by what it asks for now, not by what was measured before.
    let mut current = ResourceQuota::clone(&seen.quota);
    current.status.get_or_insert_default().hard = current.spec.as_ref().and_then(|s| s.hard.clone());
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    for (evaluator, object) in &seen.objects {
        if evaluator.matches(&current, object) {
            resource::add(&mut used, &evaluator.usage(object, seen.now));
        }
    }
    used.retain(|name, _| hard.contains_key(name));
    let status = current.status.get_or_insert_default();
    status.used = Some(resource::written(&used));
    let before = seen.quota.status.clone().unwrap_or_default();
    let same = resource::same(status.hard.as_ref(), before.hard.as_ref())
        && resource::same(status.used.as_ref(), before.used.as_ref());
    let plan = match same {
        true => Plan::default(),
        false => Plan::of(Write::status(&current)),
    };
    plan.again_after(if seen.unwatched { RECOUNT } else { RESYNC })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests as pods;

    #[test]
    fn what_is_used() {
        let quota: ResourceQuota = serde_json::from_value(json!({"metadata": {"name": "q", "namespace": "n"},
            "spec": {"hard": {"pods": "10", "requests.cpu": "2", "configmaps": "5"}}}))
        .unwrap();
        let mut pod = pods::pod("a", "ready");
        pod.spec.as_mut().unwrap().containers =
            serde_json::from_value(json!([{"name": "c", "resources": {"requests": {"cpu": "250m"}}}])).unwrap();
        let of = |plural: &str| quota::evaluator("", plural).unwrap();
        let finished = pods::pod("b", "succeeded");
        let mut seen = Observed {
            quota: Arc::new(quota),
            objects: vec![
                (of("pods"), Object::Pod(Box::new(pod))),
                (of("pods"), Object::Pod(Box::new(finished))),
                (of("configmaps"), Object::Other),
            ],
            unwatched: false,
            now: pods::now(),
        };
        let written = plan(&seen).writes().next().unwrap().body().unwrap().clone();
        assert_eq!(written["status"]["used"], json!({"pods": "1", "requests.cpu": "250m", "configmaps": "1"}));
        assert_eq!(written["status"]["hard"]["pods"], "10");
        seen.quota = Arc::new(serde_json::from_value(written).unwrap());
        let settled = plan(&seen);
        assert_eq!((settled.writes().count(), settled.requeue_after), (0, Some(RESYNC)));
    }
}

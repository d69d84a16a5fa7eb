//! Empties a namespace that is being deleted: pods first, then everything that the server has kinds for.

pub mod plan;
pub mod status;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::{
    plan::Plan,
    pod,
    runtime::{
        Controller, View, Wiring,
        discovery::{Served, discover},
        object::{self, Key, Meta},
        server::{Error, Form},
    },
};

/// What is left of one kind.
#[derive(Clone, Debug)]
pub struct Remaining {
    pub kind: Served,
    pub items: Vec<Meta>,
    /// The collection could not be listed.
    pub failure: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Observed {
    pub namespace: Namespace,
    pub remaining: Vec<Remaining>,
    pub discovery_failures: Vec<String>,
    /// The longest grace period of the pods that still run, in seconds.
    pub pod_grace_seconds: i64,
    pub now: Timestamp,
}

impl Observed {
    pub fn pods_remain(&self) -> bool {
        self.remaining.iter().any(|r| is_pods(&r.kind) && !r.items.is_empty())
    }

    /// How many items each finalizer holds.
    pub fn finalizers(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for finalizer in
            self.remaining.iter().flat_map(|r| &r.items).flat_map(|i| i.metadata.finalizers.iter().flatten())
        {
            *counts.entry(finalizer.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

pub fn is_pods(kind: &Served) -> bool {
    kind.resource.group.is_empty() && kind.resource.plural == "pods"
}

#[derive(Default)]
pub struct NamespaceController;

impl Controller for NamespaceController {
    const NAME: &'static str = "namespace";
    const COMPONENT: &'static str = "namespace-controller";
    const WORKERS: usize = 10;
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Namespace>();
        // The last pod to go lets the rest be deleted.
        wiring.map::<Pod>(|caches, change| {
            let (Some(pod), None) = (change.old, change.new) else {
                return Vec::new();
            };
            let key = Key::new("", object::namespace(&pod.metadata));
            let namespace = caches.get::<Namespace>().get(&key);
            namespace.filter(|n| n.metadata.deletion_timestamp.is_some()).map(|_| key).into_iter().collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let cached = view.caches.get::<Namespace>().get(key);
        if cached.is_none_or(|n| n.metadata.deletion_timestamp.is_none()) {
            return Ok(None);
        }
        let live: Option<Namespace> = view.server.get("", &key.name).await?;
        let Some(namespace) = live.filter(|n| n.metadata.deletion_timestamp.is_some()) else {
            return Ok(None);
        };
        let mut seen = Observed {
            namespace,
            remaining: Vec::new(),
            discovery_failures: Vec::new(),
            pod_grace_seconds: 0,
            now: view.now,
        };
        if !plan::is_marked(&seen.namespace) || plan::is_finalized(&seen.namespace) {
            return Ok(Some(seen));
        }
        let discovery = discover(&view.server).await?;
        seen.discovery_failures = discovery.failures;
        let pods = view.caches.get::<Pod>().in_namespace(&key.name);
        let running = pods.iter().filter(|p| !pod::is_finished(p)).filter_map(|p| p.spec.as_ref());
        seen.pod_grace_seconds = running.filter_map(|s| s.termination_grace_period_seconds).max().unwrap_or(0);
        let mut kinds: Vec<Served> =
            discovery.kinds.into_iter().filter(|k| k.resource.namespaced && k.can("delete") && k.can("list")).collect();
        // Nothing that a pod may still need goes before it.
        kinds.sort_by_key(|k| !is_pods(k));
        for kind in kinds {
            let listed = view.server.list::<Meta>(&kind.resource.collection(&key.name), Form::Metadata).await;
            let (items, failure) = match listed {
                Ok((items, _)) => (items, None),
                Err(e) if matches!(e.code(), 404 | 405) => continue,
                Err(e) => (Vec::new(), Some(e.to_string())),
            };
            seen.remaining.push(Remaining { kind, items, failure });
            if seen.pods_remain() {
                break;
            }
        }
        Ok(Some(seen))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

//! Runs one pod of a template on every node that it fits.

pub mod place;
pub mod plan;
pub mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::{
    owner,
    selector::{Labels, Selector},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use parking_lot::Mutex;

use crate::{
    claim::Claim,
    plan::Plan,
    pod,
    replica_set::orphan_keys,
    runtime::{
        Controller, View, Wiring,
        clock::{after, since},
        object::{self, Key},
        owners,
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub set: Arc<DaemonSet>,
    pub claim: Claim<Pod>,
    pub nodes: Vec<Arc<Node>>,
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// When a failed pod may be replaced, by its uid.
    pub replace_at: BTreeMap<String, Timestamp>,
    pub now: Timestamp,
}

/// How often a set's pods have failed on a node.
struct Failures {
    pod: String,
    delay: Duration,
    replace_at: Timestamp,
}

const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
const REMEMBERED_MAX: usize = 10_000;

#[derive(Default)]
pub struct DaemonSetController {
    /// By the set's uid and the node's name.
    failures: Mutex<BTreeMap<(String, String), Failures>>,
}

impl Controller for DaemonSetController {
    const NAME: &'static str = "daemonset";
    const ACCOUNT: &'static str = "daemon-set-controller";
    const COMPONENT: &'static str = "daemonset-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<DaemonSet>();
        wiring.owned::<Pod, DaemonSet>();
        // A new one changes nothing by itself, as upstream: who makes it may be about to remove another.
        wiring.map::<ControllerRevision>(|_, change| match change.old {
            Some(_) => owners::<_, DaemonSet>(change),
            None => Vec::new(),
        });
        wiring.map::<Pod>(|caches, change| orphan_keys(caches, change, selects));
        wiring.map::<Node>(|caches, change| {
            // Heartbeats change nothing about who may run there.
            let shape = |n: &Arc<Node>| (n.metadata.labels.clone(), n.spec.as_ref().and_then(|s| s.taints.clone()));
            match (change.old, change.new) {
                (Some(old), Some(new)) if shape(old) == shape(new) => Vec::new(),
                _ => caches.get::<DaemonSet>().keys(),
            }
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(set) = view.caches.get::<DaemonSet>().get(key) else {
            return Ok(None);
        };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let selector = Selector::from_object(Some(&spec.selector));
        let pods = view.caches.get::<Pod>().in_namespace(&key.namespace);
        let mut claim = Claim::sort(&set.metadata, &selector, pods);
        let revisions = view.caches.get::<ControllerRevision>().owned_by(object::uid(&set.metadata));
        if !claim.adopt.is_empty() && !view.may_adopt(&*set).await? {
            claim.adopt.clear();
        }
        let replace_at = self.note_failures(object::uid(&set.metadata), &claim.owned, view.now);
        let nodes = view.caches.get::<Node>().all();
        Ok(Some(Observed { set, claim, nodes, revisions, replace_at, now: view.now }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

impl DaemonSetController {
    /// A pod that fails again and again on a node is replaced later and later: at once, after 1 s, 2 s, … 15 min.
    fn note_failures(&self, set: &str, pods: &[Arc<Pod>], now: Timestamp) -> BTreeMap<String, Timestamp> {
        let mut failures = self.failures.lock();
        if failures.len() > REMEMBERED_MAX {
            failures.retain(|_, f| since(now, f.replace_at) < DELAY_MAX * 2);
        }
        let failed = pods.iter().filter(|p| pod::phase(p) == "Failed" && !pod::is_terminating(p));
        let mut replace_at = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for pod in failed {
            let key = (set.to_owned(), place::node_of(pod).to_owned());
            if !seen.insert(key.clone()) {
                continue;
            }
            let uid = object::uid(&pod.metadata).to_owned();
            let entry = failures.entry(key).or_insert_with(|| Failures {
                pod: uid.clone(),
                delay: Duration::ZERO,
                replace_at: now,
            });
            if since(now, entry.replace_at) > DELAY_MAX * 2 {
                (entry.delay, entry.replace_at) = (Duration::ZERO, now);
            }
            if entry.pod != uid {
                entry.pod.clone_from(&uid);
                entry.delay = (entry.delay * 2).clamp(Duration::from_secs(1), DELAY_MAX);
                entry.replace_at = after(now, i64::try_from(entry.delay.as_secs()).unwrap_or(0));
            }
            replace_at.insert(uid, entry.replace_at);
        }
        replace_at
    }
}

fn selects(set: &DaemonSet, labels: &Labels) -> bool {
    set.spec.as_ref().is_some_and(|s| Selector::from_object(Some(&s.selector)).matches(labels))
}

/// The set's own reference, as its pods and revisions carry it.
pub fn own_reference(set: &DaemonSet) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
    owner::controller_reference::<DaemonSet>(&set.metadata)
}

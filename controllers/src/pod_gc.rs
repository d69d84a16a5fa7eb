//! Removes pods that nobody else will: of nodes that are gone, never bound ones that were deleted, and too many finished.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crds::taint;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    node,
    plan::{Plan, Write},
    pod,
    runtime::{
        Controller, View, Wiring,
        clock::since,
        object::{self, Key},
        server::Error,
    },
};

/// A node may only be out of the cache for a moment.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The key under which all finished pods are looked at.
const FINISHED: &str = "";
const REMEMBERED_MAX: usize = 10_000;

#[derive(Debug)]
pub enum Observed {
    /// A pod whose node does not exist.
    Orphaned(Arc<Pod>),
    /// A deleted pod that no kubelet will let go.
    Stuck { pod: Arc<Pod>, out_of_service: bool },
    /// The node is missing, but not for long.
    Quarantined(Duration),
    /// All finished pods, and how many may stay.
    Finished(Vec<Arc<Pod>>, usize),
}

#[derive(Default)]
pub struct PodGcController {
    /// Since when nodes have been missing.
    missing: Mutex<BTreeMap<String, Timestamp>>,
}

impl Controller for PodGcController {
    const NAME: &'static str = "pod-garbage-collector";
    const COMPONENT: &'static str = "pod-garbage-collector";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.map::<Pod>(|_, change| {
            let Some(new) = change.new else {
                return Vec::new();
            };
            let finishes = pod::is_finished(new) && change.old.is_none_or(|o| !pod::is_finished(o));
            let all = finishes.then(|| Key::new("", FINISHED));
            all.into_iter().chain([Key::of(&new.metadata)]).collect()
        });
        wiring.reads::<Pod>().index_by(pod::BY_NODE, pod::node_names);
        wiring.map::<Node>(|caches, change| {
            let taints = |n: &Arc<Node>| node::taints(n).iter().any(|t| t.key == OUT_OF_SERVICE);
            match (change.old, change.new) {
                (Some(node), None) => of_node(caches, node),
                (_, Some(node)) if taints(node) => of_node(caches, node),
                _ => Vec::new(),
            }
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let pods = view.caches.get::<Pod>();
        if key.name == FINISHED {
            let finished: Vec<_> = pods.all().into_iter().filter(|p| pod::is_finished(p)).collect();
            return Ok(Some(Observed::Finished(finished, view.config.finished_pods_max)));
        }
        let Some(pod) = pods.get(key) else {
            return Ok(None);
        };
        let name = pod::node_name(&pod);
        if name.is_empty() {
            let stuck = pod::is_terminating(&pod);
            return Ok(stuck.then_some(Observed::Stuck { pod, out_of_service: false }));
        }
        if let Some(node) = view.caches.get::<Node>().find("", name) {
            self.missing.lock().remove(name);
            let tainted = node::taints(&node).iter().any(|t| t.key == OUT_OF_SERVICE);
            let ready = node.status.as_ref().and_then(|s| s.conditions.as_ref());
            let stuck = tainted && !crds::condition::is_true(ready, "Ready") && pod::is_terminating(&pod);
            return Ok(stuck.then_some(Observed::Stuck { pod, out_of_service: true }));
        }
        let gone_since = {
            let mut missing = self.missing.lock();
            if missing.len() > REMEMBERED_MAX {
                missing.clear();
            }
            *missing.entry(name.to_owned()).or_insert(view.now)
        };
        let elapsed = since(view.now, gone_since);
        if elapsed < QUARANTINE {
            return Ok(Some(Observed::Quarantined(QUARANTINE - elapsed)));
        }
        let live: Option<Node> = view.server.get("", name).await?;
        Ok(live.is_none().then_some(Observed::Orphaned(pod)))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        match seen {
            Observed::Quarantined(left) => Plan::default().again_after(*left),
            Observed::Orphaned(pod) => remove(pod, Some("PodGC: node no longer exists")),
            Observed::Stuck { pod, out_of_service } => {
                remove(pod, out_of_service.then_some("PodGC: node is out of service"))
            }
            Observed::Finished(pods, keep) => {
                let mut pods = pods.clone();
                pods.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
                let excess = pods.len().saturating_sub(*keep);
                let deletions = pods.iter().take(excess).map(|p| deletion(p));
                Plan::default().together(deletions.collect())
            }
        }
    }
}

fn of_node(caches: &crate::runtime::Caches, node: &Node) -> Vec<Key> {
    let pods = caches.get::<Pod>().indexed(pod::BY_NODE, object::name(&node.metadata));
    pods.iter().map(|p| Key::of(&p.metadata)).collect()
}

fn deletion(pod: &Pod) -> Write {
    Write::delete::<Pod>(&pod.metadata).with_grace(0)
}

/// Marks a pod as failed, with why it was disrupted, and removes it without waiting for a kubelet.
fn remove(pod: &Pod, why: Option<&str>) -> Plan {
    if pod::is_finished(pod) {
        return Plan::of(deletion(pod));
    }
    let mut status = json!({"phase": "Failed"});
    if let Some(why) = why {
        status["conditions"] = disruption("DeletionByPodGC", why);
    }
    let mark = Write::strategic::<Pod>(&pod.metadata, "status", json!({"status": status}));
    Plan::of(mark.forgiving(&[404])).then(deletion(pod))
}

/// The condition that tells a Job's failure policy, and people, that a pod did not end by itself.
pub fn disruption(reason: &str, message: &str) -> Value {
    json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}])
}

/// Keys that a node's taints are compared by.
pub fn is_no_execute(taint: &k8s_openapi::api::core::v1::Taint) -> bool {
    taint.effect == taint::NO_EXECUTE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::pod;

    #[test]
    fn removals() {
        let finished = || (0..3).map(|i| Arc::new(pod(&format!("p{i}"), "succeeded"))).collect::<Vec<_>>();
        for (seen, want) in [
            (Observed::Quarantined(QUARANTINE), &[][..]),
            (Observed::Orphaned(Arc::new(pod("a", "ready"))), &["mark a", "delete a"]),
            (Observed::Orphaned(Arc::new(pod("a", "failed"))), &["delete a"]),
            (Observed::Finished(finished(), 2), &["delete p0"]),
            (Observed::Finished(finished(), 5), &[]),
        ] {
            let plan = PodGcController::default().plan(&seen);
            let verb = |w: &Write| format!("{} {}", if w.is_delete() { "delete" } else { "mark" }, w.name);
            assert_eq!(plan.writes().map(verb).collect::<Vec<_>>(), want, "{seen:?}");
        }
    }
}

//! Evicts pods that do not tolerate their node's NoExecute taints, or not for so long.

use std::sync::Arc;

use crds::taint;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::json;

use crate::{
    node,
    plan::{Event, Plan, Write},
    pod,
    pod_gc::{disruption, is_no_execute},
    runtime::{
        Controller, View, Wiring,
        clock::after,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub pod: Arc<Pod>,
    /// The NoExecute taints of its node.
    pub taints: Vec<Taint>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct TaintEvictionController;

impl Controller for TaintEvictionController {
    const NAME: &'static str = "taint-eviction";
    const ACCOUNT: &'static str = "node-controller";
    const COMPONENT: &'static str = "taint-eviction-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.map::<Pod>(|_, change| {
            let shape =
                |p: &Arc<Pod>| (pod::node_name(p).to_owned(), p.spec.as_ref().and_then(|s| s.tolerations.clone()));
            let changed = change.old.map(shape) != change.new.map(shape);
            change.new.filter(|_| changed).map(|p| Key::of(&p.metadata)).into_iter().collect()
        });
        wiring.reads::<Pod>().index_by(pod::BY_NODE, pod::node_names);
        wiring.map::<Node>(|caches, change| {
            let executing =
                |n: &Arc<Node>| node::taints(n).iter().filter(|t| is_no_execute(t)).cloned().collect::<Vec<_>>();
            let Some(node) = change.new.filter(|_| change.old.map(executing) != change.new.map(executing)) else {
                return Vec::new();
            };
            let pods = caches.get::<Pod>().indexed(pod::BY_NODE, object::name(&node.metadata));
            pods.iter().map(|p| Key::of(&p.metadata)).collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(pod) = view.caches.get::<Pod>().get(key).filter(|p| !pod::is_terminating(p)) else {
            return Ok(None);
        };
        let node = view.caches.get::<Node>().find("", pod::node_name(&pod));
        let taints = node.iter().flat_map(|n| node::taints(n)).filter(|t| is_no_execute(t)).cloned();
        let taints: Vec<_> = taints.collect();
        Ok((!taints.is_empty()).then_some(Observed { pod, taints, now: view.now }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        match evict_at(seen) {
            None => Plan::default(),
            Some(at) if at > seen.now => Plan::default().again_at(seen.now, at),
            Some(_) => evict(&seen.pod),
        }
    }
}

/// When the pod must go; never, if it tolerates all for ever.
fn evict_at(seen: &Observed) -> Option<Timestamp> {
    let tolerations = seen.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let ends = seen.taints.iter().filter_map(|t| {
        let matching: Vec<_> = tolerations.iter().filter(|toleration| taint::tolerates(toleration, t)).collect();
        if matching.is_empty() {
            return Some(seen.now);
        }
        let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
        let added = t.time_added.as_ref().map_or(seen.now, |time| time.0);
        Some(after(added, seconds.max(0)))
    });
    ends.min()
}

fn evict(pod: &Pod) -> Plan {
    let conditions = disruption("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
    let mark = Write::strategic::<Pod>(&pod.metadata, "status", json!({"status": {"conditions": conditions}}));
    let named = format!("{}/{}", object::namespace(&pod.metadata), object::name(&pod.metadata));
    let message = format!("Marking for deletion Pod {named}");
    Plan::of(mark.forgiving(&[404])).then(Write::delete::<Pod>(&pod.metadata)).tell(Event::normal(
        object::reference(pod),
        "TaintManagerEviction",
        message,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::pod::tests as pods;

    #[test]
    fn tolerated_for_a_while() {
        let tolerating = |seconds: Value| json!([{"key": "k", "operator": "Exists", "tolerationSeconds": seconds}]);
        for (tolerations, want) in [
            (json!([]), Ok(2)),
            (tolerating(json!(null)), Ok(0)),
            (tolerating(json!(60)), Err(50)),
            (tolerating(json!(10)), Ok(2)),
            (json!([{"key": "other", "operator": "Exists"}]), Ok(2)),
        ] {
            let mut pod = pods::pod("a", "ready");
            pod.spec.as_mut().unwrap().tolerations = serde_json::from_value(tolerations.clone()).unwrap();
            let taint = json!({"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:09:50Z"});
            let seen =
                Observed { pod: Arc::new(pod), taints: vec![serde_json::from_value(taint).unwrap()], now: pods::now() };
            let plan = TaintEvictionController.plan(&seen);
            let got = plan.requeue_after.map_or(Ok(plan.writes().count()), |d| Err(d.as_secs()));
            assert_eq!(got, want, "{tolerations}");
        }
    }
}

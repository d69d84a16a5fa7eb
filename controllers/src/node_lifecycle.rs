//! Watches over nodes: who is silent becomes unknown, and who is not well is tainted.

pub mod plan;

use std::{collections::BTreeMap, sync::Arc};

use crds::condition;
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use parking_lot::Mutex;

use crate::{
    config::NodeTiming,
    plan::Plan,
    pod,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

const LEASES: &str = "kube-node-lease";

#[derive(Debug)]
pub struct Observed {
    pub node: Arc<Node>,
    /// When the last sign of life came in, by our clock.
    pub heard: Timestamp,
    /// The node's unfinished pods.
    pub pods: Vec<Arc<Pod>>,
    /// Whether some other node is well: if none is, the fault is likely not with the nodes.
    pub others_well: bool,
    pub timing: NodeTiming,
    pub now: Timestamp,
}

/// What was last seen of a node: when that changes, the node lives. Clocks of nodes are not compared with ours.
struct Health {
    signs: String,
    heard: Timestamp,
}

#[derive(Default)]
pub struct NodeLifecycleController {
    health: Mutex<BTreeMap<String, Health>>,
}

impl Controller for NodeLifecycleController {
    const NAME: &'static str = "node-lifecycle";
    const COMPONENT: &'static str = "node-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.map::<Node>(|caches, change| {
            let own = change.last().map(|n| Key::of(&n.metadata));
            // The health of one node bears on what is done about the others.
            let turned = change.old.map(|n| is_ready(n)) != change.new.map(|n| is_ready(n));
            let others = if turned { caches.get::<Node>().keys() } else { Vec::new() };
            own.into_iter().chain(others).collect()
        });
        wiring.map::<Lease>(|_, change| {
            let lease = change.new.filter(|l| object::namespace(&l.metadata) == LEASES);
            lease.map(|l| Key::new("", object::name(&l.metadata))).into_iter().collect()
        });
        wiring.reads::<Pod>().index_by(pod::BY_NODE, pod::node_names);
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let nodes = view.caches.get::<Node>();
        let Some(node) = nodes.get(key) else {
            self.health.lock().remove(&key.name);
            return Ok(None);
        };
        let lease = view.caches.get::<Lease>().find(LEASES, &key.name);
        let signs = format!(
            "{:?} {:?}",
            lease.and_then(|l| l.spec.as_ref()?.renew_time.clone()),
            condition_of(&node, "Ready").and_then(|c| c.last_heartbeat_time.clone())
        );
        let heard = {
            let mut health = self.health.lock();
            let entry =
                health.entry(key.name.clone()).or_insert_with(|| Health { signs: signs.clone(), heard: view.now });
            if entry.signs != signs {
                *entry = Health { signs, heard: view.now };
            }
            entry.heard
        };
        let pods = view.caches.get::<Pod>().indexed(pod::BY_NODE, &key.name);
        let others_well = nodes.all().iter().any(|n| n.metadata.name != node.metadata.name && is_ready(n));
        Ok(Some(Observed {
            node,
            heard,
            pods: pods.into_iter().filter(|p| !pod::is_finished(p)).collect(),
            others_well,
            timing: view.config.nodes,
            now: view.now,
        }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

pub fn condition_of<'a>(node: &'a Node, kind: &str) -> Option<&'a k8s_openapi::api::core::v1::NodeCondition> {
    condition::find(node.status.as_ref()?.conditions.as_ref()?, kind)
}

pub fn is_ready(node: &Node) -> bool {
    condition_of(node, "Ready").is_some_and(|c| c.status == "True")
}

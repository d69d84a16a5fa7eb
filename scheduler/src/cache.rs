//! The cluster as the scheduler believes it to be: what the watches say, and what it has decided since.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crds::selector::Labels;
use k8s_openapi::api::core::v1;

use crate::{
    framework::ClusterEvent,
    snapshot::{Claim, Group, Node, Pod, Snapshot},
};

#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<String, Arc<Node>>,
    /// Pods that have a node, decided or bound, by uid.
    pods: HashMap<String, Placed>,
    namespaces: Arc<BTreeMap<String, Labels>>,
    groups: BTreeMap<String, Group>,
    claims: Arc<BTreeMap<(String, String), Claim>>,
    /// The last snapshot, while it is still true.
    snapshot: Option<Snapshot>,
}

struct Placed {
    node: String,
    pod: Arc<Pod>,
    /// Decided here, and not yet seen in a watch.
    assumed: bool,
}

impl Cache {
    pub fn set_node(&mut self, object: Arc<v1::Node>) -> ClusterEvent {
        self.snapshot = None;
        let name = object.metadata.name.clone().unwrap_or_default();
        if let Some(node) = self.nodes.get_mut(&name) {
            let old = node.clone();
            Arc::make_mut(node).replace(object);
            return ClusterEvent::NodeChanged(old, node.clone());
        }
        let mut node = Node::new(object);
        for placed in self.pods.values().filter(|p| p.node == name) {
            node.add(placed.pod.clone());
        }
        let node = Arc::new(node);
        self.nodes.insert(name, node.clone());
        ClusterEvent::NodeAdded(node)
    }

    pub fn remove_node(&mut self, name: &str) {
        self.snapshot = None;
        self.nodes.remove(name);
    }

    /// A pod that has a node, as a watch tells it; a decision about it is confirmed by this.
    pub fn set_pod(&mut self, pod: Arc<Pod>) -> ClusterEvent {
        let old = self.pods.get(&pod.uid).map(|p| p.pod.clone());
        let node = pod.node_name().to_owned();
        self.place(pod.clone(), node, false);
        match old {
            // It asks for less, or is no longer what others keep away from.
            Some(old) if old.requests != pod.requests || old.labels != pod.labels => ClusterEvent::PodGone(pod),
            _ => ClusterEvent::PodPlaced(pod),
        }
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<ClusterEvent> {
        let placed = self.pods.remove(uid)?;
        self.snapshot = None;
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            Arc::make_mut(node).remove(uid);
        }
        Some(ClusterEvent::PodGone(placed.pod))
    }

    /// Counts a decision before it is carried out, so that the next one takes it into account.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        self.place(pod, node.to_owned(), true);
    }

    /// A decision came to nothing.
    pub fn forget(&mut self, uid: &str) -> Option<ClusterEvent> {
        self.is_assumed(uid).then(|| self.remove_pod(uid)).flatten()
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|p| p.assumed)
    }

    fn place(&mut self, pod: Arc<Pod>, name: String, assumed: bool) {
        self.snapshot = None;
        if let Some(old) = self.pods.get(&pod.uid)
            && let Some(node) = self.nodes.get_mut(&old.node)
        {
            Arc::make_mut(node).remove(&pod.uid);
        }
        if let Some(node) = self.nodes.get_mut(&name) {
            Arc::make_mut(node).add(pod.clone());
        }
        self.pods.insert(pod.uid.clone(), Placed { node: name, pod, assumed });
    }

    pub fn set_namespace(&mut self, name: String, labels: Option<Labels>) {
        self.snapshot = None;
        let namespaces = Arc::make_mut(&mut self.namespaces);
        match labels {
            Some(labels) => namespaces.insert(name, labels),
            None => namespaces.remove(&name),
        };
    }

    pub fn set_claim(&mut self, namespace: String, name: String, claim: Option<Claim>) {
        self.snapshot = None;
        let claims = Arc::make_mut(&mut self.claims);
        match claim {
            Some(claim) => claims.insert((namespace, name), claim),
            None => claims.remove(&(namespace, name)),
        };
    }

    pub fn set_group(&mut self, uid: String, group: Option<Group>) {
        self.snapshot = None;
        match group {
            Some(group) => self.groups.insert(uid, group),
            None => self.groups.remove(&uid),
        };
    }

    pub fn snapshot(&mut self) -> Snapshot {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let mut snapshot = Snapshot::new(self.nodes.values().cloned().collect());
        snapshot.namespaces = self.namespaces.clone();
        snapshot.claims = self.claims.clone();
        snapshot.groups = Arc::new(self.groups.values().cloned().collect());
        self.snapshot = Some(snapshot.clone());
        snapshot
    }
}

//! The cluster as one decision sees it: nodes with their pods, reckoned up, and immutable.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crds::selector::{Labels, Selector};

mod node;
mod pod;
mod resources;

pub use node::Node;
pub use pod::{Pod, Term};
pub use resources::Resources;

/// Cheap to clone: everything in it is shared.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In a stable order, by name.
    pub nodes: Arc<Vec<Arc<Node>>>,
    pub index: Arc<HashMap<String, usize>>,
    /// Labels of the namespaces.
    pub namespaces: Arc<BTreeMap<String, Labels>>,
    /// What groups pods: services' and workloads' selectors.
    pub groups: Arc<Vec<Group>>,
    /// On how many nodes an image lies.
    pub image_nodes: Arc<HashMap<String, usize>>,
    /// Claims for volumes that exist, by namespace and name.
    pub claims: Arc<BTreeMap<(String, String), Claim>>,
}

/// A selector that says which pods belong together.
#[derive(Clone, Debug)]
pub struct Group {
    pub namespace: String,
    /// Of the workload; none for a service, which takes all pods that match.
    pub owner: Option<String>,
    pub selector: Selector,
}

/// What matters of a PersistentVolumeClaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Bound,
    /// It is bound when its pod has a node.
    WaitsForPod,
    Unbound,
    Deleting,
}

impl Snapshot {
    pub fn new(mut nodes: Vec<Arc<Node>>) -> Self {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let index = nodes.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect();
        let mut image_nodes: HashMap<String, usize> = HashMap::new();
        for image in nodes.iter().flat_map(|n| n.images.keys()) {
            *image_nodes.entry(image.clone()).or_default() += 1;
        }
        Self { nodes: Arc::new(nodes), index: Arc::new(index), image_nodes: Arc::new(image_nodes), ..Self::default() }
    }

    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.index.get(name).and_then(|i| self.nodes.get(*i))
    }

    /// The same cluster with one node in another state.
    pub fn with_node(&self, node: Node) -> Self {
        let mut changed = self.clone();
        if let Some(i) = self.index.get(&node.name) {
            let mut nodes = (*self.nodes).clone();
            nodes[*i] = Arc::new(node);
            changed.nodes = Arc::new(nodes);
        }
        changed
    }

    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    /// The selector of everything that the pod belongs to: all of its services and the workload that owns it.
    pub fn group_of(&self, pod: &Pod) -> Option<Selector> {
        let mut requirements = Vec::new();
        for group in self.groups.iter().filter(|g| g.namespace == pod.namespace) {
            let belongs = match &group.owner {
                Some(owner) => pod.owner.as_ref() == Some(owner),
                None => !group.selector.is_everything() && group.selector.matches(&pod.labels),
            };
            if belongs {
                requirements.extend(group.selector.requirements.iter().cloned());
            }
        }
        (!requirements.is_empty()).then(|| {
            let mut selector = Selector::everything();
            selector.requirements = requirements;
            selector
        })
    }
}

//! A node as plugins see it: what it has, and what its pods have taken.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crds::{pod::port::HostPort, selector::Labels};
use k8s_openapi::api::core::v1::{self, Taint};

use super::{Pod, Resources};

#[derive(Clone, Debug, Default)]
pub struct Node {
    pub object: Arc<v1::Node>,
    pub name: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub requested: Resources,
    /// Processor and memory, with the default where pods ask for nothing.
    pub nonzero: (i64, i64),
    /// By uid, so that the order does not depend on how they came.
    pub pods: BTreeMap<String, Arc<Pod>>,
    pub host_ports: Vec<HostPort>,
    /// Sizes in bytes, by name.
    pub images: HashMap<String, i64>,
}

impl Node {
    /// The node without any pods.
    pub fn new(object: Arc<v1::Node>) -> Self {
        let spec = object.spec.as_ref();
        let status = object.status.as_ref();
        let mut images = HashMap::new();
        for image in status.and_then(|s| s.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            labels: object.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|s| s.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            allocatable: Resources::of_wire(status.and_then(|s| s.allocatable.as_ref())),
            images,
            object,
            ..Self::default()
        }
    }

    /// The same pods on a changed node.
    pub fn replace(&mut self, object: Arc<v1::Node>) {
        let pods = std::mem::take(&mut self.pods);
        *self = Self::new(object);
        for pod in pods.into_values() {
            self.add(pod);
        }
    }

    pub fn add(&mut self, pod: Arc<Pod>) {
        self.remove(&pod.uid);
        self.requested.add(&pod.requests);
        self.nonzero = (self.nonzero.0.saturating_add(pod.nonzero.0), self.nonzero.1.saturating_add(pod.nonzero.1));
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Gives the pod that was removed.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let gone = self.pods.remove(uid)?;
        // Summed up anew: differences would carry rounding and order along.
        (self.requested, self.nonzero) = (Resources::default(), (0, 0));
        self.host_ports.clear();
        for pod in self.pods.values() {
            self.requested.add(&pod.requests);
            self.nonzero = (self.nonzero.0.saturating_add(pod.nonzero.0), self.nonzero.1.saturating_add(pod.nonzero.1));
            self.host_ports.extend(pod.host_ports.iter().cloned());
        }
        Some(gone)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

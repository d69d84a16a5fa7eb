//! A pod as plugins see it: what it asks for, reckoned once.

use std::{collections::BTreeSet, sync::Arc};

use crds::{
    owner,
    pod::{
        port::{self, HostPort},
        resources::{self, Count},
    },
    selector::{Labels, Selector},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};

use super::{Resources, Snapshot};

/// What a container without requests counts as when nodes are compared, so that pods spread even then.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

#[derive(Clone, Debug)]
pub struct Pod {
    pub object: Arc<v1::Pod>,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The uid of the controller that owns it.
    pub owner: Option<String>,
    pub priority: i32,
    pub requests: Resources,
    /// Processor and memory, with the default where nothing is asked for.
    pub nonzero: (i64, i64),
    pub host_ports: Vec<HostPort>,
    pub required_affinity: Vec<Term>,
    pub required_anti_affinity: Vec<Term>,
    /// With their weights.
    pub preferred_affinity: Vec<(i64, Term)>,
    pub preferred_anti_affinity: Vec<(i64, Term)>,
}

/// A parsed term of pod affinity.
#[derive(Clone, Debug)]
pub struct Term {
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    selector: Selector,
    pub topology_key: String,
}

impl Term {
    fn new(term: &PodAffinityTerm, own_namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own_namespace.to_owned());
        }
        Self {
            namespaces,
            namespace_selector: Selector::from_object(term.namespace_selector.as_ref()),
            selector: Selector::from_object(term.label_selector.as_ref()),
            topology_key: term.topology_key.clone(),
        }
    }

    pub fn matches(&self, pod: &Pod, snapshot: &Snapshot) -> bool {
        let here = self.namespaces.contains(&pod.namespace)
            || snapshot.namespace_labels(&pod.namespace).is_some_and(|labels| self.namespace_selector.matches(labels));
        here && self.selector.matches(&pod.labels)
    }
}

impl Pod {
    pub fn new(object: Arc<v1::Pod>) -> Self {
        let meta = &object.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let empty = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let requests = Resources::of(&resources::requests(&object, Count::Status));
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|a| a.pod_affinity.as_ref());
        let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            terms.into_iter().flatten().map(|t| Term::new(t, &namespace)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>| -> Vec<(i64, Term)> {
            let terms = terms.into_iter().flatten();
            terms.map(|t| (i64::from(t.weight), Term::new(&t.pod_affinity_term, &namespace))).collect()
        };
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            owner: owner::controller(meta).map(|o| o.uid.clone()),
            priority: spec.priority.unwrap_or(0),
            nonzero: nonzero(spec, &requests),
            host_ports: port::host_ports(spec),
            required_affinity: required(
                near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            required_anti_affinity: required(
                apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_affinity: preferred(
                near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: preferred(
                apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            namespace,
            requests,
            object,
        }
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.object.spec.as_ref()
    }

    pub fn node_name(&self) -> &str {
        self.spec().and_then(|s| s.node_name.as_deref()).unwrap_or("")
    }

    pub fn is_terminating(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub fn has_affinity(&self) -> bool {
        let lists = [self.required_affinity.len(), self.required_anti_affinity.len()];
        let weighted = [self.preferred_affinity.len(), self.preferred_anti_affinity.len()];
        lists.iter().chain(&weighted).any(|n| *n > 0)
    }

    pub fn started(&self) -> Option<Timestamp> {
        self.object.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0)
    }
}

/// Each container that asks for nothing counts as if it asked for the default.
fn nonzero(spec: &PodSpec, requests: &Resources) -> (i64, i64) {
    let unset = |name: &str| {
        let asks = |c: &&v1::Container| {
            c.resources.as_ref().and_then(|r| r.requests.as_ref()).is_none_or(|r| !r.contains_key(name))
        };
        spec.containers.iter().filter(asks).count() as i64
    };
    let whole =
        |name: &str| spec.resources.as_ref().and_then(|r| r.requests.as_ref()).is_some_and(|r| r.contains_key(name));
    let cpu = if whole("cpu") { 0 } else { unset("cpu") * DEFAULT_MILLI_CPU };
    let memory = if whole("memory") { 0 } else { unset("memory") * DEFAULT_MEMORY };
    (requests.milli_cpu.saturating_add(cpu), requests.memory.saturating_add(memory))
}

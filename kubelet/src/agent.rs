//! What all parts of one node agent share.

use std::{collections::BTreeMap, sync::Arc};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use kube::runtime::reflector::Store;
use parking_lot::{Mutex, RwLock};

use crate::{
    clock::Clock,
    config::Config,
    event::Recorder,
    image::Images,
    object::Objects,
    pod::{PodExt, resource, status::Host, table::Registry},
    runtime::Runtime,
    system::{Machine, System},
};

/// The shared parts of a node agent.
pub struct Agent {
    pub config: Config,
    pub client: kube::Client,
    pub runtime: Arc<dyn Runtime>,
    pub system: Arc<dyn System>,
    pub clock: Clock,
    pub events: Recorder,
    pub images: Images,
    pub config_maps: Objects<ConfigMap>,
    pub secrets: Objects<Secret>,
    pub services: Store<Service>,
    pub machine: Machine,
    pub allocatable: resource::List,
    /// Where this is and what it runs on.
    pub host: RwLock<Host>,
    /// The node as the API last had it.
    pub node: RwLock<Option<Arc<Node>>>,
    pub pods: Registry,
    /// What presses the node: `memory`, `disk`, `pid`.
    pub pressures: Mutex<Vec<&'static str>>,
    /// The last part of the runtime's handlers, by RuntimeClass name.
    pub handlers: Mutex<BTreeMap<String, String>>,
}

impl Agent {
    /// Where a pod is reached; empty when it has no address yet.
    pub fn pod_ip(&self, pod: &Pod) -> String {
        let known = self.pods.get(pod.uid()).and_then(|entry| entry.pod.status.as_ref()?.pod_ip.clone());
        known.or_else(|| pod.status.as_ref()?.pod_ip.clone()).unwrap_or_default()
    }

    pub fn host(&self) -> Host {
        self.host.read().clone()
    }

    /// The node's own resolver configuration.
    pub fn resolver(&self) -> cri::DnsConfig {
        if self.config.resolv_conf.as_os_str().is_empty() {
            return cri::DnsConfig::default();
        }
        let text = self.system.read(&self.config.resolv_conf).unwrap_or_default();
        crate::pod::dns::parse(&String::from_utf8_lossy(&text))
    }

    /// The services that a pod of a namespace may be told of.
    pub fn services(&self, namespace: &str) -> Vec<Service> {
        let all = self.services.state();
        let near =
            |s: &&Arc<Service>| matches!(s.metadata.namespace.as_deref(), Some(n) if n == namespace || n == "default");
        let mut chosen: Vec<Service> = all.iter().filter(near).map(|s| s.as_ref().clone()).collect();
        chosen.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        chosen
    }
}

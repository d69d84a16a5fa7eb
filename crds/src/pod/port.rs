//! Ports of a Pod: those it takes from its node, and those that are known by name.

use k8s_openapi::{
    api::core::v1::{ContainerPort, Pod, PodSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::container::is_sidecar;
use crate::given::{Items, Text};

/// A port of the node that a Pod needs for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Empty or `0.0.0.0`: all addresses of the node.
    pub ip: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Whether the two cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.ip) || any(&other.ip) || self.ip == other.ip)
    }
}

/// The ports that run at the same time: those of containers and of sidecars.
pub fn declared(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.items().iter().filter(|c| is_sidecar(c));
    spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.items())
}

pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    declared(spec)
        .filter(|p| p.host_port.unwrap_or(0) > 0)
        .map(|p| HostPort {
            ip: p.host_ip.text().to_owned(),
            protocol: p.protocol.as_deref().unwrap_or("TCP").to_owned(),
            port: p.host_port.unwrap_or(0),
        })
        .collect()
}

/// The number of the target port of a Service in this Pod: names are looked up among ports of the same protocol.
pub fn resolve(pod: &Pod, target: &IntOrString, protocol: &str) -> Option<i32> {
    match target {
        IntOrString::Int(port) => Some(*port),
        IntOrString::String(name) => {
            let same = |p: &&ContainerPort| p.name.text() == name && p.protocol.as_deref().unwrap_or("TCP") == protocol;
            declared(pod.spec.as_ref()?).find(same).map(|p| p.container_port)
        }
    }
}

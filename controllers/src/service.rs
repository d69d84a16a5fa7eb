//! What the endpoint controllers ask of Services and their pods.

use std::{net::IpAddr, sync::Arc};

use crds::selector::Selector;
use k8s_openapi::{
    api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    pod,
    runtime::{
        Caches,
        cache::Change,
        object::{self, Key},
    },
};

pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The pods that a Service selects; none if it selects nothing itself.
pub fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().map(Selector::from_labels)
}

pub fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    matches!(ip, "" | "None")
}

pub fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// A pod's change concerns the Services that select it, before or after.
pub fn of_pod(caches: &Caches, change: &Change<'_, Pod>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (change.old, change.new)
        && same_endpoint(old, new)
    {
        return Vec::new();
    }
    let Some(namespace) = change.last().map(|p| object::namespace(&p.metadata)) else {
        return Vec::new();
    };
    let services = caches.get::<Service>().in_namespace(namespace);
    let selected = |service: &&Arc<Service>| {
        selector(service).is_some_and(|s| {
            change.states().any(|p| s.matches(p.metadata.labels.as_ref().unwrap_or(&Default::default())))
        })
    };
    services.iter().filter(selected).map(|s| Key::of(&s.metadata)).collect()
}

/// Whether nothing changed that an endpoint shows.
fn same_endpoint(old: &Pod, new: &Pod) -> bool {
    let shown = |p: &Pod| {
        let status = p.status.clone().unwrap_or_default();
        let spec = p.spec.as_ref();
        (
            (p.metadata.labels.clone(), p.metadata.deletion_timestamp.clone(), pod::is_ready(p), pod::is_finished(p)),
            (status.pod_ip, status.pod_ips, pod::node_name(p).to_owned()),
            (spec.and_then(|s| s.hostname.clone()), spec.and_then(|s| s.subdomain.clone())),
        )
    };
    shown(old) == shown(new)
}

/// Whether a pod has an address to be shown. Terminating pods are only shown where asked for.
pub fn has_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let addressed = status.is_some_and(|s| {
        s.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()) || s.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    addressed && !pod::is_finished(pod) && (with_terminating || !pod::is_terminating(pod))
}

pub fn addresses(pod: &Pod, ipv6: bool) -> Vec<String> {
    let ips = pod.status.iter().flat_map(|s| s.pod_ips.iter().flatten());
    let parsed = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
    parsed.filter(|ip| ip.is_ipv6() == ipv6).map(|ip| ip.to_string()).collect()
}

/// The hostname that DNS gives a pod of a headless service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same = spec.subdomain.as_deref() == service.metadata.name.as_deref()
        && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|h| !h.is_empty() && same)
}

pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The number of a Service's port on a pod: given, or that of the container port of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(number)) => return Some(*number),
        None => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let restarts = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(restarts);
    let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".to_owned());
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .find(|p| p.name.as_ref() == Some(name) && protocol(&p.protocol) == protocol(&port.protocol))
        .map(|p| p.container_port)
}

/// The latest change that the endpoints follow: of the Service's creation or a pod's readiness.
pub fn trigger_time(service: &Service, pods: &[Arc<Pod>]) -> Option<jiff::Timestamp> {
    let conditions = |p: &Arc<Pod>| {
        let conditions = p.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        conditions.into_iter().filter(|c| c.type_ == "Ready").filter_map(|c| c.last_transition_time).map(|t| t.0).max()
    };
    let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    pods.iter().filter_map(conditions).chain(created).max()
}

//! What is to be reached: each port of each Service, with its addresses, policies and endpoints.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{EndpointConditions, EndpointPort, EndpointSlice},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn parse(name: Option<&str>) -> Self {
        match name {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }
}

/// One backend of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    pub port_name: String,
    pub protocol: Protocol,
    pub cluster_ips: Vec<IpAddr>,
    pub port: u16,
    pub node_port: Option<u16>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty: everybody.
    pub source_ranges: Vec<IpNet>,
    /// Seconds that a client stays with one endpoint.
    pub affinity_seconds: Option<i32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// Sorted, each once.
    pub endpoints: Vec<Endpoint>,
}

/// The ports of a Service that a proxy must serve: none for headless services and external names.
///
/// `slices` are those of this Service; `node` and `zone` say where this proxy runs.
pub fn service_ports(service: &Service, slices: &[&EndpointSlice], node: &str, zone: Option<&str>) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let cluster_ips = parse_all(spec.cluster_ips.as_deref().unwrap_or_default());
    if spec.type_.as_deref() == Some("ExternalName") || cluster_ips.is_empty() {
        return Vec::new();
    }
    let ingress = service.status.iter().flat_map(|s| &s.load_balancer).flat_map(|l| l.ingress.iter().flatten());
    let proxied = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    let load_balancer_ips: Vec<IpAddr> = proxied.filter_map(|i| i.ip.as_ref()?.parse().ok()).collect();
    let ranges = spec.load_balancer_source_ranges.iter().flatten().filter_map(|r| r.trim().parse().ok());
    let source_ranges: Vec<IpNet> = ranges.collect();
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP"))
        .then(|| config.and_then(|c| c.timeout_seconds).unwrap_or(10800));
    let meta = &service.metadata;
    let port = |p: &k8s_openapi::api::core::v1::ServicePort| {
        let port_name = p.name.clone().unwrap_or_default();
        let protocol = Protocol::parse(p.protocol.as_deref());
        Some(ServicePort {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            protocol,
            cluster_ips: cluster_ips.clone(),
            port: u16::try_from(p.port).ok()?,
            node_port: p.node_port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0),
            external_ips: parse_all(spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            affinity_seconds: affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            endpoints: endpoints(slices, &port_name, protocol, node, zone),
            port_name,
        })
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

fn parse_all(texts: &[String]) -> Vec<IpAddr> {
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

/// Backends are matched by the name of the port, never by its number: the target port may be any other.
fn endpoints(
    slices: &[&EndpointSlice],
    port_name: &str,
    protocol: Protocol,
    node: &str,
    zone: Option<&str>,
) -> Vec<Endpoint> {
    let named = |p: &&EndpointPort| {
        p.name.as_deref().unwrap_or("") == port_name && Protocol::parse(p.protocol.as_deref()) == protocol
    };
    let mut found = Vec::new();
    for slice in slices {
        let Some(port) = slice.ports.iter().flatten().find(named).and_then(|p| u16::try_from(p.port?).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let local = endpoint.node_name.as_deref() == Some(node);
            let hints = endpoint.hints.as_ref();
            let here = Nearness {
                node: hints.and_then(|h| h.for_nodes.as_ref()).map(|n| n.iter().any(|n| n.name == node)),
                zone: hints.and_then(|h| h.for_zones.as_ref()).map(|z| z.iter().any(|z| Some(z.name.as_str()) == zone)),
            };
            let fitness = fitness(endpoint.conditions.as_ref());
            for address in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                found.push((fitness, here, Endpoint { address, port, local }));
            }
        }
    }
    // While nothing is ready, what still serves while it terminates keeps the service up.
    let best = found.iter().map(|(fitness, ..)| *fitness).max().unwrap_or(Fitness::Unfit);
    found.retain(|(fitness, ..)| *fitness == best && best != Fitness::Unfit);
    let chosen: BTreeSet<Endpoint> = nearest(&found).into_iter().collect();
    chosen.into_iter().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    Unfit,
    ServingWhileTerminating,
    Ready,
}

fn fitness(conditions: Option<&EndpointConditions>) -> Fitness {
    let Some(conditions) = conditions else { return Fitness::Ready };
    let ready = conditions.ready.unwrap_or(true);
    if ready {
        return Fitness::Ready;
    }
    match (conditions.serving.unwrap_or(ready), conditions.terminating.unwrap_or(false)) {
        (true, true) => Fitness::ServingWhileTerminating,
        _ => Fitness::Unfit,
    }
}

/// Whether the hints of an endpoint name this node and this zone; `None` where it has no such hints.
#[derive(Clone, Copy, Debug)]
struct Nearness {
    node: Option<bool>,
    zone: Option<bool>,
}

/// Hints count only where every endpoint has them and at least one names this place.
fn nearest(found: &[(Fitness, Nearness, Endpoint)]) -> Vec<Endpoint> {
    for hint in [|n: &Nearness| n.node, |n: &Nearness| n.zone] {
        let all_hinted = found.iter().all(|(_, near, _)| hint(near).is_some());
        let near: Vec<Endpoint> =
            found.iter().filter(|(_, near, _)| hint(near) == Some(true)).map(|(.., e)| *e).collect();
        if all_hinted && !near.is_empty() {
            return near;
        }
    }
    found.iter().map(|(.., endpoint)| *endpoint).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
            "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}))
        .unwrap()
    }

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({"addressType": "IPv4", "metadata": {"name": "web-1"},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "other", "port": 80, "protocol": "TCP"}],
            "endpoints": endpoints}))
        .unwrap()
    }

    fn chosen(endpoints: serde_json::Value) -> Vec<String> {
        let slice = slice(endpoints);
        let ports = service_ports(&service(), &[&slice], "here", Some("a"));
        ports[0]
            .endpoints
            .iter()
            .map(|e| format!("{}:{}{}", e.address, e.port, if e.local { " local" } else { "" }))
            .collect()
    }

    #[test]
    fn ports_match_by_name() {
        assert_eq!(chosen(json!([{"addresses": ["10.244.0.5"], "nodeName": "here"}])), ["10.244.0.5:8080 local"]);
    }

    #[test]
    fn ready_before_terminating() {
        let terminating =
            json!({"addresses": ["10.244.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready = json!({"addresses": ["10.244.0.6"], "conditions": {"ready": true}});
        let unready = json!({"addresses": ["10.244.0.7"], "conditions": {"ready": false, "serving": false}});
        assert_eq!(chosen(json!([terminating, ready, unready])), ["10.244.0.6:8080"]);
        assert_eq!(chosen(json!([terminating, unready])), ["10.244.0.5:8080"]);
        assert!(chosen(json!([unready])).is_empty());
    }

    #[test]
    fn hints() {
        let near = json!({"addresses": ["10.244.0.5"], "hints": {"forZones": [{"name": "a"}]}});
        let far = json!({"addresses": ["10.244.0.6"], "hints": {"forZones": [{"name": "b"}]}});
        let unhinted = json!({"addresses": ["10.244.0.7"]});
        assert_eq!(chosen(json!([near, far])), ["10.244.0.5:8080"]);
        assert_eq!(chosen(json!([near, far, unhinted])).len(), 3);
        assert_eq!(chosen(json!([far])), ["10.244.0.6:8080"]);
    }

    #[test]
    fn headless_has_none() {
        let mut headless = service();
        let spec = headless.spec.as_mut().unwrap();
        (spec.cluster_ip, spec.cluster_ips) = (Some("None".into()), Some(vec!["None".into()]));
        assert!(service_ports(&headless, &[], "here", None).is_empty());
    }
}

//! Where a Service is reached: at one of its ready endpoints, for nothing need route its address on this machine.

use std::fmt;

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::CallError;
use crate::{error::ApiError, world::World};

/// A host and a port; a host with colons is written in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A port of a Service, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    pub port: i32,
}

impl ServicePort {
    /// Whom its certificate must be for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Where it is reached right now.
    pub fn resolve(&self, world: &World) -> Result<Address, CallError> {
        let told = |error: ApiError| CallError(error.to_string());
        let service = world.get::<Service>(&self.namespace, &self.name).map_err(told)?;
        let service = service.ok_or_else(|| CallError(format!("service {:?} not found", self.name)))?;
        let slices = slices(world, &self.namespace, &self.name).map_err(told)?;
        address(&service, &slices, self.port, |count| world.random.below(count as u128) as usize)
    }
}

/// The EndpointSlices of a Service.
pub fn slices(world: &World, namespace: &str, service: &str) -> Result<Vec<EndpointSlice>, ApiError> {
    use crds::kind::Kind;
    let all = world.cache.prefix(EndpointSlice::ABOUT.storage_prefix).list(namespace);
    let of_service = |label: Option<&String>| label.is_some_and(|name| name == service);
    let all = all.iter().filter(|slice| of_service(slice.labels.get("kubernetes.io/service-name")));
    all.map(|slice| slice.decode()).collect()
}

/// The ready endpoint behind a port that `choose` says, given how many there are; those of the Service's first family
/// are preferred.
pub fn address(
    service: &Service,
    slices: &[EndpointSlice],
    port: i32,
    choose: impl FnOnce(usize) -> usize,
) -> Result<Address, CallError> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        "ExternalName" => {
            let port = u16::try_from(port).map_err(|_| CallError(format!("invalid port {port}")))?;
            return Ok(Address { host: spec.external_name.unwrap_or_default(), port });
        }
        other => return Err(CallError(format!("unsupported service type {other:?}"))),
    }
    let found = spec.ports.iter().flatten().find(|known| known.port == port);
    let found = found.ok_or_else(|| CallError(format!("no service port {port} found for service {name:?}")))?;
    let port_name = found.name.as_deref().unwrap_or_default();
    let first = spec.ip_families.iter().flatten().next();
    let is_preferred = |slice: &&EndpointSlice| first.is_none_or(|family| *family == slice.address_type);
    let preferred = slices.iter().filter(is_preferred);
    let all = ready(preferred, port_name);
    let all = if all.is_empty() { ready(slices.iter(), port_name) } else { all };
    all.get(choose(all.len())).cloned().ok_or_else(|| CallError(format!("no endpoints available for service {name:?}")))
}

/// All addresses that take requests for a port.
fn ready<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port_name: &str) -> Vec<Address> {
    let of_slice = |slice: &'a EndpointSlice| {
        let port = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(port_name));
        let port = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok());
        let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint));
        let hosts = endpoints.filter_map(|endpoint| endpoint.addresses.first());
        port.into_iter().flat_map(move |port| hosts.clone().map(move |host| Address { host: host.clone(), port }))
    };
    slices.flat_map(of_slice).collect()
}

pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    fn slice(family: &str, ready: bool, address: &str) -> EndpointSlice {
        let endpoints = json!([{"addresses": [address], "conditions": {"ready": ready}}]);
        let slice = json!({"addressType": family, "endpoints": endpoints, "ports": [{"name": "h", "port": 8443}]});
        serde_json::from_value(slice).unwrap()
    }

    #[test]
    fn endpoints_behind_a_port() {
        let spec = json!({"type": "ClusterIP", "ipFamilies": ["IPv4"], "ports": [{"name": "h", "port": 443}]});
        let plain = service(spec);
        let six = slice("IPv6", true, "fd00::1");
        let told =
            |service: &Service, slices: &[EndpointSlice], port| match address(service, slices, port, |count| count / 2)
            {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            };
        let both = [six.clone(), slice("IPv4", false, "10.1.0.1"), slice("IPv4", true, "10.1.0.2")];
        assert_eq!(told(&plain, &both, 443), "10.1.0.2:8443");
        assert_eq!(told(&plain, &[six], 443), "[fd00::1]:8443");
        assert_eq!(told(&plain, &both, 80), "no service port 80 found for service \"s\"");
        assert_eq!(told(&plain, &both[1..2], 443), "no endpoints available for service \"s\"");
        let external = service(json!({"type": "ExternalName", "externalName": "h.example.com"}));
        assert_eq!(told(&external, &[], 443), "h.example.com:443");
    }
}

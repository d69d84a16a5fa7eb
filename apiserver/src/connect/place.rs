//! Where a pod, a service or a node is reached: pure, from the objects alone.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Node, Pod, Service};

use crate::error::{ApiError, Result};

/// Whom the other side must be, and whom we say we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No TLS.
    Plain,
    /// A kubelet: we show our certificate, and verify its if we know by what.
    Kubelet,
    /// A kubelet whose certificate the client wants not to be verified.
    UnverifiedKubelet,
    /// Whatever answers: no certificate of ours, none verified.
    Anyone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub trust: Trust,
    /// An address or a name.
    pub host: String,
    pub port: u16,
    pub path_and_query: String,
}

impl Place {
    pub fn scheme(&self) -> &'static str {
        if self.trust == Trust::Plain { "http" } else { "https" }
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path_and_query)
    }
}

/// `name`, `name:port` or `scheme:name:port`, as the name in a proxy's path is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub whole: &'a str,
    pub https: bool,
    pub name: &'a str,
    /// May be empty.
    pub port: &'a str,
}

impl<'a> Asked<'a> {
    pub fn parse(whole: &'a str) -> Option<Self> {
        let (scheme, name, port) = match whole.split(':').collect::<Vec<_>>().as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Self {
            whole,
            https: scheme == "https",
            name,
            port,
        })
    }

    fn place(&self, host: &str, port: u16) -> Place {
        let trust = if self.https { Trust::Anyone } else { Trust::Plain };
        Place { trust, host: host.to_owned(), port, path_and_query: String::new() }
    }

    fn port(&self) -> Result<Option<u16>> {
        if self.port.is_empty() {
            return Ok(None);
        }
        let why = || format!("error trying to reach service: dial tcp: lookup tcp/{}: unknown port", self.port);
        self.port.parse().map(Some).map_err(|_| ApiError::unavailable(why()))
    }
}

/// The container that is asked for, or the only one.
pub(super) fn container<'p>(pod: &'p Pod, asked: &str) -> Result<&'p str> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Err(no_container(name)) };
    let names = || {
        let init = spec.init_containers.iter().flatten().map(|container| container.name.as_str());
        let main = spec.containers.iter().map(|container| container.name.as_str());
        init.chain(main).chain(spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str()))
    };
    if !asked.is_empty() {
        let why = || ApiError::bad_request(format!("container {asked} is not valid for pod {name}"));
        return names().find(|known| *known == asked).ok_or_else(why);
    }
    match spec.containers.as_slice() {
        [only] => Ok(&only.name),
        [] => Err(no_container(name)),
        _ => {
            let known = names().collect::<Vec<_>>().join(" ");
            let why = format!("a container name must be specified for pod {name}, choose one of: [{known}]");
            Err(ApiError::bad_request(why))
        }
    }
}

fn no_container(pod: &str) -> ApiError {
    ApiError::bad_request(format!("a container name must be specified for pod {pod}"))
}

/// The node that a pod is bound to.
pub(super) fn host_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub(super) fn no_host(pod: &str) -> ApiError {
    ApiError::bad_request(format!("pod {pod} does not have a host assigned"))
}

/// The kubelet's port where a node does not tell its own.
const KUBELET_PORT: u16 = 10250;

/// The kubelet of a node, by the address of the most preferred type.
pub(super) fn kubelet(node: &Node, types: &[String]) -> Result<Place> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let preferred = types.iter().find_map(|wanted| addresses.iter().find(|address| address.type_ == *wanted));
    let Some(preferred) = preferred else {
        let known: Vec<_> = addresses.iter().map(|a| format!("{{{} {}}}", a.type_, a.address)).collect();
        let why = format!("no preferred addresses found; known addresses: [{}]", known.join(" "));
        return Err(ApiError::unknown(why));
    };
    let endpoints = status.and_then(|status| status.daemon_endpoints.as_ref());
    let port = endpoints.and_then(|endpoints| endpoints.kubelet_endpoint.as_ref()).map(|endpoint| endpoint.port);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
    Ok(Place { trust: Trust::Kubelet, host: preferred.address.clone(), port, path_and_query: String::new() })
}

/// Another port of a node is whatever listens there, not its kubelet.
pub(super) fn node(kubelet: Place, asked: &Asked) -> Result<Place> {
    match asked.port()? {
        Some(port) if port != kubelet.port => Ok(asked.place(&kubelet.host, port)),
        _ => Ok(kubelet),
    }
}

/// A pod at its address: the port that is asked for, or the first that a container declares.
pub(super) fn pod(pod: &Pod, asked: &Asked) -> Result<Place> {
    let declared = || {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let first = containers.filter_map(|container| container.ports.as_ref()?.first()).next()?;
        u16::try_from(first.container_port).ok()
    };
    let port = asked.port()?.or_else(declared).unwrap_or(if asked.https { 443 } else { 80 });
    let address = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref()?.first());
    let address = address.map(|address| address.ip.as_str()).unwrap_or_default();
    if !address.parse().is_ok_and(is_global_unicast) {
        return Err(not_allowed());
    }
    Ok(asked.place(address, port))
}

pub(super) fn not_allowed() -> ApiError {
    ApiError::bad_request("address not allowed")
}

/// As Go has it: no loopback, no link-local, no multicast address.
pub(super) fn is_global_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The name of a service's port that is given by its number.
pub(super) fn port_name(service: &Service, number: i32, name: &str) -> Result<String> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let port = ports.iter().find(|port| port.port == number);
    let why = || ApiError::unavailable(format!("no service port {number} found for service \"{name}\""));
    port.map(|port| port.name.clone().unwrap_or_default()).ok_or_else(why)
}

/// The addresses behind a port of a service, by its name.
pub(super) fn ready<'e>(endpoints: &'e Endpoints, port: &str, name: &str) -> Result<Vec<(&'e EndpointAddress, u16)>> {
    let subsets = endpoints.subsets.as_deref().unwrap_or_default();
    if subsets.is_empty() {
        return Err(ApiError::unavailable(format!("no endpoints available for service \"{name}\"")));
    }
    let of = |subset: &'e k8s_openapi::api::core::v1::EndpointSubset| {
        let ports = subset.ports.iter().flatten().filter(|p| p.name.as_deref().unwrap_or_default() == port);
        let numbers = ports.filter_map(|port| u16::try_from(port.port).ok());
        numbers.flat_map(|number| subset.addresses.iter().flatten().map(move |address| (address, number)))
    };
    Ok(subsets.iter().flat_map(of).collect())
}

/// All of `count` places once, beginning anywhere.
pub(super) fn turns(count: usize, start: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (start + turn) % count)
}

/// The pod behind an address: anything else is not proxied to.
pub(super) fn target<'e>(address: &'e EndpointAddress, namespace: &str) -> Option<&'e str> {
    let target = address.target_ref.as_ref().filter(|target| target.namespace.as_deref() == Some(namespace))?;
    target.name.as_deref()
}

pub(super) fn has_address(pod: &Pod, address: &str) -> bool {
    let addresses = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    addresses.iter().any(|known| known.ip == address)
}

pub(super) fn endpoint(asked: &Asked, address: &str, port: u16) -> Place {
    asked.place(address, port)
}

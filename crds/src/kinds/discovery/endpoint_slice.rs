//! EndpointSlice (discovery.k8s.io/v1).

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, column},
    meta, syntax, table,
};

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ADDRESSES_MAX: usize = 100;
const ENDPOINTS_MAX: usize = 1000;
const HINTS_MAX: usize = 8;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_LABELS_MAX: usize = 16;
const SHOWN_MAX: usize = 3;
const HOSTNAME: &str = "kubernetes.io/hostname";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Controllers that write addresses well.
const TRUSTED: &[&str] = &["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

impl Kind for EndpointSlice {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "AddressType",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.discovery.v1.EndpointSlice", "addressType"),
            ),
            column("Ports", "string", "", 0, Prose::Field("io.k8s.api.discovery.v1.EndpointSlice", "ports")),
            column("Endpoints", "string", "", 0, Prose::Field("io.k8s.api.discovery.v1.EndpointSlice", "endpoints")),
            AGE,
        ],
        generation: Generation::Own,
        checks_changes: false,
        ..About::new("endpointslices", "endpointslice")
    };

    fn set_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.metadata.generation = Some(1);
        drop_topology(self, &[]);
    }

    /// A change of its labels alone makes a new generation, too.
    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        let parts = |slice: &Self| {
            let labels = slice.metadata.labels.clone().unwrap_or_default();
            (slice.address_type.clone(), slice.endpoints.clone(), slice.ports.clone(), labels)
        };
        if !equal::same(&parts(self), &parts(old)) {
            meta::count_up(&mut self.metadata, &old.metadata);
        }
        if !equal::same(&self.endpoints, &old.endpoints) {
            drop_topology(self, old.endpoints.items());
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, None, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate(self, Some(old), errors);
        equal::immutable(&self.address_type, &old.address_type, Path::new("addressType"), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut words = Vec::new();
        if old.is_none() && self.address_type == "FQDN" {
            words.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let manager = self.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        if manager.is_some_and(|manager| TRUSTED.contains(&manager.as_str())) {
            return words;
        }
        let list = Path::new("endpoints");
        for (i, endpoint) in self.endpoints.items().iter().enumerate() {
            let path = list.index(i);
            let path = path.child("addresses");
            let addresses = endpoint.addresses.iter().enumerate();
            words.extend(addresses.filter_map(|(j, address)| syntax::ip_warning(path.index(j), address)));
        }
        words
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let port = |port: &EndpointPort| match port.port {
            Some(number) => number.to_string(),
            None => port.name.clone().unwrap_or_else(|| "*".to_owned()),
        };
        let addresses = self.endpoints.items().iter().flat_map(|endpoint| endpoint.addresses.iter().cloned());
        vec![
            json!(self.metadata.name),
            json!(self.address_type),
            json!(some_of(self.ports.items().iter().map(port))),
            json!(some_of(addresses)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

/// The first few, and how many more there are.
fn some_of(all: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = all.collect();
    let shown = all[..all.len().min(SHOWN_MAX)].join(",");
    match all.len() {
        count if count > SHOWN_MAX => format!("{shown} + {} more...", count - SHOWN_MAX),
        _ if shown.is_empty() => "<unset>".to_owned(),
        _ => shown,
    }
}

/// The v1 API takes no topology; a node's name that stood in it before is kept.
fn drop_topology(slice: &mut EndpointSlice, old: &[Endpoint]) {
    let node = |endpoint: &Endpoint| endpoint.deprecated_topology.as_ref().and_then(|t| t.get(HOSTNAME)).cloned();
    let known: BTreeSet<_> = old.iter().filter_map(node).collect();
    for endpoint in slice.endpoints.iter_mut().flatten() {
        if endpoint.node_name.is_none() {
            endpoint.node_name =
                node(endpoint).filter(|name| known.contains(name) && field::dns_subdomain(name).is_empty());
        }
        endpoint.deprecated_topology = None;
    }
}

fn validate(slice: &EndpointSlice, old: Option<&EndpointSlice>, errors: &mut Errors) {
    let path = Path::new("addressType");
    match slice.address_type.as_str() {
        "" => errors.push(Error::required(path, "")),
        kind if !ADDRESS_TYPES.contains(&kind) => errors.push(Error::not_supported(path, kind, ADDRESS_TYPES)),
        _ => {}
    }
    validate_ports(slice.ports.items(), &Path::new("ports"), errors);
    let kept = old.is_some_and(|old| equal::same(&old.endpoints, &slice.endpoints));
    if !kept {
        validate_endpoints(slice.endpoints.items(), &slice.address_type, &Path::new("endpoints"), errors);
    }
}

fn validate_ports(ports: &[EndpointPort], path: &Path, errors: &mut Errors) {
    if ports.len() > PORTS_MAX {
        errors.push(Error::too_many(*path, ports.len() as i64, PORTS_MAX as i64));
        return;
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(i), port.name.text());
        if !name.is_empty() {
            extend(errors, path.child("name"), name, field::dns_label(name));
        }
        if !names.insert(name) {
            errors.push(Error::duplicate(path.child("name"), name));
        }
        match port.protocol.as_deref() {
            None => errors.push(Error::required(path.child("protocol"), "")),
            Some(protocol) if !PROTOCOLS.contains(&protocol) => {
                errors.push(Error::not_supported(path.child("protocol"), protocol, PROTOCOLS));
            }
            Some(_) => {}
        }
        if let Some(protocol) = &port.app_protocol {
            extend(errors, path.child("appProtocol"), protocol, field::qualified_name(protocol));
        }
    }
}

fn validate_endpoints(endpoints: &[Endpoint], address_type: &str, path: &Path, errors: &mut Errors) {
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(Error::too_many(*path, endpoints.len() as i64, ENDPOINTS_MAX as i64));
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        validate_endpoint(endpoint, address_type, &path.index(i), errors);
    }
}

fn validate_endpoint(endpoint: &Endpoint, address_type: &str, path: &Path, errors: &mut Errors) {
    let list = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(Error::required(list, "must contain at least 1 address")),
        count if count > ADDRESSES_MAX => errors.push(Error::too_many(list, count as i64, ADDRESSES_MAX as i64)),
        _ => {}
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        validate_address(address, address_type, &list, i, errors);
    }
    if let Some(node) = &endpoint.node_name {
        extend(errors, path.child("nodeName"), node, field::dns_subdomain(node));
    }
    let topology_path = path.child("deprecatedTopology");
    let labels = endpoint.deprecated_topology.as_ref().map_or(0, |topology| topology.len());
    if labels > TOPOLOGY_LABELS_MAX {
        errors.push(Error::too_many(topology_path, labels as i64, TOPOLOGY_LABELS_MAX as i64));
    }
    meta::labels(endpoint.deprecated_topology.as_ref(), topology_path, errors);
    if let Some(hostname) = &endpoint.hostname {
        extend(errors, path.child("hostname"), hostname, field::dns_label(hostname));
    }
    if let Some(hints) = &endpoint.hints {
        validate_hints(hints, &path.child("hints"), errors);
    }
}

fn validate_address(address: &str, address_type: &str, list: &Path, i: usize, errors: &mut Errors) {
    let path = list.index(i);
    let (wrong, is_family) = match address_type {
        "IPv4" => (syntax::ip(address), syntax::parse_ip(address).is_some_and(|ip| ip.is_ipv4())),
        "IPv6" => (syntax::canonical_ip(address), syntax::parse_ip(address).is_some_and(|ip| ip.is_ipv6())),
        "FQDN" => return syntax::domain_name(address, &path, errors),
        _ => return,
    };
    if !wrong.is_empty() {
        extend(errors, path, address, wrong);
        return;
    }
    if !is_family {
        errors.push(Error::invalid(*list, address, format!("must be an {address_type} address")));
    }
    extend(errors, path, address, syntax::endpoint_ip(address));
}

fn validate_hints(hints: &EndpointHints, path: &Path, errors: &mut Errors) {
    let zones: Vec<_> = hints.for_zones.items().iter().map(|zone| zone.name.as_str()).collect();
    if validate_names(&zones, field::label_value, &path.child("forZones"), errors) {
        let nodes: Vec<_> = hints.for_nodes.items().iter().map(|node| node.name.as_str()).collect();
        validate_names(&nodes, field::dns_subdomain, &path.child("forNodes"), errors);
    }
}

/// False: there are too many to look further.
fn validate_names(names: &[&str], wrong: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) -> bool {
    if names.len() > HINTS_MAX {
        errors.push(Error::too_many(*path, names.len() as i64, HINTS_MAX as i64));
        return false;
    }
    for (i, name) in names.iter().enumerate() {
        let path = path.index(i);
        if names[..i].contains(name) {
            errors.push(Error::duplicate(path.child("name"), *name));
        }
        extend(errors, path.child("name"), name, wrong(name));
    }
    true
}

//! Endpoints (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::{Value, json};

use super::service::validate::{PROTOCOLS, endpoint_ip};
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Kind, NAME, Prose, Request, column},
    meta,
    pod::validate::one_of,
    syntax, table,
};

const SUBSETS: Path = Path::new("subsets");
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const SHOWN: usize = 3;

impl Kind for Endpoints {
    const ABOUT: About = About {
        short_names: &["ep"],
        columns: &[
            NAME,
            column("Endpoints", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Endpoints", "subsets")),
            AGE,
        ],
        create_on_update: true,
        storage_prefix: "services/endpoints",
        ..About::new("endpoints", "endpoints")
    };

    fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten()) {
            port.protocol.or_set("TCP");
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self.subsets.items(), errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        if !equal::same(&self.subsets, &old.subsets) {
            validate(self.subsets.items(), errors);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        if self.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY)).is_some_and(|m| m == MANAGER) {
            return Vec::new();
        }
        let mut words = Vec::new();
        for (i, subset) in self.subsets.items().iter().enumerate() {
            for (list, addresses) in lists(subset) {
                let path = SUBSETS.index(i);
                let path = path.child(list);
                words.extend(
                    addresses
                        .iter()
                        .enumerate()
                        .filter_map(|(j, a)| syntax::ip_warning(path.index(j).child("ip"), &a.ip)),
                );
            }
        }
        words
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(first_few(self.subsets.items())), json!(table::age(&self.metadata, now))]
    }
}

fn lists(subset: &EndpointSubset) -> [(&'static str, &[EndpointAddress]); 2] {
    [("addresses", subset.addresses.items()), ("notReadyAddresses", subset.not_ready_addresses.items())]
}

fn first_few(subsets: &[EndpointSubset]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.addresses.items();
        if subset.ports.items().is_empty() {
            all.extend(addresses.iter().map(|a| a.ip.clone()));
        }
        for port in subset.ports.items() {
            all.extend(addresses.iter().map(|a| match a.ip.contains(':') {
                true => format!("[{}]:{}", a.ip, port.port),
                false => format!("{}:{}", a.ip, port.port),
            }));
        }
    }
    let few = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    if all.len() > SHOWN { format!("{few} + {} more...", all.len() - SHOWN) } else { few }
}

fn validate(subsets: &[EndpointSubset], errors: &mut Errors) {
    for (i, subset) in subsets.iter().enumerate() {
        let path = SUBSETS.index(i);
        if lists(subset).iter().all(|(_, addresses)| addresses.is_empty()) {
            errors.push(Error::required(path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (list, addresses) in lists(subset) {
            let path = path.child(list);
            for (j, address) in addresses.iter().enumerate() {
                validate_address(address, &path.index(j), errors);
            }
        }
        let (ports, path) = (subset.ports.items(), path.child("ports"));
        for (j, port) in ports.iter().enumerate() {
            validate_port(port, ports.len() > 1, &path.index(j), errors);
        }
    }
}

fn validate_address(address: &EndpointAddress, path: &Path, errors: &mut Errors) {
    extend(errors, path.child("ip"), &address.ip, syntax::ip(&address.ip));
    let host = address.hostname.text();
    if !host.is_empty() {
        extend(errors, path.child("hostname"), host, field::dns_label(host));
    }
    if let Some(node) = &address.node_name {
        extend(errors, path.child("nodeName"), node, field::dns_subdomain(node));
    }
    endpoint_ip(&address.ip, &path.child("ip"), errors);
}

fn validate_port(port: &EndpointPort, is_one_of_many: bool, path: &Path, errors: &mut Errors) {
    let name = port.name.text();
    if !name.is_empty() {
        extend(errors, path.child("name"), name, field::dns_label(name));
    } else if is_one_of_many {
        errors.push(Error::required(path.child("name"), ""));
    }
    let number = i64::from(port.port);
    field::extend_number(errors, path.child("port"), number, syntax::port_number(number));
    one_of(port.protocol.text(), &PROTOCOLS, &path.child("protocol"), errors);
    if let Some(protocol) = &port.app_protocol {
        extend(errors, path.child("appProtocol"), protocol, field::qualified_name(protocol));
    }
}

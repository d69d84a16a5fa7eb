//! NetworkPolicy (networking.k8s.io/v1).

use std::{collections::HashSet, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path, extend, extend_number},
    given::Items,
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, column},
    meta,
    selector::{Selector, validate as selectors},
    syntax, table,
};

const SPEC: Path = Path::new("spec");
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const POLICY_TYPES: &[&str] = &["Ingress", "Egress"];

/// The ports and the peers of one rule.
type Rule<'a> = (&'a [NetworkPolicyPort], &'a [NetworkPolicyPeer]);

impl Kind for NetworkPolicy {
    const ABOUT: About = About {
        short_names: &["netpol"],
        columns: &[
            NAME,
            column(
                "Pod-Selector",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.networking.v1.NetworkPolicySpec", "podSelector"),
            ),
            AGE,
        ],
        generation: Generation::Own,
        ..About::new("networkpolicies", "networkpolicy")
    };

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in ingress.chain(egress) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.items().is_empty() {
            let count = if spec.egress.items().is_empty() { 1 } else { 2 };
            spec.policy_types = Some(POLICY_TYPES[..count].iter().map(|name| (*name).to_owned()).collect());
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.metadata.generation = Some(1);
    }

    /// Upstream takes what is empty for a change of what is not there.
    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        if self.spec != old.spec {
            meta::count_up(&mut self.metadata, &old.metadata);
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, &HashSet::new(), errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let old = old.spec.iter().flat_map(|spec| rules(spec).map(|(_, _, rules)| rules)).flatten();
        let blocks = old.flat_map(|(_, peers)| peers).filter_map(|peer| peer.ip_block.as_ref());
        let known: HashSet<_> =
            blocks.flat_map(|b| b.except.items().iter().chain([&b.cidr])).map(String::as_str).collect();
        if let Some(spec) = &self.spec {
            validate_spec(spec, &known, errors);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let mut words = Vec::new();
        for (direction, side, rules) in self.spec.iter().flat_map(rules) {
            let list = SPEC.child(direction);
            for (i, (_, peers)) in rules.iter().enumerate() {
                let rule = list.index(i);
                let list = rule.child(side);
                for (j, peer) in peers.iter().enumerate() {
                    let peer_path = list.index(j);
                    block_warnings(peer.ip_block.as_ref(), &peer_path.child("ipBlock"), &mut words);
                }
            }
        }
        words
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let selector = self.spec.as_ref().and_then(|spec| spec.pod_selector.clone()).unwrap_or_default();
        let shown = Selector::from_object(Some(&selector)).to_string();
        vec![json!(self.metadata.name), json!(table::or_none(&shown)), json!(table::age(&self.metadata, now))]
    }
}

/// The rules of both directions, by the names of the direction and of its peers.
fn rules(spec: &NetworkPolicySpec) -> [(&'static str, &'static str, Vec<Rule<'_>>); 2] {
    let ingress = spec.ingress.items().iter().map(|rule| (rule.ports.items(), rule.from.items()));
    let egress = spec.egress.items().iter().map(|rule| (rule.ports.items(), rule.to.items()));
    [("ingress", "from", ingress.collect()), ("egress", "to", egress.collect())]
}

/// Blocks that are `known` were stored before, and are let be.
fn validate_spec(spec: &NetworkPolicySpec, known: &HashSet<&str>, errors: &mut Errors) {
    selectors::label_selector(spec.pod_selector.as_ref(), &SPEC.child("podSelector"), errors);
    for (direction, side, rules) in rules(spec) {
        let list = SPEC.child(direction);
        for (i, (ports, peers)) in rules.iter().enumerate() {
            let rule = list.index(i);
            let (ports_path, peers_path) = (rule.child("ports"), rule.child(side));
            for (i, port) in ports.iter().enumerate() {
                validate_port(port, &ports_path.index(i), errors);
            }
            for (i, peer) in peers.iter().enumerate() {
                validate_peer(peer, known, &peers_path.index(i), errors);
            }
        }
    }
    let (path, types) = (SPEC.child("policyTypes"), spec.policy_types.items());
    if types.len() > POLICY_TYPES.len() {
        errors.push(Error::invalid(path, types, "may not specify more than two policyTypes"));
        return;
    }
    for (i, name) in types.iter().enumerate().filter(|(_, name)| !POLICY_TYPES.contains(&name.as_str())) {
        errors.push(Error::not_supported(path.index(i), name.as_str(), POLICY_TYPES));
    }
}

fn validate_port(port: &NetworkPolicyPort, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = port.protocol.as_deref().filter(|protocol| !PROTOCOLS.contains(protocol)) {
        errors.push(Error::not_supported(path.child("protocol"), protocol, PROTOCOLS));
    }
    let (port_path, end_path) = (path.child("port"), path.child("endPort"));
    match (&port.port, port.end_port) {
        (None, None) => {}
        (None, Some(end)) => {
            errors.push(Error::invalid(end_path, end, "may not be specified when `port` is not specified"));
        }
        (Some(IntOrString::Int(number)), end) => {
            extend_number(errors, port_path, (*number).into(), syntax::port_number((*number).into()));
            let Some(end) = end else { return };
            if end < *number {
                // Upstream shows the first port here.
                errors.push(Error::invalid(end_path, *number, "must be greater than or equal to `port`"));
            }
            extend_number(errors, end_path, end.into(), syntax::port_number(end.into()));
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                errors.push(Error::invalid(end_path, end, "may not be specified when `port` is non-numeric"));
            }
            extend(errors, port_path, name, syntax::port_name(name));
        }
    }
}

fn validate_peer(peer: &NetworkPolicyPeer, known: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    selectors::label_selector(peer.pod_selector.as_ref(), &path.child("podSelector"), errors);
    selectors::label_selector(peer.namespace_selector.as_ref(), &path.child("namespaceSelector"), errors);
    if let Some(block) = &peer.ip_block {
        validate_block(block, known, &path.child("ipBlock"), errors);
    }
    match (peer.pod_selector.is_some() || peer.namespace_selector.is_some(), peer.ip_block.is_some()) {
        (false, false) => errors.push(Error::required(*path, "must specify a peer")),
        (true, true) => errors.push(Error::forbidden(*path, "may not specify both ipBlock and another peer")),
        _ => {}
    }
}

fn validate_block(block: &IPBlock, known: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    let cidr_path = path.child("cidr");
    if block.cidr.is_empty() {
        errors.push(Error::required(cidr_path, ""));
        return;
    }
    let check = |cidr: &str, path: Path, errors: &mut Errors| {
        if !known.contains(cidr) {
            extend(errors, path, cidr, syntax::cidr(cidr));
        }
        syntax::parse_cidr(cidr)
    };
    let Some((network, length)) = check(&block.cidr, cidr_path, errors) else { return };
    let list = path.child("except");
    for (i, except) in block.except.items().iter().enumerate() {
        let Some((address, except_length)) = check(except, list.index(i), errors) else { continue };
        let inside = address.is_ipv4() == network.is_ipv4()
            && syntax::masked(address, length) == syntax::masked(network, length);
        if !inside || length >= except_length {
            errors.push(Error::invalid(list.index(i), except.as_str(), "must be a strict subset of `cidr`"));
        }
    }
}

fn block_warnings(block: Option<&IPBlock>, path: &Path, words: &mut Vec<String>) {
    let Some(block) = block else { return };
    cidr_warnings(&block.cidr, &path.child("cidr"), words);
    let list = path.child("except");
    for (i, except) in block.except.items().iter().enumerate() {
        cidr_warnings(except, &list.index(i), words);
    }
}

/// A block that is let be though it is not well formed, or not in the one form that is canonical.
fn cidr_warnings(value: &str, path: &Path, words: &mut Vec<String>) {
    let Some((address, length)) = syntax::parse_cidr(value) else { return };
    let plain = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let network = format!("{}/{length}", syntax::masked(address, length));
    let before = words.len();
    if syntax::masked(address, length) != address {
        let single = format!("{plain}/{}", if address.is_ipv4() { 32 } else { 128 });
        words.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {network:?} or {single:?}?)"
        ));
    }
    let strict =
        value.split_once('/').is_some_and(|(a, l)| a.parse::<IpAddr>().is_ok() && (l == "0" || !l.starts_with('0')));
    if !strict || plain != address {
        words.push(format!("{path}: non-standard CIDR value {value:?} is invalid: use {network:?}"));
    }
    if words.len() == before && address.is_ipv6() && value != network {
        words.push(format!("{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({network:?})"));
    }
}

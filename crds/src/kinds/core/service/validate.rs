//! What a Service may say.

use std::{collections::HashSet, net::IpAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::{Value, json};

use super::{INGRESS, LOAD_BALANCER, Look, RANGES, SPEC};
use crate::{
    field::{self, Error, ErrorKind, Errors, Path, extend},
    given::{Items, Text},
    meta, percent,
    pod::validate::one_of,
    syntax,
};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const ONLY_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const AFFINITY_SECONDS_MAX: i32 = 86400;

/// The rules of create and update, in upstream's order.
pub fn validate(service: &Service, spec: &ServiceSpec, errors: &mut Errors) {
    topology(service, errors);
    let ports_path = SPEC.child("ports");
    let (ports, look) = (spec.ports.items(), Look(spec));
    if ports.is_empty() && !look.is_headless() && !look.is("ExternalName") {
        errors.push(Error::required(ports_path, ""));
    }
    by_type(spec, errors);
    let mut taken = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let is_taken = !taken.insert(port.name.text());
        validate_port(port, ports.len() > 1, is_taken, &ports_path.index(i), errors);
    }
    meta::labels(spec.selector.as_ref(), SPEC.child("selector"), errors);
    affinity(spec, errors);
    super::addresses::validate(spec, errors);
    let path = SPEC.child("externalIPs");
    for (i, ip) in spec.external_ips.items().iter().enumerate() {
        let wrong = syntax::ip(ip);
        if wrong.is_empty() {
            endpoint_ip(ip, &path.index(i), errors);
        }
        extend(errors, path.index(i), ip, wrong);
    }
    one_of(spec.type_.text(), &["ClusterIP", "ExternalName", LOAD_BALANCER, "NodePort"], &SPEC.child("type"), errors);
    if look.is("ClusterIP") {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| port.node_port.unwrap_or(0) != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(Error::forbidden(ports_path.index(i).child("nodePort"), why));
        }
    }
    duplicate_ports(ports, &ports_path, errors);
    source_ranges(service, spec, errors);
    if spec.allocate_load_balancer_node_ports.is_some() && !look.is(LOAD_BALANCER) {
        errors.push(Error::forbidden(SPEC.child("allocateLoadBalancerNodePorts"), ONLY_BALANCER));
    }
    if spec.allocate_load_balancer_node_ports.is_none() && look.is(LOAD_BALANCER) {
        errors.push(Error::required(Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    class(spec, errors);
    external_traffic(spec, errors);
    internal_traffic(spec, errors);
    let ways = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(way) = spec.traffic_distribution.as_deref().filter(|way| !ways.contains(way)) {
        errors.push(Error::not_supported(SPEC.child("trafficDistribution"), way, &ways));
    }
}

fn topology(service: &Service, errors: &mut Errors) {
    let annotation = |key: &str| service.metadata.annotations.as_ref().and_then(|a| a.get(key));
    if let (Some(mode), Some(hints)) = (annotation(MODE), annotation(HINTS))
        && mode != hints
    {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Error::invalid(path.key(MODE), mode.as_str(), why));
    }
}

fn by_type(spec: &ServiceSpec, errors: &mut Errors) {
    let kind = spec.type_.text();
    match kind {
        LOAD_BALANCER | "NodePort" if Look(spec).is_headless() => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(Error::invalid(SPEC.child("clusterIPs").index(0), "None", why));
        }
        "ExternalName" => {
            let given = [
                ("clusterIPs", !spec.cluster_ips.items().is_empty()),
                ("ipFamilies", !spec.ip_families.items().is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (field, _) in given.iter().filter(|(_, given)| *given) {
                errors.push(Error::forbidden(SPEC.child(field), "may not be set for ExternalName services"));
            }
            let name = spec.external_name.text();
            let name = name.strip_suffix('.').unwrap_or(name);
            match name {
                "" => errors.push(Error::required(SPEC.child("externalName"), "")),
                _ => extend(errors, SPEC.child("externalName"), name, field::dns_subdomain(name)),
            }
        }
        _ => {}
    }
}

fn validate_port(port: &ServicePort, is_one_of_many: bool, is_taken: bool, path: &Path, errors: &mut Errors) {
    let name = port.name.text();
    if !name.is_empty() {
        extend(errors, path.child("name"), name, field::dns_label(name));
        if is_taken {
            errors.push(Error::duplicate(path.child("name"), name));
        }
    } else if is_one_of_many {
        errors.push(Error::required(path.child("name"), ""));
    }
    let number = i64::from(port.port);
    field::extend_number(errors, path.child("port"), number, syntax::port_number(number));
    one_of(port.protocol.text(), &PROTOCOLS, &path.child("protocol"), errors);
    if let Some(target) = &port.target_port {
        let wrong = match percent::shown(target) {
            Value::String(name) => syntax::port_name(&name),
            _ => syntax::port_number(percent::number(target)),
        };
        errors
            .extend(wrong.into_iter().map(|why| Error::invalid(path.child("targetPort"), percent::shown(target), why)));
    }
    if let Some(protocol) = &port.app_protocol {
        extend(errors, path.child("appProtocol"), protocol, field::qualified_name(protocol));
    }
}

fn affinity(spec: &ServiceSpec, errors: &mut Errors) {
    let kind = spec.session_affinity.text();
    one_of(kind, &["ClientIP", "None"], &SPEC.child("sessionAffinity"), errors);
    let path = SPEC.child("sessionAffinityConfig");
    match (kind, &spec.session_affinity_config) {
        ("None", Some(_)) => {
            errors.push(Error::forbidden(path, "must not be set when session affinity is None"));
        }
        ("ClientIP", config) => {
            let missing = |path: Path| Error::required(path, "when session affinity type is ClientIP");
            let client = path.child("clientIP");
            match config.as_ref().map(|c| c.client_ip.as_ref().map(|c| c.timeout_seconds)) {
                None => errors.push(missing(path)),
                Some(None) => errors.push(missing(client)),
                Some(Some(None)) => errors.push(missing(client.child("timeoutSeconds"))),
                Some(Some(Some(seconds))) if seconds <= 0 || seconds > AFFINITY_SECONDS_MAX => {
                    let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    errors.push(Error::invalid(client.child("timeoutSeconds"), seconds, why));
                }
                Some(Some(Some(_))) => {}
            }
        }
        _ => {}
    }
}

fn duplicate_ports(ports: &[ServicePort], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let node_port = port.node_port.unwrap_or(0);
        if node_port != 0 && !seen.insert((&port.protocol, node_port)) {
            errors.push(Error::duplicate(path.index(i).child("nodePort"), node_port));
        }
    }
    seen.clear();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                json!(port.protocol.text()),
                port.port
            );
            errors.push(Error::rendered(ErrorKind::Duplicate, path.index(i), shown, ""));
        }
    }
}

fn source_ranges(service: &Service, spec: &ServiceSpec, errors: &mut Errors) {
    let is_balanced = Look(spec).is(LOAD_BALANCER);
    let ranges = spec.load_balancer_source_ranges.items();
    if !ranges.is_empty() {
        let path = SPEC.child("LoadBalancerSourceRanges");
        if !is_balanced {
            errors.push(Error::forbidden(path, ONLY_BALANCER));
        }
        for (i, range) in ranges.iter().enumerate() {
            extend(errors, path.index(i), range.trim(), syntax::cidr(range.trim()));
        }
    } else if let Some(text) = service.metadata.annotations.as_ref().and_then(|a| a.get(RANGES)) {
        let path = Path::new("metadata");
        let path = path.child("annotations");
        let path = path.key(RANGES);
        if !is_balanced {
            errors.push(Error::forbidden(path, ONLY_BALANCER));
        }
        for range in text.trim().split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            extend(errors, path, range, syntax::cidr(range));
        }
    }
}

pub fn class(spec: &ServiceSpec, errors: &mut Errors) {
    let path = SPEC.child("loadBalancerClass");
    match &spec.load_balancer_class {
        Some(class) if Look(spec).is(LOAD_BALANCER) => extend(errors, path, class, field::qualified_name(class)),
        Some(_) => errors.push(Error::forbidden(path, ONLY_BALANCER)),
        None => {}
    }
}

fn external_traffic(spec: &ServiceSpec, errors: &mut Errors) {
    let (policy, look) = (spec.external_traffic_policy.text(), Look(spec));
    let path = SPEC.child("externalTrafficPolicy");
    if look.is_exposed() {
        one_of(policy, &["Cluster", "Local"], &path, errors);
    } else if !policy.is_empty() {
        errors.push(Error::invalid(path, policy, "may only be set for externally-accessible services"));
    }
    let (port, path) = (spec.health_check_node_port.unwrap_or(0), SPEC.child("healthCheckNodePort"));
    match (look.is_health_checked(), port) {
        (false, 0) => {}
        (false, _) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(path, port, why));
        }
        (true, 0) => errors.push(Error::required(path, "")),
        (true, _) => field::extend_number(errors, path, port.into(), syntax::port_number(port.into())),
    }
}

fn internal_traffic(spec: &ServiceSpec, errors: &mut Errors) {
    let path = SPEC.child("internalTrafficPolicy");
    let policies = ["Cluster", "Local"];
    match spec.internal_traffic_policy.as_deref() {
        None if ["ClusterIP", "NodePort", LOAD_BALANCER].contains(&spec.type_.text()) => {
            errors.push(Error::required(path, ""))
        }
        Some(policy) if !policies.contains(&policy) => errors.push(Error::not_supported(path, policy, &policies)),
        _ => {}
    }
}

/// An address outside the node that traffic can be sent to.
pub fn endpoint_ip(value: &str, path: &Path, errors: &mut Errors) {
    let Some(ip) = syntax::parse_ip(value) else {
        errors.push(Error::invalid(*path, value, "must be a valid IP address"));
        return;
    };
    let ip = match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    };
    let (local, local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    let mut wrong = |holds: bool, why: String| {
        if holds {
            errors.push(Error::invalid(*path, value, why));
        }
    };
    wrong(ip.is_unspecified(), format!("may not be unspecified ({value})"));
    wrong(ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    wrong(local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    wrong(local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
}

pub fn status(service: &Service, spec: &ServiceSpec, errors: &mut Errors) {
    let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).map(|b| b.ingress.items());
    let ingress = ingress.unwrap_or_default();
    if !ingress.is_empty() && !Look(spec).is(LOAD_BALANCER) {
        errors.push(Error::forbidden(INGRESS, "may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    for (i, point) in ingress.iter().enumerate() {
        let path = INGRESS.index(i);
        let (ip, host) = (point.ip.text(), point.hostname.text());
        if !ip.is_empty() {
            extend(errors, path.child("ip"), ip, syntax::ip(ip));
        }
        let (mode_path, modes) = (path.child("ipMode"), ["Proxy", "VIP"]);
        match point.ip_mode.as_deref() {
            None if !ip.is_empty() => errors.push(Error::required(mode_path, "must be specified when `ip` is set")),
            Some(_) if ip.is_empty() => {
                errors.push(Error::forbidden(mode_path, "may not be specified when `ip` is not set"));
            }
            Some(mode) if !modes.contains(&mode) => errors.push(Error::not_supported(mode_path, mode, &modes)),
            _ => {}
        }
        if !host.is_empty() {
            extend(errors, path.child("hostname"), host, field::dns_subdomain(host));
            if syntax::parse_ip(host).is_some() {
                errors.push(Error::invalid(path.child("hostname"), host, "must be a DNS name, not an IP address"));
            }
        }
    }
}

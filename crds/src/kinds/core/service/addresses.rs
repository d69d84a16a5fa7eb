//! Cluster addresses of a Service and their families.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::json;

use super::{Look, SPEC};
use crate::{
    field::{Error, Errors, extend},
    given::{Items, Text},
    syntax,
};

/// `clusterIP` and the first of `clusterIPs` are one thing: where only one is given, or one changed, the other follows.
pub fn normalize(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let ip = new.cluster_ip.text().to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && new.cluster_ips.items().is_empty() {
            new.cluster_ips = Some(vec![ip]);
        }
        return;
    };
    if new.cluster_ips.items().is_empty() && old.cluster_ip.text() == ip {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if old.cluster_ip.text() != ip && old.cluster_ips.items() == new.cluster_ips.items() {
        new.cluster_ips = (!ip.is_empty() || old.cluster_ip.text().is_empty()).then(|| vec![ip]);
    }
}

/// What the apiserver once chose stays, where the update does not say otherwise.
pub fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if Look(old).has_address() && Look(new).has_address() {
        if new.cluster_ip.text().is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.items().is_empty() {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if Look(old).has_node_ports() && Look(new).has_node_ports() {
        let used: HashSet<i32> = new.ports.items().iter().filter_map(|p| p.node_port).collect();
        let before: HashMap<&str, i32> =
            old.ports.items().iter().map(|p| (p.name.text(), p.node_port.unwrap_or(0))).collect();
        for port in new.ports.iter_mut().flatten().filter(|p| p.node_port.unwrap_or(0) == 0) {
            let number = before.get(port.name.text()).copied().filter(|number| *number != 0 && !used.contains(number));
            port.node_port = number.or(port.node_port);
        }
    }
    if Look(old).is_health_checked() && Look(new).is_health_checked() && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// What another type does not have goes with the old type, unless the update changes it.
pub fn drop_dependent(service: &mut Service, old: &ServiceSpec) {
    let Some(new) = &mut service.spec else {
        return;
    };
    if Look(old).has_address() && !Look(new).has_address() {
        if old.cluster_ip.text() == new.cluster_ip.text() && old.cluster_ips.items() == new.cluster_ips.items() {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if old.ip_families.items() == new.ip_families.items() {
            new.ip_families = None;
        }
        if old.ip_family_policy.text() == new.ip_family_policy.text() {
            new.ip_family_policy = None;
        }
    }
    if Look(old).has_node_ports() && !Look(new).has_node_ports() {
        let had: HashSet<i32> = old.ports.items().iter().filter_map(|p| p.node_port).collect();
        let mut given = new.ports.items().iter().filter_map(|p| p.node_port).filter(|p| *p != 0);
        if given.all(|number| had.contains(&number)) {
            new.ports.iter_mut().flatten().for_each(|p| p.node_port = None);
        }
    }
    if Look(old).is_health_checked()
        && !Look(new).is_health_checked()
        && old.health_check_node_port == new.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if Look(old).is(super::LOAD_BALANCER) && !Look(new).is(super::LOAD_BALANCER) {
        if old.allocate_load_balancer_node_ports == new.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if old.load_balancer_class == new.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if Look(old).is_exposed()
        && !Look(new).is_exposed()
        && old.external_traffic_policy.text() == new.external_traffic_policy.text()
    {
        new.external_traffic_policy = None;
    }
    let is_balanced = Look(new).is(super::LOAD_BALANCER);
    if let Some(status) = service.status.as_mut().filter(|_| !is_balanced) {
        status.load_balancer = Some(Default::default());
    }
}

pub fn validate(spec: &ServiceSpec, errors: &mut Errors) {
    if !Look(spec).has_address() {
        return;
    }
    let (ips, path) = (spec.cluster_ips.items(), SPEC.child("clusterIPs"));
    let shown = || json!(spec.cluster_ips);
    match (spec.cluster_ip.text(), ips.first()) {
        ("", Some(_)) => {
            errors.push(Error::invalid(path, shown(), "must be empty when `clusterIP` is not specified"));
        }
        ("", None) => {}
        (_, None) => errors.push(Error::required(path, "")),
        (ip, Some(first)) if ip != first => {
            errors.push(Error::invalid(path, shown(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    validate_families(spec, errors);
    let mut is_wrong = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                is_wrong = true;
                errors.push(Error::invalid(path, shown(), "'None' must be the first and only value"));
            }
            continue;
        }
        let wrong = syntax::ip(ip);
        is_wrong |= !wrong.is_empty();
        extend(errors, path.index(i), ip, wrong);
    }
    if ips.len() > 2 {
        errors.push(Error::invalid(path, shown(), "may only hold up to 2 values"));
    }
    if is_wrong {
        return;
    }
    if ips.len() > 1 && !syntax::is_dual_stack(ips) {
        errors.push(Error::invalid(path, shown(), "may specify no more than one IP for each IP family"));
    }
    if Look(spec).is_headless() {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(spec.ip_families.items()).enumerate() {
        let is_six = syntax::parse_ip(ip).is_some_and(|ip| ip.is_ipv6());
        if (family == "IPv4" && is_six) || (family == "IPv6" && !is_six) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(Error::invalid(path.index(i), ip.as_str(), why));
        }
    }
}

fn validate_families(spec: &ServiceSpec, errors: &mut Errors) {
    let (families, path) = (spec.ip_families.items(), SPEC.child("ipFamilies"));
    let mut seen = HashSet::new();
    for (i, family) in families.iter().enumerate() {
        if !["IPv4", "IPv6"].contains(&family.as_str()) {
            errors.push(Error::not_supported(path.index(i), family.as_str(), &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            errors.push(Error::duplicate(path.index(i), family.as_str()));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(policy) = spec.ip_family_policy.as_deref().filter(|p| !policies.contains(p)) {
        errors.push(Error::not_supported(SPEC.child("ipFamilyPolicy"), policy, &policies));
    }
}

/// How addresses and families may change: the first stays, a second comes and goes.
pub fn validate_change(new: &ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    if !Look(new).has_address() || !Look(old).has_address() {
        return;
    }
    let is_single = new.ip_family_policy.text() == "SingleStack";
    let (headless, was_headless) = (Look(new).is_headless(), Look(old).is_headless());
    let (ips, had) = (new.cluster_ips.items(), old.cluster_ips.items());
    let wrong = |field: &'static str, i: usize, shown: &Option<Vec<String>>, why: &str| {
        Error::invalid(SPEC.child(field).index(i), json!(shown), why)
    };
    let policy = |what: &str| {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        Error::invalid(SPEC.child("ipFamilyPolicy"), json!(new.ip_family_policy), why)
    };
    const KEPT: &str = "may not change once set";
    if !(headless && was_headless) {
        if had.len() == ips.len() {
            for (i, _) in had.iter().zip(ips).enumerate().filter(|(_, (a, b))| a != b) {
                errors.push(wrong("clusterIPs", i, &new.cluster_ips, KEPT));
            }
        } else {
            if ips.is_empty() {
                errors.push(wrong("clusterIPs", 0, &new.cluster_ips, "primary clusterIP can not be unset"));
            }
            if let (Some(first), Some(was)) = (ips.first(), had.first())
                && first != was
            {
                errors.push(wrong("clusterIPs", 0, &new.cluster_ips, KEPT));
            }
            if had.len() > ips.len() && ips.len() == 1 && !is_single {
                errors.push(policy("clusterIP"));
            }
        }
    }
    if headless || was_headless {
        return;
    }
    let (families, had) = (new.ip_families.items(), old.ip_families.items());
    if had.len() == families.len() {
        for _ in had.iter().zip(families).filter(|(a, b)| a != b) {
            errors.push(wrong("ipFamilies", 0, &new.ip_families, KEPT));
        }
        return;
    }
    if had.len() > families.len() && ips.is_empty() {
        errors.push(wrong("ipFamilies", 0, &new.ip_families, "primary ipFamily can not be unset"));
    }
    if let (Some(first), Some(was)) = (families.first(), had.first())
        && first != was
    {
        errors.push(wrong("ipFamilies", 0, &new.cluster_ips, KEPT));
    }
    if had.len() > families.len() && families.len() == 1 && !is_single {
        errors.push(policy("ipFamily"));
    }
}

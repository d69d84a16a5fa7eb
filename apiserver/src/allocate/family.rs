//! Address families of a Service, from what the client gives and what the cluster has: pure.

use std::collections::BTreeSet;

use crds::{
    field::{Error, Errors, Path},
    given::{Items, Text},
    syntax,
};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::port::type_of;

pub const NONE: &str = "None";
const SPEC: Path = Path::new("spec");
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// The families that Services of this cluster have addresses of; the first is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Families(pub Vec<&'static str>);

impl Families {
    fn default_one(&self) -> &'static str {
        self.0.first().copied().unwrap_or(IPV4)
    }

    fn has(&self, family: &str) -> bool {
        self.0.contains(&family)
    }
}

pub fn family_of(ipv4: bool) -> &'static str {
    if ipv4 { IPV4 } else { IPV6 }
}

/// As upstream: what is no address is taken for IPv4.
fn family_of_text(address: &str) -> &'static str {
    family_of(syntax::parse_ip(address).is_none_or(|ip| ip.is_ipv4()))
}

fn other(family: &str) -> &'static str {
    family_of(family != IPV4)
}

pub fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.items().first().is_some_and(|ip| ip == NONE)
}

pub fn has_addresses(spec: &ServiceSpec) -> bool {
    type_of(spec) != "ExternalName"
}

/// A PreferDualStack Service whose addresses are not touched stays as it is, even if the cluster has changed since.
pub fn is_settled(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> bool {
    let Some(old) = old else { return false };
    let preferring = |policy: &Option<String>| policy.as_deref() == Some(PREFER);
    type_of(spec) == type_of(old)
        && has_addresses(spec)
        && preferring(&spec.ip_family_policy)
        && (old.ip_family_policy.is_none() || preferring(&old.ip_family_policy))
        && spec.cluster_ips.items() == old.cluster_ips.items()
        && spec.ip_families.items() == old.ip_families.items()
}

/// `clusterIP` and `clusterIPs` say the same, whichever of them the client knows.
pub fn level(spec: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let single = spec.cluster_ip.text().to_owned();
    let Some(old) = old else {
        if !single.is_empty() && spec.cluster_ips.items().is_empty() {
            spec.cluster_ips = Some(vec![single]);
        }
        return;
    };
    let before = old.cluster_ip.text();
    if spec.cluster_ips.items().is_empty() && !old.cluster_ips.items().is_empty() && before == single {
        spec.cluster_ips.clone_from(&old.cluster_ips);
    }
    if before == single || spec.cluster_ips.items() != old.cluster_ips.items() {
        return;
    }
    spec.cluster_ips = if single.is_empty() { None } else { Some(vec![single]) };
}

/// Addresses that an update leaves open stay what they were.
pub fn keep(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if !has_addresses(old) || !has_addresses(spec) {
        return;
    }
    if spec.cluster_ip.text().is_empty() {
        spec.cluster_ip.clone_from(&old.cluster_ip);
    }
    if spec.cluster_ips.items().is_empty() {
        spec.cluster_ips.clone_from(&old.cluster_ips);
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and refuses what does not fit together or is not there.
pub fn settle(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, cluster: &Families) -> Result<(), Errors> {
    if !has_addresses(spec) || is_settled(spec, old) {
        return Ok(());
    }
    let without_selector =
        spec.cluster_ip.text() == NONE && spec.selector.as_ref().is_none_or(|selector| selector.is_empty());
    if spec.ip_family_policy.is_none() {
        let inferred = if without_selector { REQUIRE } else { SINGLE };
        let before = old.and_then(|old| old.ip_family_policy.clone());
        spec.ip_family_policy = Some(before.unwrap_or_else(|| inferred.to_owned()));
    }
    none(check(spec, old))?;
    let mut errors = Errors::new();
    if let Some(old) = old {
        shrink(spec, old, &mut errors);
    }
    let single = spec.ip_family_policy.text() == SINGLE;
    if single && spec.cluster_ips.items().len() == 2 {
        errors.push(policy(
            spec,
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ));
    }
    if single && spec.ip_families.items().len() == 2 {
        errors.push(policy(
            spec,
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ));
    }
    infer(spec, cluster, &mut errors);
    none(errors)?;
    if !without_selector {
        none(unavailable(spec, cluster))?;
    }
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.push(cluster.default_one().to_owned());
    }
    // Whoever runs the endpoints of a headless Service without selector may give them addresses of any family.
    if let ([one], false) = (&families[..], single)
        && (without_selector || cluster.0.len() == 2)
    {
        families.push(other(one).to_owned());
    }
    Ok(())
}

fn none(errors: Errors) -> Result<(), Errors> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn policy(spec: &ServiceSpec, why: &str) -> Error {
    Error::invalid(SPEC.child("ipFamilyPolicy"), spec.ip_family_policy.text(), why)
}

/// Going back to one family is asked for by the policy, not by leaving something out.
fn shrink(spec: &mut ServiceSpec, old: &ServiceSpec, errors: &mut Errors) {
    if spec.ip_family_policy.text() == SINGLE {
        if spec.cluster_ips.items() == old.cluster_ips.items() {
            spec.cluster_ips.iter_mut().for_each(|ips| ips.truncate(1));
        }
        if spec.ip_families.items() == old.ip_families.items() {
            spec.ip_families.iter_mut().for_each(|families| families.truncate(1));
        }
        return;
    }
    let reduced = |new: &[String], old: &[String]| !new.is_empty() && new.len() < old.len();
    if reduced(spec.cluster_ips.items(), old.cluster_ips.items()) {
        errors.push(policy(spec, "must be 'SingleStack' to release the secondary cluster IP"));
    }
    if reduced(spec.ip_families.items(), old.ip_families.items()) {
        errors.push(policy(spec, "must be 'SingleStack' to release the secondary IP family"));
    }
}

/// Families that are left out follow from the addresses.
fn infer(spec: &mut ServiceSpec, cluster: &Families, errors: &mut Errors) {
    let ips = spec.cluster_ips.items().to_vec();
    let families = spec.ip_families.get_or_insert_default();
    for (i, ip) in ips.iter().enumerate().take_while(|(_, ip)| *ip != NONE) {
        let family = family_of_text(ip);
        if i < families.len() {
            continue;
        }
        if cluster.has(family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(Error::invalid(SPEC.child("clusterIPs").index(i), ips.clone(), why));
        }
    }
}

fn unavailable(spec: &ServiceSpec, cluster: &Families) -> Errors {
    let mut errors = Errors::new();
    if spec.ip_family_policy.text() == REQUIRE && cluster.0.len() < 2 {
        errors.push(policy(spec, "this cluster is not configured for dual-stack services"));
    }
    for (i, family) in spec.ip_families.items().iter().enumerate().filter(|(_, family)| !cluster.has(family)) {
        let path = SPEC.child("ipFamilies");
        errors.push(Error::invalid(path.index(i), family.as_str(), "not configured on this cluster"));
    }
    errors
}

/// Whether `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` make sense by themselves and together.
pub fn check(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> Errors {
    let mut errors = Errors::new();
    let (path, ips, first) = (SPEC.child("clusterIPs"), spec.cluster_ips.items(), spec.cluster_ip.text());
    match ips.first() {
        None if !first.is_empty() => errors.push(Error::required(path, "")),
        Some(_) if first.is_empty() => {
            errors.push(Error::invalid(path, ips, "must be empty when `clusterIP` is not specified"));
        }
        Some(ip) if ip != first => errors.push(Error::invalid(path, ips, "first value must match `clusterIP`")),
        _ => {}
    }
    check_families(spec, &mut errors);
    let known = old.map(|old| old.cluster_ips.items()).unwrap_or_default();
    let before = errors.len();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == NONE {
            if ips.len() > 1 {
                errors.push(Error::invalid(path, ips, "'None' must be the first and only value"));
            }
        } else if !known.contains(ip) {
            errors.extend(syntax::ip(ip).into_iter().map(|why| Error::invalid(path.index(i), ip.as_str(), why)));
        }
    }
    let invalid = errors.len() > before;
    if ips.len() > 2 {
        errors.push(Error::invalid(path, ips, "may only hold up to 2 values"));
    }
    if invalid {
        return errors;
    }
    if ips.len() > 1 && !syntax::is_dual_stack(ips) {
        errors.push(Error::invalid(path, ips, "may specify no more than one IP for each IP family"));
    }
    if first != NONE {
        for (i, (ip, family)) in ips.iter().zip(spec.ip_families.items()).enumerate() {
            if [IPV4, IPV6].contains(&family.as_str()) && family_of_text(ip) != family {
                let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(Error::invalid(path.index(i), ip.as_str(), why));
            }
        }
    }
    errors
}

fn check_families(spec: &ServiceSpec, errors: &mut Errors) {
    let (path, mut seen) = (SPEC.child("ipFamilies"), BTreeSet::new());
    for (i, family) in spec.ip_families.items().iter().enumerate() {
        if ![IPV4, IPV6].contains(&family.as_str()) {
            errors.push(Error::not_supported(path.index(i), family.as_str(), &[IPV4, IPV6]));
        }
        if !seen.insert(family) {
            errors.push(Error::duplicate(path.index(i), family.as_str()));
        }
    }
    let supported = [PREFER, REQUIRE, SINGLE];
    if let Some(policy) = spec.ip_family_policy.as_deref().filter(|policy| !supported.contains(policy)) {
        errors.push(Error::not_supported(SPEC.child("ipFamilyPolicy"), policy, &supported));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: &Value) -> ServiceSpec {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// Policy and families, or what is wrong.
    fn settled(new: &Value, old: Option<&Value>, cluster: &[&'static str]) -> String {
        let (mut new, old) = (spec(new), old.map(spec));
        if let Some(old) = &old {
            keep(&mut new, old);
        }
        level(&mut new, old.as_ref());
        match settle(&mut new, old.as_ref(), &Families(cluster.to_vec())) {
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Ok(()) => {
                let ips = new.cluster_ips.items().join(",");
                format!("{} {} {ips}", new.ip_family_policy.text(), new.ip_families.items().join(","))
            }
        }
    }

    #[test]
    fn families_of_a_new_service() {
        let cases = [
            (json!({}), "SingleStack IPv4 "),
            (json!({"type": "ExternalName"}), "  "),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4 "),
            (json!({"clusterIP": "10.0.0.9"}), "SingleStack IPv4 10.0.0.9"),
            (json!({"clusterIP": "None"}), "RequireDualStack IPv4,IPv6 None"),
            (json!({"clusterIP": "None", "selector": {"a": "b"}}), "SingleStack IPv4 None"),
            (json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}), "SingleStack IPv4 None"),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for \
                 dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"clusterIP": "fd00::1"}),
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ),
            (
                json!({"clusterIP": "10.0.0.9", "ipFamilies": ["IPv6"]}),
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.9\": expected an IPv6 value as indicated by \
                 `ipFamilies[0]`",
            ),
            (
                json!({"clusterIPs": ["10.0.0.9"]}),
                "spec.clusterIPs: Invalid value: [\"10.0.0.9\"]: must be empty when `clusterIP` is not specified",
            ),
        ];
        for (new, want) in cases {
            assert_eq!(settled(&new, None, &[IPV4]), want, "{new}");
        }
        assert_eq!(settled(&json!({"ipFamilyPolicy": PREFER}), None, &[IPV6, IPV4]), "PreferDualStack IPv6,IPv4 ");
    }

    #[test]
    fn families_of_a_changed_service() {
        let both = json!({
            "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
        });
        let none = json!({
            "clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"},
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        });
        let cases = [
            (&both, json!({}), "RequireDualStack IPv4,IPv6 10.0.0.9,fd00::9"),
            (
                &both,
                json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
                "SingleStack IPv4 10.0.0.9",
            ),
            (
                &both,
                json!({"ipFamilies": ["IPv4"]}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the \
                 secondary IP family",
            ),
            (&none, json!({"clusterIP": "", "selector": {"a": "b"}}), "SingleStack IPv4 None"),
        ];
        for (old, new, want) in cases {
            assert_eq!(settled(&new, Some(old), &[IPV4, IPV6]), want, "{new}");
        }
    }
}

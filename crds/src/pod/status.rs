//! Rules of a Pod's status, which the kubelet and the scheduler write.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, LinuxContainerUser, Pod, PodSpec, PodStatus};

use super::{container::is_sidecar, update};
use crate::{
    field::{self, Error, Errors, Path, extend, extend_number},
    given::{Items, Text},
    go, syntax,
};

const STATUS: Path = Path::new("status");
const AGAIN: &str = "may not be transitioned to non-terminated state";

/// Generations that a writer does not know of are kept.
pub fn keep_observed_generation(new: &mut PodStatus, old: &PodStatus) {
    if new.observed_generation.unwrap_or(0) == 0 {
        new.observed_generation = old.observed_generation;
    }
    let mut known: Vec<_> = old.conditions.items().iter().collect();
    for condition in new.conditions.iter_mut().flatten() {
        let Some(at) = known.iter().position(|k| k.type_ == condition.type_) else {
            continue;
        };
        let before = known.remove(at);
        if condition.observed_generation.unwrap_or(0) == 0 {
            condition.observed_generation = before.observed_generation;
        }
    }
}

/// An update through `/status`.
pub fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    update::annotations(new, old, errors);
    let none = (PodStatus::default(), PodSpec::default());
    let (now, was) = (new.status.as_ref().unwrap_or(&none.0), old.status.as_ref().unwrap_or(&none.0));
    let (spec, old_spec) = (new.spec.as_ref().unwrap_or(&none.1), old.spec.as_ref().unwrap_or(&none.1));
    conditions(now, errors);
    let nominated = now.nominated_node_name.text();
    if !nominated.is_empty() && nominated != was.nominated_node_name.text() {
        let path = STATUS.child("nominatedNodeName");
        extend(errors, path, nominated, field::dns_subdomain(nominated));
        if !old_spec.node_name.text().is_empty() {
            errors.push(Error::forbidden(path, "may not be set on pods that are already bound to a node"));
        }
    }
    if let Some(generation) = now.observed_generation.filter(|g| *g < 0) {
        let why = "must be a non-negative integer";
        errors.push(Error::invalid(STATUS.child("observedGeneration"), generation, why));
    }
    if now.qos_class.text() != was.qos_class.text() {
        errors.push(Error::invalid(STATUS.child("qosClass"), now.qos_class.text(), crate::meta::IMMUTABLE));
    }
    transitions(now, was, old_spec, errors);
    claims(now, spec, errors);
    ips(now, was, errors);
    for (name, statuses) in lists(now) {
        users(statuses, spec, &STATUS.child(name), errors);
    }
    for (name, statuses, containers) in [
        ("containerStatuses", now.container_statuses.items(), &spec.containers[..]),
        ("initContainerStatuses", now.init_container_statuses.items(), spec.init_containers.items()),
    ] {
        let list = STATUS.child(name);
        for (i, status) in statuses.iter().enumerate() {
            allocated(status, containers, &list.index(i), errors);
        }
    }
    let list = STATUS.child("ephemeralContainerStatuses");
    for (i, status) in now.ephemeral_container_statuses.items().iter().enumerate() {
        if !status.allocated_resources_status.items().is_empty() {
            let path = list.index(i);
            let why = "must not be specified in container status";
            errors.push(Error::forbidden(path.child("allocatedResourcesStatus"), why));
        }
    }
}

fn lists(status: &PodStatus) -> [(&'static str, &[ContainerStatus]); 3] {
    [
        ("containerStatuses", status.container_statuses.items()),
        ("initContainerStatuses", status.init_container_statuses.items()),
        ("ephemeralContainerStatuses", status.ephemeral_container_statuses.items()),
    ]
}

fn conditions(status: &PodStatus, errors: &mut Errors) {
    let list = STATUS.child("conditions");
    for (i, condition) in status.conditions.items().iter().enumerate() {
        let path = list.index(i);
        if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
            let why = "must be a non-negative integer";
            errors.push(Error::invalid(path.child("observedGeneration"), generation, why));
        }
        let kind = &condition.type_;
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind.as_str()) {
            extend(errors, path.child("Type"), kind, field::qualified_name(kind));
        }
    }
}

/// A container that has ended stays so, unless it may be started again.
fn transitions(new: &PodStatus, old: &PodStatus, spec: &PodSpec, errors: &mut Errors) {
    let sidecars_only = |c: &Container| c.restart_policy.as_deref() == Some("Always");
    let whole = spec
        .containers
        .iter()
        .chain(spec.init_containers.items())
        .any(|c| c.restart_policy_rules.items().iter().any(|rule| rule.action == "RestartAllContainers"));
    for ((name, now), (_, was)) in lists(new).into_iter().zip(lists(old)) {
        let list = STATUS.child(name);
        if whole && name != "ephemeralContainerStatuses" {
            continue;
        }
        for (i, before) in was.iter().enumerate() {
            let Some(ended) = before.state.as_ref().and_then(|s| s.terminated.as_ref()) else {
                continue;
            };
            let again = now
                .iter()
                .any(|s| s.name == before.name && s.state.as_ref().is_none_or(|state| state.terminated.is_none()));
            let allowed = match name {
                "containerStatuses" => spec
                    .containers
                    .iter()
                    .find(|c| c.name == before.name)
                    .is_some_and(|c| restarts(c, spec, ended.exit_code)),
                "initContainerStatuses" => spec
                    .init_containers
                    .items()
                    .iter()
                    .find(|c| c.name == before.name)
                    .is_some_and(|c| sidecars_only(c) || restarts(c, spec, ended.exit_code)),
                _ => false,
            };
            if again && !allowed {
                let path = list.index(i);
                errors.push(Error::forbidden(path.child("state"), AGAIN));
            }
        }
    }
}

/// Whether a container that ended with this code is started again: by its rules, its own policy, or the Pod's.
pub fn restarts(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    let rules = container.restart_policy_rules.items().iter().filter(|_| container.restart_policy.is_some());
    for rule in rules {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.items().contains(&exit_code);
        let hit = if codes.operator == "In" { listed } else { codes.operator == "NotIn" && !listed };
        if hit {
            return ["Restart", "RestartAllContainers"].contains(&rule.action.as_str());
        }
    }
    match container.restart_policy.as_deref().unwrap_or(spec.restart_policy.text()) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

fn claims(status: &PodStatus, spec: &PodSpec, errors: &mut Errors) {
    let list = STATUS.child("resourceClaimStatuses");
    let mut names = BTreeSet::new();
    for (i, claim) in status.resource_claim_statuses.items().iter().enumerate() {
        let path = list.index(i);
        let name = claim.name.as_str();
        if !spec.resource_claims.items().iter().any(|c| c.name == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(path.child("name"), name, why));
        }
        if !names.insert(name) {
            errors.push(Error::duplicate(path.child("name"), name));
        }
        if let Some(name) = &claim.resource_claim_name {
            extend(errors, path.child("resourceClaimName"), name, field::dns_subdomain(name));
        }
    }
    extended_claims(status, spec, errors);
}

fn extended_claims(status: &PodStatus, spec: &PodSpec, errors: &mut Errors) {
    let Some(claim) = &status.extended_resource_claim_status else {
        return;
    };
    let path = STATUS.child("extendedResourceClaimStatus");
    let list = path.child("requestMappings");
    if claim.request_mappings.is_empty() {
        errors.push(Error::required(list, "at least one request mapping is required"));
    }
    let mut seen = BTreeSet::new();
    for (i, mapping) in claim.request_mappings.iter().enumerate() {
        let at = list.index(i);
        let name = mapping.container_name.as_str();
        let found = spec.containers.iter().chain(spec.init_containers.items().iter().rev()).find(|c| c.name == name);
        let requests = found.and_then(|c| c.resources.as_ref()).and_then(|r| r.requests.as_ref());
        if found.is_none() {
            let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
            errors.push(Error::invalid(at.child("containerName"), name, why));
        } else if requests.is_none_or(|r| !r.contains_key(&mapping.resource_name)) {
            let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
            errors.push(Error::invalid(at.child("resourceName"), mapping.resource_name.as_str(), why));
        }
        let request = &mapping.request_name;
        extend(errors, path.child("requestName"), request, field::dns_label(request));
        if !seen.insert((name, &mapping.resource_name, request)) {
            for (field, value) in
                [("containerName", name), ("resourceName", &mapping.resource_name), ("requestName", request)]
            {
                errors.push(Error::duplicate(at.child(field), value));
            }
        }
    }
    match claim.resource_claim_name.as_str() {
        "" => errors.push(Error::required(path.child("resourceClaimName"), "")),
        name => extend(errors, path.child("resourceClaimName"), name, field::dns_subdomain(name)),
    }
}

fn ips(new: &PodStatus, old: &PodStatus, errors: &mut Errors) {
    let texts = |status: &PodStatus| status.pod_ips.items().iter().map(|ip| ip.ip.clone()).collect::<Vec<_>>();
    let shown = go::show(new.pod_ips.items(), "[]PodIP");
    families("podIPs", &texts(new), &texts(old), shown, errors);
    let texts = |status: &PodStatus| status.host_ips.items().iter().map(|ip| ip.ip.clone()).collect::<Vec<_>>();
    let hosts = texts(new);
    if let Some(first) = hosts.first().filter(|first| *first != new.host_ip.text()) {
        let list = STATUS.child("hostIPs");
        let path = list.index(0);
        errors.push(Error::invalid(path.child("ip"), first.as_str(), "must be equal to `hostIP`"));
    }
    let shown = go::show(new.host_ips.items(), "[]HostIP");
    families("hostIPs", &hosts, &texts(old), shown, errors);
}

fn families(name: &str, ips: &[String], known: &[String], shown: String, errors: &mut Errors) {
    let list = STATUS.child(name);
    for (i, ip) in ips.iter().enumerate().filter(|(_, ip)| !known.contains(ip)) {
        extend(errors, list.index(i), ip, syntax::ip(ip));
    }
    if ips.len() < 2 {
        return;
    }
    let wrong = ips.iter().enumerate().find(|(_, ip)| syntax::parse_ip(ip).is_none());
    if let Some((i, ip)) = wrong {
        errors.push(Error::internal(list, format!("failed to check for dual stack with error:invalid IP[{i}]: {ip}")));
    }
    if wrong.is_some() || !syntax::is_dual_stack(ips) || ips.len() > 2 {
        let why = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(list, "", why).showing(shown));
    }
}

fn users(statuses: &[ContainerStatus], spec: &PodSpec, list: &Path, errors: &mut Errors) {
    let windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    for (i, status) in statuses.iter().enumerate() {
        let Some(linux) = status.user.as_ref().and_then(|u| u.linux.as_ref()) else {
            continue;
        };
        let path = list.index(i);
        let path = path.child("user");
        let path = path.child("linux");
        if windows {
            errors.push(Error::forbidden(path, "cannot be set for a windows pod"));
        } else {
            linux_user(linux, &path, errors);
        }
    }
}

fn linux_user(user: &LinuxContainerUser, path: &Path, errors: &mut Errors) {
    for (name, id) in [("uid", user.uid), ("gid", user.gid)] {
        extend_number(errors, path.child(name), id, syntax::id(id));
    }
    let list = path.child("supplementalGroups");
    for (i, id) in user.supplemental_groups.items().iter().enumerate() {
        extend_number(errors, list.index(i), *id, syntax::id(*id));
    }
}

fn allocated(status: &ContainerStatus, containers: &[Container], path: &Path, errors: &mut Errors) {
    let list = path.child("allocatedResourcesStatus");
    let container = containers.iter().find(|c| c.name == status.name);
    for (i, of) in status.allocated_resources_status.items().iter().enumerate() {
        let path = list.index(i);
        if let Some(container) = container {
            let own = container.resources.as_ref();
            let claimed = own.iter().flat_map(|r| r.claims.items()).any(|claim| {
                let request = claim.request.text();
                let name = format!("claim:{}", claim.name);
                of.name == if request.is_empty() { name } else { format!("{name}/{request}") }
            });
            let requested = own.and_then(|r| r.requests.as_ref()).is_some_and(|r| r.contains_key(&of.name));
            let (found, why) = if of.name.starts_with("claim:") {
                let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
                (claimed, why)
            } else {
                (requested, "must match one of the container's resource requests")
            };
            if !found {
                errors.push(Error::invalid(path.child("name"), of.name.as_str(), why));
            }
        }
        let resources = path.child("resources");
        let mut ids = BTreeSet::new();
        for (i, health) in of.resources.items().iter().enumerate() {
            let path = resources.index(i);
            let known = ["Healthy", "Unhealthy", "Unknown"];
            if !known.contains(&health.health.text()) {
                errors.push(Error::not_supported(path.child("health"), health.health.text(), &known));
            }
            match health.message.as_deref() {
                Some("") => errors.push(Error::required(path.child("message"), "must be non-empty if specified")),
                Some(text) if text.len() > 1024 => errors.push(Error::too_long(path.child("message"), 1024)),
                _ => {}
            }
            if !ids.insert(health.resource_id.as_str()) {
                errors.push(Error::duplicate(path.child("resourceID"), health.resource_id.as_str()));
            }
        }
    }
}

/// Whether the status of an init container is that of a sidecar.
pub fn is_sidecar_status(status: &ContainerStatus, spec: &PodSpec) -> bool {
    spec.init_containers.items().iter().any(|c| c.name == status.name && is_sidecar(c))
}

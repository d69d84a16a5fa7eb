//! Quotas: what an object uses of its namespace's ResourceQuotas, and which of them count it.
//!
//! Admission charges by it, and the controller of quotas adds up by it.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::{
    core::v1::{
        PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuota, ScopedResourceSelectorRequirement, Service,
    },
    resource::v1::ResourceClaim,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    pod::{
        qos,
        resources::{self, Count},
    },
    quantity::Quantity,
    resource::{self, Amounts},
};

/// What is not stored, and events, which never counted.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("", "events"),
    ("events.k8s.io", "events"),
];
/// Kinds whose plain name is counted like `count/<name>`.
const COUNTED_BY_NAME: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
const COMPUTE: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// A quota of these makes containers name them. Upstream regrets it and does not do it for others.
const MUST_BE_NAMED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const REQUESTS: &str = "requests.";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";
const BY_STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Of a claim for all devices nobody knows how many these are: the most there can be count.
const DEVICES_MAX: i64 = 32;
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What a kind of objects uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    Service,
    Claim,
    DeviceClaim,
    Other,
}

/// Measures the objects of one kind.
#[derive(Clone, Debug)]
pub struct Evaluator {
    kind: Kind,
    /// `count/deployments.apps`, and for a few kinds an older name.
    counts: Vec<String>,
}

/// An object that can be measured.
#[derive(Debug)]
pub enum Object {
    Pod(Box<Pod>),
    Service(Box<Service>),
    Claim(Box<PersistentVolumeClaim>),
    DeviceClaim(Box<ResourceClaim>),
    Other,
}

/// None for what is never counted.
pub fn evaluator(group: &str, plural: &str) -> Option<Evaluator> {
    if IGNORED.contains(&(group, plural)) {
        return None;
    }
    let count = if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") };
    let alias = (group.is_empty() && COUNTED_BY_NAME.contains(&plural)).then(|| plural.to_owned());
    let kind = match (group, plural) {
        ("", "pods") => Kind::Pod,
        ("", "services") => Kind::Service,
        ("", "persistentvolumeclaims") => Kind::Claim,
        ("resource.k8s.io", "resourceclaims") => Kind::DeviceClaim,
        _ => Kind::Other,
    };
    Some(Evaluator { kind, counts: std::iter::once(count).chain(alias).collect() })
}

impl Evaluator {
    pub fn read(&self, object: &Value) -> Result<Object, serde_json::Error> {
        Ok(match self.kind {
            Kind::Pod => Object::Pod(Box::deserialize(object)?),
            Kind::Service => Object::Service(Box::deserialize(object)?),
            Kind::Claim => Object::Claim(Box::deserialize(object)?),
            Kind::DeviceClaim => Object::DeviceClaim(Box::deserialize(object)?),
            Kind::Other => Object::Other,
        })
    }

    /// Whether objects are measured when they are updated, too, and not only when they are created.
    pub const fn follows_updates(&self) -> bool {
        !matches!(self.kind, Kind::Other)
    }

    /// Whether a resource of a quota is one that these objects use.
    pub fn counts(&self, name: &str) -> bool {
        if self.counts.iter().any(|count| count == name) {
            return true;
        }
        match self.kind {
            Kind::Pod => {
                COMPUTE.contains(&name)
                    || resource::is_huge_pages(name.strip_prefix(REQUESTS).unwrap_or(name))
                    || is_extended(name)
            }
            Kind::Service => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
            Kind::Claim => {
                let of_class = name.split_once(BY_STORAGE_CLASS).map_or(name, |(_, name)| name);
                matches!(of_class, "persistentvolumeclaims" | "requests.storage")
            }
            Kind::DeviceClaim => name.ends_with(BY_DEVICE_CLASS),
            Kind::Other => false,
        }
    }

    /// The hard resources of a quota that these objects use, sorted.
    pub fn counted<'a>(&self, quota: &'a ResourceQuota) -> Vec<&'a str> {
        let hard = quota.status.iter().flat_map(|status| status.hard.iter().flatten());
        hard.map(|(name, _)| name.as_str()).filter(|name| self.counts(name)).collect()
    }

    /// Whether a quota counts an object: it has a resource that is used, and the object is in all of its scopes.
    pub fn matches(&self, quota: &ResourceQuota, object: &Object) -> bool {
        !self.counted(quota).is_empty() && in_scopes(quota, object)
    }

    /// What an object uses. Of a pod that is over, only its being there counts.
    pub fn usage(&self, object: &Object, now: Timestamp) -> Amounts {
        let one = Quantity::from_units(1);
        let mut usage: Amounts = self.counts.iter().map(|count| (count.clone(), one)).collect();
        match object {
            Object::Pod(pod) => {
                if runs(pod, now) {
                    let requests = resources::requests(pod, Count::Status);
                    let limits = resources::limits(pod, Count::Status);
                    usage.extend(compute(&requests, &limits));
                }
            }
            Object::Service(service) => usage.extend(of_service(service)),
            Object::Claim(claim) => usage.extend(of_claim(claim)),
            Object::DeviceClaim(claim) => usage.extend(of_device_claim(claim)),
            Object::Other => {}
        }
        usage
    }

    /// Why an object cannot be measured against these resources of a quota.
    pub fn constraints(&self, required: &[&str], object: &Object) -> Result<(), String> {
        let Object::Pod(pod) = object else { return Ok(()) };
        let Some(spec) = &pod.spec else { return Ok(()) };
        let whole = spec.resources.as_ref();
        if whole.is_some_and(|r| {
            [&r.requests, &r.limits].into_iter().flatten().flatten().any(|(n, _)| resource::is_pod_level(n))
        }) {
            return Ok(());
        }
        let required: Vec<_> = MUST_BE_NAMED.into_iter().filter(|name| required.contains(name)).collect();
        let containers: Vec<_> = spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
        let missing = required.into_iter().collect::<BTreeSet<_>>().into_iter().filter_map(|name| {
            let lacking = containers.iter().filter(|container| {
                let own = container.resources.as_ref();
                let requests = resource::amounts(own.and_then(|r| r.requests.as_ref()));
                let limits = resource::amounts(own.and_then(|r| r.limits.as_ref()));
                !compute(&requests, &limits).contains_key(name)
            });
            let names: BTreeSet<_> = lacking.map(|container| container.name.as_str()).collect();
            (!names.is_empty()).then(|| format!("{name} for: {}", Vec::from_iter(names).join(",")))
        });
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("must specify {}", missing.join("; "))) }
    }
}

/// Whether a pod ends by itself: the scope `Terminating`.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0)
}

/// `requests.nvidia.com/gpu`
fn is_extended(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(REQUESTS) else { return false };
    !resource::is_native(name) || rest.starts_with(DEVICE_CLASS)
}

/// Whether a pod uses more than its place: it has not come to its end, nor is it past the time to go.
fn runs(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        return false;
    }
    let (Some(deleted), Some(grace)) = (&pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds)
    else {
        return true;
    };
    deleted.0.checked_add(grace.seconds()).is_ok_and(|gone| now <= gone)
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), Quantity::from_units(1))]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            usage.insert(name.to_owned(), *amount);
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests {
        if resource::is_huge_pages(name) {
            usage.insert(name.clone(), *amount);
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        } else if resource::is_extended(name) || name.starts_with(DEVICE_CLASS) {
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    usage
}

fn of_service(service: &Service) -> Amounts {
    let units = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX));
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    // Node ports are not allocated yet: what the service asks for counts.
    let node_ports = match spec.type_.as_deref() {
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => {
            ports.iter().filter(|port| port.node_port.unwrap_or(0) != 0).count()
        }
        Some("NodePort" | "LoadBalancer") => ports.len(),
        _ => 0,
    };
    Amounts::from([
        ("services".to_owned(), units(1)),
        ("services.loadbalancers".to_owned(), units(usize::from(is_balanced))),
        ("services.nodeports".to_owned(), units(node_ports)),
    ])
}

fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.clone().unwrap_or_default();
    let old = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(OLD_CLASS)).cloned();
    let class = old.or(spec.storage_class_name).unwrap_or_default();
    let mut usage = Amounts::new();
    let mut charge = |name: &str, amount: Quantity| {
        usage.insert(name.to_owned(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{BY_STORAGE_CLASS}{name}"), amount);
        }
    };
    charge("persistentvolumeclaims", Quantity::from_units(1));
    let asked = spec.resources.and_then(|resources| resources.requests);
    let Some(asked) = asked.as_ref().and_then(|requests| requests.get("storage")) else { return usage };
    let given = claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref());
    let given = Quantity::of(given.and_then(|amounts| amounts.get("storage")));
    charge("requests.storage", whole(Quantity::of(Some(asked)).max(given)));
    usage
}

/// Bytes are whole.
fn whole(amount: Quantity) -> Quantity {
    let units = Quantity::from_units(amount.units());
    if units == amount { amount } else { units }
}

fn of_device_claim(claim: &ResourceClaim) -> Amounts {
    let devices = |mode: Option<&str>, count: Option<i64>| match mode {
        Some("ExactCount") => count.unwrap_or(0),
        Some("All") => DEVICES_MAX,
        _ => 0,
    };
    let mut usage = Amounts::new();
    let mut charge = |class: &str, count: i64| {
        *usage.entry(format!("{class}{BY_DEVICE_CLASS}")).or_insert(Quantity::ZERO) += Quantity::from_units(count);
    };
    for request in claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
        if let Some(alternatives) = request.first_available.as_ref().filter(|all| !all.is_empty()) {
            // One of them will be taken: of each class the most that it could be.
            let mut most = std::collections::BTreeMap::<&str, i64>::new();
            for alternative in alternatives {
                let count = devices(alternative.allocation_mode.as_deref(), alternative.count);
                let there = most.entry(&alternative.device_class_name).or_default();
                *there = count.max(*there);
            }
            most.into_iter().for_each(|(class, count)| charge(class, count));
        } else if let Some(exactly) = &request.exactly {
            charge(&exactly.device_class_name, devices(exactly.allocation_mode.as_deref(), exactly.count));
        }
    }
    usage
}

fn in_scopes(quota: &ResourceQuota, object: &Object) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let exists = |scope: &String| ScopedResourceSelectorRequirement {
        scope_name: scope.clone(),
        operator: "Exists".to_owned(),
        values: None,
    };
    let plain = spec.scopes.iter().flatten().map(exists);
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten()).cloned();
    plain.chain(selected).all(|scope| in_scope(&scope, object))
}

fn in_scope(scope: &ScopedResourceSelectorRequirement, object: &Object) -> bool {
    match object {
        Object::Pod(pod) => match scope.scope_name.as_str() {
            "Terminating" => is_terminating(pod),
            "NotTerminating" => !is_terminating(pod),
            "BestEffort" => qos::class_of(pod) == "BestEffort",
            "NotBestEffort" => qos::class_of(pod) != "BestEffort",
            "PriorityClass" => {
                let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
                is_selected(scope, &class.filter(|class| !class.is_empty()).into_iter().collect())
            }
            "CrossNamespacePodAffinity" => looks_elsewhere(pod),
            _ => false,
        },
        Object::Claim(claim) if scope.scope_name == "VolumeAttributesClass" => is_selected(scope, &classes(claim)),
        _ => false,
    }
}

/// Whether one of the names is selected; without any, what selects their absence.
fn is_selected(scope: &ScopedResourceSelectorRequirement, names: &BTreeSet<&str>) -> bool {
    let values = scope.values.as_deref().unwrap_or_default();
    let listed = |name: &&str| values.iter().any(|value| value == *name);
    match scope.operator.as_str() {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(listed),
        "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
        _ => false,
    }
}

/// The classes that a claim has, has had so far, and shall have.
fn classes(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

fn looks_elsewhere(pod: &Pod) -> bool {
    let elsewhere = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    };
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let repelled = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let avoided = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = [preferred, avoided].into_iter().flatten().flatten().map(|weighted| &weighted.pod_affinity_term);
    [required, repelled].into_iter().flatten().flatten().chain(weighted).any(elsewhere)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn used(plural: &str, object: Value) -> String {
        let evaluator = evaluator("", plural).unwrap();
        let usage = evaluator.usage(&evaluator.read(&object).unwrap(), now());
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn usage() {
        let pod = |status: Value| {
            json!({"metadata": {}, "status": status, "spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "1"}, "limits": {"memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "200m"}, "limits": {"memory": "1Gi"}}}]}})
        };
        assert_eq!(
            used("pods", pod(json!({}))),
            "count/pods=1 cpu=300m limits.memory=2Gi pods=1 requests.cpu=300m requests.example.com/gpu=1"
        );
        assert_eq!(used("pods", pod(json!({"phase": "Failed"}))), "count/pods=1");
        let service = |spec: Value| json!({"metadata": {}, "spec": spec});
        for (spec, expected) in [
            (json!({"ports": [{"port": 80}]}), "services.loadbalancers=0 services.nodeports=0"),
            (
                json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}),
                "services.loadbalancers=0 services.nodeports=2",
            ),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80, "nodePort": 30000}, {"port": 81}]}),
                "services.loadbalancers=1 services.nodeports=1",
            ),
        ] {
            assert_eq!(used("services", service(spec)), format!("count/services=1 services=1 {expected}"));
        }
        assert_eq!(
            used(
                "persistentvolumeclaims",
                json!({"metadata": {}, "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}})
            ),
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
             gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
        );
        assert_eq!(used("secrets", json!({})), "count/secrets=1 secrets=1");
        assert!(super::evaluator("events.k8s.io", "events").is_none());
    }

    #[test]
    fn devices() {
        let evaluator = evaluator("resource.k8s.io", "resourceclaims").unwrap();
        let claim = json!({"metadata": {}, "spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                {"name": "y", "deviceClassName": "npu", "allocationMode": "All"}]}]}}});
        let usage = evaluator.usage(&evaluator.read(&claim).unwrap(), now());
        assert_eq!(usage["gpu.deviceclass.resource.k8s.io/devices"], Quantity::from_units(5));
        assert_eq!(usage["npu.deviceclass.resource.k8s.io/devices"], Quantity::from_units(32));
    }

    #[test]
    fn constraints() {
        let evaluator = evaluator("", "pods").unwrap();
        let pod = |resources: Value| {
            evaluator.read(&json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}, {"name": "d", "resources": resources}]}})).unwrap()
        };
        let required = ["pods", "requests.cpu", "limits.memory"];
        assert_eq!(
            evaluator.constraints(&required, &pod(json!({}))).unwrap_err(),
            "must specify limits.memory for: c,d; requests.cpu for: c,d"
        );
        let given = pod(json!({"requests": {"cpu": "1"}, "limits": {"memory": "1"}}));
        assert_eq!(evaluator.constraints(&required, &given), Ok(()));
    }

    #[test]
    fn scopes() {
        let evaluator = evaluator("", "pods").unwrap();
        let quota = |spec: Value| -> ResourceQuota {
            ResourceQuota::deserialize(&json!({"metadata": {}, "spec": spec, "status": {"hard": {"pods": "1"}}}))
                .unwrap()
        };
        let pod = |spec: Value| {
            let mut pod = json!({"metadata": {}, "spec": {"containers": []}});
            pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            evaluator.read(&pod).unwrap()
        };
        let select = |operator: &str, values: Value| {
            quota(
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}}),
            )
        };
        for (quota, spec, expected) in [
            (quota(json!({})), json!({}), true),
            (quota(json!({"scopes": ["BestEffort"]})), json!({}), true),
            (quota(json!({"scopes": ["NotBestEffort"]})), json!({}), false),
            (quota(json!({"scopes": ["BestEffort", "Terminating"]})), json!({}), false),
            (quota(json!({"scopes": ["Terminating"]})), json!({"activeDeadlineSeconds": 5}), true),
            (select("In", json!(["high"])), json!({"priorityClassName": "high"}), true),
            (select("In", json!(["high"])), json!({"priorityClassName": "low"}), false),
            (select("NotIn", json!(["high"])), json!({}), true),
            (select("Exists", Value::Null), json!({}), false),
            (select("DoesNotExist", Value::Null), json!({}), true),
            (
                quota(json!({"scopes": ["CrossNamespacePodAffinity"]})),
                json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "k", "namespaces": ["x"]}}]}}}),
                true,
            ),
        ] {
            assert_eq!(evaluator.matches(&quota, &pod(spec.clone())), expected, "{spec} {quota:?}");
        }
    }

    #[test]
    fn names() {
        let counts = |plural: &str, name: &str| evaluator("", plural).unwrap().counts(name);
        for (plural, name, expected) in [
            ("pods", "requests.hugepages-2Mi", true),
            ("pods", "requests.example.com/gpu", true),
            ("pods", "example.com/gpu", false),
            ("pods", "services", false),
            ("pods", "count/pods", true),
            ("persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage", true),
            ("persistentvolumeclaims", "requests.cpu", false),
            ("configmaps", "configmaps", true),
        ] {
            assert_eq!(counts(plural, name), expected, "{plural} {name}");
        }
    }
}

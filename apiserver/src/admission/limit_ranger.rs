//! LimitRanger: what containers do not ask for is filled in from the namespace's LimitRanges, and all is held to them.

use std::collections::BTreeMap;

use crds::{
    pod::resources,
    quantity::Quantity,
    resource::{self, Amounts, Written},
};
use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity as Wire,
};
use serde_json::Value;

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// From here on thousandths would overflow, and whole units are compared.
const EXACT_UNITS_MAX: i64 = i64::MAX / 1000;

#[derive(Default)]
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        let deleting =
            attributes.old.as_ref().is_some_and(|old| !edit::text(old, "/metadata/deletionTimestamp").is_empty());
        if deleting {
            return false;
        }
        match attributes.operation {
            // The resources of containers change by resizing alone.
            Operation::Create => attributes.is("", "pods", "") || attributes.is("", "persistentvolumeclaims", ""),
            Operation::Update => attributes.is("", "pods", "resize") || attributes.is("", "persistentvolumeclaims", ""),
            _ => false,
        }
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if attributes.resource() != "pods" {
                return Ok(());
            }
            let ranges = world.list::<LimitRange>(&attributes.namespace)?;
            if let Some(pod) = &mut attributes.object {
                ranges.iter().for_each(|range| set_defaults(pod, range));
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(object) = &attributes.object else { return Ok(()) };
            let ranges = world.list::<LimitRange>(&attributes.namespace)?;
            if ranges.is_empty() {
                return Ok(());
            }
            let is_pod = attributes.resource() == "pods";
            let (pod, claim): (Pod, PersistentVolumeClaim) = if is_pod {
                (edit::decode(object)?, PersistentVolumeClaim::default())
            } else {
                (Pod::default(), edit::decode(object)?)
            };
            for range in &ranges {
                let wrong = if is_pod { check_pod(&pod, range) } else { check_claim(&claim, range) };
                if !wrong.is_empty() {
                    return Err(attributes.forbidden(aggregate(wrong)));
                }
            }
            Ok(())
        })
    }
}

/// As Go's aggregated errors are told: one as it is, more in brackets, none twice.
pub fn aggregate(errors: Vec<String>) -> String {
    let mut told: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        if !told.contains(&error) {
            told.push(error);
        }
    }
    match told.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

fn limits(range: &LimitRange) -> impl Iterator<Item = &LimitRangeItem> {
    range.spec.iter().flat_map(|spec| &spec.limits)
}

fn set_defaults(pod: &mut Value, range: &LimitRange) {
    let (mut default, mut default_request) = (Written::new(), Written::new());
    for limit in limits(range).filter(|limit| limit.type_ == "Container") {
        default.extend(limit.default.clone().unwrap_or_default());
        default_request.extend(limit.default_request.clone().unwrap_or_default());
    }
    let mut told = Vec::new();
    for (container, init) in edit::containers(pod) {
        let name = edit::text(container, "/name").to_owned();
        let kind = if init { "init container" } else { "container" };
        for (member, what, defaults) in [("requests", "request", &default_request), ("limits", "limit", &default)] {
            let added = fill_in(container, member, defaults);
            if !added.is_empty() {
                told.push(format!("{} {what} for {kind} {name}", added.join(", ")));
            }
        }
    }
    if !told.is_empty() {
        let told = format!("LimitRanger plugin set: {}", told.join("; "));
        edit::set(pod, &["metadata", "annotations", ANNOTATION], told);
    }
}

/// The names of the resources that were missing.
fn fill_in<'a>(container: &mut Value, member: &str, defaults: &'a BTreeMap<String, Wire>) -> Vec<&'a str> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let Some(list) = edit::object(container, &["resources", member]) else { return Vec::new() };
    let missing: Vec<_> = defaults.iter().filter(|(name, _)| !list.contains_key(*name)).collect();
    missing
        .into_iter()
        .map(|(name, amount)| {
            list.insert(name.clone(), Value::from(amount.0.clone()));
            name.as_str()
        })
        .collect()
}

/// What something asks for and is limited to.
struct Usage {
    requests: Amounts,
    limits: Amounts,
}

fn check_pod(pod: &Pod, range: &LimitRange) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut wrong = Vec::new();
    for limit in limits(range) {
        match limit.type_.as_str() {
            "Container" => {
                for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                    let own = container.resources.as_ref();
                    let usage = Usage {
                        requests: resource::amounts(own.and_then(|r| r.requests.as_ref())),
                        limits: resource::amounts(own.and_then(|r| r.limits.as_ref())),
                    };
                    check(limit, &usage, &mut wrong);
                }
            }
            "Pod" => {
                // Overhead is not the author's doing and does not count here.
                let own = spec.resources.as_ref();
                let mut requests = resources::container_requests_of(spec);
                let mut limits = resources::container_limits_of(spec);
                let whole = |list: Option<&Written>| {
                    resource::amounts(list).into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
                };
                requests.extend(whole(own.and_then(|r| r.requests.as_ref())));
                limits.extend(whole(own.and_then(|r| r.limits.as_ref())));
                check(limit, &Usage { requests, limits }, &mut wrong);
            }
            _ => {}
        }
    }
    wrong
}

fn check_claim(claim: &PersistentVolumeClaim, range: &LimitRange) -> Vec<String> {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    let usage = Usage { requests: resource::amounts(requests), limits: Amounts::new() };
    let mut wrong = Vec::new();
    for limit in limits(range).filter(|limit| limit.type_ == "PersistentVolumeClaim") {
        for (name, bound) in resource::amounts(limit.min.as_ref()) {
            wrong.extend(below(&limit.type_, &name, bound, &usage));
        }
        for (name, bound) in resource::amounts(limit.max.as_ref()) {
            let what = format!("maximum {name} usage per {} is {bound}", limit.type_);
            wrong.extend(match usage.requests.get(&name) {
                None => Some(format!("{what}.  No request is specified")),
                Some(request) if more(*request, bound) => Some(format!("{what}, but request is {request}")),
                Some(_) => None,
            });
        }
    }
    wrong
}

fn check(limit: &LimitRangeItem, usage: &Usage, wrong: &mut Vec<String>) {
    for (name, bound) in resource::amounts(limit.min.as_ref()) {
        wrong.extend(below(&limit.type_, &name, bound, usage));
    }
    for (name, bound) in resource::amounts(limit.max.as_ref()) {
        wrong.extend(above(&limit.type_, &name, bound, usage));
    }
    for (name, bound) in resource::amounts(limit.max_limit_request_ratio.as_ref()) {
        wrong.extend(apart(&limit.type_, &name, bound, usage));
    }
}

/// Compares at the finest scale at which none overflows.
fn more(a: Quantity, b: Quantity) -> bool {
    if a.units() <= EXACT_UNITS_MAX && b.units() <= EXACT_UNITS_MAX {
        return a.millis() > b.millis();
    }
    a.units() > b.units()
}

fn below(kind: &str, name: &str, min: Quantity, usage: &Usage) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {min}");
    let Some(request) = usage.requests.get(name) else { return Some(format!("{what}.  No request is specified")) };
    if more(min, *request) {
        return Some(format!("{what}, but request is {request}"));
    }
    let limit = usage.limits.get(name).filter(|limit| more(min, **limit))?;
    Some(format!("{what}, but limit is {limit}"))
}

fn above(kind: &str, name: &str, max: Quantity, usage: &Usage) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {max}");
    let Some(limit) = usage.limits.get(name) else { return Some(format!("{what}.  No limit is specified")) };
    if more(*limit, max) {
        return Some(format!("{what}, but limit is {limit}"));
    }
    let request = usage.requests.get(name).filter(|request| more(**request, max))?;
    Some(format!("{what}, but request is {request}"))
}

fn apart(kind: &str, name: &str, max: Quantity, usage: &Usage) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {max}");
    let given = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
    let Some(request) = given(&usage.requests) else {
        return Some(format!("{what}, but no request is specified or request is 0"));
    };
    let Some(limit) = given(&usage.limits) else {
        return Some(format!("{what}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.nanos() as f64 / request.nanos() as f64;
    let exceeds =
        if max.units() <= EXACT_UNITS_MAX { ratio * 1000.0 > max.millis() as f64 } else { ratio > max.units() as f64 };
    exceeds.then(|| format!("{what}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(limits: Value) -> LimitRange {
        edit::decode(&json!({"metadata": {}, "spec": {"limits": limits}})).unwrap()
    }

    #[test]
    fn defaults() {
        let range = range(
            json!([{"type": "Container", "default": {"cpu": "500m", "memory": "256Mi"}, "defaultRequest": {"cpu": "100m"}}]),
        );
        let mut pod = json!({"spec": {"containers": [{"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {}}]}});
        set_defaults(&mut pod, &range);
        let all = json!({"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], all);
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], all);
        assert_eq!(
            pod["spec"]["containers"][1]["resources"],
            json!({"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "1"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c; memory limit for \
             container d; cpu request for init container i; cpu, memory limit for init container i"
        );
    }

    #[test]
    fn bounds() {
        let range = range(json!([
            {"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "10"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}
        ]));
        let pod = |resources: Value| -> Pod {
            edit::decode(&json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}}))
                .unwrap()
        };
        let fine = json!({"memory": "1Gi"});
        for (cpu_request, cpu_limit, expected) in [
            ("100m", "1", vec![]),
            ("10m", "60m", vec!["minimum cpu usage per Container is 50m, but request is 10m"]),
            ("1", "3", vec!["maximum cpu usage per Container is 2, but limit is 3"]),
            ("100m", "2", vec!["cpu max limit to request ratio per Container is 10, but provided ratio is 20.000000"]),
        ] {
            let (mut requests, mut limits) = (fine.clone(), fine.clone());
            (requests["cpu"], limits["cpu"]) = (json!(cpu_request), json!(cpu_limit));
            assert_eq!(check_pod(&pod(json!({"requests": requests, "limits": limits})), &range), expected);
        }
        assert_eq!(
            aggregate(check_pod(&pod(json!({})), &range)),
            "[minimum cpu usage per Container is 50m.  No request is specified, \
             maximum cpu usage per Container is 2.  No limit is specified, \
             cpu max limit to request ratio per Container is 10, but no request is specified or request is 0, \
             maximum memory usage per Pod is 1Gi.  No limit is specified]"
        );
        let claim = |size: &str| -> PersistentVolumeClaim {
            edit::decode(&json!({"metadata": {}, "spec": {"resources": {"requests": {"storage": size}}}})).unwrap()
        };
        assert_eq!(check_claim(&claim("1536Mi"), &range), Vec::<String>::new());
        assert_eq!(
            check_claim(&claim("3Gi"), &range),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
        assert_eq!(
            check_claim(&claim("1Mi"), &range),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
    }
}

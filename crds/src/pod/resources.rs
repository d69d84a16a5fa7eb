//! What a Pod asks for and may use in all: its containers, init containers, sidecars and overhead reckoned together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};

use super::container::is_sidecar;
use crate::{
    given::{Items, Text},
    resource::{self, Amounts, Written},
};

/// Whether what the node has given already counts beside what the spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Spec,
    /// The most of spec, allocated and actual resources: what a scheduler must reckon with during a resize.
    Status,
}

/// What has to be free on a node for the Pod.
pub fn requests(pod: &Pod, count: Count) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let mut sum = container_requests(pod, count);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let effective = whole_effective(pod, count, whole, |r| r.requests.as_ref(), true);
        for (name, amount) in resource::amounts(Some(whole)).into_iter().filter(|(n, _)| resource::is_pod_level(n)) {
            let amount = effective.as_ref().map_or(Some(amount), |e| e.get(&name).copied());
            sum.insert(name, amount.unwrap_or(crate::quantity::Quantity::ZERO));
        }
    }
    resource::add(&mut sum, &resource::amounts(spec.overhead.as_ref()));
    sum
}

/// What the Pod may use at most; a resource that is missing is not limited by every container.
pub fn limits(pod: &Pod, count: Count) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let mut sum = container_limits(pod, count);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.limits.as_ref()) {
        let effective = whole_effective(pod, count, whole, |r| r.limits.as_ref(), false);
        for (name, amount) in resource::amounts(Some(whole)).into_iter().filter(|(n, _)| resource::is_pod_level(n)) {
            let amount = effective.as_ref().map_or(Some(amount), |e| e.get(&name).copied());
            sum.insert(name, amount.unwrap_or(crate::quantity::Quantity::ZERO));
        }
    }
    for (name, amount) in resource::amounts(spec.overhead.as_ref()) {
        if let Some(have) = sum.get_mut(&name).filter(|have| !have.is_zero()) {
            *have += amount;
        }
    }
    sum
}

/// The requests of all containers, without those of the Pod as a whole and without overhead.
pub fn container_requests(pod: &Pod, count: Count) -> Amounts {
    aggregate(pod, count, |own| own.requests.as_ref(), true)
}

/// The limits of all containers, without those of the Pod as a whole and without overhead.
pub fn container_limits(pod: &Pod, count: Count) -> Amounts {
    aggregate(pod, count, |own| own.limits.as_ref(), false)
}

/// The same for a spec alone.
pub fn container_requests_of(spec: &PodSpec) -> Amounts {
    aggregate_spec(spec, |c| resource::amounts(c.resources.as_ref().and_then(|r| r.requests.as_ref())))
}

pub fn container_limits_of(spec: &PodSpec) -> Amounts {
    aggregate_spec(spec, |c| resource::amounts(c.resources.as_ref().and_then(|r| r.limits.as_ref())))
}

type Side = fn(&ResourceRequirements) -> Option<&Written>;

fn aggregate(pod: &Pod, count: Count, side: Side, with_allocated: bool) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let own = |c: &Container| resource::amounts(c.resources.as_ref().and_then(side));
    if count == Count::Spec {
        return aggregate_spec(spec, own);
    }
    let statuses: BTreeMap<&str, &ContainerStatus> = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.items().iter().chain(s.init_container_statuses.items()))
        .map(|s| (s.name.as_str(), s))
        .collect();
    let infeasible = is_resize_infeasible(pod);
    aggregate_spec(spec, |c| {
        let spec_side = own(c);
        let is_init = spec.init_containers.items().iter().any(|i| i.name == c.name);
        let status = statuses.get(c.name.as_str()).filter(|_| !is_init || is_sidecar(c));
        match status.and_then(|s| s.resources.as_ref().map(|actual| (s, actual))) {
            None => spec_side,
            Some((status, actual)) => {
                let allocated = status.allocated_resources.as_ref().filter(|_| with_allocated);
                effective(spec_side, side(actual), allocated, infeasible)
            }
        }
    })
}

/// Regular containers run together; each init container runs with the sidecars before it and nothing else.
fn aggregate_spec(spec: &PodSpec, own: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in &spec.containers {
        resource::add(&mut sum, &own(container));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.items() {
        let mut during = own(container);
        if is_sidecar(container) {
            resource::add(&mut sum, &during);
            resource::add(&mut sidecars, &during);
            during = sidecars.clone();
        } else {
            resource::add(&mut during, &sidecars);
        }
        resource::raise(&mut most, &during);
    }
    resource::raise(&mut sum, &most);
    sum
}

/// A resize that the node cannot make leaves the wish of the spec out.
fn effective(spec: Amounts, actual: Option<&Written>, allocated: Option<&Written>, infeasible: bool) -> Amounts {
    let mut most = if infeasible { Amounts::new() } else { spec };
    resource::raise(&mut most, &resource::amounts(actual));
    resource::raise(&mut most, &resource::amounts(allocated));
    most
}

fn whole_effective(pod: &Pod, count: Count, whole: &Written, side: Side, with_allocated: bool) -> Option<Amounts> {
    let status = pod.status.as_ref().filter(|_| count == Count::Status)?;
    let actual = status.resources.as_ref()?;
    let allocated = status.allocated_resources.as_ref().filter(|_| with_allocated);
    Some(effective(resource::amounts(Some(whole)), side(actual), allocated, is_resize_infeasible(pod)))
}

pub fn is_resize_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.items());
    conditions.filter(|c| c.type_ == "PodResizePending").take(1).any(|c| c.reason.text() == "Infeasible")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(amounts: Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn of_all_containers() {
        let cpu = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "overhead": {"cpu": "10m"},
            "containers": [{"name": "a", "resources": cpu("1")}, {"name": "b", "resources": cpu("1")}],
            "initContainers": [
                {"name": "i", "resources": cpu("4")},
                {"name": "s", "restartPolicy": "Always", "resources": cpu("500m")},
                {"name": "j", "resources": cpu("3")},
            ],
        }}))
        .unwrap();
        // 4 for the first init container is more than 3.5 during the last one, and than 2.5 afterwards.
        assert_eq!(shown(requests(&pod, Count::Spec)), ["cpu=4010m"]);
    }

    #[test]
    fn of_the_whole_pod_and_its_status() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {
                "resources": {"requests": {"cpu": "5"}},
                "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            },
            "status": {"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"memory": "2Gi"}, "resources": {"requests": {"memory": "1Gi"}}}]},
        }))
        .unwrap();
        assert_eq!(shown(requests(&pod, Count::Spec)), ["cpu=5", "memory=1Gi"]);
        assert_eq!(shown(requests(&pod, Count::Status)), ["cpu=5", "memory=2Gi"]);
    }
}

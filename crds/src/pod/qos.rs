//! The quality of service class: how much of what it may use a Pod has asked for.

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};

use crate::{
    given::{Items, Text},
    quantity::Quantity,
    resource::{self, Amounts, CPU, MEMORY, Written},
};

pub const GUARANTEED: &str = "Guaranteed";
pub const BURSTABLE: &str = "Burstable";
pub const BEST_EFFORT: &str = "BestEffort";

/// The class in the status, or else what the spec comes to.
pub fn class_of(pod: &Pod) -> &str {
    match pod.status.as_ref().map_or("", |s| s.qos_class.text()) {
        "" => pod.spec.as_ref().map_or(BEST_EFFORT, class),
        class => class,
    }
}

/// What the requests and limits of a spec come to. Ephemeral containers do not count.
pub fn class(spec: &PodSpec) -> &'static str {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    if let Some(whole) = &spec.resources {
        resource::add(&mut requests, &counted(whole.requests.as_ref()));
        let of_pod = counted(whole.limits.as_ref());
        guaranteed = whole.limits.as_ref().is_none_or(|l| l.is_empty()) || of_pod.len() == 2;
        resource::add(&mut limits, &of_pod);
    } else {
        let none = ResourceRequirements::default();
        for container in spec.containers.iter().chain(spec.init_containers.items()) {
            let own = container.resources.as_ref().unwrap_or(&none);
            let own_limits = counted(own.limits.as_ref());
            guaranteed &= own_limits.len() == 2;
            resource::add(&mut limits, &own_limits);
            resource::add(&mut requests, &counted(own.requests.as_ref()));
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return BEST_EFFORT;
    }
    if guaranteed && requests == limits { GUARANTEED } else { BURSTABLE }
}

/// Processor and memory, where they are more than nothing.
fn counted(list: Option<&Written>) -> Amounts {
    let mut amounts = resource::amounts(list);
    amounts.retain(|name, amount| [CPU, MEMORY].contains(&name.as_str()) && *amount > Quantity::ZERO);
    amounts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (containers, want) in [
            (json!([{"name": "a"}]), BEST_EFFORT),
            (json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), BURSTABLE),
            (json!([{"name": "a", "resources": {"requests": both, "limits": both}}]), GUARANTEED),
            (json!([{"name": "a", "resources": {"requests": both, "limits": both}}, {"name": "b"}]), BURSTABLE),
            (json!([{"name": "a", "resources": {"requests": {"example.com/gpu": "1"}}}]), BEST_EFFORT),
        ] {
            let spec: PodSpec = serde_json::from_value(json!({"containers": containers})).unwrap();
            assert_eq!(class(&spec), want, "{containers}");
        }
    }
}

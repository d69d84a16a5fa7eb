//! The quality-of-service class of a pod, and what the kernel is told about it.

use crds::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::{PodExt, Role};

pub const GUARANTEED: &str = "Guaranteed";
pub const BURSTABLE: &str = "Burstable";
pub const BEST_EFFORT: &str = "BestEffort";

/// The class that follows from the cpu and memory of all containers, or of the pod itself where it sets any.
pub fn class(pod: &Pod) -> &'static str {
    let spec = pod.spec();
    if let Some(resources) = spec.resources.as_ref().filter(|r| r.limits.is_some() || r.requests.is_some()) {
        return of([resources].into_iter());
    }
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let empty = ResourceRequirements::default();
    let resources: Vec<_> = all.map(|c| c.resources.as_ref().unwrap_or(&empty)).collect();
    of(resources.into_iter())
}

fn of<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for r in all {
        for name in ["cpu", "memory"] {
            let limit = Quantity::of(r.limits.as_ref().and_then(|l| l.get(name)));
            let request = r.requests.as_ref().and_then(|l| l.get(name)).map_or(limit, |q| Quantity::of(Some(q)));
            any |= !limit.is_zero() || !request.is_zero();
            guaranteed &= !limit.is_zero() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => BEST_EFFORT,
        (true, true) => GUARANTEED,
        (true, false) => BURSTABLE,
    }
}

/// Whether the pod must be the last to go: system priority and above, or one of this node's own.
pub fn is_critical(pod: &Pod) -> bool {
    pod.is_static() || pod.is_mirror() || pod.spec().priority.is_some_and(|p| p >= 2_000_000_000)
}

/// How much sooner (up to 1000) or later (down to -997) the kernel should kill a container when memory runs out.
pub fn oom_score_adj(pod: &Pod, role: Role, container: &Container, memory_bytes: i64) -> i64 {
    if pod.spec().priority_class_name.as_deref() == Some("system-node-critical") {
        return -997;
    }
    match class(pod) {
        GUARANTEED => return -997,
        BEST_EFFORT => return 1000,
        _ => {}
    }
    let score = |bytes: i64| 1000 - i128::from(bytes) * 1000 / i128::from(memory_bytes.max(1));
    let mut adjustment = score(request(container));
    if role == Role::Sidecar {
        let least = pod.spec().containers.iter().map(request).min().unwrap_or(0);
        adjustment = adjustment.min(score(least));
    }
    i64::try_from(adjustment).unwrap_or(999).clamp(3, 999)
}

fn request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    Quantity::of(requests.and_then(|r| r.get("memory"))).units()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes_and_scores() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (containers, want, score) in [
            (json!([{"name": "a"}]), BEST_EFFORT, 1000),
            (json!([{"name": "a", "resources": {"limits": both}}]), GUARANTEED, -997),
            (json!([{"name": "a", "resources": {"limits": both, "requests": both}}]), GUARANTEED, -997),
            (json!([{"name": "a", "resources": {"limits": both}}, {"name": "b"}]), BURSTABLE, 999),
            (json!([{"name": "a", "resources": {"requests": {"memory": "1Gi"}}}]), BURSTABLE, 900),
            (json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), BURSTABLE, 999),
            (json!([{"name": "a", "resources": {"requests": {"memory": "20Gi"}}}]), BURSTABLE, 3),
        ] {
            let pod = pod(containers);
            assert_eq!(class(&pod), want);
            let last = pod.spec().containers.last().cloned().unwrap();
            assert_eq!(oom_score_adj(&pod, Role::Main, &last, 10 << 30), score, "{want}");
        }
    }
}

//! What controllers ask of pods, and how they make them.

use std::{cmp::Ordering, collections::BTreeMap};

use crds::condition;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ObjectReference, Pod, PodStatus, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::{
    plan::{Event, Write},
    runtime::{clock, object},
};

/// The cache's index of pods by node.
pub const BY_NODE: &str = "node";

pub fn node_names(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|s| s.node_name.clone()).filter(|n| !n.is_empty()).collect()
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether its containers have stopped for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it runs or will run, and nobody has asked it to go.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition::is_true(pod.status.as_ref().and_then(|s| s.conditions.as_ref()), "Ready")
}

/// Since when it has been ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = condition::find(conditions, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// When a ready pod counts as available; none if it is not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds <= 0 {
        return Some(Timestamp::MIN);
    }
    ready_since(pod).map(|since| clock::after(since, min_ready_seconds.into()))
}

pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When the next of the ready pods becomes available.
pub fn next_available<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Timestamp> {
    pods.into_iter().filter_map(|p| available_at(p, min_ready_seconds)).filter(|at| *at > now).min()
}

/// The pod of a template, named by the server after its owner.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner: &str, reference: OwnerReference) -> Pod {
    let shape = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(format!("{owner}-")),
            labels: shape.labels,
            annotations: shape.annotations,
            finalizers: shape.finalizers,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The creation of a pod, told of at its owner as upstream does.
pub fn create(pod: &Pod, owner: &ObjectReference) -> Write {
    Write::create(pod).told(
        Event::normal(owner.clone(), "SuccessfulCreate", "Created pod: {name}"),
        Event::warning(owner.clone(), "FailedCreate", "Error creating: {error}"),
    )
}

pub fn delete(pod: &Pod, owner: &ObjectReference) -> Write {
    Write::delete::<Pod>(&pod.metadata).told(
        Event::normal(owner.clone(), "SuccessfulDelete", "Deleted pod: {name}"),
        Event::warning(owner.clone(), "FailedDelete", "Error deleting: {error}"),
    )
}

/// Which pods to remove first: those that serve least, or that crowd a node, or are youngest.
///
/// `related` are the pods of all sets under the same owner: of two pods the one whose node holds more of them goes.
pub fn by_deletion_order(a: &Pod, b: &Pod, on_node: &BTreeMap<&str, usize>, now: Timestamp) -> Ordering {
    let assigned = |p: &Pod| !node_name(p).is_empty();
    let stage = |p: &Pod| match phase(p) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let crowd = |p: &Pod| on_node.get(node_name(p)).copied().unwrap_or(0);
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| stage(a).cmp(&stage(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| match is_ready(a) && is_ready(b) {
            true => younger_first(ready_since(a), ready_since(b), a, b, now),
            false => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), a, b, now))
}

/// Ages count by their order of magnitude, so that not always the same pods go.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, pod_a: &Pod, pod_b: &Pod, now: Timestamp) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (Some(a), Some(b)) = (a, b) else {
        return a.is_some().cmp(&b.is_some());
    };
    let rank = |t: Timestamp| match clock::since(now, t).as_nanos() {
        0 => 0,
        nanos => nanos.ilog2() + 1,
    };
    rank(a).cmp(&rank(b)).then_with(|| pod_a.metadata.uid.cmp(&pod_b.metadata.uid))
}

fn deletion_cost(pod: &Pod) -> i32 {
    object::annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|c| c.parse().ok())
        .unwrap_or(0)
}

fn restarts(pod: &Pod) -> (i32, i32) {
    let most = |status: Option<&PodStatus>, init: bool| {
        let list =
            status.and_then(|s| if init { s.init_container_statuses.as_ref() } else { s.container_statuses.as_ref() });
        list.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    };
    (most(pod.status.as_ref(), false), most(pod.status.as_ref(), true))
}

#[cfg(test)]
pub mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    use super::*;

    pub fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    /// A pod in one of the states `pending`, `running`, `ready`, `failed`, `succeeded`, `terminating`.
    pub fn pod(name: &str, state: &str) -> Pod {
        let ready = if matches!(state, "ready") { "True" } else { "False" };
        let phase = match state {
            "pending" => "Pending",
            "failed" => "Failed",
            "succeeded" => "Succeeded",
            _ => "Running",
        };
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"),
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "a"}},
            "spec": {"containers": []},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:05:00Z"}]},
        }))
        .unwrap();
        if state != "pending" {
            pod.spec = Some(PodSpec { node_name: Some("node".into()), ..PodSpec::default() });
        }
        if state == "terminating" {
            pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
        }
        pod
    }

    #[test]
    fn deletion_order() {
        let mut costly = pod("costly", "ready");
        costly.metadata.annotations = Some([("controller.kubernetes.io/pod-deletion-cost".into(), "10".into())].into());
        let mut pods = [costly, pod("ready", "ready"), pod("running", "running"), pod("pending", "pending")];
        pods.sort_by(|a, b| by_deletion_order(a, b, &BTreeMap::new(), now()));
        assert_eq!(pods.map(|p| p.metadata.name.unwrap()), ["pending", "running", "ready", "costly"]);
    }

    #[test]
    fn availability() {
        let pod = pod("a", "ready");
        assert!(is_available(&pod, 0, now()));
        assert!(is_available(&pod, 300, now()));
        assert!(!is_available(&pod, 301, now()));
        assert_eq!(next_available([&pod], 301, now()), Some(clock::after(now(), 1)));
    }
}

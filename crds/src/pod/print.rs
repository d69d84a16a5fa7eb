//! A Pod as a row of `kubectl get`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus};
use serde_json::{Value, json};

use super::{container::is_sidecar, state, status::is_sidecar_status};
use crate::{
    given::{Items, Text},
    table::{age, or_none, since},
};

/// What the walk over the containers comes to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let none = (PodSpec::default(), PodStatus::default());
    let (spec, status) = (pod.spec.as_ref().unwrap_or(&none.0), pod.status.as_ref().unwrap_or(&none.1));
    let total = spec.containers.len() + spec.init_containers.items().iter().filter(|c| is_sidecar(c)).count();
    let mut summary = summarize(pod, spec, status);
    if state::is_terminating(pod) {
        if status.reason.text() == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !state::is_terminal(pod) {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(at) => format!("{} ({} ago)", summary.restarts, since(at, now)),
        None => summary.restarts.to_string(),
    };
    let ip = status.pod_ips.items().first().map_or("", |ip| &ip.ip);
    vec![
        json!(pod.metadata.name),
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        json!(age(&pod.metadata, now)),
        json!(or_none(ip)),
        json!(or_none(spec.node_name.text())),
        json!(or_none(status.nominated_node_name.text())),
        json!(readiness_gates(pod, spec)),
    ]
}

fn readiness_gates(pod: &Pod, spec: &PodSpec) -> String {
    let gates = spec.readiness_gates.items();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = |kind: &str| state::condition(pod, kind).is_some_and(|c| c.status == "True");
    format!("{}/{}", gates.iter().filter(|g| open(&g.condition_type)).count(), gates.len())
}

fn summarize(pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Summary {
    let mut summary = Summary {
        reason: if status.reason.text().is_empty() { status.phase.text() } else { status.reason.text() }.to_owned(),
        ready: 0,
        restarts: 0,
        last_restart: None,
    };
    let gated = |c: &&k8s_openapi::api::core::v1::PodCondition| {
        c.type_ == "PodScheduled" && c.reason.text() == "SchedulingGated"
    };
    if status.conditions.items().iter().any(|c| gated(&c)) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = walk_init(spec, status, &mut summary);
    let initialized = state::condition(pod, "Initialized").is_some_and(|c| c.status == "True");
    if !initializing || initialized {
        let sidecars = status.init_container_statuses.items().iter().filter(|s| is_sidecar_status(s, spec));
        (summary.restarts, summary.last_restart) = (0, None);
        sidecars.for_each(|s| count_restarts(s, &mut summary));
        walk_containers(pod, status, &mut summary);
    }
    summary
}

fn count_restarts(status: &ContainerStatus, summary: &mut Summary) {
    summary.restarts += i64::from(status.restart_count);
    let ended = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let at = ended.and_then(|t| t.finished_at.as_ref()).map(|t| t.0);
    summary.last_restart = summary.last_restart.max(at);
}

/// Whether an init container keeps the others waiting; the first such one gives the reason.
fn walk_init(spec: &PodSpec, status: &PodStatus, summary: &mut Summary) -> bool {
    for (i, container) in status.init_container_statuses.items().iter().enumerate() {
        count_restarts(container, summary);
        let none = Default::default();
        let state = container.state.as_ref().unwrap_or(&none);
        if state.terminated.as_ref().is_some_and(|t| t.exit_code == 0) {
            continue;
        }
        if is_sidecar_status(container, spec) && container.started == Some(true) {
            summary.ready += usize::from(container.ready);
            continue;
        }
        let waiting = state.waiting.as_ref().map_or("", |w| w.reason.text());
        summary.reason = match &state.terminated {
            Some(ended) => format!("Init:{}", ending(ended)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", spec.init_containers.items().len()),
        };
        return true;
    }
    false
}

fn ending(ended: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> String {
    match (ended.reason.text(), ended.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", ended.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn walk_containers(pod: &Pod, status: &PodStatus, summary: &mut Summary) {
    let (mut running, mut failure) = (false, String::new());
    for container in status.container_statuses.items().iter().rev() {
        count_restarts(container, summary);
        let none = Default::default();
        let state = container.state.as_ref().unwrap_or(&none);
        let waiting = state.waiting.as_ref().map_or("", |w| w.reason.text());
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(ended) = &state.terminated {
            summary.reason = ending(ended);
            if ended.exit_code != 0 {
                failure.clone_from(&summary.reason);
            }
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if running && state::is_ready(pod) {
            summary.reason = state::RUNNING.to_owned();
        } else if !failure.is_empty() {
            summary.reason = failure;
        } else if running {
            summary.reason = "NotReady".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let now: Timestamp = "2024-01-01T01:00:00Z".parse().unwrap();
        let container = |state: Value, ready: bool, restarts: i32| {
            json!({"name": "c", "image": "", "imageID": "", "ready": ready, "restartCount": restarts, "state": state,
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2024-01-01T00:50:00Z"}}})
        };
        let running = json!({"running": {}});
        for (status, want) in [
            (json!({"phase": "Pending"}), ["0/1", "Pending", "0"]),
            (
                json!({"phase": "Running", "containerStatuses": [container(running, true, 2)]}),
                ["1/1", "Running", "2 (10m ago)"],
            ),
            (
                json!({"phase": "Running",
                    "containerStatuses": [container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false, 0)]}),
                ["0/1", "CrashLoopBackOff", "0"],
            ),
            (
                json!({"phase": "Failed",
                    "containerStatuses": [container(json!({"terminated": {"exitCode": 3}}), false, 0)]}),
                ["0/1", "ExitCode:3", "0"],
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "creationTimestamp": "2024-01-01T00:00:00Z"},
                "spec": {"containers": [{"name": "c"}]},
                "status": status,
            }))
            .unwrap();
            let row = row(&pod, now);
            assert_eq!(row[1..4], want.map(Value::from), "{status}");
            assert_eq!(row[4..6], [json!("60m"), json!("<none>")]);
        }
    }
}

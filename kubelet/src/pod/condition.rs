//! The conditions of a pod that the kubelet owns.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition};

use super::{
    PodExt, Role,
    observed::{Cause, Observed, State},
    resource,
    status::is_terminal,
};

pub const OWNED: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

fn condition(kind: &str, status: bool, reason: &str, message: String) -> PodCondition {
    let text = |t: String| Some(t).filter(|t| !t.is_empty());
    PodCondition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: text(reason.into()),
        message: text(message),
        ..Default::default()
    }
}

pub(crate) fn simple(kind: &str, status: bool) -> PodCondition {
    condition(kind, status, "", String::new())
}

/// As Go prints a list.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn messages(parts: [(&str, &[&str]); 2]) -> String {
    let given = parts.into_iter().filter(|(_, names)| !names.is_empty());
    given.map(|(what, names)| format!("containers with {what} status: {}", list(names))).collect::<Vec<_>>().join(", ")
}

/// Whether all main containers and sidecars are ready.
pub(crate) fn containers_ready(pod: &Pod, all: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "ContainersReady";
    if phase == "Failed" {
        return condition(KIND, false, "PodFailed", String::new());
    }
    if all.is_empty() {
        return condition(KIND, false, "UnknownContainerStatuses", String::new());
    }
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let containers = pod.containers();
    for (_, c) in containers.iter().filter(|(role, _)| matches!(role, Role::Sidecar | Role::Main)) {
        match all.iter().find(|s| s.name == c.name) {
            None => unknown.push(c.name.as_str()),
            Some(status) if !status.ready => unready.push(c.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(KIND, false, "PodCompleted", String::new());
    }
    let message = messages([("unknown", &unknown), ("unready", &unready)]);
    let reason = if message.is_empty() { "" } else { "ContainersNotReady" };
    condition(KIND, message.is_empty(), reason, message)
}

/// Ready is what the containers are, and what the readiness gates say.
pub(crate) fn ready(pod: &Pod, others: &[PodCondition], containers: &PodCondition) -> PodCondition {
    if containers.status != "True" {
        return PodCondition { type_: "Ready".into(), ..containers.clone() };
    }
    let mut missing = Vec::new();
    for gate in pod.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *kind) {
            None => missing.push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(c) if c.status != "True" => {
                missing.push(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", c.status))
            }
            Some(_) => {}
        }
    }
    let reason = if missing.is_empty() { "" } else { "ReadinessGatesNotReady" };
    condition("Ready", missing.is_empty(), reason, missing.join(", "))
}

/// Whether the init containers are through.
pub(crate) fn initialized(pod: &Pod, all: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "Initialized";
    let containers = pod.containers();
    let init: Vec<_> = containers.iter().filter(|(role, _)| matches!(role, Role::Init | Role::Sidecar)).collect();
    if all.is_empty() && !init.is_empty() {
        return condition(KIND, false, "UnknownContainerStatuses", String::new());
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for (role, c) in init {
        match all.iter().find(|s| s.name == c.name) {
            None => unknown.push(c.name.as_str()),
            Some(s) if *role == Role::Sidecar && s.started != Some(true) => incomplete.push(c.name.as_str()),
            Some(s) if *role == Role::Init && !s.ready => incomplete.push(c.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(KIND, true, "PodCompleted", String::new());
    }
    let begun = |name: &str| {
        let state = all.iter().find(|s| s.name == name).and_then(|s| s.state.as_ref());
        state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    if containers.iter().any(|(role, c)| *role == Role::Main && begun(&c.name)) {
        return condition(KIND, true, "", String::new());
    }
    let message = messages([("unknown", &unknown), ("incomplete", &incomplete)]);
    let reason = if message.is_empty() { "" } else { "ContainersNotInitialized" };
    condition(KIND, message.is_empty(), reason, message)
}

/// A pod says so for as long as a running container has not been given what it is to have now.
pub(crate) fn resizing(pod: &Pod, seen: &Observed) -> Option<PodCondition> {
    let differs = |c: &Container| {
        let running = seen.latest(&c.name).filter(|latest| latest.state == State::Running);
        running.and_then(|running| resource::resized(pod, c, running, seen)).is_some()
    };
    (seen.termination.is_none() && pod.containers().iter().any(|(_, c)| differs(c)))
        .then(|| simple("PodResizeInProgress", true))
}

/// A pod that this node evicts says so, once nothing of it runs any more.
pub(crate) fn disruption(seen: &Observed) -> Option<PodCondition> {
    let Cause::Failed { reason, message } = &seen.termination.as_ref()?.cause else { return None };
    let over = seen.cleaned || seen.reported.phase.as_deref().is_some_and(is_terminal);
    (reason == "Evicted" && over).then(|| condition("DisruptionTarget", true, "TerminationByKubelet", message.clone()))
}

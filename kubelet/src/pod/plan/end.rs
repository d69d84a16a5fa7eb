//! How a pod ends: containers in their order, then the sandbox, then all that was prepared.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Plan, Step, Stop, deadline};
use crate::pod::{
    PodExt, Role,
    observed::{Cause, Observed, State, Termination},
};

/// Whether the pod's time is over although nobody said so yet.
pub(super) fn due(pod: &Pod, seen: &Observed, now: Timestamp, plan: &mut Plan) -> Option<Termination> {
    if pod.is_deleted() {
        return Some(Termination { cause: Cause::Deleted, grace_seconds: grace(pod) });
    }
    if pod.is_terminal() || matches!(seen.reported.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Some(Termination { cause: Cause::Completed, grace_seconds: grace(pod) });
    }
    let deadline = deadline(pod, seen)?;
    if now < deadline {
        plan.wake(deadline);
        return None;
    }
    let cause = Cause::Failed {
        reason: "DeadlineExceeded".into(),
        message: "Pod was active on the node longer than the specified deadline".into(),
    };
    Some(Termination { cause, grace_seconds: grace(pod) })
}

/// The grace that a pod is given: never less than a second.
pub(crate) fn grace(pod: &Pod) -> i64 {
    pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| pod.grace_seconds()).max(1)
}

pub(super) fn plan(pod: &Pod, seen: &Observed, termination: &Termination, plan: &mut Plan) {
    let running: Vec<_> = seen.containers.iter().filter(|c| c.state != State::Exited).collect();
    let alive: Vec<_> = running.iter().map(|c| c.name.as_str()).collect();
    for c in running.iter().filter(|c| !seen.stopping.contains(&c.id)) {
        plan.step(Step::Stop(Stop {
            id: c.id.clone(),
            name: c.name.clone(),
            message: format!("Stopping container {}", c.name),
            grace_seconds: termination.grace_seconds,
            after: followers(pod, &c.name).into_iter().filter(|f| alive.contains(&f.as_str())).collect(),
        }));
    }
    if !running.is_empty() || seen.starting {
        return;
    }
    let ready: Vec<_> = seen.sandboxes.iter().filter(|s| s.ready).collect();
    for s in ready.iter().filter(|s| !seen.stopping.contains(&s.id)) {
        plan.step(Step::StopSandbox { id: s.id.clone() });
    }
    if ready.is_empty() && !seen.cleaned {
        plan.step(Step::CleanUp);
    }
}

/// Sidecars end after the main containers, the last one first.
fn followers(pod: &Pod, name: &str) -> Vec<String> {
    let all = pod.containers();
    let Some(at) = all.iter().position(|(role, c)| *role == Role::Sidecar && c.name == name) else {
        return Vec::new();
    };
    let later = all[at + 1..].iter().filter(|(role, _)| matches!(role, Role::Sidecar | Role::Main));
    later.map(|(_, c)| c.name.clone()).collect()
}

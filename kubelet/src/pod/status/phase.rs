//! The phase of a pod, from the states of its containers.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};

use crate::pod::{PodExt, Role, init_role, restart};

#[derive(Default)]
struct Count {
    pending_init: u32,
    pending_sidecar: u32,
    failed_for_good: u32,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

/// `ended`: nothing is started again; `begun`: a main container was created in the present sandbox.
pub(super) fn phase(pod: &Pod, all: &[ContainerStatus], ended: bool, begun: bool) -> &'static str {
    let mut count = Count::default();
    let spec = pod.spec();
    let state = |c: &Container| all.iter().find(|s| s.name == c.name).map(states);
    for c in spec.init_containers.iter().flatten() {
        match init_role(c) {
            Role::Sidecar => sidecar(all.iter().find(|s| s.name == c.name), &mut count),
            _ => init(pod, c, state(c), &mut count),
        }
    }
    for c in &spec.containers {
        main(pod, c, state(c), &mut count);
    }
    if count.failed_for_good > 0 {
        return "Failed";
    }
    if count.pending_init > 0 || count.pending_sidecar > 0 && !begun || count.waiting > 0 {
        return "Pending";
    }
    if count.unknown > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    if count.stopped == 0 {
        return "Pending";
    }
    let over = ended && !pod.is_static() || count.stopped == count.stopped_for_good;
    match (over, count.stopped == count.succeeded) {
        (false, _) => "Running",
        (true, true) => "Succeeded",
        (true, false) => "Failed",
    }
}

/// The present and the last state.
fn states(status: &ContainerStatus) -> (ContainerState, ContainerState) {
    (status.state.clone().unwrap_or_default(), status.last_state.clone().unwrap_or_default())
}

type States = Option<(ContainerState, ContainerState)>;

fn init(pod: &Pod, container: &Container, states: States, count: &mut Count) {
    let Some((now, last)) = states else {
        count.pending_init += 1;
        return;
    };
    let ended = now.terminated.or_else(|| now.waiting.and(last.terminated));
    match ended {
        None => count.pending_init += 1,
        Some(end) if end.exit_code != 0 && !restart::after_exit(container, pod, end.exit_code) => {
            count.failed_for_good += 1;
        }
        Some(_) => {}
    }
}

fn sidecar(status: Option<&ContainerStatus>, count: &mut Count) {
    let Some(status) = status else {
        count.unknown += 1;
        return;
    };
    let (now, last) = states(status);
    if now.running.is_some() {
        count.running += 1;
        count.pending_sidecar += u32::from(status.started != Some(true));
    } else if now.waiting.is_some() && last.terminated.is_none() {
        count.pending_sidecar += 1;
        count.waiting += 1;
    }
}

fn main(pod: &Pod, container: &Container, states: States, count: &mut Count) {
    let Some((now, last)) = states else {
        count.unknown += 1;
        return;
    };
    if now.running.is_some() {
        count.running += 1;
        return;
    }
    let succeeded = now.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    let Some(end) = now.terminated.or(last.terminated) else {
        count.waiting += 1;
        return;
    };
    count.stopped += 1;
    count.succeeded += u32::from(succeeded);
    count.stopped_for_good += u32::from(!restart::after_exit(container, pod, end.exit_code));
}

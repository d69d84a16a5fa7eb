//! What is reported of a pod, from what is seen of it.

mod container;
mod phase;
#[cfg(test)]
mod tests;

use crds::meta::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};

use super::{
    PodExt, Role, condition,
    observed::{Cause, Observed, State},
    qos, resource, status_of,
};

pub(crate) const UNKNOWN: &str = "ContainerStatusUnknown";

/// What a status tells beyond the pod: where it runs and by what.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `containerd`, `cri-o`, …: the scheme of container ids.
    pub runtime: String,
    pub ips: Vec<String>,
}

/// The whole status of a pod. Conditions that are not the kubelet's are kept.
pub fn status(pod: &Pod, seen: &Observed, host: &Host, now: Timestamp) -> PodStatus {
    let old = &seen.reported;
    let mut new = PodStatus {
        qos_class: Some(qos::class(pod).to_owned()),
        start_time: old.start_time.clone().or_else(|| Some(whole_seconds(now))),
        observed_generation: pod.metadata.generation.max(old.observed_generation),
        host_ip: host.ips.first().cloned(),
        host_ips: (!host.ips.is_empty()).then(|| host.ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        allocated_resources: Some(resource::requests(pod)).filter(|r| !r.is_empty()),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        extended_resource_claim_status: old.extended_resource_claim_status.clone(),
        node_allocatable_resource_claim_statuses: old.node_allocatable_resource_claim_statuses.clone(),
        ..Default::default()
    };
    let ips = addresses(pod, seen, host);
    new.pod_ip = ips.first().cloned();
    new.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());

    if let Some(Cause::Failed { reason, message }) = seen.termination.as_ref().map(|t| &t.cause)
        && seen.containers.is_empty()
        && seen.sandboxes.is_empty()
        && !seen.prepared
    {
        // Refused at the door: there never were any containers.
        new.phase = Some("Failed".into());
        new.reason = Some(reason.clone());
        new.message = Some(message.clone());
        new.container_statuses = old.container_statuses.clone();
        new.conditions = Some(conditions(pod, seen, &[], "Failed", now));
        return new;
    }

    let (mut init, mut main, ephemeral) = container::all(pod, seen, host);
    if seen.cleaned {
        conclude(&mut init, &mut main);
    }
    let all: Vec<ContainerStatus> = init.iter().chain(&main).cloned().collect();
    let ended = seen.termination.is_some();
    let begun = pod.spec().containers.iter().any(|c| {
        let here = |sandbox: &str| seen.sandboxes.first().is_some_and(|s| s.id == sandbox);
        seen.containers.iter().any(|l| l.name == c.name && here(&l.sandbox_id))
    });
    let mut phase = phase::phase(pod, &all, ended, begun).to_owned();
    if seen.cleaned && !is_terminal(&phase) && !pod.is_static() {
        phase = "Failed".into();
    }
    if let Some(terminal) = [old.phase.as_deref(), Some(pod.phase())].into_iter().flatten().find(|p| is_terminal(p)) {
        phase = terminal.to_owned();
    }
    (new.reason, new.message) = (old.reason.clone(), old.message.clone());
    if old.phase.as_deref() != Some(&phase) {
        (new.reason, new.message) = (None, None);
    }
    if let Some(Cause::Failed { reason, message }) = seen.termination.as_ref().map(|t| &t.cause) {
        phase = "Failed".into();
        (new.reason, new.message) = (Some(reason.clone()), Some(message.clone()));
    }
    let shown = phase.clone();
    // A pod is not over as long as anything of it may run: whoever waits for its end relies on that.
    let alive = seen.containers.iter().any(|c| c.state != State::Exited) || seen.starting;
    if is_terminal(&phase) && alive && !old.phase.as_deref().is_some_and(is_terminal) {
        phase = old.phase.clone().unwrap_or_else(|| "Pending".into());
        (new.reason, new.message) = (old.reason.clone(), old.message.clone());
    }
    new.resources = resource::pod_status(pod);
    new.conditions = Some(conditions(pod, seen, &all, &shown, now));
    new.phase = Some(phase);
    new.init_container_statuses = Some(init).filter(|s| !s.is_empty());
    new.container_statuses = Some(main).filter(|s| !s.is_empty());
    new.ephemeral_container_statuses = Some(ephemeral).filter(|s| !s.is_empty());
    new
}

pub(crate) fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// A dead pod keeps the address that it had.
fn addresses(pod: &Pod, seen: &Observed, host: &Host) -> Vec<String> {
    if pod.host_network() {
        let kept: Vec<_> = seen.reported.pod_ips.iter().flatten().map(|i| i.ip.clone()).collect();
        return if kept.is_empty() { host.ips.clone() } else { kept };
    }
    match seen.sandboxes.first().filter(|s| s.ready && !s.ips.is_empty()) {
        Some(sandbox) => sandbox.ips.clone(),
        None => seen.reported.pod_ips.iter().flatten().map(|i| i.ip.clone()).collect(),
    }
}

/// Nothing of the pod is left: what did not report its end is taken to have failed.
fn conclude(init: &mut [ContainerStatus], main: &mut [ContainerStatus]) {
    let moved = |s: &ContainerStatus| {
        s.state.as_ref().is_some_and(|s| s.waiting.is_none())
            || s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
    };
    let finished =
        |s: &ContainerStatus| s.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
    if init.is_empty() || main.iter().any(moved) || init.last().is_some_and(finished) {
        main.iter_mut().for_each(lost);
    }
    let begun = init.iter().rposition(moved).map_or(1, |at| at + 1);
    init.iter_mut().take(begun).for_each(lost);
}

fn lost(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    status.ready = false;
    status.started = status.started.map(|_| false);
    status.state = Some(terminated(ContainerStateTerminated {
        exit_code: 137,
        reason: Some(UNKNOWN.into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..Default::default()
    }));
}

pub(crate) fn terminated(state: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(state), ..Default::default() }
}

/// All conditions: first those of others, untouched; then the kubelet's own.
fn conditions(pod: &Pod, seen: &Observed, all: &[ContainerStatus], phase: &str, now: Timestamp) -> Vec<PodCondition> {
    let held = status_of(pod);
    let mut list: Vec<PodCondition> =
        held.conditions.iter().flatten().filter(|c| !condition::OWNED.contains(&c.type_.as_str())).cloned().collect();
    if let Some(mut target) = condition::disruption(seen) {
        list.retain(|c| c.type_ != target.type_);
        target.observed_generation = pod.metadata.generation;
        list.push(stamped(target, seen, now));
    }
    let sandbox = seen.sandbox(pod.host_network()).is_some();
    let ready_to_start = condition::simple("PodReadyToStartContainers", sandbox);
    let initialized = condition::initialized(pod, all, phase);
    let containers = condition::containers_ready(pod, all, phase);
    let ready = condition::ready(pod, &list, &containers);
    let standing = [ready_to_start, initialized, ready, containers, condition::simple("PodScheduled", true)];
    for mut own in condition::resizing(pod, seen).into_iter().chain(standing) {
        own.observed_generation = pod.metadata.generation;
        list.push(stamped(own, seen, now));
    }
    list
}

/// A condition keeps the time of its last change of status.
fn stamped(mut new: PodCondition, seen: &Observed, now: Timestamp) -> PodCondition {
    let old = seen.reported.conditions.iter().flatten().find(|c| c.type_ == new.type_ && c.status == new.status);
    new.last_transition_time = old.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(whole_seconds(now)));
    new
}

/// The roles whose statuses stand in `initContainerStatuses`.
pub(crate) fn is_init(role: Role) -> bool {
    matches!(role, Role::Init | Role::Sidecar)
}

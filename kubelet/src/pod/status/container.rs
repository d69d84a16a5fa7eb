//! The status of each container of a pod.

use crds::meta::whole_seconds;
use k8s_cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, Pod, VolumeMountStatus,
};

use super::{Host, UNKNOWN, is_init, terminated};
use crate::pod::{
    PodExt, Role,
    observed::{Container as Seen, Observed, State, timestamp},
    resource, restart,
};

type Statuses = Vec<ContainerStatus>;

/// Init containers in their order, main and ephemeral containers by name.
pub(super) fn all(pod: &Pod, seen: &Observed, host: &Host) -> (Statuses, Statuses, Statuses) {
    let [mut init, mut main, mut ephemeral] = [const { Vec::new() }; 3];
    for (role, container) in pod.containers() {
        let list = match role {
            Role::Main => &mut main,
            Role::Ephemeral => &mut ephemeral,
            Role::Init | Role::Sidecar => &mut init,
        };
        list.push(of(pod, role, &container, seen, host));
    }
    for list in [&mut main, &mut ephemeral] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    (init, main, ephemeral)
}

fn of(pod: &Pod, role: Role, container: &Container, seen: &Observed, host: &Host) -> ContainerStatus {
    let old = previous(role, &container.name, seen);
    let attempts: Vec<_> = seen.containers.iter().filter(|c| c.name == container.name).take(2).collect();
    let mut status = match attempts.first() {
        Some(latest) => shown(container, latest, old, seen.actuated.get(&latest.id), host),
        None => absent(pod, container, old),
    };
    if let Some(ContainerStateWaiting { reason: reason @ None, .. }) =
        status.state.as_mut().and_then(|state| state.waiting.as_mut())
    {
        *reason = Some(not_begun(pod).to_owned());
    }
    if let Some(before) = attempts.get(1) {
        status.last_state = Some(state(before, host));
    }
    waiting(pod, role, container, seen, &mut status);
    readiness(role, container, seen, attempts.first().copied(), &mut status);
    status
}

fn previous<'a>(role: Role, name: &str, seen: &'a Observed) -> Option<&'a ContainerStatus> {
    let list = match role {
        Role::Ephemeral => &seen.reported.ephemeral_container_statuses,
        Role::Main => &seen.reported.container_statuses,
        Role::Init | Role::Sidecar => &seen.reported.init_container_statuses,
    };
    list.iter().flatten().find(|s| s.name == name)
}

/// Why a container waits that nothing holds up.
fn not_begun(pod: &Pod) -> &'static str {
    match &pod.spec().init_containers {
        Some(init) if !init.is_empty() => "PodInitializing",
        _ => "ContainerCreating",
    }
}

/// A container of which the runtime knows nothing: it has not begun, or its remains are gone.
fn absent(pod: &Pod, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(wait(not_begun(pod), "")),
        last_state: Some(ContainerState::default()),
        volume_mounts: mounts(container),
        ..Default::default()
    };
    let Some(old) = old else { return status };
    let state = |s: &Option<ContainerState>| s.clone().unwrap_or_default();
    if state(&old.state).terminated.is_some() {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state = Some(state(&old.last_state));
    if state(&old.state).running.is_some() && state(&old.last_state).terminated.is_none() {
        // It ran, and nobody saw it end: without this the pod would look as if it had never begun.
        status.last_state = Some(terminated(ContainerStateTerminated {
            exit_code: 137,
            reason: Some(UNKNOWN.into()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running".into(),
            ),
            ..Default::default()
        }));
        status.restart_count += i32::from(!pod.is_deleted());
    }
    status
}

fn shown(
    container: &Container,
    latest: &Seen,
    old: Option<&ContainerStatus>,
    actuated: Option<&LinuxContainerResources>,
    host: &Host,
) -> ContainerStatus {
    let same = old.filter(|o| o.container_id.as_deref() == Some(&id(latest, host)));
    let last_state = match old {
        Some(o) if same.is_none() => o.state.as_ref().filter(|s| s.terminated.is_some()).or(o.last_state.as_ref()),
        Some(o) => o.last_state.as_ref(),
        None => None,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: latest.image.clone(),
        image_id: latest.image_ref.clone(),
        container_id: Some(id(latest, host)),
        restart_count: latest.restart_count.max(old.map_or(0, |o| o.restart_count)),
        state: Some(state(latest, host)),
        last_state: Some(last_state.filter(|s| s.terminated.is_some()).cloned().unwrap_or_default()),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        resources: Some(resource::container_status(container, latest, actuated, same)),
        user: latest.user.as_ref().map(|u| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: u.uid,
                gid: u.gid,
                supplemental_groups: Some(u.supplemental_groups.clone()).filter(|g| !g.is_empty()),
            }),
        }),
        volume_mounts: mounts(container),
        ..Default::default()
    }
}

pub(super) fn id(seen: &Seen, host: &Host) -> String {
    format!("{}://{}", host.runtime, seen.id)
}

fn state(seen: &Seen, host: &Host) -> ContainerState {
    match seen.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(whole_seconds(timestamp(seen.started_at))) }),
            ..Default::default()
        },
        State::Exited => terminated(ContainerStateTerminated {
            exit_code: seen.exit_code,
            reason: Some(seen.reason.clone()).filter(|r| !r.is_empty()),
            message: Some(seen.message.clone()).filter(|m| !m.is_empty()),
            started_at: Some(whole_seconds(timestamp(seen.started_at))),
            finished_at: Some(whole_seconds(timestamp(seen.finished_at))),
            container_id: Some(id(seen, host)),
            signal: None,
        }),
        State::Created | State::Unknown => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() }
        }
    }
}

fn wait(reason: &str, message: &str) -> ContainerState {
    let text = |t: &str| Some(t.to_owned()).filter(|t| !t.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: text(reason), message: text(message) }),
        ..Default::default()
    }
}

/// A container that is to be started again shows why it has not been yet.
fn waiting(pod: &Pod, role: Role, container: &Container, seen: &Observed, status: &mut ContainerStatus) {
    let latest = seen.latest(&container.name);
    if is_init(role) {
        if latest.is_some_and(Seen::succeeded) && role == Role::Init {
            return;
        }
        let begun = pod.spec().containers.iter().any(|c| seen.latest(&c.name).is_some());
        let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if latest.is_none() && begun && role == Role::Init && waits {
            status.state = Some(terminated(ContainerStateTerminated {
                reason: Some("Completed".into()),
                message: Some(
                    "Unable to get init container status from container runtime and pod has been initialized, \
                     treat it as exited normally"
                        .into(),
                ),
                ..Default::default()
            }));
            return;
        }
    }
    if !restart::wanted(container, pod, seen) || seen.termination.is_some() {
        return;
    }
    let Some(why) = seen.waiting.get(&container.name) else { return };
    if let Some(ended) = status.state.take().filter(|s| s.terminated.is_some()) {
        status.last_state = Some(ended);
    }
    status.state = Some(wait(&why.reason, &why.message));
}

/// Whether the container counts as started and ready; ephemeral containers never do.
fn readiness(role: Role, c: &Container, seen: &Observed, latest: Option<&Seen>, status: &mut ContainerStatus) {
    if role == Role::Ephemeral {
        return;
    }
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let probed = latest.and_then(|l| seen.probed.get(&l.id)).copied().unwrap_or_default();
    let started = running && (c.startup_probe.is_none() || probed.startup == Some(true));
    status.started = Some(started);
    status.ready = match role {
        Role::Init => status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0),
        _ => started && (c.readiness_probe.is_none() || probed.readiness == Some(true)),
    };
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = |m: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|r| *r),
        recursive_read_only: m.read_only.filter(|r| *r).map(|_| "Disabled".into()),
        ..Default::default()
    };
    Some(mounts.iter().map(status).collect())
}

//! Containers of a Pod: init, regular and ephemeral ones seen alike.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec};

use crate::given::Items;

/// A container with the list of the spec that holds it and its place there.
pub struct Seen<'a> {
    pub list: &'static str,
    pub index: usize,
    pub container: Cow<'a, Container>,
}

/// All containers, init containers first and ephemeral ones last.
pub fn all(spec: &PodSpec) -> impl Iterator<Item = Seen<'_>> {
    let seen = |list| move |(index, container)| Seen { list, index, container: Cow::Borrowed(container) };
    let init = spec.init_containers.items().iter().enumerate().map(seen("initContainers"));
    let regular = spec.containers.iter().enumerate().map(seen("containers"));
    let ephemeral = spec.ephemeral_containers.items().iter().enumerate().map(|(index, c)| Seen {
        list: "ephemeralContainers",
        index,
        container: Cow::Owned(of_ephemeral(c)),
    });
    init.chain(regular).chain(ephemeral)
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Changes every container, of whatever sort.
pub fn change(spec: &mut PodSpec, mut with: impl FnMut(&mut Container)) {
    spec.init_containers.iter_mut().flatten().for_each(&mut with);
    spec.containers.iter_mut().for_each(&mut with);
    for ephemeral in spec.ephemeral_containers.iter_mut().flatten() {
        let mut container = of_ephemeral(ephemeral);
        with(&mut container);
        *ephemeral = to_ephemeral(container, ephemeral.target_container_name.take());
    }
}

/// An ephemeral container is a container with a target.
pub fn of_ephemeral(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

fn to_ephemeral(c: Container, target_container_name: Option<String>) -> EphemeralContainer {
    EphemeralContainer {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        lifecycle: c.lifecycle,
        liveness_probe: c.liveness_probe,
        name: c.name,
        ports: c.ports,
        readiness_probe: c.readiness_probe,
        resize_policy: c.resize_policy,
        resources: c.resources,
        restart_policy: c.restart_policy,
        restart_policy_rules: c.restart_policy_rules,
        security_context: c.security_context,
        startup_probe: c.startup_probe,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        target_container_name,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
    }
}

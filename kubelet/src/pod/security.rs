//! Under which user, with which powers and behind which walls a container runs.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::{PodExt, ephemeral_target, observed::Observed};

/// What must stay hidden from, and unwritable for, containers that are not privileged.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who an image says that it runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod.spec();
    let mode = |host: Option<bool>| if host == Some(true) { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => cri::NamespaceMode::Node,
        (_, Some(true)) => cri::NamespaceMode::Pod,
        _ => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: mode(spec.host_network) as i32,
        pid: pid as i32,
        ipc: mode(spec.host_ipc) as i32,
        ..Default::default()
    }
}

pub fn is_privileged(c: &Container) -> bool {
    c.security_context.as_ref().and_then(|s| s.privileged) == Some(true)
}

const fn int(value: i64) -> cri::Int64Value {
    cri::Int64Value { value }
}

fn selinux(options: Option<&k8s_openapi::api::core::v1::SELinuxOptions>) -> Option<cri::SeLinuxOption> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    options.map(|o| cri::SeLinuxOption {
        user: text(&o.user),
        role: text(&o.role),
        r#type: text(&o.type_),
        level: text(&o.level),
    })
}

fn groups(pod: &Pod) -> (Vec<i64>, i32) {
    let spec = pod.spec();
    let Some(context) = &spec.security_context else { return (Vec::new(), 0) };
    let all = context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect();
    (all, i32::from(context.supplemental_groups_policy.as_deref() == Some("Strict")))
}

fn seccomp(profile: Option<&SeccompProfile>, default: bool, root: &str) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, local) = match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|p| p.localhost_profile.as_deref()).unwrap_or("");
            (ProfileType::Localhost, format!("{root}/{name}"))
        }
        None if default => (ProfileType::RuntimeDefault, String::new()),
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref: local }
}

/// The context of the sandbox, in which nothing of the user's runs.
pub fn sandbox(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let spec = pod.spec();
    let context = spec.security_context.as_ref();
    let (supplemental_groups, supplemental_groups_policy) = groups(pod);
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: selinux(context.and_then(|c| c.se_linux_options.as_ref())),
        run_as_user: context.and_then(|c| c.run_as_user).map(int),
        run_as_group: context.and_then(|c| c.run_as_group).map(int),
        supplemental_groups,
        supplemental_groups_policy,
        privileged: pod.containers().iter().any(|(_, c)| is_privileged(c)),
        seccomp: Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        }),
        ..Default::default()
    }
}

/// The context of a container: its own settings over the pod's. `root` is where local seccomp profiles are.
pub fn container(
    pod: &Pod,
    c: &Container,
    image: &ImageUser,
    seen: &Observed,
    root: &str,
    default_seccomp: bool,
) -> Result<cri::LinuxContainerSecurityContext, String> {
    verify_non_root(pod, c, image)?;
    let spec = pod.spec();
    let (own, shared) = (c.security_context.as_ref(), spec.security_context.as_ref());
    let user = own.and_then(|o| o.run_as_user).or_else(|| shared.and_then(|s| s.run_as_user));
    let group = own.and_then(|o| o.run_as_group).or_else(|| shared.and_then(|s| s.run_as_group));
    let unmasked = own.and_then(|o| o.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let (supplemental_groups, supplemental_groups_policy) = groups(pod);
    let profile =
        own.and_then(|o| o.seccomp_profile.as_ref()).or_else(|| shared.and_then(|s| s.seccomp_profile.as_ref()));
    let linux =
        own.and_then(|o| o.se_linux_options.as_ref()).or_else(|| shared.and_then(|s| s.se_linux_options.as_ref()));
    let mut context = cri::LinuxContainerSecurityContext {
        capabilities: own.and_then(|o| o.capabilities.as_ref()).map(|c| cri::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged: is_privileged(c),
        namespace_options: Some(namespaces(pod)),
        selinux_options: selinux(linux),
        run_as_user: user.or(image.uid).map(int),
        run_as_group: group.map(int),
        run_as_username: if user.is_none() { image.name.clone() } else { String::new() },
        readonly_rootfs: own.and_then(|o| o.read_only_root_filesystem) == Some(true),
        supplemental_groups,
        supplemental_groups_policy,
        no_new_privs: own.and_then(|o| o.allow_privilege_escalation) == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READONLY),
        seccomp: Some(seccomp(profile, default_seccomp, root)),
        ..Default::default()
    };
    // An ephemeral container may look at the processes of its target.
    if let Some(target) = ephemeral_target(pod, &c.name)
        && let Some(options) = context.namespace_options.as_mut()
        && options.pid == cri::NamespaceMode::Container as i32
    {
        let found = seen.latest(target).ok_or_else(|| format!("unable to find target container {target}"))?;
        options.pid = cri::NamespaceMode::Target as i32;
        options.target_id.clone_from(&found.id);
    }
    Ok(context)
}

fn verify_non_root(pod: &Pod, c: &Container, image: &ImageUser) -> Result<(), String> {
    let spec = pod.spec();
    let (own, shared) = (c.security_context.as_ref(), spec.security_context.as_ref());
    let demanded = own.and_then(|o| o.run_as_non_root).or_else(|| shared.and_then(|s| s.run_as_non_root));
    if demanded != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", pod.title(), c.name);
    let user = own.and_then(|o| o.run_as_user).or_else(|| shared.and_then(|s| s.run_as_user));
    match (user, image.uid, image.name.as_str()) {
        (Some(0), _, _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _, _) => Ok(()),
        // An image that names no user runs as root.
        (None, Some(0), _) | (None, None, "") => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        (None, None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        )),
        (None, Some(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(pod: Value, own: Value, image: &ImageUser) -> Result<cri::LinuxContainerSecurityContext, String> {
        let spec = json!({"containers": [{"name": "c", "securityContext": own}], "securityContext": pod});
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
                .unwrap();
        let c = pod.spec.as_ref().unwrap().containers[0].clone();
        container(&pod, &c, image, &Observed::default(), "/seccomp", false)
    }

    #[test]
    fn own_settings_win() {
        let root = ImageUser { uid: Some(0), name: String::new() };
        let context = made(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
            json!({"runAsUser": 5, "capabilities": {"add": ["NET_ADMIN"]}, "allowPrivilegeEscalation": false,
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}, "readOnlyRootFilesystem": true}),
            &root,
        )
        .unwrap();
        assert_eq!((context.run_as_user, context.run_as_group), (Some(int(5)), Some(int(2))));
        assert_eq!(context.supplemental_groups, [3, 4]);
        assert_eq!(context.seccomp.unwrap().localhost_ref, "/seccomp/a.json");
        assert!(context.no_new_privs && context.readonly_rootfs);
        assert_eq!(context.masked_paths.len(), MASKED.len());
    }

    #[test]
    fn non_root() {
        let user = |uid, name: &str| ImageUser { uid, name: name.into() };
        for (own, image, want) in [
            (json!({}), user(Some(0), ""), "container has runAsNonRoot and image will run as root"),
            (json!({}), user(None, ""), "container has runAsNonRoot and image will run as root"),
            (json!({}), user(Some(7), ""), ""),
            (
                json!({}),
                user(None, "www"),
                "container has runAsNonRoot and image has non-numeric user (www), cannot verify",
            ),
            (json!({"runAsUser": 0}), user(Some(7), ""), "container's runAsUser breaks non-root policy"),
            (json!({"runAsUser": 9}), user(Some(0), ""), ""),
        ] {
            match made(json!({"runAsNonRoot": true}), own, &image) {
                Ok(_) => assert_eq!(want, ""),
                Err(message) => assert!(!want.is_empty() && message.starts_with(want), "{message}"),
            }
        }
    }
}

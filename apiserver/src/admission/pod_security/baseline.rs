//! The baseline: what lets a pod out of its container in known ways is refused.

use std::collections::BTreeSet;

use crds::pod::sysctl;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe, SELinuxOptions};

use super::check::{Subject, Violation, containers, plural, quoted, setters, violation};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SE_LINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn is_safe_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub fn app_armor(s: &Subject) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let pod = s.pod_context().and_then(|c| c.app_armor_profile.as_ref()).filter(|p| !is_safe_profile(&p.type_));
    values.extend(pod.map(|profile| profile.type_.clone()));
    let bad = s.bad_contexts(|context| {
        let profile = context.and_then(|c| c.app_armor_profile.as_ref()).filter(|p| !is_safe_profile(&p.type_));
        values.extend(profile.map(|profile| profile.type_.clone()));
        profile.is_some()
    });
    let annotations = s.metadata.annotations.iter().flatten().filter(|(key, value)| {
        let allowed = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
        key.starts_with(APP_ARMOR) && !allowed
    });
    let annotations: Vec<_> = annotations.map(|(key, value)| format!("{key}={}", crds::field::quote(value))).collect();
    let mut who = setters(pod.is_some(), &bad);
    if !annotations.is_empty() {
        let annotation = plural("annotation", "annotations", annotations.len());
        who = if who.is_empty() { annotation.to_owned() } else { format!("{who} and {annotation}") };
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<_> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{who} must not set AppArmor profile type to {}", quoted(values)))
}

pub fn capabilities(s: &Subject) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let bad = s.bad_contexts(|context| {
        let all = context.and_then(|c| c.capabilities.as_ref()).into_iter().flat_map(|c| c.add.iter().flatten());
        let others: Vec<_> = all.filter(|c| !CAPABILITIES.contains(&c.as_str())).cloned().collect();
        let is_bad = !others.is_empty();
        added.extend(others);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(added));
    violation("non-default capabilities", detail)
}

pub fn host_namespaces(s: &Subject) -> Option<Violation> {
    let all = [
        (s.spec.host_network, "hostNetwork=true"),
        (s.spec.host_pid, "hostPID=true"),
        (s.spec.host_ipc, "hostIPC=true"),
    ];
    let used: Vec<_> = all.into_iter().filter(|(set, _)| *set == Some(true)).map(|(_, name)| name).collect();
    if used.is_empty() { None } else { violation("host namespaces", used.join(", ")) }
}

pub fn host_path_volumes(s: &Subject) -> Option<Violation> {
    let volumes = s.spec.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let names: Vec<_> = volumes.map(|volume| &volume.name).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(names)))
}

pub fn host_ports(s: &Subject) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = s.bad(|container| {
        let own = container.ports.iter().flatten().filter_map(|port| port.host_port).filter(|port| *port != 0);
        let own: Vec<_> = own.map(|port| port.to_string()).collect();
        let is_bad = !own.is_empty();
        ports.extend(own);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let (uses, ports_word) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports: Vec<_> = ports.into_iter().collect();
    violation("hostPort", format!("{} {uses} {ports_word} {}", containers(&bad), ports.join(", ")))
}

pub fn host_probes(s: &Subject) -> Option<Violation> {
    fn of_probe(probe: &Probe) -> [Option<&String>; 2] {
        [probe.http_get.as_ref().and_then(|p| p.host.as_ref()), probe.tcp_socket.as_ref().and_then(|p| p.host.as_ref())]
    }
    fn of_handler(handler: &LifecycleHandler) -> [Option<&String>; 2] {
        let (http, tcp) = (handler.http_get.as_ref(), handler.tcp_socket.as_ref());
        [http.and_then(|h| h.host.as_ref()), tcp.and_then(|t| t.host.as_ref())]
    }
    fn hosts(container: &Container) -> Vec<String> {
        let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        let probes = probes.into_iter().flatten().flat_map(of_probe);
        let lifecycle =
            container.lifecycle.iter().flat_map(|l| [&l.post_start, &l.pre_stop]).flatten().flat_map(of_handler);
        probes.chain(lifecycle).flatten().filter(|host| !host.is_empty()).cloned().collect()
    }
    let mut all = BTreeSet::new();
    let bad = s.bad(|container| {
        let own = hosts(container);
        let is_bad = !own.is_empty();
        all.extend(own);
        is_bad
    });
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<_> = BTreeSet::from_iter(bad).into_iter().collect();
    let uses = plural("uses", "use", bad.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", all.len());
    violation("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&bad), quoted(all)))
}

pub fn privileged(s: &Subject) -> Option<Violation> {
    let bad = s.bad_contexts(|context| context.is_some_and(|c| c.privileged == Some(true)));
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

pub fn proc_mount(s: &Subject) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = s.bad_contexts(|context| {
        let kind = context.and_then(|c| c.proc_mount.as_ref()).filter(|kind| *kind != "Default");
        kinds.extend(kind.cloned());
        kind.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    violation("procMount", format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(kinds)))
}

pub fn proc_mount_35(s: &Subject) -> Option<Violation> {
    if s.has_user_namespace() { None } else { proc_mount(s) }
}

pub fn se_linux_0(s: &Subject) -> Option<Violation> {
    se_linux(s, &SE_LINUX_TYPES[..4])
}

pub fn se_linux_31(s: &Subject) -> Option<Violation> {
    se_linux(s, &SE_LINUX_TYPES)
}

fn se_linux(s: &Subject, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: &SELinuxOptions| {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let kind = options.type_.as_deref().unwrap_or_default();
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        user |= given(&options.user);
        role |= given(&options.role);
        bad_type || given(&options.user) || given(&options.role)
    };
    let pod = s.pod_context().and_then(|c| c.se_linux_options.as_ref()).is_some_and(&mut is_bad);
    let bad = s.bad_contexts(|context| context.and_then(|c| c.se_linux_options.as_ref()).is_some_and(&mut is_bad));
    let who = setters(pod, &bad);
    if who.is_empty() {
        return None;
    }
    let types = (!types.is_empty()).then(|| format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what: Vec<_> = [types, user, role].into_iter().flatten().collect();
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")))
}

/// Before profiles had fields, they were annotations.
pub fn seccomp_0(s: &Subject) -> Option<Violation> {
    let keys = s.containers.iter().map(|container| format!("{SECCOMP_CONTAINER}{}", container.name));
    let keys: BTreeSet<_> = keys.chain([SECCOMP_POD.to_owned()]).collect();
    let wrong = keys.into_iter().filter_map(|key| {
        let value = s.metadata.annotations.as_ref()?.get(&key)?;
        let allowed = matches!(value.as_str(), "runtime/default" | "docker/default") || value.starts_with("localhost/");
        (!allowed).then(|| format!("{key}={}", crds::field::quote(value)))
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        return None;
    }
    let annotations = plural("annotation", "annotations", wrong.len());
    violation("seccompProfile", format!("forbidden {annotations} {}", wrong.join(", ")))
}

/// Who sets a profile that is not safe, and what they set.
pub fn bad_seccomp(s: &Subject) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let pod = s.pod_context().and_then(|c| c.seccomp_profile.as_ref()).filter(|p| !is_safe_profile(&p.type_));
    values.extend(pod.map(|profile| profile.type_.clone()));
    let bad = s.bad_contexts(|context| {
        let profile = context.and_then(|c| c.seccomp_profile.as_ref()).filter(|p| !is_safe_profile(&p.type_));
        values.extend(profile.map(|profile| profile.type_.clone()));
        profile.is_some()
    });
    let who = setters(pod.is_some(), &bad);
    if who.is_empty() {
        return None;
    }
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values));
    violation("seccompProfile", detail)
}

pub fn seccomp_19(s: &Subject) -> Option<Violation> {
    bad_seccomp(s)
}

pub fn sysctls_0(s: &Subject) -> Option<Violation> {
    sysctls(s, &sysctl::SAFE[..5])
}

pub fn sysctls_27(s: &Subject) -> Option<Violation> {
    sysctls(s, &sysctl::SAFE[..6])
}

pub fn sysctls_29(s: &Subject) -> Option<Violation> {
    sysctls(s, &sysctl::SAFE[..10])
}

pub fn sysctls_32(s: &Subject) -> Option<Violation> {
    sysctls(s, &sysctl::SAFE)
}

fn sysctls(s: &Subject, allowed: &[&str]) -> Option<Violation> {
    let all = s.pod_context().into_iter().flat_map(|context| context.sysctls.iter().flatten());
    let bad: Vec<_> = all.map(|sysctl| sysctl.name.as_str()).filter(|name| !allowed.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub fn windows_host_process(s: &Subject) -> Option<Violation> {
    let pod = s.pod_context().and_then(|c| c.windows_options.as_ref()).is_some_and(|w| w.host_process == Some(true));
    let bad = s.bad_contexts(|context| {
        context.and_then(|c| c.windows_options.as_ref()).is_some_and(|w| w.host_process == Some(true))
    });
    let who = setters(pod, &bad);
    if who.is_empty() {
        return None;
    }
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

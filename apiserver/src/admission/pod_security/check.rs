//! The checks of the pod security standards: THE TABLE, and running the ones of a level and version.

use std::{borrow::Cow, collections::BTreeSet};

use crds::pod::container::of_ephemeral;
use k8s_openapi::{
    api::core::v1::{Container, PodSecurityContext, PodSpec, SecurityContext},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    baseline as b,
    level::{Level, LevelVersion, Version},
    restricted as r,
};

/// Why a pod is not allowed: in short, and in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: Cow<'static, str>,
    pub detail: String,
}

/// What the checks look at: all containers alike, init containers first and ephemeral ones last.
pub struct Subject<'a> {
    pub metadata: &'a ObjectMeta,
    pub spec: &'a PodSpec,
    pub containers: Vec<Cow<'a, Container>>,
}

type Run = fn(&Subject) -> Option<Violation>;

struct Check {
    level: Level,
    id: &'static str,
    /// From which minor version on it is what.
    versions: &'static [(u32, Run)],
    /// A check of the baseline that this one replaces.
    overrides: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u32, Run)]) -> Check {
    Check { level: Level::Baseline, id, versions, overrides: "" }
}

const fn restricted(id: &'static str, versions: &'static [(u32, Run)], overrides: &'static str) -> Check {
    Check { level: Level::Restricted, id, versions, overrides }
}

/// Those of the baseline by their upstream name, then the restricted ones: the order in which violations are told.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, b::app_armor)]),
    baseline("capabilities_baseline", &[(0, b::capabilities)]),
    baseline("hostNamespaces", &[(0, b::host_namespaces)]),
    baseline("hostPathVolumes", &[(0, b::host_path_volumes)]),
    baseline("hostPorts", &[(0, b::host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, b::host_probes)]),
    baseline("privileged", &[(0, b::privileged)]),
    baseline("procMount", &[(0, b::proc_mount), (35, b::proc_mount_35)]),
    baseline("seLinuxOptions", &[(0, b::se_linux_0), (31, b::se_linux_31)]),
    baseline("seccompProfile_baseline", &[(0, b::seccomp_0), (19, b::seccomp_19)]),
    baseline("sysctls", &[(0, b::sysctls_0), (27, b::sysctls_27), (29, b::sysctls_29), (32, b::sysctls_32)]),
    baseline("windowsHostProcess", &[(0, b::windows_host_process)]),
    restricted("allowPrivilegeEscalation", &[(8, r::privilege_escalation_8), (25, r::privilege_escalation_25)], ""),
    restricted(
        "capabilities_restricted",
        &[(22, r::capabilities_22), (25, r::capabilities_25)],
        "capabilities_baseline",
    ),
    restricted("procMount_restricted", &[(35, b::proc_mount)], "procMount"),
    restricted("restrictedVolumes", &[(0, r::volumes)], "hostPathVolumes"),
    restricted("runAsNonRoot", &[(0, r::run_as_non_root_0), (35, r::run_as_non_root_35)], ""),
    restricted("runAsUser", &[(23, r::run_as_user_23), (35, r::run_as_user_35)], ""),
    restricted("seccompProfile_restricted", &[(19, r::seccomp_19), (25, r::seccomp_25)], "seccompProfile_baseline"),
];

/// All violations, in the order of the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict(pub Vec<Violation>);

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        self.0.is_empty()
    }

    pub fn reasons(&self) -> String {
        self.0.iter().map(|violation| &*violation.reason).collect::<Vec<_>>().join(", ")
    }

    /// `host namespaces (hostPID=true), privileged (…)`
    pub fn detail(&self) -> String {
        let told = self.0.iter().map(|v| match v.detail.as_str() {
            "" => v.reason.to_string(),
            detail => format!("{} ({detail})", v.reason),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

pub fn evaluate(of: LevelVersion, metadata: &ObjectMeta, spec: &PodSpec) -> Verdict {
    if of.level == Level::Privileged {
        return Verdict::default();
    }
    let minor = match of.version {
        Version::Latest => u32::MAX,
        Version::Minor(minor) => minor,
    };
    let in_force = |check: &Check| check.versions.iter().rev().find(|(from, _)| *from <= minor).map(|(_, run)| *run);
    let active: Vec<_> = CHECKS.iter().filter(|check| check.level <= of.level && in_force(check).is_some()).collect();
    let overridden: BTreeSet<_> = active.iter().map(|check| check.overrides).collect();

    let regular = spec.init_containers.iter().flatten().chain(&spec.containers).map(Cow::Borrowed);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|e| Cow::Owned(of_ephemeral(e)));
    let subject = Subject { metadata, spec, containers: regular.chain(ephemeral).collect() };
    let runs = active.iter().filter(|check| !overridden.contains(check.id)).filter_map(|check| in_force(check));
    Verdict(runs.filter_map(|run| run(&subject)).collect())
}

impl Subject<'_> {
    pub fn pod_context(&self) -> Option<&PodSecurityContext> {
        self.spec.security_context.as_ref()
    }

    pub fn is_windows(&self) -> bool {
        self.spec.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// Root in a user namespace is nobody outside of it.
    pub fn has_user_namespace(&self) -> bool {
        self.spec.host_users == Some(false)
    }

    /// The names of the containers that are bad.
    pub fn bad(&self, mut is_bad: impl FnMut(&Container) -> bool) -> Vec<&str> {
        self.containers.iter().filter(|c| is_bad(c)).map(|c| c.name.as_str()).collect()
    }

    /// The same by their security context.
    pub fn bad_contexts(&self, mut is_bad: impl FnMut(Option<&SecurityContext>) -> bool) -> Vec<&str> {
        self.bad(|container| is_bad(container.security_context.as_ref()))
    }
}

pub fn violation(reason: impl Into<Cow<'static, str>>, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail })
}

/// `"a", "b"`
pub fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

pub const fn plural<'a>(one: &'a str, more: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { more }
}

/// `container "a"` or `containers "a", "b"`
pub fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and containers "a", "b"`; empty if none of these is bad.
pub fn setters(pod: bool, names: &[&str]) -> String {
    let pod = pod.then(|| "pod".to_owned());
    let names = (!names.is_empty()).then(|| containers(names));
    pod.into_iter().chain(names).collect::<Vec<_>>().join(" and ")
}

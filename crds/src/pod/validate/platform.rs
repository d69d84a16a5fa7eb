//! What goes with the operating system that a Pod is for.

use k8s_openapi::api::core::v1::{PodSpec, SecurityContext};

use super::containers;
use crate::{
    field::{Error, Errors, Path},
    given::Items,
};

pub fn validate(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(os) = &spec.os else {
        return;
    };
    match os.name.as_str() {
        "" => {
            let path = path.child("os");
            errors.push(Error::required(path.child("name"), ""));
        }
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        other => errors.push(Error::not_supported(path.child("os"), other, &["linux", "windows"])),
    }
}

fn linux(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let why = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|c| c.windows_options.is_some()) {
        let path = path.child("securityContext");
        errors.push(Error::forbidden(path.child("windowsOptions"), why));
    }
    for seen in containers::all(spec) {
        if seen.container.security_context.as_ref().is_some_and(|c| c.windows_options.is_some()) {
            let list = path.child(seen.list);
            let path = list.index(seen.index);
            let path = path.child("securityContext");
            errors.push(Error::forbidden(path.child("windowsOptions"), why));
        }
    }
}

fn windows(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let why = "cannot be set for a windows pod";
    let none = Default::default();
    let context = spec.security_context.as_ref().unwrap_or(&none);
    let context_path = path.child("securityContext");
    for (of_spec, name, given) in [
        (false, "appArmorProfile", context.app_armor_profile.is_some()),
        (false, "seLinuxOptions", context.se_linux_options.is_some()),
        (true, "hostUsers", spec.host_users.is_some()),
        (true, "hostPID", spec.host_pid == Some(true)),
        (true, "hostIPC", spec.host_ipc == Some(true)),
        (false, "seccompProfile", context.seccomp_profile.is_some()),
        (false, "fsGroup", context.fs_group.is_some()),
        (false, "fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
        (false, "sysctls", !context.sysctls.items().is_empty()),
        (true, "shareProcessNamespace", spec.share_process_namespace.is_some()),
        (false, "runAsUser", context.run_as_user.is_some()),
        (false, "runAsGroup", context.run_as_group.is_some()),
        (false, "supplementalGroups", context.supplemental_groups.is_some()),
        (false, "supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
        (false, "seLinuxChangePolicy", context.se_linux_change_policy.is_some()),
    ] {
        if given {
            let at = if of_spec { path.child(name) } else { context_path.child(name) };
            errors.push(Error::forbidden(at, why));
        }
    }
    for seen in containers::all(spec) {
        let Some(context) = &seen.container.security_context else {
            continue;
        };
        let list = path.child(seen.list);
        let path = list.index(seen.index);
        windows_container(context, &path.child("securityContext"), why, errors);
    }
}

fn windows_container(context: &SecurityContext, path: &Path, why: &str, errors: &mut Errors) {
    for (name, given) in [
        ("appArmorProfile", context.app_armor_profile.is_some()),
        ("seLinuxOptions", context.se_linux_options.is_some()),
        ("seccompProfile", context.seccomp_profile.is_some()),
        ("capabilities", context.capabilities.is_some()),
        ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
        ("privileged", context.privileged.is_some()),
        ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
        ("procMount", context.proc_mount.is_some()),
        ("runAsUser", context.run_as_user.is_some()),
        ("runAsGroup", context.run_as_group.is_some()),
    ] {
        if given {
            errors.push(Error::forbidden(path.child(name), why));
        }
    }
}

/// Windows containers that are processes of the node: all of a Pod, or none.
pub fn host_process(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let of_pod = spec.security_context.as_ref().and_then(|c| c.windows_options.as_ref()).and_then(|w| w.host_process);
    let (mut all, mut on_host) = (0, 0);
    for seen in containers::all(spec) {
        all += 1;
        let context = seen.container.security_context.as_ref();
        let own = context.and_then(|c| c.windows_options.as_ref()).and_then(|w| w.host_process);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let list = path.child(seen.list);
            let path = list.index(seen.index);
            let path = path.child("securityContext");
            let path = path.child("windowsOptions");
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(Error::invalid(path.child("hostProcess"), own, why));
        }
        on_host += u32::from(own.or(of_pod) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(*path, "", why));
    }
    if spec.host_network != Some(true) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(path.child("hostNetwork"), false, why));
    }
}

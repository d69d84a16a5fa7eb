//! Security contexts of Pods and containers.

use std::{collections::BTreeSet, sync::LazyLock};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, WindowsSecurityContextOptions,
};
use regex::Regex;

use crate::{
    field::{self, Error, Errors, Path, extend, extend_number},
    given::Items,
    syntax,
    volume::source::relative_path,
};

const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
static SYSCTL_REGEX: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(SYSCTL).ok());

pub fn pod(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(context) = &spec.security_context else {
        return;
    };
    for (name, id) in
        [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)]
    {
        if let Some(id) = id {
            extend_number(errors, path.child(name), id, syntax::id(id));
        }
    }
    let list = path.child("supplementalGroups");
    for (i, id) in context.supplemental_groups.items().iter().enumerate() {
        extend_number(errors, list.index(i), *id, syntax::id(*id));
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(path.child("shareProcessNamespace"), true, why));
    }
    sysctls(spec, context, &path.child("sysctls"), errors);
    let one_of = |value: &Option<String>, supported: &[&str], name: &str, errors: &mut Errors| {
        if let Some(value) = value.as_deref().filter(|v| !supported.contains(v)) {
            errors.push(Error::not_supported(path.child(name), value, supported));
        }
    };
    one_of(&context.fs_group_change_policy, &["Always", "OnRootMismatch"], "fsGroupChangePolicy", errors);
    seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    windows(context.windows_options.as_ref(), &path.child("windowsOptions"), errors);
    app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
    one_of(&context.supplemental_groups_policy, &["Merge", "Strict"], "supplementalGroupsPolicy", errors);
    one_of(&context.se_linux_change_policy, &["Recursive"], "seLinuxChangePolicy", errors);
}

fn sysctls(spec: &PodSpec, context: &PodSecurityContext, path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (i, sysctl) in context.sysctls.items().iter().enumerate() {
        let path = path.index(i);
        let path = path.child("name");
        let name = sysctl.name.as_str();
        let known = SYSCTL_REGEX.as_ref().is_none_or(|r| r.is_match(name));
        if name.is_empty() {
            errors.push(Error::required(path, ""));
        } else if name.len() > 253 || !known {
            let why = format!("must have at most 253 characters and match regex {SYSCTL}");
            errors.push(Error::invalid(path, name, why));
        } else if names.contains(name) {
            errors.push(Error::duplicate(path, name));
        }
        let plain = sysctl_with_dots(name);
        if spec.host_network == Some(true) && plain.starts_with("net.") {
            errors.push(Error::invalid(path, name, "may not be specified when 'hostNetwork' is true"));
        } else if spec.host_ipc == Some(true) && is_ipc(&plain) {
            errors.push(Error::invalid(path, name, "may not be specified when 'hostIPC' is true"));
        }
        names.insert(name);
    }
}

/// `net/ipv4/x` is `net.ipv4.x`; the first separator tells which form it is.
fn sysctl_with_dots(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn is_ipc(name: &str) -> bool {
    let known = ["sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "shm", "msgmax", "msgmnb", "msgmni", "msg"];
    name.starts_with("fs.mqueue.") || name.strip_prefix("kernel.").is_some_and(|n| known.contains(&n))
}

pub fn container(context: &SecurityContext, host_users: bool, path: &Path, errors: &mut Errors) {
    for (name, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(id) = id {
            extend_number(errors, path.child(name), id, syntax::id(id));
        }
    }
    if let Some(mount) = context.proc_mount.as_deref() {
        let supported = ["Default", "Unmasked"];
        if !supported.contains(&mount) {
            errors.push(Error::not_supported(path.child("procMount"), mount, &supported));
        }
        if host_users && mount == "Unmasked" {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.push(Error::invalid(path.child("procMount"), mount, why));
        }
    }
    seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    if context.allow_privilege_escalation == Some(false) {
        let invalid = |why: &str| Error::invalid(*path, "", why).showing_struct(context, "SecurityContext");
        if context.privileged == Some(true) {
            errors.push(invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        let added = context.capabilities.iter().flat_map(|c| c.add.items());
        for _ in added.filter(|c| *c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(invalid(why));
        }
    }
    windows(context.windows_options.as_ref(), &path.child("windowsOptions"), errors);
    app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile"), errors);
}

fn seccomp(profile: Option<&SeccompProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else {
        return;
    };
    let types = ["Localhost", "RuntimeDefault", "Unconfined"];
    match profile.type_.as_str() {
        "" => errors.push(Error::required(path.child("type"), "type is required when seccompProfile is set")),
        kind if !types.contains(&kind) => errors.push(Error::not_supported(path.child("type"), kind, &types)),
        _ => {}
    }
    let at = path.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(Error::required(at, "must be set when seccomp type is Localhost")),
        ("Localhost", Some(file)) => relative_path(file, &at, errors),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(Error::invalid(at, "", why).showing_struct(profile, "SeccompProfile"));
        }
        (_, None) => {}
    }
}

fn app_armor(profile: Option<&AppArmorProfile>, path: &Path, errors: &mut Errors) {
    let Some(profile) = profile else {
        return;
    };
    let at = path.child("localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), profile.localhost_profile.as_deref()) {
        ("Localhost", None | Some("")) => errors.push(Error::required(at, missing)),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                errors.push(Error::invalid(at, name, "must not be padded with whitespace"));
            }
            if name.len() > 4095 {
                errors.push(Error::too_long(at, 4095));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            errors.push(Error::invalid(at, name, "can only be set when AppArmor type is Localhost"));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.push(Error::required(path.child("type"), "type is required when appArmorProfile is set")),
        (kind, _) => {
            let types = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(Error::not_supported(path.child("type"), kind, &types));
        }
    }
}

fn windows(options: Option<&WindowsSecurityContextOptions>, path: &Path, errors: &mut Errors) {
    let Some(options) = options else {
        return;
    };
    if let Some(name) = &options.gmsa_credential_spec_name {
        extend(errors, path.child("gmsaCredentialSpecName"), name, field::dns_subdomain(name));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let why = match spec.len() {
            0 => "gmsaCredentialSpec cannot be an empty string",
            n if n > 64 << 10 => "gmsaCredentialSpec size must be under 64 KiB",
            _ => "",
        };
        if !why.is_empty() {
            errors.push(Error::invalid(path.child("gmsaCredentialSpec"), spec.as_str(), why));
        }
    }
    if let Some(name) = &options.run_as_user_name {
        extend(errors, path.child("runAsUserName"), name, windows_user(name));
    }
}

/// `DOMAIN\user` or `user`.
fn windows_user(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.contains(|c: char| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    if name.matches('\\').count() > 1 {
        return vec!["runAsUserName cannot contain more than one backslash".to_owned()];
    }
    let (domain, user) = name.split_once('\\').map_or((None, name), |(domain, user)| (Some(domain), user));
    let mut wrong = Vec::new();
    if domain.is_some_and(|d| d.len() >= 256) {
        wrong.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !is_net_bios(d) && !is_windows_dns(d)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        wrong.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        wrong.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    wrong.into_iter().map(str::to_owned).collect()
}

fn is_net_bios(domain: &str) -> bool {
    let forbidden = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(forbidden)
}

fn is_windows_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let b = label.as_bytes();
        (1..=63).contains(&b.len())
            && b[0].is_ascii_alphanumeric()
            && b[b.len() - 1].is_ascii_alphanumeric()
            && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    })
}

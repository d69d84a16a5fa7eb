//! Annotations of a Pod that mean something: older forms of fields, and those of mirror Pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile};

use super::containers;
use crate::{
    field::{Error, Errors, Path},
    given::Text,
    volume::source::relative_path,
};

type Annotations = BTreeMap<String, String>;

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The cost of deleting a Pod as it is written: a 32 bit number without a plus sign or leading zeros.
pub fn deletion_cost(annotations: Option<&Annotations>) -> Option<i32> {
    let Some(text) = annotations.and_then(|a| a.get(DELETION_COST)) else {
        return Some(0);
    };
    let plain = !text.starts_with('+') && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// On their own, and against the spec.
pub fn validate(annotations: Option<&Annotations>, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let none = Annotations::new();
    let annotations = annotations.unwrap_or(&none);
    if let Some(value) = annotations.get(MIRROR).filter(|_| spec.node_name.text().is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(path.key(MIRROR), value.as_str(), why));
    }
    if deletion_cost(Some(annotations)).is_none() {
        let value = annotations.get(DELETION_COST).map_or("", String::as_str);
        errors.push(Error::invalid(path.key(DELETION_COST), value, "must be a 32bit integer"));
    }
    if let Some(profile) = annotations.get(SECCOMP_POD) {
        seccomp(profile, &path.child(SECCOMP_POD), errors);
    }
    for (key, profile) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER_PREFIX)) {
        seccomp(profile, &path.child(key), errors);
    }
    for (key, profile) in annotations {
        let Some(container) = key.strip_prefix(APP_ARMOR_PREFIX) else {
            continue;
        };
        if !containers::all(spec).any(|seen| seen.container.name == container) {
            errors.push(Error::invalid(path.key(key), container, "container not found"));
        }
        if !["", "runtime/default", "unconfined"].contains(&profile.as_str()) && !profile.starts_with("localhost/") {
            let why = format!("invalid AppArmor profile name: {profile:?}");
            errors.push(Error::invalid(path.key(key), profile.as_str(), why));
        }
    }
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => relative_path(file, path, errors),
        None => errors.push(Error::invalid(*path, profile, "must be a valid seccomp profile")),
    }
}

/// An annotation and the field that came after it must say the same.
pub fn match_fields(annotations: Option<&Annotations>, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let none = Annotations::new();
    let annotations = annotations.unwrap_or(&none);
    let whole = spec.security_context.as_ref();
    if let Some((field, text)) = whole.and_then(|c| c.seccomp_profile.as_ref()).zip(annotations.get(SECCOMP_POD)) {
        let path = path.child("securityContext");
        seccomp_matches(field, text, &path.child("seccompProfile"), errors);
    }
    for seen in containers::all(spec) {
        let own = seen.container.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
        let text = annotations.get(&format!("{SECCOMP_CONTAINER_PREFIX}{}", seen.container.name));
        if let Some((field, text)) = own.zip(text) {
            let list = path.child(seen.list);
            let path = list.index(seen.index);
            let path = path.child("securityContext");
            seccomp_matches(field, text, &path.child("seccompProfile"), errors);
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = whole.and_then(|c| c.app_armor_profile.as_ref());
    for seen in containers::all(spec) {
        let own = seen.container.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
        let text = annotations.get(&format!("{APP_ARMOR_PREFIX}{}", seen.container.name));
        if let Some((field, text)) = own.or(of_pod).zip(text) {
            let list = path.child(seen.list);
            let path = list.index(seen.index);
            let path = path.child("securityContext");
            app_armor_matches(field, text, &path.child("appArmorProfile"), errors);
        }
    }
}

fn seccomp_matches(field: &SeccompProfile, text: &str, path: &Path, errors: &mut Errors) {
    let local = text.strip_prefix("localhost/");
    let same = match field.type_.as_str() {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => ["runtime/default", "docker/default"].contains(&text),
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !same {
        errors.push(Error::forbidden(path.child("type"), "seccomp type in annotation and field must match"));
    } else if field.type_ == "Localhost" && local != field.localhost_profile.as_deref() {
        let why = "seccomp profile in annotation and field must match";
        errors.push(Error::forbidden(path.child("localhostProfile"), why));
    }
}

fn app_armor_matches(field: &AppArmorProfile, text: &str, path: &Path, errors: &mut Errors) {
    let local = text.strip_prefix("localhost/");
    let same = match field.type_.as_str() {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => text == "runtime/default",
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !same {
        errors.push(Error::forbidden(path.child("type"), "apparmor type in annotation and field must match"));
    } else if field.type_ == "Localhost" && local != field.localhost_profile.as_deref() {
        let why = "apparmor profile in annotation and field must match";
        errors.push(Error::forbidden(path.child("localhostProfile"), why));
    }
}

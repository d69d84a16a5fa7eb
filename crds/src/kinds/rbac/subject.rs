//! What both bindings have in common: a role and the subjects that it is given to.

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::Text,
};

pub const GROUP: &str = "rbac.authorization.k8s.io";

pub fn set_defaults(role: &mut RoleRef, subjects: &mut Option<Vec<Subject>>) {
    role.api_group.or_set(GROUP);
    for subject in subjects.iter_mut().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group.or_set(GROUP);
        }
    }
}

/// `kinds` are those of the roles that can be bound.
pub fn validate(role: &RoleRef, kinds: &[&str], subjects: &[Subject], namespaced: bool, errors: &mut Errors) {
    let path = Path::new("roleRef");
    if role.api_group.text() != GROUP {
        errors.push(Error::not_supported(path.child("apiGroup"), role.api_group.text(), &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(Error::not_supported(path.child("kind"), role.kind.as_str(), kinds));
    }
    match role.name.as_str() {
        "" => errors.push(Error::required(path.child("name"), "")),
        name => extend(errors, path.child("name"), name, field::path_segment(name)),
    }
    let list = Path::new("subjects");
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(subject, namespaced, &list.index(i), errors);
    }
}

fn validate_subject(subject: &Subject, namespaced: bool, path: &Path, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.push(Error::required(path.child("name"), ""));
    }
    let group = subject.api_group.text();
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                extend(errors, path.child("name"), &subject.name, field::dns_subdomain(&subject.name));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && subject.namespace.text().is_empty() {
                errors.push(Error::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.push(Error::not_supported(path.child("apiGroup"), group, &[GROUP]));
        }
        "User" | "Group" => {}
        other => {
            errors.push(Error::not_supported(path.child("kind"), other, &["ServiceAccount", "User", "Group"]));
        }
    }
}

pub fn role_is_kept(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if !equal::same(new, old) {
        let wrong = Error::invalid(Path::new("roleRef"), "", "cannot change roleRef");
        errors.push(wrong.showing_struct(new, "io.k8s.api.rbac.v1.RoleRef"));
    }
}

/// The cells about the subjects: users, groups, service accounts.
pub fn cells(subjects: &[Subject]) -> [String; 3] {
    let of = |kind: &str| subjects.iter().filter(|s| s.kind == kind).collect::<Vec<_>>();
    let names = |kind: &str| of(kind).iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let accounts =
        of("ServiceAccount").iter().map(|s| format!("{}/{}", s.namespace.text(), s.name)).collect::<Vec<_>>();
    [names("User"), names("Group"), accounts.join(", ")]
}

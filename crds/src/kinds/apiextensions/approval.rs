//! Groups of the project itself need a link to their review, or a confession.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};

use super::condition::{self as conditions};
use crate::{
    field::{Error, Errors, Path},
    url::Url,
};

const METADATA: Path = Path::new("metadata");
const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Approved(String),
    Bypassed(String),
    Invalid(String),
}

impl State {
    fn of(definition: &CustomResourceDefinition) -> Self {
        let annotations = definition.metadata.annotations.as_ref();
        let Some(value) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else { return Self::Missing };
        match value.as_str() {
            "" => Self::Missing,
            value if value.starts_with("unapproved") => Self::Bypassed(value.to_owned()),
            value if is_link(value) => Self::Approved(value.to_owned()),
            value => Self::Invalid(value.to_owned()),
        }
    }
}

/// An absolute URL with a host.
fn is_link(value: &str) -> bool {
    Url::of_request(value).is_ok_and(|url| !url.host.is_empty() && !url.scheme.is_empty())
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

/// What was not approved before may stay so.
pub fn validate(new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>, errors: &mut Errors) {
    let state = State::of(new);
    if !is_protected(&new.spec.group) || old.is_some_and(|old| State::of(old) == state) {
        return;
    }
    let path = METADATA.child("annotations");
    let needed = format!("protected groups must have approval annotation {ANNOTATION:?}");
    match state {
        State::Missing => errors.push(Error::required(path.key(ANNOTATION), format!("{needed}, {SEE}"))),
        State::Invalid(value) => {
            let why = format!("{needed} with either a URL or a reason starting with \"unapproved\", {SEE}");
            errors.push(Error::invalid(path.key(ANNOTATION), value, why));
        }
        State::Approved(_) | State::Bypassed(_) => {}
    }
}

/// What the status of a definition tells of its approval; none for groups that need none.
pub fn condition(definition: &CustomResourceDefinition) -> Option<CustomResourceDefinitionCondition> {
    if !is_protected(&definition.spec.group) {
        return None;
    }
    let needed = format!("protected groups must have approval annotation {ANNOTATION:?}");
    let (status, reason, message) = match State::of(definition) {
        State::Missing => ("False", "MissingAnnotation", format!("{needed}, {SEE}")),
        State::Approved(link) => ("True", "ApprovedAnnotation", format!("approved in {link}")),
        State::Bypassed(why) => ("False", "UnapprovedAnnotation", format!("not approved: {why:?}")),
        State::Invalid(_) => {
            let why = format!("{needed} with either a URL or a reason starting with \"unapproved\", {SEE}");
            ("False", "InvalidAnnotation", why)
        }
    };
    Some(conditions::condition(conditions::APPROVED, status, reason, &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        for (value, want) in [
            ("https://x", true),
            ("HTTP://u:p@h:80/a?b", true),
            ("http://:80", true),
            ("http://[::1]:80/", true),
            ("http://h/%20", true),
            ("/x", false),
            ("a:b", false),
            ("https:///x", false),
            (" https://x", false),
            ("1http://x", false),
            ("http://x y", false),
            ("http://[::1", false),
            ("http://h:x", false),
            ("http://h#f", false),
            ("http://h%20", false),
            ("http://h/%zz", false),
            ("http://h\n", false),
        ] {
            assert_eq!(is_link(value), want, "{value}");
        }
    }
}

//! A template of Pods, in the kinds that make them.

use k8s_openapi::{
    api::core::v1::{PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{default, feature, validate, warn};
use crate::{
    equal,
    field::{self, Error, Errors, Path},
    given::Text,
    meta::IMMUTABLE,
    selector::{Labels, Selector, validate as selectors},
};

pub fn set_defaults(template: &mut PodTemplateSpec) {
    default::spec(template.spec.get_or_insert_default());
}

/// Drops what is switched off, unless `old`, which is stored, has it.
pub fn prepare(template: &mut PodTemplateSpec, old: Option<&PodTemplateSpec>) {
    if let Some(spec) = &mut template.spec {
        feature::drop_disabled(spec, old.and_then(|old| old.spec.as_ref()));
    }
}

/// The selector of a kind that must have one, and the template that it must match.
pub fn selected(
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    kind: &str,
    malformed: &str,
    spec: &Path,
    errors: &mut Errors,
    validate: impl FnOnce(&mut Errors),
) {
    let path = spec.child("selector");
    let missing = *selector == LabelSelector::default();
    if missing {
        errors.push(Error::required(path, ""));
    } else {
        selectors::label_selector(Some(selector), &path, errors);
        if is_empty(selector) {
            errors.push(selectors::invalid(selector, &path, &format!("empty selector is invalid for {kind}")));
        }
    }
    let Some(matcher) = selectors::selector(selector) else {
        errors.push(selectors::invalid(selector, &path, malformed));
        return;
    };
    let matcher = if missing { Selector::nothing() } else { matcher };
    if !matcher.is_everything() {
        matches(&matcher, template, &spec.child("template"), errors);
    }
    validate(errors);
}

pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(|l| l.is_empty())
        && selector.match_expressions.as_ref().is_none_or(|e| e.is_empty())
}

/// Whether the selector finds what the template makes.
pub fn matches(selector: &Selector, template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let none = Labels::new();
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    if !selector.matches(labels.unwrap_or(&none)) {
        let shown = serde_json::to_string(&labels).unwrap_or_default();
        let path = path.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(path.child("labels"), "", why).showing(shown));
    }
}

/// What keeps Pods running forever: no other restart policy, no deadline.
pub fn runs_forever(template: &PodTemplateSpec, kind: &str, path: &Path, errors: &mut Errors) {
    let none = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&none);
    let path = path.child("spec");
    let policy = spec.restart_policy.text();
    if policy != "Always" {
        errors.push(Error::not_supported(path.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(path.child("activeDeadlineSeconds"), why));
    }
}

/// The template as a kind that keeps a number of Pods has it.
pub fn validate_running(template: &PodTemplateSpec, kind: &str, path: &Path, errors: &mut Errors) {
    validate::template(template, path, errors);
    runs_forever(template, kind, path, errors);
}

pub fn selector_is_kept(new: &LabelSelector, old: &LabelSelector, errors: &mut Errors) {
    if !equal::same(new, old) {
        let path = Path::new("spec");
        let error = selectors::invalid(new, &path.child("selector"), IMMUTABLE);
        let missing = *new == LabelSelector::default();
        errors.push(if missing { error.showing("null") } else { error });
    }
}

/// What the author of a template is warned of.
pub fn warnings(template: Option<&PodTemplateSpec>, path: &Path) -> Vec<String> {
    let none = Default::default();
    let Some((template, spec)) = template.and_then(|t| Some((t, t.spec.as_ref()?))) else {
        return Vec::new();
    };
    warn::warnings(template.metadata.as_ref().unwrap_or(&none), spec, Some(path))
}

/// A name that Pods and their hosts are named after should be a label.
pub fn name_warning(name: &str) -> Option<String> {
    let wrong = field::dns_label(name);
    (!wrong.is_empty()).then(|| {
        let wrong = wrong.join(" ");
        format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{wrong}]")
    })
}

/// Names of the containers and their images, for a table.
pub fn cells(template: Option<&PodTemplateSpec>) -> (String, String) {
    let containers = template.and_then(|t| t.spec.as_ref()).map_or(&[][..], |s| &s.containers);
    let join = |part: fn(&k8s_openapi::api::core::v1::Container) -> &str| {
        containers.iter().map(part).collect::<Vec<_>>().join(",")
    };
    (join(|c| &c.name), join(|c| c.image.as_deref().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_switched_off_stays_if_it_is_stored() {
        let with = |spec: Value| -> PodTemplateSpec { serde_json::from_value(json!({"spec": spec})).unwrap() };
        let (used, plain) = (json!({"schedulingGroup": {}, "containers": []}), json!({"containers": []}));
        let prepared = |old: Option<&PodTemplateSpec>| {
            let mut template = with(used.clone());
            prepare(&mut template, old);
            template
        };
        assert_eq!(prepared(None), with(plain.clone()));
        assert_eq!(prepared(Some(&with(plain))), prepared(None));
        assert_eq!(prepared(Some(&with(used.clone()))), with(used));
    }
}

//! The rules of one webhook, whether it validates or mutates.

use std::collections::HashSet;

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, RuleWithOperations, ValidatingWebhook, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::Value;

use super::{condition, rule, target};
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Items,
    selector::validate as selectors,
};

pub const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
pub const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const TIMEOUT_SECONDS: i32 = 10;
const TIMEOUT_SECONDS_MAX: i32 = 30;
const STATIC: &str = ".static.k8s.io";

/// What both types of webhooks have.
pub struct Hook<'a> {
    name: &'a str,
    target: &'a WebhookClientConfig,
    rules: &'a [RuleWithOperations],
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    namespaces: Option<&'a LabelSelector>,
    objects: Option<&'a LabelSelector>,
    side_effects: Option<&'a str>,
    timeout_seconds: Option<i32>,
    review_versions: &'a [String],
    conditions: &'a [MatchCondition],
    reinvocation_policy: Option<&'a str>,
}

macro_rules! hook {
    ($type:ty, $reinvocation:expr) => {
        impl<'a> From<&'a $type> for Hook<'a> {
            fn from(hook: &'a $type) -> Self {
                Self {
                    name: &hook.name,
                    target: &hook.client_config,
                    rules: hook.rules.items(),
                    failure_policy: hook.failure_policy.as_deref(),
                    match_policy: hook.match_policy.as_deref(),
                    namespaces: hook.namespace_selector.as_ref(),
                    objects: hook.object_selector.as_ref(),
                    side_effects: Some(&hook.side_effects),
                    timeout_seconds: hook.timeout_seconds,
                    review_versions: &hook.admission_review_versions,
                    conditions: hook.match_conditions.items(),
                    reinvocation_policy: $reinvocation(hook),
                }
            }
        }

        impl Defaults for $type {
            fn set_defaults(&mut self) {
                self.failure_policy.get_or_insert_with(|| "Fail".to_owned());
                self.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
                self.namespace_selector.get_or_insert_default();
                self.object_selector.get_or_insert_default();
                self.timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
                rule::set_defaults(&mut self.rules);
                target::set_defaults(&mut self.client_config);
            }
        }
    };
}

pub trait Defaults {
    fn set_defaults(&mut self);
}

hook!(ValidatingWebhook, |_| None);
hook!(MutatingWebhook, |hook: &'a MutatingWebhook| hook.reinvocation_policy.as_deref());

/// What is stored may break a rule that came later; then it may go on to.
struct Leniency {
    side_effects: bool,
    review_versions: bool,
    names: bool,
    conditions: bool,
}

impl Leniency {
    fn of(new: &[Hook], old: Option<&[Hook]>) -> Self {
        let Some(old) = old else {
            return Self { side_effects: false, review_versions: false, names: false, conditions: false };
        };
        let unknown = |hook: &Hook| !hook.review_versions.is_empty() && !is_reviewed(hook);
        let same_conditions = new.len() == old.len() && new.iter().zip(old).all(|(a, b)| a.conditions == b.conditions);
        Self {
            side_effects: old
                .iter()
                .any(|hook| hook.side_effects.is_none_or(|effects| !NO_SIDE_EFFECTS.contains(&effects))),
            review_versions: old.iter().any(unknown),
            names: old.iter().map(|hook| hook.name).collect::<HashSet<_>>().len() < old.len(),
            conditions: same_conditions,
        }
    }
}

/// Side effects that were not given are none, which the type does not tell from empty ones.
pub fn as_sent<'a>(mut hooks: Vec<Hook<'a>>, sent: &Value) -> Vec<Hook<'a>> {
    for (hook, sent) in hooks.iter_mut().zip(sent["webhooks"].as_array().into_iter().flatten()) {
        hook.side_effects = hook.side_effects.filter(|_| !sent["sideEffects"].is_null());
    }
    hooks
}

fn is_reviewed(hook: &Hook) -> bool {
    hook.review_versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str()))
}

pub fn validate(hooks: &[Hook], old: Option<&[Hook]>, errors: &mut Errors) {
    let leniency = Leniency::of(hooks, old);
    let list = Path::new("webhooks");
    let mut seen = HashSet::new();
    for (i, hook) in hooks.iter().enumerate() {
        let path = list.index(i);
        validate_hook(hook, &leniency, &path, errors);
        validate_versions(hook, &leniency, &path.child("admissionReviewVersions"), errors);
        let is_repeated = !hook.name.is_empty() && !seen.insert(hook.name);
        if is_repeated && !leniency.names {
            errors.push(Error::duplicate(path.child("name"), hook.name));
        }
    }
}

fn validate_hook(hook: &Hook, leniency: &Leniency, path: &Path, errors: &mut Errors) {
    validate_name(hook.name, &path.child("name"), errors);
    let list = path.child("rules");
    for (i, rule) in hook.rules.iter().enumerate() {
        rule::validate(rule, &list.index(i), errors);
    }
    one_of(hook.failure_policy, FAILURE_POLICIES, &path.child("failurePolicy"), errors);
    one_of(hook.match_policy, MATCH_POLICIES, &path.child("matchPolicy"), errors);
    let allowed = if leniency.side_effects { SIDE_EFFECTS } else { NO_SIDE_EFFECTS };
    let effects_path = path.child("sideEffects");
    if hook.side_effects.is_none() {
        errors.push(Error::required(effects_path, format!("must specify one of {}", allowed.join(", "))));
    }
    one_of(hook.side_effects, allowed, &effects_path, errors);
    if let Some(seconds) = hook.timeout_seconds.filter(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(path.child("timeoutSeconds"), seconds, why));
    }
    selectors::label_selector(hook.namespaces, &path.child("namespaceSelector"), errors);
    selectors::label_selector(hook.objects, &path.child("objectSelector"), errors);
    one_of(hook.reinvocation_policy, REINVOCATION_POLICIES, &path.child("reinvocationPolicy"), errors);
    target::validate(hook.target, &path.child("clientConfig"), errors);
    if !leniency.conditions {
        condition::validate(hook.conditions, false, &path.child("matchConditions"), errors);
    }
}

pub fn one_of(value: Option<&str>, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !allowed.contains(value)) {
        errors.push(Error::not_supported(*path, value, allowed));
    }
}

/// A domain name of three labels at least.
fn validate_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let wrong = field::dns_subdomain(name);
    if !wrong.is_empty() {
        errors.push(Error::invalid(*path, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(Error::invalid(*path, name, why));
    }
}

fn validate_versions(hook: &Hook, leniency: &Leniency, path: &Path, errors: &mut Errors) {
    let (versions, known) = (hook.review_versions, REVIEW_VERSIONS.join(", "));
    if versions.is_empty() {
        errors.push(Error::required(*path, format!("must specify one of {known}")));
        return;
    }
    let mut seen = HashSet::new();
    for (i, version) in versions.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(version) {
            errors.push(Error::invalid(path, version.as_str(), "duplicate version"));
            continue;
        }
        extend(errors, path, version, field::dns_1035_label(version));
    }
    if !leniency.review_versions && !is_reviewed(hook) {
        errors.push(Error::invalid(*path, versions, format!("must include at least one of {known}")));
    }
}

/// The warning for a name that configuration from files takes for itself.
pub fn name_warning(name: Option<&str>) -> Vec<String> {
    let is_static = name.is_some_and(|name| name.ends_with(STATIC));
    let words = format!(
        "metadata.name: names ending with {STATIC:?} are reserved for static manifest-based configurations and cannot \
         be managed via the API"
    );
    is_static.then_some(words).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhook;
    use serde_json::json;

    use super::*;

    #[test]
    fn side_effects_that_are_absent_and_empty_ones() {
        let hooks = vec![ValidatingWebhook { name: "a.b.c".to_owned(), ..Default::default() }; 2];
        let sent = json!({"webhooks": [{"name": "a.b.c", "sideEffects": null}, {"name": "a.b.c", "sideEffects": ""}]});
        let hooks = as_sent(hooks.iter().map(Hook::from).collect(), &sent);
        let mut errors = Errors::new();
        validate(&hooks, Some(&[]), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).filter(|e| e.contains("sideEffects")).collect();
        assert_eq!(
            told,
            [
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                r#"webhooks[1].sideEffects: Unsupported value: "": supported values: "None", "NoneOnDryRun""#,
            ]
        );
    }
}

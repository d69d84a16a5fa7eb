//! The spec of a Job, also of one that a CronJob makes.

use std::collections::HashSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::{SPEC, container_names, indexes};
use crate::{
    field::{self, Error, Errors, Path, extend, not_negative},
    given::{Items, Text},
    pod::{template, validate},
    selector::validate as selectors,
};

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// Defaults that the job of a CronJob has, too.
pub fn set_defaults(spec: &mut JobSpec) {
    template::set_defaults(&mut spec.template);
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|p| &mut p.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            pattern.status.or_set("True");
        }
    }
}

pub fn warnings(spec: &JobSpec, path: &Path) -> Vec<String> {
    let (completions, parallelism) = (spec.completions.unwrap_or(0), spec.parallelism.unwrap_or(0));
    let large = spec.completion_mode.text() == "Indexed" && completions > 100_000 && parallelism > 10_000;
    let mut words = Vec::new();
    if large {
        words.push(format!("{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    words.append(&mut template::warnings(Some(&spec.template), &path.child("template")));
    words
}

/// The spec of a Job itself, which has a selector.
pub fn validate_with_selector(spec: &JobSpec, errors: &mut Errors) {
    validate(spec, &SPEC, errors);
    let path = SPEC.child("selector");
    let Some(selector) = &spec.selector else {
        errors.push(Error::required(path, ""));
        template::matches(&crate::selector::Selector::nothing(), &spec.template, &SPEC.child("template"), errors);
        return;
    };
    selectors::label_selector(Some(selector), &path, errors);
    if let Some(matcher) = selectors::selector(selector) {
        template::matches(&matcher, &spec.template, &SPEC.child("template"), errors);
    }
}

pub fn validate(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    for (name, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        not_negative(value.unwrap_or(0), path.child(name), errors);
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errors.push(Error::required(path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = &spec.managed_by {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    completion(spec, path, errors);
    let failure_path = path.child("podFailurePolicy");
    if let Some(policy) = &spec.pod_failure_policy {
        let list = failure_path.child("rules");
        if policy.rules.len() > 20 {
            errors.push(Error::too_many(list, policy.rules.len() as i64, 20));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            failure_rule(spec, rule, &list.index(i), errors);
        }
    }
    success(spec, &path.child("successPolicy"), errors);
    replacement(spec, &path.child("podReplacementPolicy"), errors);
    let template_path = path.child("template");
    validate::template(&spec.template, &template_path, errors);
    let pod_path = template_path.child("spec");
    restart_policy(spec, &pod_path.child("restartPolicy"), errors);
}

/// A domain and a path behind it.
fn managed_by(manager: &str, path: &Path, errors: &mut Errors) {
    match manager.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) {
        None if manager.is_empty() => errors.push(Error::required(*path, "")),
        None => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(Error::invalid(*path, manager, why));
        }
        Some((host, rest)) => {
            extend(errors, *path, host, field::dns_subdomain(host));
            let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(allowed) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(Error::invalid(*path, rest, why));
            }
        }
    }
    if manager.len() > 63 {
        errors.push(Error::too_long(*path, 63));
    }
}

fn completion(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let mode = spec.completion_mode.as_deref();
    let modes = ["NonIndexed", "Indexed"];
    if let Some(mode) = mode.filter(|m| !modes.contains(m)) {
        errors.push(Error::not_supported(path.child("completionMode"), mode, &modes));
    }
    if mode == Some("Indexed") {
        indexed(spec, path, errors);
    }
    if mode.is_none_or(|m| m == "NonIndexed") {
        for (name, value) in
            [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)]
        {
            if let Some(value) = value {
                errors.push(Error::invalid(path.child(name), value, "requires indexed completion mode"));
            }
        }
    }
}

fn indexed(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let at_most = |name: &str, value: i32, why: String, errors: &mut Errors| {
        errors.push(Error::invalid(path.child(name), value, format!("must be less than or equal to {why}")));
    };
    let (completions, parallelism) = (spec.completions, spec.parallelism.unwrap_or(0));
    if completions.is_none() {
        errors.push(Error::required(path.child("completions"), "when completion mode is Indexed"));
    }
    if parallelism > 100_000 {
        at_most("parallelism", parallelism, "100000 when completion mode is Indexed".to_owned(), errors);
    }
    let failed = spec.max_failed_indexes;
    if let Some(failed) = failed.filter(|f| completions.is_some_and(|c| *f > c)) {
        at_most("maxFailedIndexes", failed, "completions".to_owned(), errors);
    }
    if let Some(failed) = failed.filter(|f| *f > 100_000) {
        at_most("maxFailedIndexes", failed, "100000".to_owned(), errors);
    }
    if completions.is_none_or(|c| c <= 100_000) || spec.backoff_limit_per_index.is_none() {
        return;
    }
    let high = "10000 when completions are above 100000 and used with backoff limit per index".to_owned();
    if failed.is_none() {
        let why = "must be specified when completions is above 100000";
        errors.push(Error::required(path.child("maxFailedIndexes"), why));
    }
    if parallelism > 10_000 {
        at_most("parallelism", parallelism, high.clone(), errors);
    }
    if let Some(failed) = failed.filter(|f| *f > 10_000) {
        at_most("maxFailedIndexes", failed, high, errors);
    }
}

/// Go's `%q` of a list.
fn quoted(values: &[&str]) -> String {
    format!("[{}]", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" "))
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, path: &Path, errors: &mut Errors) {
    let (action, action_path) = (rule.action.as_str(), path.child("action"));
    if action.is_empty() {
        errors.push(Error::required(action_path, format!("valid values: {}", quoted(ACTIONS))));
    } else if action == "FailIndex" {
        if spec.backoff_limit_per_index.is_none() {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(Error::invalid(action_path, action, why));
        }
    } else if !ACTIONS.contains(&action) {
        errors.push(Error::not_supported(action_path, action, ACTIONS));
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, &container_names(spec), &path.child("onExitCodes"), errors);
    }
    let conditions = rule.on_pod_conditions.items();
    let list = path.child("onPodConditions");
    if conditions.len() > 20 {
        errors.push(Error::too_many(list, conditions.len() as i64, 20));
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let path = list.index(i);
        extend(errors, path.child("type"), &pattern.type_, field::qualified_name(&pattern.type_));
        match pattern.status.text() {
            "" => {
                let why = format!("valid values: {}", quoted(STATUSES));
                errors.push(Error::required(path.child("status"), why));
            }
            status if !STATUSES.contains(&status) => {
                errors.push(Error::not_supported(path.child("status"), status, STATUSES));
            }
            _ => {}
        }
    }
    match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => {
            errors.push(Error::wrong(*path, "specifying both OnExitCodes and OnPodConditions is not supported"));
        }
        (None, true) => {
            errors.push(Error::wrong(*path, "specifying one of OnExitCodes and OnPodConditions is required"));
        }
        _ => {}
    }
}

fn exit_codes(codes: &PodFailurePolicyOnExitCodesRequirement, names: &[&str], path: &Path, errors: &mut Errors) {
    let operators = ["In", "NotIn"];
    match codes.operator.as_str() {
        "" => {
            let why = format!("valid values: {}", quoted(&operators));
            errors.push(Error::required(path.child("operator"), why));
        }
        operator if !operators.contains(&operator) => {
            errors.push(Error::not_supported(path.child("operator"), operator, &operators));
        }
        _ => {}
    }
    if let Some(name) = codes.container_name.as_deref().filter(|name| !names.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(path.child("containerName"), name, why));
    }
    let (list, values) = (path.child("values"), &codes.values);
    let shown = || serde_json::to_string(values).unwrap_or_default();
    if values.is_empty() {
        errors.push(Error::invalid(list, "", "at least one value is required").showing("[]"));
    } else if values.len() > 255 {
        errors.push(Error::too_many(list, values.len() as i64, 255));
    }
    let mut seen = HashSet::new();
    for (i, value) in values.iter().enumerate() {
        if codes.operator == "In" && *value == 0 {
            errors.push(Error::invalid(list.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            errors.push(Error::duplicate(list.index(i), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(Error::invalid(list, "", "must be ordered").showing(shown()));
    }
}

fn success(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let Some(policy) = &spec.success_policy else {
        return;
    };
    if spec.completion_mode.text() != "Indexed" {
        let wrong = Error::invalid(*path, "", "requires indexed completion mode");
        errors.push(wrong.showing_struct(policy, "io.k8s.api.batch.v1.SuccessPolicy"));
        return;
    }
    let list = path.child("rules");
    if policy.rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(list, why));
    }
    if policy.rules.len() > 20 {
        errors.push(Error::too_many(list, policy.rules.len() as i64, 20));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        success_rule(rule, spec.completions.unwrap_or(0), &list.index(i), errors);
    }
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &Path, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(*path, why));
    }
    let mut total = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if text.len() > 64 * 1024 {
            errors.push(Error::too_long(path, 64 * 1024));
        }
        match indexes(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(Error::invalid(path, text.as_str(), why));
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let path = path.child("succeededCount");
        not_negative(count, path, errors);
        if count > completions {
            let why = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(path, count, why));
        }
        if rule.succeeded_indexes.is_some() && count > total {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(path, count, why));
        }
    }
}

fn replacement(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let Some(policy) = spec.pod_replacement_policy.as_deref() else {
        return;
    };
    let supported: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !supported.contains(&policy) {
        errors.push(Error::not_supported(*path, policy, supported));
    }
}

fn restart_policy(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let policy = spec.template.spec.as_ref().map_or("", |p| p.restart_policy.text());
    match policy {
        "Always" | "" => {
            errors.push(Error::required(*path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(*path, policy, why));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(Error::not_supported(*path, other, &["OnFailure", "Never"])),
    }
}

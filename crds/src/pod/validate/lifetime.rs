//! When a container is started again, and what a resize of it takes.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};

use crate::{
    field::{Error, Errors, Path},
    given::Items,
};

/// The policy of a container of its own, and the rules that its exit code is held against.
pub fn restart_policy(container: &Container, path: &Path, errors: &mut Errors) {
    let rules = container.restart_policy_rules.items();
    let policies = ["Always", "Never", "OnFailure"];
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return,
        None => errors.push(Error::required(
            path.child("restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        )),
        Some(policy) if !policies.contains(&policy) => {
            errors.push(Error::not_supported(path.child("restartPolicy"), policy, &policies));
        }
        Some(_) => {}
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(Error::too_many(list, rules.len() as i64, 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        self::rule(rule, &list.index(i), errors);
    }
}

/// Of init containers a missing policy with rules is told, and nothing else then.
pub fn init_restart_policy(container: &Container, path: &Path, errors: &mut Errors) {
    if container.restart_policy.is_some() {
        return restart_policy(container, path, errors);
    }
    if !container.restart_policy_rules.items().is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(Error::required(path.child("restartPolicy"), why));
    }
}

fn rule(rule: &ContainerRestartRule, path: &Path, errors: &mut Errors) {
    let actions = ["Restart", "RestartAllContainers"];
    if !actions.contains(&rule.action.as_str()) {
        errors.push(Error::not_supported(path.child("action"), rule.action.as_str(), &actions));
    }
    let list = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        errors.push(Error::required(list, "must be specified"));
        return;
    };
    if !["In", "NotIn"].contains(&codes.operator.as_str()) {
        errors.push(Error::not_supported(list.child("operator"), codes.operator.as_str(), &["In", "NotIn"]));
    }
    let count = codes.values.items().len();
    if count > 255 {
        errors.push(Error::too_many(list.child("values"), count as i64, 255));
    }
}

pub fn resize_policy(container: &Container, pod_restart_policy: &str, path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, policy) in container.resize_policy.items().iter().enumerate() {
        let (name, restart) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if !seen.insert(name) {
            errors.push(Error::duplicate(path.index(i), name));
        }
        super::one_of(name, &["cpu", "memory"], path, errors);
        super::one_of(restart, &["NotRequired", "RestartContainer"], path, errors);
        if pod_restart_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(*path, restart, why));
        }
    }
}

//! What a failed pod, or a set of succeeded indexes, means for the whole Job.

use k8s_openapi::api::{
    batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule},
    core::v1::{ContainerStatus, Pod},
};

use super::index::{self, Indexes};
use crate::{
    pod,
    runtime::object::{name, namespace},
};

/// What the failure policy makes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Count,
    Ignore,
    FailIndex,
    /// Fails the Job, with this message.
    FailJob(String),
}

/// Whether terminating pods are only replaced once they have failed.
pub fn replaces_only_failed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.is_some_and(|s| s.pod_replacement_policy.as_deref() == Some("Failed") || s.pod_failure_policy.is_some())
}

/// Whether a pod counts as failed for this Job.
pub fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pod::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !replaces_only_failed(job) && pod::is_terminating(pod),
    }
}

/// The first rule that matches a failed pod decides.
pub fn judge(job: &Job, pod: &Pod) -> Verdict {
    let rules = job.spec.as_ref().and_then(|s| s.pod_failure_policy.as_ref()).map(|p| &p.rules);
    let matching = |(i, rule): (usize, &PodFailurePolicyRule)| {
        let (subject, action) = (subject(rule, pod)?, rule.action.as_str());
        Some(match action {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{subject} matching {action} rule at index {i}")),
            _ => Verdict::Count,
        })
    };
    rules.into_iter().flatten().enumerate().find_map(matching).unwrap_or(Verdict::Count)
}

/// What of the pod a rule matches, in words.
fn subject(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let named = format!("{}/{}", namespace(&pod.metadata), name(&pod.metadata));
    if let Some(requirement) = &rule.on_exit_codes {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let mut containers = lists.into_iter().flat_map(|l| l.iter().flatten());
        let (container, code) = containers.find_map(|c| matching_code(requirement, c).map(|code| (c, code)))?;
        return Some(format!("Container {} for pod {named} failed with exit code {code}", container.name));
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let conditions = status.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|c| patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status))?;
    Some(format!("Pod {named} has condition {}", found.type_))
}

fn matching_code(requirement: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    if requirement.container_name.as_ref().is_some_and(|name| *name != container.name) || code == 0 {
        return None;
    }
    let listed = requirement.values.contains(&code);
    match requirement.operator.as_str() {
        "In" => listed.then_some(code),
        "NotIn" => (!listed).then_some(code),
        _ => None,
    }
}

/// The message of the first success rule that the succeeded indexes meet.
pub fn success(job: &Job, succeeded: &Indexes) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let (policy, completions) = (spec.success_policy.as_ref()?, spec.completions?);
    let met = |rule: &SuccessPolicyRule| {
        let count = rule.succeeded_count.and_then(|c| usize::try_from(c).ok());
        match &rule.succeeded_indexes {
            None => count.is_some_and(|c| succeeded.len() >= c),
            Some(text) => {
                let required = index::parse(text, completions);
                let have = required.intersection(succeeded).count();
                !required.is_empty() && (have == required.len() || count.is_some_and(|c| have >= c))
            }
        }
    };
    if succeeded.is_empty() {
        return None;
    }
    policy.rules.iter().position(met).map(|i| format!("Matched rules at index {i}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(spec: serde_json::Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "namespace": "n"}, "spec": spec})).unwrap()
    }

    #[test]
    fn failures() {
        let mut spec = json!({"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"containerName": "c", "operator": "NotIn", "values": [1]}}]}});
        for (status, want) in [
            (json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}), Verdict::Ignore),
            (
                exit("x", 42),
                Verdict::FailJob(
                    "Container x for pod n/p failed with exit code 42 matching FailJob rule at index 1".into(),
                ),
            ),
            (exit("c", 2), Verdict::FailIndex),
            (exit("c", 1), Verdict::Count),
            (exit("x", 2), Verdict::Count),
        ] {
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap();
            assert_eq!(judge(&job(spec.clone()), &pod), want, "{status}");
        }
        spec["podFailurePolicy"] = json!(null);
        assert!(!replaces_only_failed(&job(spec)));
    }

    fn exit(name: &str, code: i32) -> serde_json::Value {
        json!({"containerStatuses": [{"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}}]})
    }

    #[test]
    fn successes() {
        let with = |rules: serde_json::Value| {
            job(json!({"template": {}, "completions": 5, "successPolicy": {"rules": rules}}))
        };
        let have: Indexes = [0, 2].into();
        for (rules, want) in [
            (json!([{"succeededIndexes": "0,2"}]), Some("Matched rules at index 0")),
            (json!([{"succeededIndexes": "0-2"}]), None),
            (
                json!([{"succeededIndexes": "0-2"}, {"succeededIndexes": "0-2", "succeededCount": 2}]),
                Some("Matched rules at index 1"),
            ),
            (json!([{"succeededCount": 2}]), Some("Matched rules at index 0")),
            (json!([{"succeededCount": 3}]), None),
        ] {
            assert_eq!(success(&with(rules.clone()), &have).as_deref(), want, "{rules}");
        }
    }
}

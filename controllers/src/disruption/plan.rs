//! How many pods are healthy, how many must be, and what that leaves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use super::Observed;
use crate::{
    plan::{Event, Plan, Write},
    pod,
    runtime::{
        clock::after,
        object::{name, namespace, reference},
    },
    share::{self, Round},
};

const ALLOWED: &str = "DisruptionAllowed";
/// A pod that was to be evicted and is still there after so long will not go.
const EVICTION_SECONDS: i64 = 120;

/// Whether the budget is reckoned from the sizes of the pods' controllers.
pub fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.clone().unwrap_or_default();
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

pub fn plan(seen: &Observed) -> Plan {
    let budget = &*seen.budget;
    let about = reference(budget);
    let mut plan = Plan::default();
    if seen.pods.is_empty()
        && budget.status.as_ref().is_none_or(|s| s.expected_pods != Some(0) || s.conditions.is_none())
    {
        plan = plan.tell(Event::normal(about.clone(), "NoPods", "No matching pods found"));
    }
    if let Some(failure) = &seen.failure {
        let message = format!("Failed to calculate the number of expected pods: {failure}");
        plan = plan.tell(Event::warning(about, "CalculateExpectedPodCountFailed", message.clone()));
        // Nothing may be disrupted while nothing is known.
        let mut status = budget.status.clone().unwrap_or_default();
        status.disruptions_allowed = Some(0);
        status.observed_generation = budget.metadata.generation;
        set_condition(&mut status, "SyncFailed", failure, seen.now);
        return report(plan, budget, status).again_after(std::time::Duration::from_secs(10));
    }
    if seen.unmanaged && needs_scales(budget) {
        let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
        plan = plan.tell(Event::warning(about, "UnmanagedPods", message));
    }
    let (disrupted, recheck) = disrupted(seen, &mut plan);
    let (expected, desired) = expectations(seen);
    let is_healthy = |p: &&std::sync::Arc<k8s_openapi::api::core::v1::Pod>| {
        !pod::is_terminating(p) && !disrupted.contains_key(name(&p.metadata)) && pod::is_ready(p)
    };
    let healthy = i32::try_from(seen.pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|d| !d.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|s| s.conditions.clone()),
    };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    set_condition(&mut status, reason, "", seen.now);
    if let Some(at) = recheck {
        plan = plan.again_at(seen.now, at);
    }
    report(plan, budget, status)
}

fn report(plan: Plan, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Plan {
    if budget.status.as_ref() == Some(&status) {
        return plan;
    }
    plan.then(Write::status(&PodDisruptionBudget { status: Some(status), ..budget.clone() }))
}

fn set_condition(status: &mut PodDisruptionBudgetStatus, reason: &str, message: &str, now: Timestamp) {
    let allowed = status.disruptions_allowed > Some(0);
    let conditions = status.conditions.get_or_insert_default();
    let state = if allowed { "True" } else { "False" };
    let old = conditions.iter_mut().find(|c| c.type_ == ALLOWED);
    let since = old.as_ref().filter(|c| c.status == state).map_or(Time(now), |c| c.last_transition_time.clone());
    let new = Condition {
        type_: ALLOWED.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: since,
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// How many pods there should be, and how many of them must be healthy.
fn expectations(seen: &Observed) -> (i32, i32) {
    let spec = seen.budget.spec.clone().unwrap_or_default();
    let total: i32 = seen.scales.values().sum();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (total, (total - share::of(unavailable, total, Round::Up).unwrap_or(0)).max(0)),
        (None, Some(IntOrString::Int(available))) => (i32::try_from(seen.pods.len()).unwrap_or(i32::MAX), *available),
        (None, Some(available)) => (total, share::of(available, total, Round::Up).unwrap_or(0)),
        (None, None) => (0, 0),
    }
}

/// The pods that an eviction has been granted for and that have not gone yet; and when to look again.
fn disrupted(seen: &Observed, plan: &mut Plan) -> (BTreeMap<String, Time>, Option<Timestamp>) {
    let granted = seen.budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let (mut kept, mut recheck) = (BTreeMap::new(), None::<Timestamp>);
    for pod in seen.pods.iter().filter(|p| !pod::is_terminating(p)) {
        let Some(time) = granted.get(name(&pod.metadata)) else {
            continue;
        };
        let gone = after(time.0, EVICTION_SECONDS);
        if gone < seen.now {
            let space = namespace(&seen.budget.metadata);
            let message = format!("Pod was expected by PDB {space}/{space} to be deleted but it wasn't");
            plan.events.push(Event::warning(reference(&**pod), "NotDeleted", message));
            continue;
        }
        recheck = Some(recheck.map_or(gone, |r| r.min(gone)));
        kept.insert(name(&pod.metadata).to_owned(), time.clone());
    }
    (kept, recheck)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests as pods;

    fn observed(spec: Value, states: &[&str], scale: i32) -> Observed {
        let budget = json!({"metadata": {"name": "b", "namespace": "n", "generation": 1}, "spec": spec});
        Observed {
            budget: Arc::new(serde_json::from_value(budget).unwrap()),
            pods: states.iter().enumerate().map(|(i, s)| Arc::new(pods::pod(&format!("p{i}"), s))).collect(),
            scales: [("c".to_owned(), scale)].into(),
            failure: None,
            unmanaged: false,
            now: pods::now(),
        }
    }

    fn status(plan: &Plan) -> Value {
        plan.writes().last().unwrap().body().unwrap()["status"].clone()
    }

    #[test]
    fn what_is_left() {
        // expected, desired, healthy, allowed
        for (spec, states, scale, want) in [
            (json!({"minAvailable": 2}), &["ready", "ready", "ready"][..], 0, [3, 2, 3, 1]),
            (json!({"minAvailable": 2}), &["ready", "running"], 0, [2, 2, 1, 0]),
            (json!({"minAvailable": "50%"}), &["ready", "ready", "ready"], 3, [3, 2, 3, 1]),
            (json!({"maxUnavailable": 1}), &["ready", "ready"], 3, [3, 2, 2, 0]),
            (json!({"maxUnavailable": "100%"}), &["ready"], 1, [1, 0, 1, 1]),
            (json!({"minAvailable": 0}), &[], 0, [0, 0, 0, 0]),
        ] {
            let status = status(&plan(&observed(spec.clone(), states, scale)));
            let fields = ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"];
            assert_eq!(fields.map(|f| status[f].as_i64().unwrap()), want, "{spec}");
            let reason = if want[3] > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!(status["conditions"][0]["reason"], reason);
        }
    }

    #[test]
    fn granted_evictions_count_as_gone() {
        let mut seen = observed(json!({"minAvailable": 1}), &["ready", "ready"], 0);
        let granted = Time("2026-01-01T00:09:00Z".parse().unwrap());
        let status_before = Arc::make_mut(&mut seen.budget).status.get_or_insert_default();
        status_before.disrupted_pods = Some([("p0".to_owned(), granted)].into());
        let plan = plan(&seen);
        assert_eq!(status(&plan)["disruptionsAllowed"], 0);
        assert_eq!(plan.requeue_after.unwrap().as_secs(), 60);
    }

    #[test]
    fn nothing_is_allowed_while_nothing_is_known() {
        let mut seen = observed(json!({"maxUnavailable": 1}), &["ready"], 3);
        seen.failure = Some("no".into());
        assert_eq!(status(&plan(&seen))["conditions"][0]["reason"], "SyncFailed");
    }
}

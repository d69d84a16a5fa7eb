//! What a Deployment reports of its rollout.

use std::sync::Arc;

use crds::condition::{self};
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::plan::{max_unavailable, replicas, set_replicas};
use crate::runtime::{clock, object};

pub const PROGRESSING: &str = "Progressing";
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub const PAUSED: &str = "DeploymentPaused";
const COMPLETE: &str = "NewReplicaSetAvailable";

pub fn new_condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// A condition with the same status and reason stays as it was; a changed one moves to the end.
pub fn set_condition(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(old) = condition::find(conditions, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        condition::Condition::keep_transition(&mut new, old);
    }
    conditions.retain(|c| c.type_ != new.type_);
    conditions.push(new);
}

/// The progress deadline, if progress is to be reported.
pub fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then_some(seconds)
}

/// All that can be counted, with the Available condition.
pub fn counts(
    deployment: &Deployment,
    conditions: &[DeploymentCondition],
    all: &[Arc<ReplicaSet>],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| all.iter().map(|s| count(s)).sum::<i32>();
    let status = |s: &ReplicaSet| s.status.clone().unwrap_or_default();
    let available = sum(available);
    let unavailable = (sum(set_replicas) - available).max(0);
    // A set that was synced without telling its terminating pods makes the sum unknown.
    let terminating =
        all.iter().try_fold(0, |total, s| match (status(s).terminating_replicas, status(s).observed_generation) {
            (Some(n), _) => Some(total + n),
            (None, None | Some(0)) => Some(total),
            (None, Some(_)) => None,
        });
    let some = |n: i32| (n != 0).then_some(n);
    let mut conditions = conditions.to_vec();
    let enough = available >= replicas(deployment) - max_unavailable(deployment);
    let (state, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(&mut conditions, new_condition("Available", state, reason, message.to_owned(), now));
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(|s| s.status.as_ref().map_or(0, |s| s.replicas))),
        updated_replicas: some(new.map_or(0, |s| status(s).replicas)),
        ready_replicas: some(sum(|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some(unavailable),
        terminating_replicas: terminating,
        collision_count: deployment.status.as_ref().and_then(|s| s.collision_count),
        conditions: Some(conditions),
    }
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let want = replicas(deployment);
    let is = |n: Option<i32>| n.unwrap_or(0) == want;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |n: Option<i32>| n.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, progressing: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    let (Some(seconds), Some(condition)) = (deadline(deployment), progressing) else {
        return false;
    };
    match condition.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => condition.last_update_time.as_ref().is_some_and(|t| clock::after(t.0, seconds.into()) < now),
    }
}

/// The status of a rollout that is under way: counts, progress, and the sets' own failures.
pub fn rollout(
    deployment: &Deployment,
    conditions: &[DeploymentCondition],
    all: &[Arc<ReplicaSet>],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counts(deployment, conditions, all, new, now);
    let mut conditions = status.conditions.take().unwrap_or_default();
    let old = deployment.status.clone().unwrap_or_default();
    if deadline(deployment).is_none() {
        condition::remove(&mut conditions, PROGRESSING);
    }
    let current = condition::find(&conditions, PROGRESSING).cloned();
    let settled = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(COMPLETE));
    if deadline(deployment).is_some() && !settled {
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", object::name(&set.metadata)),
            None => format!("Deployment {:?}", object::name(&deployment.metadata)),
        };
        let make = |state, reason, message: &str| {
            new_condition(PROGRESSING, state, reason, format!("{subject} {message}"), now)
        };
        if is_complete(deployment, &status) {
            set_condition(&mut conditions, make("True", COMPLETE, "has successfully progressed."));
        } else if has_progressed(&old, &status) {
            let mut condition = make("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(current) = current.filter(|c| c.status == "True") {
                condition.last_transition_time = current.last_transition_time;
            }
            // Progress of the same kind is progress: the update time counts from now.
            condition::remove(&mut conditions, PROGRESSING);
            conditions.push(condition);
        } else if has_timed_out(deployment, current.as_ref(), now) {
            set_condition(&mut conditions, make("False", TIMED_OUT, "has timed out progressing."));
        }
    }
    match replica_failure(all, new) {
        Some(failure) => set_condition(&mut conditions, failure),
        None => {
            condition::remove(&mut conditions, "ReplicaFailure");
        }
    }
    status.conditions = Some(conditions);
    status
}

/// A failure of the new set is told rather than one of the old.
fn replica_failure(all: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let sets = new.into_iter().chain(all.iter().map(|s| &**s));
    let failure = sets
        .filter_map(|s| s.status.as_ref()?.conditions.as_ref())
        .find_map(|c| condition::find(c, "ReplicaFailure"))?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    })
}

/// When to look whether the rollout has stalled; none if that need not be known.
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let seconds = deadline(deployment)?;
    let condition = condition::find(status.conditions.as_ref()?, PROGRESSING)?;
    if is_complete(deployment, status) || condition.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    condition.last_update_time.as_ref().map(|t| clock::after(t.0, i64::from(seconds) + 1))
}

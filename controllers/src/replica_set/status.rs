//! What a set reports of its pods.

use crds::{condition, selector::Selector};
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{ReplicationControllerCondition, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::Observed;
use crate::{plan::Outcome, pod};

pub const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// Only a ReplicaSet reports it.
    pub terminating: Option<i32>,
    pub observed_generation: Option<i64>,
    pub conditions: Vec<ReplicaSetCondition>,
}

impl Status {
    pub fn of(status: Option<&ReplicaSetStatus>) -> Self {
        let status = status.cloned().unwrap_or_default();
        Self {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.unwrap_or_default(),
        }
    }

    pub fn of_replication_controller(status: Option<&ReplicationControllerStatus>) -> Self {
        let status = status.cloned().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().into_iter().map(|c| ReplicaSetCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: c.status,
            type_: c.type_,
        });
        Self {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: conditions.collect(),
        }
    }

    pub fn into_replica_set(self) -> ReplicaSetStatus {
        ReplicaSetStatus {
            replicas: self.replicas,
            fully_labeled_replicas: some(self.fully_labeled),
            ready_replicas: some(self.ready),
            available_replicas: some(self.available),
            terminating_replicas: self.terminating,
            observed_generation: self.observed_generation,
            conditions: Some(self.conditions).filter(|c| !c.is_empty()),
        }
    }

    pub fn into_replication_controller(self) -> ReplicationControllerStatus {
        let conditions = self.conditions.into_iter().map(|c| ReplicationControllerCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: c.status,
            type_: c.type_,
        });
        ReplicationControllerStatus {
            replicas: self.replicas,
            fully_labeled_replicas: some(self.fully_labeled),
            ready_replicas: some(self.ready),
            available_replicas: some(self.available),
            observed_generation: self.observed_generation,
            conditions: Some(conditions.collect::<Vec<_>>()).filter(|c| !c.is_empty()),
        }
    }
}

/// Zero is written as absence, as Go does.
fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// The status after what came of the plan; none if nothing changed.
pub fn status(seen: &Observed, outcome: &Outcome) -> Option<Status> {
    let (set, pods) = (&seen.set, seen.pods());
    let labels = set.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let full = Selector::from_labels(&labels);
    let count = |counts: &dyn Fn(&k8s_openapi::api::core::v1::Pod) -> bool| {
        i32::try_from(pods.iter().filter(|p| counts(p)).count()).unwrap_or(i32::MAX)
    };
    let mut conditions = set.status.conditions.clone();
    let failed = condition::find(&conditions, REPLICA_FAILURE).is_some();
    match outcome.refusal().filter(|r| !r.namespace_terminating) {
        Some(refusal) if !failed => {
            let reason = if refusal.create { "FailedCreate" } else { "FailedDelete" };
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(refusal.message.clone()),
                last_transition_time: Some(Time(seen.now)),
            });
        }
        None if failed => {
            condition::remove(&mut conditions, REPLICA_FAILURE);
        }
        _ => {}
    }
    let status = Status {
        replicas: count(&|_| true),
        fully_labeled: count(&|p| full.matches(p.metadata.labels.as_ref().unwrap_or(&Default::default()))),
        ready: count(&pod::is_ready),
        available: count(&|p| pod::is_available(p, set.min_ready_seconds, seen.now)),
        terminating: i32::try_from(seen.terminating).ok(),
        observed_generation: set.meta.generation,
        conditions,
    };
    (status != set.status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::observed, *};
    use crate::plan::Refusal;

    #[test]
    fn counts_pods() {
        let seen = observed(3, &["ready", "running", "pending"]);
        let status = status(&seen, &Outcome::default()).unwrap();
        assert_eq!((status.replicas, status.ready, status.available), (3, 1, 1));
        assert_eq!(status.observed_generation, Some(2));
    }

    #[test]
    fn failure_comes_and_goes() {
        let mut seen = observed(1, &[]);
        let refusal = Refusal {
            create: true,
            code: 403,
            reason: "Forbidden".into(),
            message: "exceeded quota".into(),
            namespace_terminating: false,
        };
        let failed = Outcome { refusals: vec![refusal], ..Outcome::default() };
        let first = status(&seen, &failed).unwrap();
        assert_eq!(first.conditions[0].reason.as_deref(), Some("FailedCreate"));
        seen.set.status = first;
        assert_eq!(status(&seen, &failed), None);
        assert!(status(&seen, &Outcome::default()).unwrap().conditions.is_empty());
    }
}

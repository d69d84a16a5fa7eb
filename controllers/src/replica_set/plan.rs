//! How many pods to make, or which to remove.

use std::collections::BTreeMap;

use super::Observed;
use crate::{plan::Plan, pod, runtime::object};

/// At most so many pods are made or removed in one go.
const BURST: usize = 500;

pub fn plan(seen: &Observed) -> Plan {
    let set = &seen.set;
    let plan = Plan::default().together(seen.claim.writes(&set.reference));
    let pods = seen.pods();
    let plan = match pod::next_available(pods.iter().map(|p| &**p), set.min_ready_seconds, seen.now) {
        Some(at) => plan.again_at(seen.now, at),
        None => plan,
    };
    if set.meta.deletion_timestamp.is_some() {
        return plan;
    }
    let (have, want) = (pods.len(), usize::try_from(set.replicas).unwrap_or(0));
    if have < want {
        let name = object::name(&set.meta);
        let pod = pod::from_template(&set.template, object::namespace(&set.meta), name, set.reference.clone());
        let create = pod::create(&pod, &set.regarding);
        return plan.together(vec![create; (want - have).min(BURST)]);
    }
    let excess = (have - want).min(BURST);
    let mut ranked = pods;
    if excess < have {
        let mut on_node = BTreeMap::new();
        for related in seen.related.iter().filter(|p| pod::is_active(p)) {
            *on_node.entry(pod::node_name(related)).or_insert(0) += 1;
        }
        ranked.sort_by(|a, b| pod::by_deletion_order(a, b, &on_node, seen.now));
    }
    plan.together(ranked.iter().take(excess).map(|p| pod::delete(p, &set.regarding)).collect())
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use crds::{owner, selector};
    use k8s_openapi::{api::apps::v1::ReplicaSet, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;
    use crate::{
        claim::Claim,
        pod::tests::{now, pod},
        replica_set::{Set, status::Status},
    };

    pub fn observed(replicas: i32, states: &[&str]) -> Observed {
        let meta = ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("root".into()),
            generation: Some(2),
            ..ObjectMeta::default()
        };
        let owned = states.iter().enumerate().map(|(i, s)| Arc::new(pod(&format!("{s}-{i}"), s))).collect();
        Observed {
            set: Set {
                reference: owner::controller_reference::<ReplicaSet>(&meta),
                meta,
                regarding: Default::default(),
                selector: selector::parse("app=a").unwrap(),
                template: Default::default(),
                replicas,
                min_ready_seconds: 0,
                status: Status::default(),
            },
            claim: Claim { owned, ..Claim::default() },
            terminating: 0,
            related: Vec::new(),
            now: now(),
        }
    }

    #[test]
    fn as_many_as_asked_for() {
        for (want, have, creates, deletes) in [
            (3, &[][..], 3, &[][..]),
            (3, &["ready", "ready", "ready"], 0, &[]),
            (1, &["ready", "running", "pending"], 0, &["pending-2", "running-1"]),
            (0, &["ready"], 0, &["ready-0"]),
            (600, &[], 500, &[]),
        ] {
            let plan = plan(&observed(want, have));
            assert_eq!(plan.writes().filter(|w| w.is_create()).count(), creates, "{want} of {have:?}");
            let names: Vec<_> = plan.writes().filter(|w| w.is_delete()).map(|w| w.name.clone()).collect();
            assert_eq!(names, deletes, "{want} of {have:?}");
        }
    }

    #[test]
    fn a_set_that_goes_makes_no_pods() {
        let mut seen = observed(3, &[]);
        seen.set.meta.deletion_timestamp = pod("a", "ready").metadata.creation_timestamp;
        assert!(plan(&seen).is_empty());
    }

    #[test]
    fn looks_again_when_a_pod_becomes_available() {
        let mut seen = observed(1, &["ready"]);
        seen.set.min_ready_seconds = 310;
        assert_eq!(plan(&seen).requeue_after.unwrap().as_secs(), 10);
    }
}

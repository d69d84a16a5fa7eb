//! What a StatefulSet reports of its pods.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};

use super::identity::revision;
use crate::pod;

/// The set with its status up to date; none if it is already.
pub fn status(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    current: &str,
    update: &str,
    collisions: Option<i32>,
    now: Timestamp,
) -> Option<StatefulSet> {
    let before = set.status.clone().unwrap_or_default();
    let spec = set.spec.clone().unwrap_or_default();
    let count =
        |counts: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|p| counts(p)).count()).unwrap_or(i32::MAX);
    let some = |n: i32| (n != 0).then_some(n);
    let ready = |p: &Pod| pod::phase(p) == "Running" && pod::is_ready(p);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let of = |name: &str| count(&|p| !pod::is_terminating(p) && revision(p) == name);
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: some(count(&ready)),
        available_replicas: Some(count(&|p| ready(p) && pod::is_available(p, min_ready, now))),
        current_replicas: some(of(current)),
        updated_replicas: some(of(update)),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        collision_count: Some(collisions.unwrap_or(0)),
        ..before.clone()
    };
    let want = spec.replicas.unwrap_or(1);
    let rolls = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
    let all = |n: Option<i32>| n.unwrap_or(0) == want;
    if rolls && all(status.updated_replicas) && all(status.ready_replicas) && status.replicas == want {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    (status != before).then(|| StatefulSet { status: Some(status), ..set.clone() })
}

//! What a DaemonSet reports of its nodes.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::plan::{Placed, is_updated};
use crate::pod;

/// The set with its status up to date; none if it is already.
pub fn status(placed: &Placed<'_>, hash: &str) -> Option<DaemonSet> {
    let (set, seen) = (&*placed.seen.set, placed.seen);
    let min_ready = placed.min_ready_seconds();
    let mut counts = [0; 6];
    let [desired, current, misscheduled, ready, updated, available] = &mut counts;
    for node in &placed.nodes {
        let mut pods = node.pods.clone();
        pods.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), pod::phase(p).to_owned()));
        let Some(first) = pods.first() else {
            *desired += i32::from(node.should_run);
            continue;
        };
        if !node.should_run {
            *misscheduled += i32::from(node.exists);
            continue;
        }
        *desired += 1;
        *current += 1;
        *ready += i32::from(pod::is_ready(first));
        *available += i32::from(pod::is_available(first, min_ready, seen.now));
        *updated += i32::from(is_updated(first, hash));
    }
    let some = |n: i32| (n != 0).then_some(n);
    let before = set.status.clone().unwrap_or_default();
    let status = DaemonSetStatus {
        desired_number_scheduled: *desired,
        current_number_scheduled: *current,
        number_misscheduled: *misscheduled,
        number_ready: *ready,
        updated_number_scheduled: some(*updated),
        number_available: some(*available),
        number_unavailable: some(*desired - *available),
        observed_generation: set.metadata.generation,
        ..before.clone()
    };
    (status != before).then(|| DaemonSet { status: Some(status), ..set.clone() })
}

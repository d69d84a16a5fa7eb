//! How long to wait before a failed pod is replaced: 10 s, doubled with each failure, up to 10 minutes.

use std::time::Duration;

use crds::condition;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::runtime::clock::{after, since};

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// When a pod came to its end, as well as can be told.
pub fn finished_at(pod: &Pod) -> Timestamp {
    let from_containers = || {
        let status = pod.status.as_ref()?;
        let end = |c: &ContainerStatus| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
        let ends: Option<Vec<_>> = status.container_statuses.iter().flatten().map(end).collect();
        ends?.into_iter().max()
    };
    let from_condition = || {
        let ready = condition::find(pod.status.as_ref()?.conditions.as_ref()?, "Ready")?;
        ready.last_transition_time.as_ref().filter(|_| ready.status == "False").map(|t| t.0)
    };
    let from_deletion = || {
        let at = pod.metadata.deletion_timestamp.as_ref()?;
        Some(after(at.0, -pod.metadata.deletion_grace_period_seconds.unwrap_or(0)))
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    from_containers().or_else(from_condition).or_else(from_deletion).or_else(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What is left of the wait after so many failures in a row.
pub fn remaining(failures: usize, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(last) = last.filter(|_| failures > 0) else {
        return Duration::ZERO;
    };
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let wait = FIRST.saturating_mul(1 << doublings).min(MAX);
    wait.saturating_sub(since(now, last))
}

/// The failures since the last success, and when the last of them was.
pub fn failures_in_row(failed: &[&Pod], succeeded: &[&Pod]) -> (usize, Option<Timestamp>) {
    let last_success = succeeded.iter().map(|p| finished_at(p)).max();
    let recent = failed.iter().map(|p| finished_at(p)).filter(|at| last_success.is_none_or(|s| *at > s));
    let recent: Vec<_> = recent.collect();
    (recent.len(), recent.iter().max().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_ten_minutes() {
        let now = Timestamp::from_second(10_000).unwrap();
        let wait = |failures, ago: i64| remaining(failures, Some(after(now, -ago)), now).as_secs();
        assert_eq!([wait(0, 0), wait(1, 0), wait(1, 4), wait(3, 0), wait(20, 0), wait(1, 11)], [0, 10, 6, 40, 600, 0]);
    }
}

//! Where a Pod is in its life: its phase, and whether it is ready, available, active or over.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::given::{Items, Text};

pub const PENDING: &str = "Pending";
pub const RUNNING: &str = "Running";
pub const SUCCEEDED: &str = "Succeeded";
pub const FAILED: &str = "Failed";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().map_or("", |s| s.phase.text())
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().map_or("", |s| s.node_name.text())
}

/// All containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    [SUCCEEDED, FAILED].contains(&phase(pod))
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither over nor going: what a controller counts.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.items().iter().find(|c| c.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Ready for at least so many seconds.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now).is_some_and(|left| left <= 0)
}

/// Seconds until the Pod is available if it stays ready; nothing if it is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<i64> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready_seconds == 0 {
        return Some(0);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    Some(since.as_second() + i64::from(min_ready_seconds) - now.as_second())
}

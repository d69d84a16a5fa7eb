//! The conditions of a Job and the times that go with them.

use crds::condition;
use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";
/// The Job is going to fail, or to succeed, once its pods are gone.
pub const FAILURE_TARGET: &str = "FailureTarget";
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub const SUSPENDED: &str = "Suspended";

pub fn new_condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub fn true_condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    condition::find(conditions, kind).filter(|c| c.status == "True")
}

/// Sets a condition; one that was never true is not told to be false. Says whether anything changed.
pub fn ensure(conditions: &mut Vec<JobCondition>, new: JobCondition) -> bool {
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            let changed = old.status != new.status || old.reason != new.reason || old.message != new.message;
            if changed {
                *old = new;
            }
            changed
        }
        None if new.status == "False" => false,
        None => {
            conditions.push(new);
            true
        }
    }
}

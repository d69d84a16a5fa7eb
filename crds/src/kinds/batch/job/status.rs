//! Rules of a Job's status: what its controller may say of it, and may not take back.

use std::collections::HashSet;

use k8s_openapi::{
    api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{indexes, interval_of};
use crate::{
    condition, equal,
    field::{Error, Errors, Path, not_negative},
    given::{Items, Text},
};

const STATUS: Path = Path::new("status");

/// The conditions of a status, asked for by name.
struct Holds<'a>(&'a JobStatus);

impl Holds<'_> {
    fn is(&self, kind: &str) -> bool {
        condition::is_true(self.0.conditions.as_ref(), kind)
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
}

pub fn validate(new: &Job, old: &Job, errors: &mut Errors) {
    let none = (JobStatus::default(), JobSpec::default());
    let (now, was) = (new.status.as_ref().unwrap_or(&none.0), old.status.as_ref().unwrap_or(&none.0));
    let spec = new.spec.as_ref().unwrap_or(&none.1);
    counts(now, errors);
    conditions(now, was, spec, errors);
    index_lists(now, was, spec, errors);
    let finished = Holds(now).finished();
    let finish_changed = finished != Holds(was).finished();
    let terminating = now.terminating.unwrap_or(0);
    if (finish_changed || now.terminating != was.terminating) && terminating > 0 && finished {
        let why = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(STATUS.child("terminating"), terminating, why));
    }
    let active = now.active.unwrap_or(0);
    if let Some(ready) = now.ready.filter(|ready| *ready > active)
        && (now.ready != was.ready || active != was.active.unwrap_or(0))
    {
        errors.push(Error::invalid(STATUS.child("ready"), ready, "cannot set more ready pods than active"));
    }
    criteria(now, spec, errors);
    changes(now, was, spec, errors);
}

fn counts(status: &JobStatus, errors: &mut Errors) {
    for (name, count) in [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ] {
        not_negative(count.unwrap_or(0), STATUS.child(name), errors);
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else {
        return;
    };
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for (name, uids) in [("succeeded", uncounted.succeeded.items()), ("failed", uncounted.failed.items())] {
        let list = path.child(name);
        for (i, uid) in uids.iter().enumerate() {
            if uid.is_empty() {
                errors.push(Error::invalid(list.index(i), "", "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Error::duplicate(list.index(i), uid.as_str()));
            }
        }
    }
}

fn shown(time: Option<&Time>) -> String {
    serde_json::to_string(&time).unwrap_or_default()
}

fn conditions(now: &JobStatus, was: &JobStatus, spec: &JobSpec, errors: &mut Errors) {
    let (has, had) = (Holds(now), Holds(was));
    let changed = |kind: &str| has.is(kind) != had.is(kind);
    let (complete, failed) = (has.is("Complete"), has.is("Failed"));
    let path = STATUS.child("conditions");
    let mut clash = |holds: bool, why: &str| {
        if holds {
            errors.push(Error::wrong(path, format!("cannot set {why}")));
        }
    };
    clash((changed("Complete") || changed("Failed")) && complete && failed, "Complete=True and Failed=true conditions");
    clash(
        (changed("Complete") || changed("FailureTarget")) && complete && has.is("FailureTarget"),
        "Complete=True and FailureTarget=true conditions",
    );
    times(now, was, errors);
    let mut clash = |holds: bool, why: &str| {
        if holds {
            errors.push(Error::wrong(path, format!("cannot set {why}")));
        }
    };
    let failed_indexes_changed = now.failed_indexes != was.failed_indexes;
    clash(
        (changed("Failed") || failed_indexes_changed) && failed && !has.is("FailureTarget"),
        "Failed=True condition without the FailureTarget=true condition",
    );
    clash(
        (changed("Complete") || changed("SuccessCriteriaMet")) && complete && !has.is("SuccessCriteriaMet"),
        "Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    let finished = has.finished();
    let finish_changed = finished != had.finished();
    let active = now.active.unwrap_or(0);
    if (finish_changed || active != was.active.unwrap_or(0)) && active > 0 && finished {
        errors.push(Error::invalid(STATUS.child("active"), active, "active>0 is invalid for finished job"));
    }
    let empty_and_suspended = spec.suspend == Some(true) && spec.completions == Some(0);
    let start_changed = finish_changed || now.start_time != was.start_time;
    if start_changed && !empty_and_suspended && now.start_time.is_none() && finished {
        errors.push(Error::required(STATUS.child("startTime"), "startTime is required for finished job"));
    }
    let uncounted = now.uncounted_terminated_pods.as_ref();
    let uncounted_changed = !equal::same(&now.uncounted_terminated_pods, &was.uncounted_terminated_pods);
    let filled = |u: &UncountedTerminatedPods| !u.failed.items().is_empty() || !u.succeeded.items().is_empty();
    if let Some(pods) = uncounted.filter(|u| (finish_changed || uncounted_changed) && finished && filled(u)) {
        let path = STATUS.child("uncountedTerminatedPods");
        let wrong = Error::invalid(path, "", "must be empty for finished job");
        errors.push(wrong.showing_struct(pods, "io.k8s.api.batch.v1.UncountedTerminatedPods"));
    }
}

fn times(now: &JobStatus, was: &JobStatus, errors: &mut Errors) {
    let complete = Holds(now).is("Complete");
    let complete_changed = complete != Holds(was).is("Complete");
    let end_changed = now.completion_time != was.completion_time;
    let path = STATUS.child("completionTime");
    let end = now.completion_time.as_ref();
    if complete_changed || end_changed {
        if end.is_some() && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(path, "", why).showing(shown(end)));
        }
        if end.is_none() && complete {
            errors.push(Error::required(path, "completionTime is required for Complete jobs"));
        }
    }
    let early = now.start_time.as_ref().zip(end).is_some_and(|(start, end)| end.0 < start.0);
    if (now.start_time != was.start_time || end_changed) && early {
        errors.push(Error::invalid(path, "", "must be equal to or after `startTime`").showing(shown(end)));
    }
}

fn index_lists(now: &JobStatus, was: &JobStatus, spec: &JobSpec, errors: &mut Errors) {
    let completed = now.completed_indexes.text();
    let completed_changed = completed != was.completed_indexes.text();
    let failed_changed = now.failed_indexes != was.failed_indexes;
    let (completed_path, failed_path) = (STATUS.child("completedIndexes"), STATUS.child("failedIndexes"));
    let failed = now.failed_indexes.as_deref();
    if let Some(completions) = spec.completions {
        if completed_changed && let Err(why) = indexes(completed, completions) {
            let why = format!("error parsing completedIndexes: {why}");
            errors.push(Error::invalid(completed_path, completed, why));
        }
        if failed_changed
            && let Some(failed) = failed.filter(|_| spec.backoff_limit_per_index.is_some())
            && let Err(why) = indexes(failed, completions)
        {
            let why = format!("error parsing failedIndexes: {why}");
            errors.push(Error::invalid(failed_path, failed, why));
        }
    }
    if completed_changed && !completed.is_empty() && spec.completion_mode.text() != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(completed_path, completed, why));
    }
    let Some(failed) = failed else {
        return;
    };
    if failed_changed && spec.backoff_limit_per_index.is_none() {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(failed_path, failed, why));
    }
    if let Some(completions) = spec.completions.filter(|_| failed_changed || completed_changed)
        && let Some(at) = overlap(completed, failed, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {at}");
        errors.push(Error::invalid(failed_path, failed, why));
    }
}

/// The first index that is in both lists; what cannot be parsed is left out.
fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let intervals = |text: &str| -> Vec<(i32, i32)> {
        text.split(',').filter_map(|part| interval_of(part, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    completed.iter().find_map(|(first, last)| {
        failed.iter().find(|(from, to)| first <= to && from <= last).map(|(from, _)| *first.max(from))
    })
}

fn criteria(now: &JobStatus, spec: &JobSpec, errors: &mut Errors) {
    let has = Holds(now);
    let path = STATUS.child("conditions");
    let met = has.is("SuccessCriteriaMet");
    if met && has.is("Failed") {
        errors.push(Error::wrong(path, "cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if met && has.is("FailureTarget") {
        errors.push(Error::wrong(path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
    if spec.success_policy.is_some() && !met && has.is("Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(Error::wrong(path, why));
    }
}

/// What was said once stays said.
fn changes(now: &JobStatus, was: &JobStatus, spec: &JobSpec, errors: &mut Errors) {
    let (has, had) = (Holds(now), Holds(was));
    let path = STATUS.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"].into_iter().filter(|kind| had.is(kind) && !has.is(kind)) {
        errors.push(Error::wrong(path, format!("cannot disable the terminal {kind}=True condition")));
    }
    let elastic = spec.completion_mode.text() == "Indexed" && spec.completions == spec.parallelism;
    let fewer = |new: Option<i32>, old: Option<i32>| new.unwrap_or(0) < old.unwrap_or(0);
    if fewer(now.failed, was.failed) {
        let why = "cannot decrease the failed counter";
        errors.push(Error::invalid(STATUS.child("failed"), now.failed.unwrap_or(0), why));
    }
    if !elastic && fewer(now.succeeded, was.succeeded) {
        let why = "cannot decrease the succeeded counter";
        errors.push(Error::invalid(STATUS.child("succeeded"), now.succeeded.unwrap_or(0), why));
    }
    let (end, ended) = (now.completion_time.as_ref(), was.completion_time.as_ref());
    if end.is_some() && ended.is_some() && end != ended {
        let error = Error::invalid(STATUS.child("completionTime"), "", "field is immutable");
        errors.push(error.showing(shown(end)));
    }
    let resuming =
        had.is("Suspended") && now.conditions.items().iter().any(|c| c.type_ == "Suspended" && c.status == "False");
    let restarted = was.start_time.is_some() && was.start_time != now.start_time;
    if restarted && !resuming && spec.suspend != Some(true) {
        let why = "field is immutable for unsuspended job once set";
        let error = Error::invalid(STATUS.child("startTime"), "", why);
        errors.push(error.showing(shown(now.start_time.as_ref())));
    }
    let (met, was_met) = (has.is("SuccessCriteriaMet"), had.is("SuccessCriteriaMet"));
    if was_met && !met {
        errors.push(Error::wrong(path, "cannot disable the SuccessCriteriaMet=True condition"));
    }
    if had.is("Complete") && !was_met && met {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(Error::wrong(path, why));
    }
}

//! Which start is due, what becomes of a run that is still active, and which old Jobs are kept.

use std::{sync::Arc, time::Duration};

use crds::{
    cron::{self, Schedule},
    owner,
};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::Observed;
use crate::{
    job::{is_finished, status::true_condition},
    plan::{Event, Plan, Write},
    runtime::{
        clock::after,
        object::{name, namespace, reference, uid},
    },
};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A timer that is a little late finds the start due.
const LATE: Duration = Duration::from_millis(100);
const MANY: i64 = 100;

pub fn plan(seen: &Observed) -> Plan {
    let mut run = Run {
        seen,
        cron: &seen.cron,
        spec: &seen.cron.spec,
        about: reference(&*seen.cron),
        status: seen.cron.status.clone().unwrap_or_default(),
        plan: Plan::default(),
    };
    run.follow_jobs();
    if seen.cron.metadata.deletion_timestamp.is_none() {
        run.schedule();
        run.clean_up();
    }
    run.report()
}

struct Run<'a> {
    seen: &'a Observed,
    cron: &'a CronJob,
    spec: &'a CronJobSpec,
    about: ObjectReference,
    status: CronJobStatus,
    plan: Plan,
}

impl Run<'_> {
    fn tell(&mut self, warning: bool, reason: &'static str, message: String) {
        let about = self.about.clone();
        self.plan.events.push(Event { regarding: about, warning, reason, message });
    }

    fn active(&mut self) -> &mut Vec<ObjectReference> {
        self.status.active.get_or_insert_default()
    }

    /// Brings the list of active Jobs up to the Jobs that are there.
    fn follow_jobs(&mut self) {
        for job in &self.seen.jobs {
            let listed = self.active().iter().any(|a| a.uid == job.metadata.uid);
            let job_name = name(&job.metadata);
            if !is_finished(job) {
                if !listed {
                    self.note_started(job);
                }
                continue;
            }
            if listed {
                self.active().retain(|a| a.uid != job.metadata.uid);
                let condition = if true_condition(job, "Complete").is_some() { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {job_name}, condition: {condition}");
                self.tell(false, "SawCompletedJob", message);
            }
            let completed = job.status.as_ref().and_then(|s| s.completion_time.clone());
            if true_condition(job, "Complete").is_some() && completed > self.status.last_successful_time {
                self.status.last_successful_time = completed;
            }
        }
        let jobs = &self.seen.jobs;
        let missing: Vec<_> = self
            .status
            .active
            .iter()
            .flatten()
            .filter(|a| !jobs.iter().any(|j| j.metadata.uid == a.uid))
            .cloned()
            .collect();
        for gone in missing {
            self.active().retain(|a| a.uid != gone.uid);
            self.tell(false, "MissingJob", format!("Active job went missing: {}", gone.name.unwrap_or_default()));
        }
    }

    /// A Job that is not listed was started in an earlier look, which could not report it; or by somebody else.
    fn note_started(&mut self, job: &Job) {
        let due = scheduled_at(job).filter(|due| name(&job.metadata) == job_name(self.cron, *due));
        let Some(due) = due else {
            let message = format!("Saw a job that the controller did not create or forgot: {}", name(&job.metadata));
            return self.tell(true, "UnexpectedJob", message);
        };
        self.active().push(job_reference(job));
        let due = Some(Time(due));
        if due > self.status.last_schedule_time {
            self.status.last_schedule_time = due;
        }
    }

    fn schedule(&mut self) {
        let zone = match self.spec.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(zone_name) => match cron::time_zone(zone_name) {
                Ok(zone) => zone,
                Err(error) => {
                    return self.tell(true, "UnknownTimeZone", format!("invalid timeZone: {zone_name:?}: {error}"));
                }
            },
        };
        if self.spec.suspend == Some(true) {
            return;
        }
        let text = &self.spec.schedule;
        if text.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {text:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            );
            self.tell(true, "UnsupportedSchedule", message);
        }
        let schedule = match cron::parse(text) {
            Ok(schedule) => schedule,
            Err(error) => {
                return self.tell(true, "UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}"));
            }
        };
        let now = self.seen.now;
        if let Some(next) = schedule.next(now, &zone) {
            let plan = std::mem::take(&mut self.plan);
            self.plan = plan.again_after(crate::runtime::clock::until(now, next) + LATE);
        }
        let Some(first) = schedule.next(self.earliest(true), &zone) else {
            // The 31st of February. Upstream notices it by two starts that are at the same time.
            let why = "time difference between two schedules is less than 1 second";
            return self.tell(true, "InvalidSchedule", format!("invalid schedule: {text} : {why}"));
        };
        let Some((due, missed)) = most_recent(first, now, &schedule, &zone) else {
            return;
        };
        if missed > MANY {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(true, "TooManyMissedTimes", message.to_owned());
        }
        self.start(due, &zone);
    }

    /// Starts before this time are over and done with.
    fn earliest(&self, with_deadline: bool) -> Timestamp {
        let created = self.cron.metadata.creation_timestamp.as_ref();
        let last = self.status.last_schedule_time.as_ref().or(created).map_or(self.seen.now, |t| t.0);
        match self.spec.starting_deadline_seconds.filter(|_| with_deadline) {
            Some(seconds) => last.max(after(self.seen.now, -seconds)),
            None => last,
        }
    }

    fn start(&mut self, due: Timestamp, zone: &TimeZone) {
        let now = self.seen.now;
        if self.spec.starting_deadline_seconds.is_some_and(|s| after(due, s) < now) {
            let at = due.strftime("%a, %d %b %Y %H:%M:%S UTC");
            return self.tell(true, "MissSchedule", format!("Missed scheduled time to start a job: {at}"));
        }
        let job_name = job_name(self.cron, due);
        let started = self.active().iter().any(|a| a.name.as_deref() == Some(&job_name));
        if started || self.status.last_schedule_time.as_ref().is_some_and(|t| t.0 == due) {
            return;
        }
        let policy = self.spec.concurrency_policy.as_deref().unwrap_or("Allow");
        if policy == "Forbid" && !self.active().is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return self.tell(false, "JobAlreadyActive", message.to_owned());
        }
        if policy == "Replace" {
            self.replace_active();
        }
        let existing = self.seen.jobs.iter().find(|j| name(&j.metadata) == job_name).cloned();
        match existing {
            // Made in an earlier look that could not report it.
            Some(job) => {
                self.active().push(job_reference(&job));
                self.status.last_schedule_time = Some(Time(due));
            }
            None => {
                let create = Write::create(&self.new_job(job_name, due, zone)).told(
                    Event::normal(self.about.clone(), "SuccessfulCreate", "Created job {name}"),
                    Event::warning(self.about.clone(), "FailedCreate", "Error creating job: {error}"),
                );
                // The Job is seen in the next look, which reports it.
                self.plan.steps.push(vec![create.forgiving(&[409])]);
            }
        }
    }

    fn replace_active(&mut self) {
        let active = std::mem::take(self.active());
        let running = self.seen.jobs.iter().filter(|j| active.iter().any(|a| a.uid == j.metadata.uid));
        let deletions: Vec<_> = running.map(|j| self.deletion(j)).collect();
        self.plan.steps.extend([deletions].into_iter().filter(|d| !d.is_empty()));
    }

    fn deletion(&self, job: &Job) -> Write {
        let message = format!("Deleted job {}", name(&job.metadata));
        Write::delete::<Job>(&job.metadata).propagating("Background").told(
            Event::normal(self.about.clone(), "SuccessfulDelete", message),
            Event::warning(self.about.clone(), "FailedDelete", "Deleted job: {error}"),
        )
    }

    fn new_job(&self, job_name: String, due: Timestamp, zone: &TimeZone) -> Job {
        let template = &self.spec.job_template;
        let shape = template.metadata.clone().unwrap_or_default();
        let mut annotations = shape.annotations.unwrap_or_default();
        let scheduled = due.to_zoned(zone.clone());
        let offset = scheduled.offset().seconds();
        let time = match offset {
            0 => scheduled.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            _ => scheduled.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        };
        annotations.insert(SCHEDULED.to_owned(), time);
        Job {
            metadata: ObjectMeta {
                name: Some(job_name),
                namespace: Some(namespace(&self.cron.metadata).to_owned()),
                labels: shape.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![owner::controller_reference::<CronJob>(&self.cron.metadata)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    /// Removes finished Jobs beyond the history's limits, the oldest first.
    fn clean_up(&mut self) {
        let mut deletions = Vec::new();
        for (condition, limit) in
            [("Complete", self.spec.successful_jobs_history_limit), ("Failed", self.spec.failed_jobs_history_limit)]
        {
            let Some(keep) = limit.and_then(|l| usize::try_from(l).ok()) else {
                continue;
            };
            let mut jobs: Vec<&Arc<Job>> =
                self.seen.jobs.iter().filter(|j| true_condition(j, condition).is_some()).collect();
            let started = |j: &Job| j.status.as_ref().and_then(|s| s.start_time.clone());
            jobs.sort_by_key(|j| (started(j), j.metadata.name.clone()));
            let excess = jobs.len().saturating_sub(keep);
            let leaving = jobs.into_iter().take(excess).filter(|j| j.metadata.deletion_timestamp.is_none());
            deletions.extend(leaving.map(|j| self.deletion(j)));
        }
        self.plan.steps.extend([deletions].into_iter().filter(|d| !d.is_empty()));
    }

    fn report(mut self) -> Plan {
        self.status.active.take_if(|a| a.is_empty());
        let before = self.cron.status.clone().unwrap_or_default();
        if self.status == before {
            return self.plan;
        }
        let updated = CronJob { status: Some(self.status), ..self.cron.clone() };
        self.plan.then(Write::status(&updated))
    }
}

/// A Job's name tells its start, to the minute: the same start is never made twice.
fn job_name(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", name(&cron.metadata), due.as_second() / 60)
}

fn scheduled_at(job: &Job) -> Option<Timestamp> {
    crate::runtime::object::annotation(&job.metadata, SCHEDULED)?.parse().ok()
}

fn job_reference(job: &Job) -> ObjectReference {
    ObjectReference { uid: Some(uid(&job.metadata).to_owned()), ..reference(job) }
}

/// The last start that is due of those from the first on, and about how many have been missed; none if none is due.
fn most_recent(first: Timestamp, now: Timestamp, schedule: &Schedule, zone: &TimeZone) -> Option<(Timestamp, i64)> {
    if first > now {
        return None;
    }
    let Some(second) = schedule.next(first, zone).filter(|t| *t <= now) else {
        return Some((first, 1));
    };
    let between = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / between + 1;
    // Most of the way is jumped over; the schedule need not be regular.
    let mut recent = after(first, (missed - 2) * between).max(first);
    while let Some(next) = schedule.next(recent, zone).filter(|t| *t <= now) {
        recent = next;
    }
    Some((recent, missed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::now;

    fn observed(spec: Value, jobs: &[(&str, bool)], active: &[&str]) -> Observed {
        let mut cron = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "root", "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {"spec": {"template": {}}},
                "successfulJobsHistoryLimit": 1},
            "status": {"active": active.iter().map(|a| json!({"name": a, "uid": a})).collect::<Vec<_>>()}});
        cron["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let job = |(name, done): &(&str, bool)| {
            let conditions = if *done { json!([{"type": "Complete", "status": "True"}]) } else { json!([]) };
            Arc::new(
                serde_json::from_value::<Job>(json!({"metadata": {"name": name, "uid": name, "namespace": "n"},
                    "status": {"conditions": conditions, "completionTime": "2026-01-01T00:05:00Z"}}))
                .unwrap(),
            )
        };
        Observed {
            cron: Arc::new(serde_json::from_value(cron).unwrap()),
            jobs: jobs.iter().map(job).collect(),
            now: now(),
        }
    }

    fn jobs(plan: &Plan) -> Vec<String> {
        let of_jobs = plan.writes().filter(|w| w.resource.kind == "Job");
        of_jobs
            .map(|w| match w.body() {
                Some(body) => format!("+{}", body["metadata"]["name"].as_str().unwrap()),
                None => format!("-{}", w.name),
            })
            .collect()
    }

    #[test]
    fn starts() {
        // It is 00:10 on the first of January 2026: minute 29453770 of the epoch.
        for (what, spec, have, active, want) in [
            ("the start that is due", json!({}), vec![], vec![], vec!["+c-29453770"]),
            ("not twice", json!({}), vec![("c-29453770", false)], vec!["c-29453770"], vec![]),
            ("not yet", json!({"schedule": "30 * * * *"}), vec![], vec![], vec![]),
            ("not suspended", json!({"suspend": true}), vec![], vec![], vec![]),
            ("one beside another", json!({}), vec![("x", false)], vec!["x"], vec!["+c-29453770"]),
            ("unless forbidden", json!({"concurrencyPolicy": "Forbid"}), vec![("x", false)], vec!["x"], vec![]),
            (
                "or replaced",
                json!({"concurrencyPolicy": "Replace"}),
                vec![("x", false)],
                vec!["x"],
                vec!["-x", "+c-29453770"],
            ),
            ("old ones are removed", json!({"suspend": true}), vec![("x", true), ("y", true)], vec![], vec!["-x"]),
        ] {
            assert_eq!(jobs(&plan(&observed(spec, &have, &active))), want, "{what}");
        }
    }

    #[test]
    fn the_status_follows_the_jobs() {
        let plan = plan(&observed(json!({"suspend": true}), &[("x", true)], &["x", "gone"]));
        let status = &plan.writes().last().unwrap().body().unwrap()["status"];
        assert_eq!(status["active"], Value::Null);
        assert_eq!(status["lastSuccessfulTime"], "2026-01-01T00:05:00Z");
        assert_eq!(plan.events.iter().map(|e| e.reason).collect::<Vec<_>>(), ["SawCompletedJob", "MissingJob"]);
    }

    #[test]
    fn looks_again_at_the_next_start() {
        assert_eq!(plan(&observed(json!({}), &[], &[])).requeue_after.unwrap().as_secs(), 300);
    }

    #[test]
    fn a_day_that_never_comes() {
        let plan = plan(&observed(json!({"schedule": "59 23 31 2 *"}), &[], &[]));
        let events: Vec<_> = plan.events.iter().map(|e| (e.reason, e.message.as_str())).collect();
        let message = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second";
        assert_eq!((events, plan.requeue_after), (vec![("InvalidSchedule", message)], None));
    }

    #[test]
    fn far_behind() {
        let schedule = cron::parse("* * * * *").unwrap();
        let created = after(now(), -100_000);
        let first = schedule.next(created, &TimeZone::UTC).unwrap();
        let (due, missed) = most_recent(first, now(), &schedule, &TimeZone::UTC).unwrap();
        assert_eq!((due, missed > MANY), (now(), true));
    }
}

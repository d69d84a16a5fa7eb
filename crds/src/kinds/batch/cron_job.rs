//! CronJob (batch/v1).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobSpec};
use serde_json::{Value, json};

use super::job::spec as job;
use crate::{
    cron, duration, equal,
    field::{Error, Errors, Path, not_negative},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::{template, validate},
    selector::validate as selectors,
    table,
};

const SPEC: Path = Path::new("spec");

impl Kind for CronJob {
    const ABOUT: About = About {
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Schedule", "string", "", 0, Prose::Field("io.k8s.api.batch.v1.CronJobSpec", "schedule")),
            column("Timezone", "string", "", 0, Prose::Field("io.k8s.api.batch.v1.CronJobSpec", "timeZone")),
            column("Suspend", "boolean", "", 0, Prose::Field("io.k8s.api.batch.v1.CronJobSpec", "suspend")),
            column("Active", "integer", "", 0, Prose::Field("io.k8s.api.batch.v1.CronJobStatus", "active")),
            column(
                "Last Schedule",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.batch.v1.CronJobStatus", "lastScheduleTime"),
            ),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.batch.v1.JobSpec", "selector")),
        ],
        generation: Generation::Spec,
        // The metadata is not checked with the status.
        checks_changes: false,
        ..About::new("cronjobs", "cronjob")
    };

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.concurrency_policy.or_set("Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        job::set_defaults(spec.job_template.spec.get_or_insert_default());
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(CronJobStatus::default());
        job_of(self).into_iter().for_each(|s| template::prepare(&mut s.template, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        let before = old.spec.job_template.spec.as_ref().map(|s| &s.template);
        job_of(self).into_iter().for_each(|s| template::prepare(&mut s.template, before));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(&self.spec, None, errors);
        let name = self.metadata.name.text();
        if name.len() > 52 {
            let path = Path::new("metadata");
            errors.push(Error::invalid(path.child("name"), name, "must be no more than 52 characters"));
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::update_of(self, old, errors);
        validate_spec(&self.spec, Some(&old.spec), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.filter(|old| equal::same(&self.spec, &old.spec)).is_none();
        let name = template::name_warning(self.metadata.name.text()).filter(|_| old.is_none());
        let path = SPEC.child("jobTemplate");
        let of = self.spec.job_template.spec.as_ref().filter(|_| changed);
        let zone = old.is_some() && self.spec.schedule.contains("TZ");
        let zone = zone.then(|| "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        let of = of.iter().flat_map(|spec| job::warnings(spec, &path.child("spec")));
        name.into_iter().chain(of).chain(zone).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = CronJobStatus::default();
        let (spec, status) = (&self.spec, self.status.as_ref().unwrap_or(&none));
        let job = spec.job_template.spec.as_ref();
        let (names, images) = template::cells(job.map(|j| &j.template));
        let last = status.last_schedule_time.as_ref();
        let suspended =
            spec.suspend.map_or_else(|| "<unset>".to_owned(), |s| if s { "True" } else { "False" }.to_owned());
        vec![
            json!(self.metadata.name),
            json!(spec.schedule),
            json!(spec.time_zone.as_deref().unwrap_or("<none>")),
            json!(suspended),
            json!(status.active.items().len()),
            json!(last.map_or_else(|| "<none>".to_owned(), |t| duration::since(Some(t), now))),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
            json!(table::selector(job.and_then(|j| j.selector.as_ref()))),
        ]
    }
}

fn job_of(object: &mut CronJob) -> Option<&mut JobSpec> {
    object.spec.job_template.spec.as_mut()
}

fn validate_spec(spec: &CronJobSpec, old: Option<&CronJobSpec>, errors: &mut Errors) {
    validate_schedule(spec, old, &SPEC.child("schedule"), errors);
    not_negative(spec.starting_deadline_seconds.unwrap_or(0), SPEC.child("startingDeadlineSeconds"), errors);
    if let Some(zone) = spec.time_zone.as_deref().filter(|_| old.is_none_or(|old| old.time_zone != spec.time_zone)) {
        validate_time_zone(zone, &SPEC.child("timeZone"), errors);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    validate::one_of(spec.concurrency_policy.text(), &policies, &SPEC.child("concurrencyPolicy"), errors);
    let path = SPEC.child("jobTemplate");
    let path = path.child("spec");
    let none = JobSpec::default();
    let template = spec.job_template.spec.as_ref().unwrap_or(&none);
    job::validate(template, &path, errors);
    if let Some(selector) = &template.selector {
        errors.push(selectors::invalid(selector, &path.child("selector"), "`selector` will be auto-generated"));
    }
    if template.manual_selector == Some(true) {
        errors.push(Error::not_supported(path.child("manualSelector"), true, &["nil", "false"]));
    }
    for (name, limit) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        not_negative(limit.unwrap_or(0), SPEC.child(name), errors);
    }
}

/// A time zone in a schedule is kept where there was one, and refused otherwise.
fn validate_schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>, path: &Path, errors: &mut Errors) {
    let schedule = spec.schedule.as_str();
    if schedule.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    if let Err(why) = cron::parse(schedule) {
        errors.push(Error::invalid(*path, schedule, why.to_string()));
    }
    if !schedule.contains("TZ") {
        return;
    }
    let allowed = old.is_some_and(|old| old.schedule.contains("TZ"));
    if !allowed {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(Error::invalid(*path, schedule, why));
    } else if spec.time_zone.is_some() {
        let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(Error::invalid(*path, schedule, why));
    }
}

fn validate_time_zone(zone: &str, path: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        errors.push(Error::invalid(*path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let part = |part: &str| {
        ![".", ".."].contains(&part)
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.chars().all(allowed)
    };
    if !zone.split('/').all(part) {
        errors.push(Error::invalid(*path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(*path, zone, why));
    }
    if zone != "Local"
        && let Err(why) = cron::time_zone(zone)
    {
        errors.push(Error::invalid(*path, zone, why));
    }
}

//! Job (batch/v1).

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use serde_json::{Value, json};

use crate::{
    condition, duration, equal,
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::template,
    table,
};

pub mod spec;
pub mod status;
pub mod update;

const SPEC: Path = Path::new("spec");
const LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

impl Kind for Job {
    const ABOUT: About = About {
        categories: &["all"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Status", "string", "", 0, text("Status of the job.")),
            column("Completions", "string", "", 0, Prose::Field("io.k8s.api.batch.v1.JobStatus", "succeeded")),
            column("Duration", "string", "", 0, text("Time required to complete the job.")),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.batch.v1.JobSpec", "selector")),
        ],
        generation: Generation::Spec,
        orphans_by_default: true,
        selectable: &["status.successful"],
        checks_changes: false,
        ..About::new("jobs", "job")
    };

    const ORPHANING_WARNING: Option<&'static str> = Some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
         set propagationPolicy=Orphan to suppress this warning",
    );

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
        spec.manual_selector.get_or_insert(false);
        spec::set_defaults(spec);
        default_labels(self);
    }

    fn prepare_create(&mut self, request: &Request) {
        if !request.has_own_labels {
            // Those that the defaults gave it are the Pods', which get more of them.
            self.metadata.labels = None;
        }
        generate_selector(self);
        default_labels(self);
        self.status = Some(JobStatus::default());
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        let before = old.spec.as_ref().map(|s| &s.template);
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, before));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, true, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        let before = old.spec.as_ref().and_then(|s| s.template.metadata.as_ref()).and_then(|m| m.labels.as_ref());
        let prefixed = before.is_some_and(|l| l.contains_key(LABELS[1]) && l.contains_key(UID_LABELS[1]));
        validate(self, prefixed, errors);
        meta::update_of(self, old, errors);
        update::validate(self, old, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::update_of(self, old, errors);
        status::validate(self, old, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.filter(|old| equal::same(&self.spec, &old.spec)).is_none();
        let name = template::name_warning(self.metadata.name.text()).filter(|_| old.is_none());
        let of = self.spec.as_ref().filter(|_| changed);
        name.into_iter().chain(of.iter().flat_map(|spec| spec::warnings(spec, &SPEC))).collect()
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "status.successful" => self.status.as_ref().and_then(|s| s.succeeded).unwrap_or(0).to_string(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = (JobSpec::default(), JobStatus::default());
        let (spec, status) = (self.spec.as_ref().unwrap_or(&none.0), self.status.as_ref().unwrap_or(&none.1));
        let (names, images) = template::cells(Some(&spec.template));
        let succeeded = status.succeeded.unwrap_or(0);
        let completions = match (spec.completions, spec.parallelism.unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let took = match (&status.start_time, &status.completion_time) {
            (None, _) => String::new(),
            (Some(start), end) => duration::human(end.as_ref().map_or(now, |end| end.0).duration_since(start.0)),
        };
        vec![
            json!(self.metadata.name),
            json!(state(self, status)),
            json!(completions),
            json!(took),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
            json!(table::selector(spec.selector.as_ref())),
        ]
    }
}

fn state(job: &Job, status: &JobStatus) -> &'static str {
    let holds = |kind: &str| condition::is_true(status.conditions.as_ref(), kind);
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// A job without labels has those of its Pods.
fn default_labels(job: &mut Job) {
    let template = job.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.clone());
    if labels.is_some() && job.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
        job.metadata.labels = labels;
    }
}

/// A job finds its Pods by its own uid, unless its author takes care of that.
fn generate_selector(job: &mut Job) {
    let name = job.metadata.name.clone().unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let Some(spec) = job.spec.as_mut().filter(|s| s.manual_selector != Some(true)) else {
        return;
    };
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for label in LABELS {
        labels.entry(label.to_owned()).or_insert_with(|| name.clone());
    }
    for label in UID_LABELS {
        labels.entry(label.to_owned()).or_insert_with(|| uid.clone());
    }
    let selector = spec.selector.get_or_insert_default().match_labels.get_or_insert_default();
    selector.entry(UID_LABELS[1].to_owned()).or_insert(uid);
}

fn validate(job: &Job, prefixed: bool, errors: &mut Errors) {
    let Some(spec) = &job.spec else {
        return;
    };
    generated_selector(job, spec, prefixed, errors);
    spec::validate_with_selector(spec, errors);
    let indexed = spec.completion_mode.text() == "Indexed";
    let name = job.metadata.name.text();
    if let Some(completions) = spec.completions.filter(|c| indexed && *c > 0) {
        let host = format!("{name}-{}", completions - 1);
        if !field::dns_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(Path::new("metadata").child("name"), name, why));
        }
    }
}

fn generated_selector(job: &Job, spec: &JobSpec, prefixed: bool, errors: &mut Errors) {
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true)) else {
        return;
    };
    let (name, uid) = (job.metadata.name.text(), job.metadata.uid.text());
    if uid.is_empty() {
        errors.push(Error::required(Path::new("metadata").child("uid"), ""));
    }
    let none = Default::default();
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref()).unwrap_or(&none);
    let path = SPEC.child("template");
    let path = path.child("metadata");
    let path = path.child("labels");
    let mut expected = Vec::new();
    for (label, value) in [(UID_LABELS[0], uid), (LABELS[0], name), (UID_LABELS[1], uid), (LABELS[1], name)]
        .into_iter()
        .filter(|(label, _)| prefixed || !label.contains('/'))
    {
        expected.push((label.to_owned(), value.to_owned()));
        match labels.get(label) {
            None => errors.push(Error::required(path.key(label), format!("must be '{value}'"))),
            Some(have) if have != value => {
                let shown = serde_json::to_string(labels).unwrap_or_default();
                errors.push(Error::invalid(path.key(label), "", format!("must be '{value}'")).showing(shown));
            }
            Some(_) => {}
        }
    }
    use crate::selector::validate as selectors;
    if let Some(matcher) = selectors::selector(selector)
        && !matcher.matches(&expected.into_iter().collect())
    {
        let why = "`selector` not auto-generated";
        errors.push(selectors::invalid(selector, &SPEC.child("selector"), why));
    }
}

/// Which Pods of an indexed job have ended: `1,3-5`. How many, or why it is no such text.
pub fn indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut last, mut total) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval_of(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first and the last index of an interval.
pub fn interval_of(text: &str, completions: i32) -> Result<(i32, i32), String> {
    let parts: Vec<&str> = text.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let index = |part: &str| -> Result<i32, String> {
        let index: i64 = part.parse().map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        i32::try_from(index).ok().filter(|i| *i < completions).ok_or_else(|| format!("too large index: {part:?}"))
    };
    let first = index(parts[0])?;
    let Some(end) = parts.get(1) else {
        return Ok((first, first));
    };
    let end = index(end)?;
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

/// The names that a job's failure policy may speak of.
fn container_names(spec: &JobSpec) -> Vec<&str> {
    let pod = spec.template.spec.iter();
    pod.flat_map(|p| p.containers.iter().chain(p.init_containers.items())).map(|c| c.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_texts() {
        assert_eq!(indexes("", 5), Ok(0));
        assert_eq!(indexes("0,2-4", 5), Ok(4));
        assert_eq!(indexes("2,1", 5), Err("non-increasing order, previous: 2, current: 1".to_owned()));
        assert_eq!(indexes("5", 5), Err("too large index: \"5\"".to_owned()));
        assert!(indexes("1-2-3", 5).is_err());
    }
}

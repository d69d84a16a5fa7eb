//! Counts finished pods, decides whether the Job is over, and makes or removes pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::{condition, owner};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, ObjectReference, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{
    FINALIZER, backoff,
    index::{self, Indexes},
    policy::{self, Verdict, has_failed, judge},
    status::{
        COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, ensure, new_condition, true_condition,
    },
};
use crate::{
    claim::Claim,
    plan::{Event, Plan, Write},
    pod,
    runtime::{
        clock,
        object::{annotation, has_finalizer, name, namespace, reference, uid},
    },
};

/// Pods that are counted, made or removed in one go.
const BURST: usize = 500;
const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_COUNT: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_ENV: &str = "JOB_COMPLETION_INDEX";
const GENERATED_PREFIX_MAX: usize = 58;

/// Lets a pod go that has been counted.
pub fn release(pod: &Pod) -> Write {
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
    Write::strategic::<Pod>(&pod.metadata, "", patch).forgiving(&[404, 409])
}

pub fn plan(job: &Job, claim: &Claim<Pod>, now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else {
        return Plan::default();
    };
    let mut claiming = claim.writes(&owner::controller_reference::<Job>(&job.metadata));
    claiming.extend(claim.release.iter().filter(|p| has_finalizer(&p.metadata, FINALIZER)).map(|p| release(p)));
    let mut run = Run::new(job, spec, claim.all(), now);
    run.plan = Plan::default().together(claiming);
    run.decide();
    run.plan
}

/// One look at one Job; the fields below `now` are what the plan makes of it.
struct Run<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    regarding: ObjectReference,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    status: JobStatus,
    plan: Plan,
    succeeded: i32,
    failed: i32,
    succeeded_indexes: Indexes,
    failed_indexes: Option<Indexes>,
    /// By index, the failed pod whose failure count its replacement takes over.
    held: BTreeMap<i32, Arc<Pod>>,
}

impl<'a> Run<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, mut pods: Vec<Arc<Pod>>, now: Timestamp) -> Self {
        pods.sort_by_key(|p| (index::of(p, i32::MAX), p.metadata.name.clone()));
        Self {
            job,
            spec,
            regarding: reference(job),
            pods,
            now,
            status: job.status.clone().unwrap_or_default(),
            plan: Plan::default(),
            succeeded: 0,
            failed: 0,
            succeeded_indexes: Indexes::new(),
            failed_indexes: None,
            held: BTreeMap::new(),
        }
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|p| pod::is_active(p)).cloned().collect()
    }

    fn terminating(&self) -> i32 {
        let count = self.pods.iter().filter(|p| pod::is_terminating(p) && !pod::is_finished(p)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// Pods that are still to be counted.
    fn tracked(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|p| has_finalizer(&p.metadata, FINALIZER))
    }

    fn decide(&mut self) {
        self.settle_counted();
        self.count();
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(Time(self.now));
        }
        let verdict = self.verdict();
        let active = self.active();
        let over = verdict.is_some();
        let mut next = Vec::new();
        match verdict {
            Some(condition) => {
                self.note_verdict(condition);
                let deletions = active.iter().map(|p| pod::delete(p, &self.regarding));
                next.push(deletions.collect::<Vec<_>>());
            }
            None if self.job.metadata.deletion_timestamp.is_none() => {
                self.note_suspension();
                next = self.manage(&active);
            }
            None => {}
        }
        let released = self.track(over);
        if over && next.iter().all(Vec::is_empty) && released.is_empty() {
            self.finish();
        }
        self.status.active = some(i32::try_from(active.len()).unwrap_or(i32::MAX));
        let ready = active.iter().filter(|p| pod::is_ready(p)).count();
        self.status.ready = i32::try_from(ready).ok();
        self.status.terminating = Some(self.terminating());
        self.write(released, next);
    }

    /// Pods that were noted as finished and have been let go are counted now.
    fn settle_counted(&mut self) {
        let waiting: BTreeSet<String> = self.tracked().map(|p| uid(&p.metadata).to_owned()).collect();
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        let mut settled = [0, 0];
        for (list, count) in [&mut uncounted.succeeded, &mut uncounted.failed].into_iter().zip(&mut settled) {
            let list = list.get_or_insert_default();
            let before = list.len();
            list.retain(|uid| waiting.contains(uid));
            *count = i32::try_from(before - list.len()).unwrap_or(0);
        }
        if !self.is_indexed() {
            self.status.succeeded = some(self.status.succeeded.unwrap_or(0) + settled[0]);
        }
        self.status.failed = some(self.status.failed.unwrap_or(0) + settled[1]);
    }

    fn uncounted(&self, succeeded: bool) -> &[String] {
        let lists = self.status.uncounted_terminated_pods.as_ref();
        let list = lists.and_then(|u| if succeeded { u.succeeded.as_ref() } else { u.failed.as_ref() });
        list.map_or(&[], Vec::as_slice)
    }

    /// How many have succeeded and failed, those included that the status does not tell yet.
    fn count(&mut self) {
        let is_new = |p: &Pod, succeeded: bool| !self.uncounted(succeeded).iter().any(|u| u == uid(&p.metadata));
        let length = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let succeeded = self.tracked().filter(|p| pod::phase(p) == "Succeeded" && is_new(p, true)).count();
        let failed = self.tracked().filter(|p| has_failed(self.job, p) && is_new(p, false));
        let failed = failed.filter(|p| judge(self.job, p) != Verdict::Ignore).count();
        self.succeeded = self.status.succeeded.unwrap_or(0) + length(succeeded) + length(self.uncounted(true).len());
        self.failed = self.status.failed.unwrap_or(0) + length(failed) + length(self.uncounted(false).len());
        if self.is_indexed() {
            self.count_indexes();
        }
    }

    fn count_indexes(&mut self) {
        let completions = self.completions();
        let known = |text: &Option<String>| index::parse(text.as_deref().unwrap_or_default(), completions);
        let succeeded = self.tracked().filter(|p| pod::phase(p) == "Succeeded");
        let mut indexes = known(&self.status.completed_indexes);
        indexes.extend(succeeded.filter_map(|p| index::of(p, completions)));
        self.succeeded = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
        self.succeeded_indexes = indexes;
        if self.spec.backoff_limit_per_index.is_none() {
            return;
        }
        let mut failed = known(&self.status.failed_indexes);
        failed.extend(self.tracked().filter(|p| self.fails_index(p)).filter_map(|p| index::of(p, completions)));
        self.failed_indexes = Some(failed);
        self.hold();
    }

    fn fails_index(&self, pod: &Pod) -> bool {
        let limit = self.spec.backoff_limit_per_index.unwrap_or(i32::MAX);
        has_failed(self.job, pod)
            && match judge(self.job, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                _ => counted(pod, FAILURE_COUNT) >= limit,
            }
    }

    /// Of each index that waits for a new pod, the last failed one is kept: it knows how often the index has failed.
    fn hold(&mut self) {
        let completions = self.completions();
        let of = |pods: &[Arc<Pod>]| pods.iter().filter_map(|p| index::of(p, completions)).collect::<Indexes>();
        let active = of(&self.active());
        let failed = self.failed_indexes.clone().unwrap_or_default();
        let total = |p: &Pod| counted(p, FAILURE_COUNT) + counted(p, IGNORED_COUNT);
        let mut held: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.tracked().filter(|p| has_failed(self.job, p)) {
            let Some(i) = index::of(pod, completions) else {
                continue;
            };
            if self.succeeded_indexes.contains(&i) || failed.contains(&i) || active.contains(&i) {
                continue;
            }
            let rank = |p: &Pod| (total(p), backoff::finished_at(p));
            if held.get(&i).is_none_or(|h| rank(h) <= rank(pod)) {
                held.insert(i, pod.clone());
            }
        }
        self.held = held;
    }

    /// Whether the Job is over, and why.
    fn verdict(&mut self) -> Option<JobCondition> {
        if let Some(met) = true_condition(self.job, SUCCESS_CRITERIA_MET) {
            return Some(met.clone());
        }
        if let Some(target) = true_condition(self.job, FAILURE_TARGET) {
            return Some(target.clone());
        }
        let now = self.now;
        let fail = |reason: &str, message: &str| Some(new_condition(FAILURE_TARGET, "True", reason, message, now));
        let failed = self.pods.iter().filter(|p| has_failed(self.job, p));
        if let Some(message) = failed.filter_map(|p| fail_job_message(self.job, p)).next() {
            return fail("PodFailurePolicy", &message);
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarted_too_often(limit) {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if let (Some(seconds), Some(start), false) =
            (self.spec.active_deadline_seconds, &self.status.start_time, self.is_suspended())
        {
            let end = clock::after(start.0, seconds);
            if end <= now {
                return fail("DeadlineExceeded", "Job was active longer than specified deadline");
            }
            self.again_at(end);
        }
        if let Some(failed) = &self.failed_indexes {
            let length = |i: &Indexes| i32::try_from(i.len()).unwrap_or(i32::MAX);
            let (failed, succeeded) = (length(failed), length(&self.succeeded_indexes));
            if self.spec.max_failed_indexes.is_some_and(|max| failed > max) {
                return fail(
                    "MaxFailedIndexesExceeded",
                    "Job has exceeded the specified maximal number of failed indexes",
                );
            }
            if failed > 0 && failed + succeeded >= self.completions() {
                return fail("FailedIndexes", "Job has failed indexes");
            }
        }
        let meet =
            |reason: &str, message: &str| Some(new_condition(SUCCESS_CRITERIA_MET, "True", reason, message, now));
        if self.is_indexed()
            && let Some(message) = policy::success(self.job, &self.succeeded_indexes)
        {
            return meet("SuccessPolicy", &message);
        }
        let complete = match self.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if complete && self.active().is_empty() {
            return meet("CompletionsReached", "Reached expected number of succeeded pods");
        }
        None
    }

    fn again_at(&mut self, at: Timestamp) {
        let plan = std::mem::take(&mut self.plan);
        self.plan = plan.again_at(self.now, at);
    }

    fn again_after(&mut self, delay: Duration) {
        let plan = std::mem::take(&mut self.plan);
        self.plan = plan.again_after(delay);
    }

    /// Pods that restart their containers themselves count by the restarts.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let restart = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if restart != Some("OnFailure") {
            return false;
        }
        let running = self.pods.iter().filter(|p| matches!(pod::phase(p), "Running" | "Pending"));
        let containers = running
            .filter_map(|p| p.status.as_ref())
            .flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()));
        let restarts: i32 = containers.map(|c| c.restart_count).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn note_verdict(&mut self, condition: JobCondition) {
        let conditions = self.status.conditions.get_or_insert_default();
        if condition::find(conditions, &condition.type_).is_none_or(|c| c.status != "True") {
            ensure(conditions, condition);
        }
    }

    fn note_suspension(&mut self) {
        let (state, reason, message) = match self.is_suspended() {
            true => ("True", "JobSuspended", "Job suspended"),
            false => ("False", "JobResumed", "Job resumed"),
        };
        let conditions = self.status.conditions.get_or_insert_default();
        if !ensure(conditions, new_condition(SUSPENDED, state, reason, message, self.now)) {
            return;
        }
        // The deadline counts from the resumption.
        self.status.start_time = (!self.is_suspended()).then_some(Time(self.now));
        let reason = if self.is_suspended() { "Suspended" } else { "Resumed" };
        self.plan.events.push(Event::normal(self.regarding.clone(), reason, message));
    }

    /// The steps that bring the number of pods to what it should be.
    fn manage(&mut self, active: &[Arc<Pod>]) -> Vec<Vec<Write>> {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let have = i32::try_from(active.len()).unwrap_or(i32::MAX);
        let want = match (self.is_suspended(), self.spec.completions) {
            (true, _) => 0,
            (false, None) if self.succeeded > 0 => have,
            (false, None) => parallelism,
            (false, Some(completions)) => (completions - self.succeeded).clamp(0, parallelism),
        };
        let excess = self.excess(active, usize::try_from(have - want).unwrap_or(0));
        if !excess.is_empty() {
            // A pod that was too many is neither a success nor a failure.
            let releases = excess.iter().filter(|p| has_finalizer(&p.metadata, FINALIZER)).map(|p| release(p));
            let deletions = excess.iter().map(|p| pod::delete(p, &self.regarding));
            return vec![releases.collect(), deletions.collect()];
        }
        let terminating = if policy::replaces_only_failed(self.job) { self.terminating() } else { 0 };
        let missing = usize::try_from(want - terminating - have).unwrap_or(0).min(BURST);
        if missing == 0 { Vec::new() } else { vec![self.creations(missing)] }
    }

    /// Pods of one index beyond the first, and then those that serve least.
    fn excess(&self, active: &[Arc<Pod>], at_least: usize) -> Vec<Arc<Pod>> {
        let order = |a: &Arc<Pod>, b: &Arc<Pod>| pod::by_deletion_order(a, b, &BTreeMap::new(), self.now);
        let (mut remove, mut keep) = (Vec::new(), Vec::new());
        if self.is_indexed() {
            let mut groups: BTreeMap<Option<i32>, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in active {
                groups.entry(index::of(pod, self.completions())).or_default().push(pod.clone());
            }
            for (index, mut pods) in groups {
                pods.sort_by(order);
                keep.extend(index.and_then(|_| pods.pop()));
                remove.append(&mut pods);
            }
        } else {
            keep = active.to_vec();
        }
        keep.sort_by(order);
        let more = at_least.saturating_sub(remove.len());
        remove.extend(keep.into_iter().take(more));
        remove.truncate(BURST);
        remove
    }

    fn creations(&mut self, missing: usize) -> Vec<Write> {
        if self.failed_indexes.is_none() {
            let of = |phase: fn(&Job, &Pod) -> bool| {
                self.pods.iter().map(|p| &**p).filter(|p| phase(self.job, p)).collect::<Vec<_>>()
            };
            let (failures, last) = backoff::failures_in_row(&of(has_failed), &of(|_, p| pod::phase(p) == "Succeeded"));
            let wait = backoff::remaining(failures, last, self.now);
            if !wait.is_zero() {
                self.again_after(wait);
                return Vec::new();
            }
        }
        if !self.is_indexed() {
            return vec![self.creation(None); missing];
        }
        let pending = self.pending_indexes(missing);
        let wait = |i: &i32| {
            let held = self.held.get(i);
            let failures = held.map_or(0, |p| counted(p, FAILURE_COUNT) + counted(p, IGNORED_COUNT) + 1);
            let failures = usize::try_from(failures).unwrap_or(0);
            backoff::remaining(failures, held.map(|p| backoff::finished_at(p)), self.now)
        };
        let (now, later): (Vec<i32>, Vec<i32>) = pending.iter().partition(|i| wait(i).is_zero());
        if let Some(wait) = later.iter().map(wait).min() {
            self.again_after(wait);
        }
        now.into_iter().map(|i| self.creation(Some(i))).collect()
    }

    /// The first indexes that nobody works on.
    fn pending_indexes(&self, count: usize) -> Vec<i32> {
        let replaced = |p: &&Arc<Pod>| {
            pod::is_active(p)
                || policy::replaces_only_failed(self.job) && pod::is_terminating(p) && !pod::is_finished(p)
        };
        let busy: Indexes =
            self.pods.iter().filter(replaced).filter_map(|p| index::of(p, self.completions())).collect();
        let failed = self.failed_indexes.clone().unwrap_or_default();
        let free = |i: &i32| !busy.contains(i) && !failed.contains(i) && !self.succeeded_indexes.contains(i);
        (0..self.completions()).filter(free).take(count).collect()
    }

    fn creation(&self, index: Option<i32>) -> Write {
        let meta = &self.job.metadata;
        let job_name = name(meta);
        let mut pod = pod::from_template(
            &self.spec.template,
            namespace(meta),
            job_name,
            owner::controller_reference::<Job>(meta),
        );
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        if let Some(index) = index {
            self.set_index(&mut pod, job_name, index);
        }
        pod::create(&pod, &self.regarding)
    }

    fn set_index(&self, pod: &mut Pod, job_name: &str, index: i32) {
        let suffix = format!("-{index}-");
        let room = GENERATED_PREFIX_MAX - suffix.len().min(GENERATED_PREFIX_MAX);
        pod.metadata.generate_name = Some(format!("{}{suffix}", job_name.get(..room).unwrap_or(job_name)));
        let number = (index::INDEX.to_owned(), index.to_string());
        pod.metadata.labels.get_or_insert_default().extend([number.clone()]);
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.extend([number]);
        if self.spec.backoff_limit_per_index.is_some() {
            let held = self.held.get(&index);
            let ignored = held.is_some_and(|p| judge(self.job, p) == Verdict::Ignore);
            let before = |key: &str| held.map_or(0, |p| counted(p, key));
            let failures = before(FAILURE_COUNT) + i32::from(held.is_some() && !ignored);
            let ignores = before(IGNORED_COUNT) + i32::from(ignored);
            annotations.insert(FAILURE_COUNT.to_owned(), failures.to_string());
            if ignores > 0 {
                annotations.insert(IGNORED_COUNT.to_owned(), ignores.to_string());
            }
        }
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(format!("{job_name}-{index}"));
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(add_index_variable);
    }

    /// Notes finished pods in the status and gives those that may be let go once it is written.
    fn track(&mut self, over: bool) -> Vec<Arc<Pod>> {
        let leaving = self.job.metadata.deletion_timestamp.is_some();
        let failing = over && self.has_condition(FAILURE_TARGET);
        let completions = self.completions();
        let (mut released, mut succeeded, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let before = index::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let mut indexes = before.clone();
        let tracked: Vec<Arc<Pod>> = self.tracked().cloned().collect();
        for pod in tracked {
            let is_failed = has_failed(self.job, &pod);
            let is_succeeded = pod::phase(&pod) == "Succeeded";
            let held =
                index::of(&pod, completions).and_then(|i| self.held.get(&i)).is_some_and(|h| Arc::ptr_eq(h, &pod));
            // An active pod of a Job that is over is being deleted in this very plan.
            let active = pod::is_active(&pod);
            let may_go = leaving || over && !active || is_succeeded || is_failed && !held;
            if !may_go || active && !leaving {
                continue;
            }
            let id = uid(&pod.metadata).to_owned();
            let noted_failed = self.uncounted(false).contains(&id);
            let ours = !self.is_indexed() || index::of(&pod, completions).is_some();
            if is_succeeded && !noted_failed {
                match index::of(&pod, completions).filter(|_| self.is_indexed()) {
                    Some(i) => {
                        indexes.insert(i);
                    }
                    None if !self.is_indexed() && !self.uncounted(true).contains(&id) => succeeded.push(id),
                    None => {}
                }
            } else if (is_failed || failing) && !noted_failed && ours && judge(self.job, &pod) != Verdict::Ignore {
                failed.push(id);
            }
            released.push(pod);
            let noted = indexes.len() - before.len() + succeeded.len() + failed.len();
            if noted + self.uncounted(true).len() + self.uncounted(false).len() >= BURST {
                break;
            }
        }
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        uncounted.succeeded.get_or_insert_default().extend(succeeded);
        uncounted.failed.get_or_insert_default().extend(failed);
        if self.is_indexed() {
            self.status.succeeded = some(i32::try_from(indexes.len()).unwrap_or(i32::MAX));
            self.status.completed_indexes = Some(index::text(&indexes)).filter(|t| !t.is_empty());
            self.status.failed_indexes = self.failed_indexes.as_ref().map(index::text);
        }
        released
    }

    fn has_condition(&self, kind: &str) -> bool {
        condition::is_true(self.status.conditions.as_ref(), kind)
    }

    /// The last word, once every pod is counted and gone.
    fn finish(&mut self) {
        let uncounted = self.uncounted(true).len() + self.uncounted(false).len();
        if uncounted > 0 || self.terminating() > 0 {
            return;
        }
        let conditions = self.status.conditions.clone().unwrap_or_default();
        let verdict = [SUCCESS_CRITERIA_MET, FAILURE_TARGET]
            .into_iter()
            .find_map(|kind| condition::find(&conditions, kind).filter(|c| c.status == "True"));
        // The verdict is told first, the end in a later status.
        let Some(verdict) = verdict.filter(|v| true_condition(self.job, &v.type_).is_some()) else {
            return;
        };
        let kind = if verdict.type_ == SUCCESS_CRITERIA_MET { COMPLETE } else { FAILED };
        let (reason, message) =
            (verdict.reason.clone().unwrap_or_default(), verdict.message.clone().unwrap_or_default());
        let condition = new_condition(kind, "True", &reason, &message, self.now);
        ensure(self.status.conditions.get_or_insert_default(), condition);
        if kind == COMPLETE {
            self.status.completion_time = Some(Time(self.now));
        }
    }

    /// The status first: a pod that is let go before it is noted would never be counted.
    fn write(&mut self, released: Vec<Arc<Pod>>, next: Vec<Vec<Write>>) {
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        uncounted.succeeded.take_if(|l| l.is_empty());
        uncounted.failed.take_if(|l| l.is_empty());
        self.status.conditions.take_if(|c| c.is_empty());
        let before = self.job.status.clone().unwrap_or_default();
        if self.status != before {
            let updated = Job { status: Some(self.status.clone()), ..self.job.clone() };
            let mut write = Write::status(&updated);
            if let Some(event) = self.end_event() {
                write = write.told_done(event);
            }
            self.plan.steps.push(vec![write]);
        }
        let releases: Vec<_> = released.iter().map(|p| release(p)).collect();
        self.plan.steps.extend([releases].into_iter().chain(next).filter(|s| !s.is_empty()));
    }

    fn end_event(&self) -> Option<Event> {
        let about = self.regarding.clone();
        if self.has_condition(COMPLETE) {
            return Some(Event::normal(about, "Completed", "Job completed"));
        }
        let conditions = self.status.conditions.as_ref()?;
        let failed = condition::find(conditions, FAILED).filter(|c| c.status == "True")?;
        let reason = FAILURE_REASONS.iter().find(|r| Some(**r) == failed.reason.as_deref())?;
        Some(Event::warning(about, reason, failed.message.clone().unwrap_or_default()))
    }
}

const FAILURE_REASONS: [&str; 5] =
    ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];

fn fail_job_message(job: &Job, pod: &Pod) -> Option<String> {
    match judge(job, pod) {
        Verdict::FailJob(message) => Some(message),
        _ => None,
    }
}

fn counted(pod: &Pod, key: &str) -> i32 {
    annotation(&pod.metadata, key).and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn add_index_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|v| v.name == INDEX_ENV) {
        return;
    }
    let field_path = format!("metadata.labels['{}']", index::INDEX);
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector { api_version: None, field_path }),
        ..EnvVarSource::default()
    };
    variables.push(EnvVar { name: INDEX_ENV.to_owned(), value: None, value_from: Some(source) });
}

/// Zero is written as absence, as Go does.
fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{plan::Action, pod::tests as pods};

    fn job(spec: Value) -> Job {
        let mut job: Job = serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "default", "uid": "root"},
            "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {
                "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}}}))
        .unwrap();
        let mut merged = serde_json::to_value(job.spec.take()).unwrap();
        merged.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        job.spec = serde_json::from_value(merged).unwrap();
        job
    }

    fn pod(name: &str, state: &str) -> Arc<Pod> {
        let mut pod = pods::pod(name, state);
        pod.metadata.finalizers = Some(vec![FINALIZER.into()]);
        Arc::new(pod)
    }

    fn indexed(index: i32, state: &str) -> Arc<Pod> {
        let mut pod = Pod::clone(&pod(&format!("{state}-{index}"), state));
        pod.metadata.annotations = Some([(index::INDEX.to_owned(), index.to_string())].into());
        Arc::new(pod)
    }

    /// Looks again and again, carrying every plan out: terminating pods go as soon as they may.
    fn settle(mut job: Job, mut pods: Vec<Arc<Pod>>, looks: usize) -> (Job, Vec<Arc<Pod>>) {
        for look in 0..looks {
            let claim = Claim { owned: pods.clone(), ..Claim::default() };
            let plan = plan(&job, &claim, pods::now());
            for write in plan.writes() {
                apply(write, &mut job, &mut pods, look);
            }
            if super::super::is_finished(&job) {
                break;
            }
        }
        (job, pods)
    }

    fn apply(write: &Write, job: &mut Job, pods: &mut Vec<Arc<Pod>>, look: usize) {
        match &write.action {
            Action::Create(body) => {
                let mut pod: Pod = serde_json::from_value(body.clone()).unwrap();
                let name = format!("new-{look}-{}", pods.len());
                pod.metadata.uid = Some(format!("uid-{name}"));
                pod.metadata.name = Some(name);
                pods.push(Arc::new(pod));
            }
            Action::Update(body) => *job = serde_json::from_value(body.clone()).unwrap(),
            Action::StrategicPatch(_) => {
                for pod in pods.iter_mut().filter(|p| name(&p.metadata) == write.name) {
                    Arc::make_mut(pod).metadata.finalizers = None;
                }
                pods.retain(|p| !pod::is_terminating(p) || has_finalizer(&p.metadata, FINALIZER));
            }
            Action::Delete { .. } => {
                for pod in pods.iter_mut().filter(|p| name(&p.metadata) == write.name) {
                    Arc::make_mut(pod).metadata.deletion_timestamp = Some(Time(pods::now()));
                }
                pods.retain(|p| !pod::is_terminating(p) || has_finalizer(&p.metadata, FINALIZER));
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn ended(job: &Job) -> Option<(String, String)> {
        let conditions = job.status.as_ref()?.conditions.as_ref()?;
        let end = conditions.iter().find(|c| matches!(c.type_.as_str(), COMPLETE | FAILED))?;
        Some((end.type_.clone(), end.reason.clone().unwrap()))
    }

    #[test]
    fn ends() {
        let (complete, failed) =
            (|r: &str| Some((COMPLETE.into(), r.into())), |r: &str| Some((FAILED.into(), r.into())));
        for (what, spec, pods, want) in [
            ("one success", json!({}), vec![pod("a", "succeeded")], complete("CompletionsReached")),
            ("not yet", json!({"completions": 2}), vec![pod("a", "succeeded")], None),
            (
                "the backoff limit",
                json!({"backoffLimit": 0}),
                vec![pod("a", "failed"), pod("b", "ready")],
                failed("BackoffLimitExceeded"),
            ),
            (
                "any success",
                json!({"completions": null}),
                vec![pod("a", "succeeded"), pod("b", "failed")],
                complete("CompletionsReached"),
            ),
            (
                "indexes",
                json!({"completionMode": "Indexed", "completions": 2}),
                vec![indexed(0, "succeeded"), indexed(1, "succeeded")],
                complete("CompletionsReached"),
            ),
            (
                "a success policy",
                json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}),
                vec![indexed(0, "succeeded"), indexed(1, "ready")],
                complete("SuccessPolicy"),
            ),
            (
                "failed indexes",
                json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 0, "backoffLimit": 100}),
                vec![indexed(0, "failed"), indexed(1, "succeeded")],
                failed("FailedIndexes"),
            ),
            (
                "a failure policy",
                json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "Ready", "status": "False"}]}]}}),
                vec![pod("a", "failed")],
                failed("PodFailurePolicy"),
            ),
        ] {
            let (job, pods) = settle(job(spec), pods, 8);
            assert_eq!(ended(&job), want, "{what}");
            if want.is_some() {
                assert!(pods.iter().all(|p| !has_finalizer(&p.metadata, FINALIZER)), "{what}: all pods are let go");
            }
        }
    }

    #[test]
    fn every_pod_counts_once() {
        let pods = vec![pod("a", "succeeded"), pod("b", "succeeded"), pod("c", "failed")];
        let (job, _) = settle(job(json!({"completions": 5, "parallelism": 2})), pods, 5);
        let status = job.status.unwrap();
        assert_eq!((status.succeeded, status.failed), (Some(2), Some(1)));
        assert_eq!(status.uncounted_terminated_pods.unwrap().failed, None);
    }

    #[test]
    fn as_many_pods_as_are_of_use() {
        for (spec, have, want) in [
            (json!({"parallelism": 3, "completions": 10}), vec![], 3),
            (json!({"parallelism": 3, "completions": 2}), vec![], 2),
            (json!({"parallelism": 2, "completions": null}), vec![], 2),
            (json!({"parallelism": 1, "completions": 10}), vec![pod("a", "ready"), pod("b", "pending")], 1),
            (json!({"suspend": true}), vec![pod("a", "ready")], 0),
        ] {
            let (_, pods) = settle(job(spec.clone()), have, 4);
            assert_eq!(pods.iter().filter(|p| pod::is_active(p)).count(), want, "{spec}");
        }
    }

    #[test]
    fn indexes_get_their_pods() {
        let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3, "backoffLimitPerIndex": 2});
        let (job, pods) = settle(job(spec), vec![indexed(0, "succeeded"), indexed(1, "ready")], 3);
        let new: Vec<_> = pods.iter().filter(|p| name(&p.metadata).starts_with("new")).collect();
        let indexes: Vec<_> = new.iter().filter_map(|p| index::of(p, 4)).collect();
        assert_eq!(indexes, [2, 3]);
        assert_eq!(job.status.unwrap().completed_indexes.as_deref(), Some("0"));
        let spec = new[0].spec.as_ref().unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("j-2"));
        assert_eq!(new[0].metadata.generate_name.as_deref(), Some("j-2-"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, INDEX_ENV);
        assert_eq!(annotation(&new[0].metadata, FAILURE_COUNT), Some("0"));
    }

    #[test]
    fn a_failure_waits_before_its_replacement() {
        let claim = Claim { owned: vec![pod("a", "failed")], ..Claim::default() };
        // The pod of the test failed five minutes ago: a single failure's wait is over.
        assert!(plan(&job(json!({})), &claim, pods::now()).writes().any(Write::is_create));
        let soon = "2026-01-01T00:05:04Z".parse().unwrap();
        let waiting = plan(&job(json!({})), &claim, soon);
        assert!(!waiting.writes().any(Write::is_create));
        assert_eq!(waiting.requeue_after.unwrap().as_secs(), 6);
    }

    #[test]
    fn a_deadline_passes() {
        let mut late = job(json!({"activeDeadlineSeconds": 60}));
        late.status =
            Some(JobStatus { start_time: Some(Time("2026-01-01T00:00:00Z".parse().unwrap())), ..JobStatus::default() });
        let (late, _) = settle(late, vec![pod("a", "ready")], 8);
        assert_eq!(ended(&late).unwrap().1, "DeadlineExceeded");
        assert_eq!(late.status.unwrap().failed, Some(1));
    }
}

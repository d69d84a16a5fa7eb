//! The next step of a rollout: which ReplicaSet to make, and how large each should be.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use crds::owner;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Observed,
    status::{self, PAUSED, PROGRESSING, TIMED_OUT, available, new_condition, set_condition},
};
use crate::{
    plan::{Event, Outcome, Plan, Write},
    revision::equal_but_label,
    runtime::object::{annotation, name, reference, uid},
    share,
};

pub const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations that belong to the Deployment or the ReplicaSet alone.
const NOT_COPIED: [&str; 6] = [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED, MAX, ROLLBACK_TO];
const HISTORY_LENGTH_MAX: usize = 2000;
const NAME_MAX: usize = 253;

type Sets = Vec<Arc<ReplicaSet>>;

pub fn set_name(deployment: &str, hash: &str) -> String {
    let room = NAME_MAX.saturating_sub(1 + hash.len());
    format!("{}-{hash}", deployment.get(..room).unwrap_or(deployment))
}

pub fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub fn set_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn is_rolling(deployment: &Deployment) -> bool {
    let kind = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.as_deref());
    kind != Some("Recreate")
}

/// How many pods more, and how many available fewer, a rolling update may have.
fn fence_posts(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = rolling.and_then(|r| r.max_surge.as_ref());
    let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
    share::fence_posts(surge, unavailable, replicas(deployment))
}

fn max_surge(deployment: &Deployment) -> i32 {
    fence_posts(deployment).0
}

pub fn max_unavailable(deployment: &Deployment) -> i32 {
    fence_posts(deployment).1.min(replicas(deployment))
}

pub fn plan(seen: &Observed) -> Plan {
    let deployment = &*seen.deployment;
    let Some(spec) = &deployment.spec else {
        return Plan::default();
    };
    let everything = spec.selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && spec.selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if everything {
        return selects_everything(deployment);
    }
    let claiming = seen.claim.writes(&owner::controller_reference::<Deployment>(&deployment.metadata));
    let mut rollout = Rollout::new(seen, spec);
    rollout.plan = Plan::default().together(claiming);
    rollout.run();
    rollout.plan
}

fn selects_everything(deployment: &Deployment) -> Plan {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let plan = Plan::default().tell(Event::warning(reference(deployment), "SelectingAll", message));
    let mut status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation >= deployment.metadata.generation {
        return plan;
    }
    status.observed_generation = deployment.metadata.generation;
    plan.then(Write::status(&Deployment { status: Some(status), ..deployment.clone() }))
}

/// One look at one Deployment; the fields below `seen` are what the plan makes of it.
struct Rollout<'a> {
    seen: &'a Observed,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    regarding: ObjectReference,
    new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old: Sets,
    conditions: Vec<DeploymentCondition>,
    collisions: Option<i32>,
    revision: Option<String>,
    plan: Plan,
}

impl<'a> Rollout<'a> {
    fn new(seen: &'a Observed, spec: &'a DeploymentSpec) -> Self {
        let deployment = &*seen.deployment;
        let mut sets = seen.claim.all();
        sets.sort_by_key(|s| (s.metadata.creation_timestamp.clone(), s.metadata.name.clone()));
        let is_new = |s: &Arc<ReplicaSet>| {
            let template = s.spec.as_ref().and_then(|s| s.template.as_ref());
            template.is_some_and(|t| equal_but_label(t, &spec.template, HASH_LABEL))
        };
        // Of several sets with this template the oldest is the new one; the others are old.
        let new = sets.iter().find(|s| is_new(s)).cloned();
        let old = sets.into_iter().filter(|s| new.as_ref().is_none_or(|n| uid(&n.metadata) != uid(&s.metadata)));
        Self {
            old: old.collect(),
            new,
            regarding: reference(deployment),
            conditions: deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default(),
            collisions: deployment.status.as_ref().and_then(|s| s.collision_count),
            revision: annotation(&deployment.metadata, REVISION).map(str::to_owned),
            seen,
            deployment,
            spec,
            plan: Plan::default(),
        }
    }

    fn all(&self) -> Sets {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    fn run(&mut self) {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            return self.report_counts();
        }
        self.note_pause();
        let rollback = annotation(&self.deployment.metadata, ROLLBACK_TO).and_then(|r| r.parse().ok());
        if self.spec.paused == Some(true) {
            self.sync_new();
            self.scale();
            if rollback.is_none() {
                self.clean_up();
            }
            return self.report_counts();
        }
        if let Some(revision) = rollback {
            return self.roll_back(revision);
        }
        let desired = |s: &Arc<ReplicaSet>| annotation(&s.metadata, DESIRED).and_then(|d| d.parse::<i32>().ok());
        let rescaled =
            |s: &Arc<ReplicaSet>| set_replicas(s) > 0 && desired(s).is_some_and(|d| d != replicas(self.deployment));
        if self.all().iter().any(rescaled) {
            self.sync_new();
            self.scale();
            return self.report_counts();
        }
        if is_rolling(self.deployment) { self.roll() } else { self.recreate() }
    }

    /// A pause stops the clock of the progress deadline, and a resumption starts it anew.
    fn note_pause(&mut self) {
        if status::deadline(self.deployment).is_none() {
            return;
        }
        let reason = self.conditions.iter().find(|c| c.type_ == PROGRESSING).and_then(|c| c.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let noted = reason.as_deref() == Some(PAUSED);
        let (reason, message) = match self.spec.paused == Some(true) {
            true if !noted => (PAUSED, "Deployment is paused"),
            false if noted => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let condition = new_condition(PROGRESSING, "Unknown", reason, message.to_owned(), self.seen.now);
        set_condition(&mut self.conditions, condition);
    }

    /// Brings the annotations of the new set (if there is one) and the Deployment's revision up to date.
    fn sync_new(&mut self) {
        let Some(new) = self.new.clone() else {
            return;
        };
        let mut updated = ReplicaSet::clone(&new);
        let annotated = self.annotate(&mut updated.metadata, true);
        let min_ready = self.spec.min_ready_seconds;
        let spec = updated.spec.get_or_insert_default();
        if annotated || spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
            spec.min_ready_seconds = min_ready;
            self.replace(&new, updated, None);
            return;
        }
        self.revision = annotation(&new.metadata, REVISION).map(str::to_owned);
        let unknown = !self.conditions.iter().any(|c| c.type_ == PROGRESSING);
        if unknown && status::deadline(self.deployment).is_some() {
            let message = format!("Found new replica set {:?}", name(&new.metadata));
            self.note(new_condition(PROGRESSING, "True", "FoundNewReplicaSet", message, self.seen.now));
        }
    }

    fn note(&mut self, condition: DeploymentCondition) {
        set_condition(&mut self.conditions, condition);
    }

    /// Sets the annotations that a new set must have; says whether any changed.
    fn annotate(&self, meta: &mut ObjectMeta, exists: bool) -> bool {
        let annotations = meta.annotations.get_or_insert_default();
        let mut changed = false;
        for (key, value) in self.deployment.metadata.annotations.iter().flatten() {
            if !NOT_COPIED.contains(&key.as_str()) && annotations.get(key) != Some(value) {
                annotations.insert(key.clone(), value.clone());
                changed = true;
            }
        }
        let next = self.old.iter().map(|s| revision(s)).max().unwrap_or(0) + 1;
        let before = annotations.get(REVISION).cloned();
        let Ok(current) = before.as_deref().unwrap_or("0").parse::<i64>() else {
            return false;
        };
        if current < next {
            annotations.insert(REVISION.to_owned(), next.to_string());
            changed = true;
            // An old set that becomes the new one again remembers which revisions it has been.
            if let Some(before) = before {
                remember(annotations, &before);
            }
        }
        if !exists {
            changed |= self.annotate_size(annotations);
        }
        changed
    }

    fn annotate_size(&self, annotations: &mut BTreeMap<String, String>) -> bool {
        let (desired, surge) = (replicas(self.deployment), max_surge(self.deployment));
        let sizes = [(DESIRED, desired.to_string()), (MAX, (desired + surge).to_string())];
        let mut changed = false;
        for (key, value) in sizes {
            changed |= annotations.get(key) != Some(&value);
            annotations.insert(key.to_owned(), value);
        }
        changed
    }

    /// Writes a set and goes on with it as written.
    fn replace(&mut self, old: &Arc<ReplicaSet>, updated: ReplicaSet, event: Option<Event>) {
        let write = Write::update(&updated);
        let write = match event {
            Some(event) => write.told_done(event),
            None => write,
        };
        self.plan.steps.push(vec![write]);
        let updated = Arc::new(updated);
        for set in self.old.iter_mut().chain(self.new.iter_mut()) {
            if uid(&set.metadata) == uid(&old.metadata) {
                *set = updated.clone();
            }
        }
    }

    /// Scales a set; says whether its size changed.
    fn resize(&mut self, set: &Arc<ReplicaSet>, size: i32, always: bool) -> bool {
        // The set may have been written in an earlier step of this plan.
        let current = self.all().into_iter().find(|s| uid(&s.metadata) == uid(&set.metadata));
        let Some(set) = current else {
            return false;
        };
        let from = set_replicas(&set);
        if !always && from == size {
            return false;
        }
        let mut updated = ReplicaSet::clone(&set);
        let annotated = self.annotate_size(updated.metadata.annotations.get_or_insert_default());
        if from == size && !annotated {
            return false;
        }
        updated.spec.get_or_insert_default().replicas = Some(size);
        // Two updates of one set in a plan would fail: the first changes the resource version.
        let waiting = self.plan.steps.iter().position(|step| {
            step.iter().any(|w| w.name == name(&set.metadata) && w.body().is_some_and(|b| b["kind"] == "ReplicaSet"))
        });
        if let Some(position) = waiting {
            self.plan.steps.remove(position);
        }
        let event = (from != size).then(|| {
            let direction = if from < size { "up" } else { "down" };
            self.scaled(direction, name(&set.metadata), from, size)
        });
        self.replace(&set, updated, event);
        from != size
    }

    fn scaled(&self, direction: &str, set: &str, from: i32, to: i32) -> Event {
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        Event::normal(self.regarding.clone(), "ScalingReplicaSet", message)
    }

    /// Brings the sets to the Deployment's new size without hastening the rollout.
    fn scale(&mut self) {
        let want = replicas(self.deployment);
        let active: Sets = self.all().into_iter().filter(|s| set_replicas(s) > 0).collect();
        let only = match active.as_slice() {
            [] => self.new.clone().or_else(|| self.old.last().cloned()),
            [one] => Some(one.clone()),
            _ => None,
        };
        if let Some(set) = only {
            self.resize(&set, want, false);
            return;
        }
        if active.is_empty() {
            return;
        }
        if self.new.as_ref().is_some_and(|n| self.is_saturated(n)) {
            for set in self.old.clone().iter().filter(|s| set_replicas(s) > 0) {
                self.resize(set, 0, false);
            }
        } else if is_rolling(self.deployment) {
            self.scale_proportionally(active);
        }
    }

    fn is_saturated(&self, set: &ReplicaSet) -> bool {
        let want = replicas(self.deployment);
        let desired = annotation(&set.metadata, DESIRED).and_then(|d| d.parse().ok());
        set_replicas(set) == want && desired == Some(want) && available(set) == want
    }

    fn scale_proportionally(&mut self, mut active: Sets) {
        let (want, surge) = (replicas(self.deployment), max_surge(self.deployment));
        let allowed = if want > 0 { want + surge } else { 0 };
        let add = allowed - active.iter().map(|s| set_replicas(s)).sum::<i32>();
        let created = |s: &Arc<ReplicaSet>| s.metadata.creation_timestamp.clone();
        // The largest first; of equal ones, growing prefers the newer and shrinking the older.
        match add {
            1.. => active.sort_by_key(|s| (Reverse(set_replicas(s)), Reverse(created(s)))),
            _ => active.sort_by_key(|s| (Reverse(set_replicas(s)), created(s))),
        }
        let (mut added, mut sizes) = (0, Vec::new());
        for set in &active {
            let proportion = if add == 0 { 0 } else { self.proportion(set, add, added) };
            sizes.push(set_replicas(set) + proportion);
            added += proportion;
        }
        if let Some(first) = sizes.first_mut()
            && add != 0
        {
            *first = (*first + add - added).max(0);
        }
        for (set, size) in active.iter().zip(sizes) {
            self.resize(set, size, true);
        }
    }

    fn proportion(&self, set: &ReplicaSet, add: i32, added: i32) -> i32 {
        let size = set_replicas(set);
        if size == 0 || add == added {
            return 0;
        }
        let fraction = self.fraction(set);
        if add > 0 { fraction.min(add - added) } else { fraction.max(add - added) }
    }

    /// How much a set grows if it keeps its part of the whole.
    fn fraction(&self, set: &ReplicaSet) -> i32 {
        let (want, size) = (replicas(self.deployment), set_replicas(set));
        if want == 0 {
            return -size;
        }
        let annotated = annotation(&set.metadata, MAX).and_then(|m| m.parse::<i32>().ok()).filter(|m| *m > 0);
        let before = annotated.or_else(|| self.deployment.status.as_ref().and_then(|s| s.replicas)).unwrap_or(0);
        if before == 0 {
            return 0;
        }
        let max = want + max_surge(self.deployment);
        let scaled = f64::from(size) * f64::from(max) / f64::from(before);
        scaled.round() as i32 - size
    }

    /// Removes old sets beyond the history's limit.
    fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|l| *l != i32::MAX) else {
            return;
        };
        let mut sets: Sets = self.old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).cloned().collect();
        let excess = sets.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        sets.sort_by_key(|s| (revision(s), s.metadata.creation_timestamp.clone(), s.metadata.name.clone()));
        let idle = |s: &ReplicaSet| {
            let status = s.status.clone().unwrap_or_default();
            status.replicas == 0 && set_replicas(s) == 0 && s.metadata.generation <= status.observed_generation
        };
        let deletions: Vec<_> =
            sets.iter().take(excess).filter(|s| idle(s)).map(|s| Write::delete::<ReplicaSet>(&s.metadata)).collect();
        if !deletions.is_empty() {
            self.plan.steps.push(deletions);
        }
    }

    fn roll(&mut self) {
        let Some(new) = self.new_or_create() else {
            return;
        };
        let want = replicas(self.deployment);
        let size = match set_replicas(&new) {
            size if size >= want => want,
            size => self.new_size(size),
        };
        if self.resize(&new, size, false) || self.shrink_old() {
            return self.report();
        }
        self.finish();
    }

    fn finish(&mut self) {
        if status::is_complete(self.deployment, &self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up();
        }
        self.report();
    }

    /// How large the new set may become now.
    fn new_size(&self, size: i32) -> i32 {
        let want = replicas(self.deployment);
        if !is_rolling(self.deployment) {
            return want;
        }
        let strategy = self.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let surge = strategy.and_then(|r| r.max_surge.as_ref());
        let surge = surge.and_then(|s| share::of(s, want, share::Round::Up)).unwrap_or(0);
        let room = want + surge - self.all().iter().map(|s| set_replicas(s)).sum::<i32>();
        if room <= 0 { size } else { size + room.min(want - size) }
    }

    /// Shrinks old sets as far as availability allows, their unavailable pods first; says whether any changed.
    fn shrink_old(&mut self) -> bool {
        let old: Sets = self.old.iter().filter(|s| set_replicas(s) > 0).cloned().collect();
        let (Some(new), false) = (self.new.clone(), old.is_empty()) else {
            return false;
        };
        let min_available = replicas(self.deployment) - max_unavailable(self.deployment);
        let total: i32 = self.all().iter().map(|s| set_replicas(s)).sum();
        let removable = total - min_available - (set_replicas(&new) - available(&new));
        if removable <= 0 {
            return false;
        }
        let mut sizes: Vec<i32> = old.iter().map(|s| set_replicas(s)).collect();
        let mut left = removable;
        for (set, size) in old.iter().zip(&mut sizes) {
            let unhealthy = (*size - available(set)).clamp(0, left.max(0));
            *size -= unhealthy;
            left -= unhealthy;
        }
        // A set that has just been shrunk may still report the pods that it is about to lose.
        let staying = |set: &ReplicaSet| available(set).min(set_replicas(set));
        let mut spare = self.all().iter().map(|s| staying(s)).sum::<i32>() - min_available;
        for size in &mut sizes {
            let fewer = (*size).min(spare.max(0));
            *size -= fewer;
            spare -= fewer;
        }
        old.iter().zip(sizes).fold(false, |changed, (set, size)| self.resize(set, size, false) || changed)
    }

    fn recreate(&mut self) {
        self.sync_new();
        let mut shrunk = false;
        for set in self.old.clone() {
            shrunk |= set_replicas(&set) > 0 && self.resize(&set, 0, false);
        }
        if shrunk || self.has_old_pods() {
            return self.report();
        }
        let Some(new) = self.new_or_create() else {
            return;
        };
        self.resize(&new, replicas(self.deployment), false);
        self.finish();
    }

    fn has_old_pods(&self) -> bool {
        let new = self.new.as_ref().map(|s| uid(&s.metadata));
        self.old.iter().any(|s| s.status.as_ref().is_some_and(|s| s.replicas > 0))
            || self.seen.pods.iter().any(|(set, pods)| *pods > 0 && new != Some(set.as_str()))
    }

    /// The new set; if it must be made first, the plan ends with that.
    fn new_or_create(&mut self) -> Option<Arc<ReplicaSet>> {
        self.sync_new();
        if self.new.is_some() {
            return self.new.clone();
        }
        if self.seen.namesake.is_some() {
            // Another content has this hash: the next count makes another name.
            self.collisions = Some(self.collisions.unwrap_or(0) + 1);
            self.write_status(self.deployment.status.clone().unwrap_or_default());
            return None;
        }
        let set = self.new_set();
        let size = set_replicas(&set);
        let failed = format!("Failed to create new replica set {:?}: {{error}}", self.seen.new_name);
        let mut create =
            Write::create(&set).told_failed(Event::warning(self.regarding.clone(), "ReplicaSetCreateError", failed));
        if size > 0 {
            create = create.told_done(self.scaled("up", &self.seen.new_name, 0, size));
        }
        self.plan.steps.push(vec![create]);
        self.revision = annotation(&set.metadata, REVISION).map(str::to_owned);
        if status::deadline(self.deployment).is_some() {
            let message = format!("Created new replica set {:?}", self.seen.new_name);
            self.note(new_condition(PROGRESSING, "True", "NewReplicaSetCreated", message, self.seen.now));
        }
        self.new = Some(Arc::new(set));
        self.report();
        None
    }

    fn new_set(&self) -> ReplicaSet {
        let hash = [(HASH_LABEL.to_owned(), self.seen.new_hash.clone())];
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.extend(hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().extend(hash);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(self.seen.new_name.clone()),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![owner::controller_reference::<Deployment>(&self.deployment.metadata)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(self.new_size(0)),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        self.annotate(&mut set.metadata, false);
        set
    }

    /// `to` 0 is the last revision before this one.
    fn roll_back(&mut self, to: i64) {
        self.sync_new();
        let sets = self.all();
        let to = if to == 0 { last_revision(&sets) } else { to };
        let mut updated = self.deployment.clone();
        if let Some(annotations) = &mut updated.metadata.annotations {
            annotations.remove(ROLLBACK_TO);
        }
        let about = self.regarding.clone();
        let target = sets.iter().find(|s| to != 0 && revision(s) == to);
        let event = match target {
            None if to == 0 => {
                Event::warning(about, "DeploymentRollbackRevisionNotFound", "Unable to find last revision.")
            }
            None => Event::warning(
                about,
                "DeploymentRollbackRevisionNotFound",
                "Unable to find the revision to rollback to.",
            ),
            Some(set) => self.restore(set, &mut updated, to),
        };
        self.plan.steps.push(vec![Write::update(&updated).told_done(event)]);
    }

    fn restore(&self, set: &ReplicaSet, updated: &mut Deployment, to: i64) -> Event {
        let (about, name) = (self.regarding.clone(), name(&self.deployment.metadata));
        let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
        if equal_but_label(&template, &self.spec.template, HASH_LABEL) {
            let message = format!("The rollback revision contains the same template as current deployment {name:?}");
            return Event::warning(about, "DeploymentRollbackTemplateUnchanged", message);
        }
        let spec = updated.spec.get_or_insert_default();
        spec.template = template;
        if let Some(labels) = spec.template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        let annotations = updated.metadata.annotations.get_or_insert_default();
        annotations.retain(|k, _| NOT_COPIED.contains(&k.as_str()));
        let copied = set.metadata.annotations.iter().flatten().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()));
        annotations.extend(copied.map(|(k, v)| (k.clone(), v.clone())));
        Event::normal(about, "DeploymentRollback", format!("Rolled back deployment {name:?} to revision {to}"))
    }

    fn report_counts(&mut self) {
        let new = self.new.as_deref();
        let status = status::counts(self.deployment, &self.conditions, &self.all(), new, self.seen.now);
        self.write_status(status);
    }

    fn report(&mut self) {
        let new = self.new.as_deref();
        let status = status::rollout(self.deployment, &self.conditions, &self.all(), new, self.seen.now);
        if let Some(at) = status::next_check(self.deployment, &status) {
            let plan = std::mem::take(&mut self.plan);
            self.plan = plan.again_at(self.seen.now, at);
        }
        self.write_status(status);
    }

    /// The last write of a plan; none if the server has all of it already.
    fn write_status(&mut self, mut status: DeploymentStatus) {
        status.collision_count = self.collisions;
        let before = self.deployment.status.clone().unwrap_or_default();
        let revision = annotation(&self.deployment.metadata, REVISION).map(str::to_owned);
        if status == before && revision == self.revision {
            return;
        }
        let mut updated = self.deployment.clone();
        updated.status = Some(status);
        if let Some(revision) = &self.revision {
            updated.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.clone());
        }
        self.plan.steps.push(vec![Write::status(&updated)]);
    }
}

fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn last_revision(sets: &[Arc<ReplicaSet>]) -> i64 {
    let mut revisions: Vec<i64> = sets.iter().map(|s| revision(s)).collect();
    revisions.sort_unstable();
    revisions.iter().rev().nth(1).copied().unwrap_or(0)
}

/// Appends a revision to the history, dropping the oldest where it grows too long.
fn remember(annotations: &mut BTreeMap<String, String>, revision: &str) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    revisions.push(revision);
    while revisions.join(",").len() > HISTORY_LENGTH_MAX {
        revisions.remove(0);
    }
    let joined = revisions.join(",");
    annotations.insert(REVISION_HISTORY.to_owned(), joined);
}

/// Reports that the new set could not be made.
pub fn status_after_failure(seen: &Observed, outcome: &Outcome) -> Option<Write> {
    let refusal = outcome.refusals.iter().find(|r| r.create)?;
    // A name that is taken is not a failure: the cache is behind.
    if refusal.namespace_terminating || refusal.code == 409 || status::deadline(&seen.deployment).is_none() {
        return None;
    }
    let message = format!("Failed to create new replica set {:?}: {}", seen.new_name, refusal.message);
    let condition = new_condition(PROGRESSING, "False", "ReplicaSetCreateError", message, seen.now);
    let mut updated = Deployment::clone(&seen.deployment);
    let status = updated.status.get_or_insert_default();
    set_condition(status.conditions.get_or_insert_default(), condition);
    (updated.status != seen.deployment.status).then(|| Write::status(&updated))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use serde_json::json;

    use super::*;
    use crate::{claim::Claim, pod::tests::now, revision::hash};

    fn deployment(replicas: i32, image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "root", "generation": 1},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "a"}},
                "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": template(image),
            },
        }))
        .unwrap()
    }

    fn template(image: &str) -> serde_json::Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    /// image, revision, size, available, desired
    fn set(image: &str, revision: i64, size: i32, available: i32, desired: i32) -> Arc<ReplicaSet> {
        let mut set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": format!("web-{image}"), "namespace": "default", "uid": image, "generation": 1,
                "creationTimestamp": format!("2026-01-01T00:0{revision}:00Z"),
                "annotations": {REVISION: revision.to_string(), DESIRED: desired.to_string(),
                    MAX: (desired + (desired + 3) / 4).to_string()}},
            "spec": {"replicas": size, "selector": {}, "template": template(image)},
            "status": {"replicas": size, "availableReplicas": available, "readyReplicas": available,
                "observedGeneration": 1},
        }))
        .unwrap();
        set.spec
            .as_mut()
            .unwrap()
            .template
            .as_mut()
            .unwrap()
            .metadata
            .as_mut()
            .unwrap()
            .labels
            .as_mut()
            .unwrap()
            .insert(HASH_LABEL.into(), "x".into());
        Arc::new(set)
    }

    fn observed(deployment: Deployment, sets: Vec<Arc<ReplicaSet>>) -> Observed {
        let new_hash = hash(&deployment.spec.as_ref().unwrap().template, None);
        Observed {
            new_name: set_name("web", &new_hash),
            new_hash,
            namesake: None,
            pods: Vec::new(),
            deployment: Arc::new(deployment),
            claim: Claim { owned: sets, ..Claim::default() },
            now: now(),
        }
    }

    /// What a plan does to sets: `+name=size` for a creation, `name=size` for an update, `-name` for a deletion.
    fn changes(plan: &Plan) -> Vec<String> {
        plan.writes()
            .filter(|w| w.resource.kind == "ReplicaSet")
            .map(|w| match w.body() {
                None => format!("-{}", w.name),
                Some(b) if w.is_create() => format!("+{}", b["spec"]["replicas"]),
                Some(b) => format!("{}={}", w.name, b["spec"]["replicas"]),
            })
            .collect()
    }

    #[test]
    fn rolling() {
        for (what, replicas, image, sets, want) in [
            ("the first set is made in full", 10, "1", vec![], vec!["+10"]),
            ("a second one within the surge", 10, "2", vec![set("1", 1, 10, 10, 10)], vec!["+3"]),
            (
                "old sets shrink by the unavailability",
                10,
                "2",
                vec![set("1", 1, 10, 10, 10), set("2", 2, 3, 0, 10)],
                vec!["web-1=8"],
            ),
            (
                "the new set grows as the old shrinks",
                10,
                "2",
                vec![set("1", 1, 8, 8, 10), set("2", 2, 3, 0, 10)],
                vec!["web-2=5"],
            ),
            (
                "unhealthy old pods go first",
                10,
                "2",
                vec![set("1", 1, 8, 4, 10), set("2", 2, 5, 5, 10)],
                vec!["web-1=3"],
            ),
            (
                "a set does not shrink twice for the same pods",
                5,
                "2",
                vec![set("1", 1, 3, 4, 5), set("2", 2, 4, 3, 5)],
                vec!["web-1=1"],
            ),
            ("nothing is left to do", 10, "2", vec![set("1", 1, 0, 0, 10), set("2", 2, 10, 10, 10)], vec![]),
            ("a scaled Deployment scales its only set", 5, "1", vec![set("1", 1, 3, 3, 3)], vec!["web-1=5"]),
            (
                "sets of a rollout scale in proportion",
                30,
                "2",
                vec![set("1", 1, 8, 8, 10), set("2", 2, 5, 0, 10)],
                vec!["web-1=23", "web-2=15"],
            ),
        ] {
            assert_eq!(changes(&plan(&observed(deployment(replicas, image), sets))), want, "{what}");
        }
    }

    #[test]
    fn recreating() {
        let recreate = |image: &str| {
            let mut deployment = deployment(3, image);
            deployment.spec.as_mut().unwrap().strategy.as_mut().unwrap().type_ = Some("Recreate".into());
            deployment
        };
        let mut seen = observed(recreate("2"), vec![set("1", 1, 3, 3, 3)]);
        assert_eq!(changes(&plan(&seen)), ["web-1=0"]);
        let mut gone = ReplicaSet::clone(&set("1", 1, 0, 0, 3));
        gone.status.as_mut().unwrap().replicas = 0;
        seen = observed(recreate("2"), vec![Arc::new(gone)]);
        seen.pods = vec![("1".into(), 1)];
        assert_eq!(changes(&plan(&seen)), Vec::<String>::new(), "an old pod is still running");
        seen.pods.clear();
        assert_eq!(changes(&plan(&seen)), ["+3"]);
    }

    #[test]
    fn revisions_count_up_and_old_sets_are_removed() {
        let complete = |mut d: Deployment| {
            d.status = Some(DeploymentStatus {
                replicas: Some(1),
                updated_replicas: Some(1),
                available_replicas: Some(1),
                observed_generation: Some(1),
                ..DeploymentStatus::default()
            });
            d
        };
        let sets = vec![set("1", 1, 0, 0, 1), set("2", 2, 0, 0, 1), set("3", 3, 1, 1, 1)];
        assert_eq!(changes(&plan(&observed(complete(deployment(1, "3")), sets.clone()))), ["-web-1"]);
        // Rolling back makes the old set the newest revision.
        let back = plan(&observed(deployment(1, "1"), sets));
        let update = back.writes().find(|w| w.name == "web-1").unwrap().body().unwrap();
        assert_eq!(update["metadata"]["annotations"][REVISION], "4");
        assert_eq!(update["metadata"]["annotations"][REVISION_HISTORY], "1");
        let status = back.writes().last().unwrap().body().unwrap();
        assert_eq!(status["kind"], "Deployment");
    }

    #[test]
    fn a_paused_deployment_only_scales() {
        let mut paused = deployment(4, "2");
        paused.spec.as_mut().unwrap().paused = Some(true);
        let plan = plan(&observed(paused, vec![set("1", 1, 3, 3, 3)]));
        assert_eq!(changes(&plan), ["web-1=4"]);
        let status = plan.writes().last().unwrap().body().unwrap();
        assert_eq!(status["status"]["conditions"][0]["reason"], PAUSED);
    }

    #[test]
    fn a_stalled_rollout_times_out() {
        let mut stalled = deployment(1, "1");
        let old = new_condition(
            PROGRESSING,
            "True",
            "ReplicaSetUpdated",
            String::new(),
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        stalled.status = Some(DeploymentStatus {
            replicas: Some(1),
            updated_replicas: Some(1),
            conditions: Some(vec![old]),
            ..DeploymentStatus::default()
        });
        stalled.spec.as_mut().unwrap().progress_deadline_seconds = Some(599);
        let status = |seen: &Observed| plan(seen).writes().last().unwrap().body().unwrap()["status"].clone();
        let seen = observed(stalled.clone(), vec![set("1", 1, 1, 0, 1)]);
        let reasons = status(&seen)["conditions"].to_string();
        assert!(reasons.contains(TIMED_OUT), "{reasons}");
        stalled.spec.as_mut().unwrap().progress_deadline_seconds = Some(605);
        let seen = observed(stalled, vec![set("1", 1, 1, 0, 1)]);
        assert_eq!(plan(&seen).requeue_after.unwrap().as_secs(), 6);
    }

    #[test]
    fn a_collision_is_counted() {
        let mut seen = observed(deployment(1, "1"), vec![]);
        seen.namesake = Some(set("9", 1, 1, 1, 1));
        let plan = plan(&seen);
        assert_eq!(plan.writes().last().unwrap().body().unwrap()["status"]["collisionCount"], 1);
        assert_eq!(changes(&plan), Vec::<String>::new());
    }

    #[test]
    fn fence_posts_never_both_zero() {
        let mut none = deployment(1, "1");
        let rolling = none.spec.as_mut().unwrap().strategy.as_mut().unwrap().rolling_update.as_mut().unwrap();
        rolling.max_surge = Some(IntOrString::Int(0));
        assert_eq!((max_surge(&none), max_unavailable(&none)), (0, 1));
    }
}

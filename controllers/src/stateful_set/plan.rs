//! Which ordinal is next to be made, removed or replaced.

use std::{collections::BTreeMap, sync::Arc};

use crds::owner;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec},
    core::v1::{ObjectReference, PersistentVolumeClaim, Pod},
};

use super::{Observed, identity, status, volume};
use crate::{
    history,
    plan::{Event, Plan, Write},
    pod,
    runtime::object::{name, reference},
};

const HASH_LABEL: &str = "controller.kubernetes.io/hash";

pub fn plan(seen: &Observed) -> Plan {
    let Some(spec) = &seen.set.spec else {
        return Plan::default();
    };
    let claiming = seen.claim.writes(&owner::controller_reference::<StatefulSet>(&seen.set.metadata));
    let plan = Plan::default().together(claiming);
    let revisions = match revisions(seen, spec) {
        Ok(revisions) => revisions,
        Err(write) => return plan.then(*write),
    };
    let pods = seen.claim.all();
    let mut keeper = Keeper::new(seen, spec, &revisions, &pods);
    keeper.plan = plan.together(revisions.writes.clone());
    if seen.set.metadata.deletion_timestamp.is_none() {
        keeper.keep();
    }
    let Keeper { mut plan, .. } = keeper;
    if let Some(at) = pod::next_available(pods.iter().map(|p| &**p), spec.min_ready_seconds.unwrap_or(0), seen.now) {
        plan = plan.again_at(seen.now, at);
    }
    let (current, update) = (name(&revisions.current.metadata), name(&revisions.update.metadata));
    let collisions = seen.set.status.as_ref().and_then(|s| s.collision_count);
    if let Some(set) = status::status(&seen.set, &pods, current, update, collisions, seen.now) {
        plan = plan.then(Write::status(&set));
    }
    plan.together(revisions.expired(spec, &pods))
}

struct Revisions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    /// Oldest first.
    all: Vec<Arc<ControllerRevision>>,
    writes: Vec<Write>,
}

impl Revisions {
    /// Revisions beyond the history's limit that nothing runs any more.
    fn expired(&self, spec: &StatefulSetSpec, pods: &[Arc<Pod>]) -> Vec<Write> {
        let live = |r: &Arc<ControllerRevision>| {
            let own = name(&r.metadata);
            own == name(&self.current.metadata)
                || own == name(&self.update.metadata)
                || pods.iter().any(|p| identity::revision(p) == own)
        };
        let history: Vec<_> = self.all.iter().filter(|r| !live(r)).collect();
        let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let excess = history.len().saturating_sub(keep);
        history.iter().take(excess).map(|r| Write::delete::<ControllerRevision>(&r.metadata)).collect()
    }
}

/// Finds the current and the newest revision; or the write that makes the newest, or that avoids its name.
fn revisions(seen: &Observed, spec: &StatefulSetSpec) -> Result<Revisions, Box<Write>> {
    let data = history::data(&spec.template);
    let mut all = seen.revisions.clone();
    history::sort(&mut all);
    let next = all.last().map_or(0, |r| r.revision) + 1;
    let Some(at) = all.iter().rposition(|r| history::matches(r, &data)) else {
        let collisions = seen.set.status.as_ref().and_then(|s| s.collision_count);
        let new = history::new(&*seen.set, &spec.template, data, next, collisions, HASH_LABEL);
        if all.iter().any(|r| r.metadata.name == new.metadata.name) {
            let mut set = StatefulSet::clone(&seen.set);
            set.status.get_or_insert_default().collision_count = Some(collisions.unwrap_or(0) + 1);
            return Err(Box::new(Write::status(&set)));
        }
        return Err(Box::new(Write::create(&new)));
    };
    let mut writes = Vec::new();
    let mut update = all[at].clone();
    if at + 1 != all.len() {
        // An old template is the newest again.
        update = Arc::new(ControllerRevision { revision: next, ..ControllerRevision::clone(&update) });
        writes.push(Write::update(&*update));
    }
    let told = seen.set.status.as_ref().and_then(|s| s.current_revision.as_deref());
    let current = all.iter().find(|r| Some(name(&r.metadata)) == told).unwrap_or(&update).clone();
    Ok(Revisions { current, update, all, writes })
}

struct Keeper<'a> {
    seen: &'a Observed,
    spec: &'a StatefulSetSpec,
    revisions: &'a Revisions,
    regarding: ObjectReference,
    /// One at a time.
    ordered: bool,
    start: i32,
    replicas: BTreeMap<i32, Option<Arc<Pod>>>,
    /// Pods beyond the set's size, the highest ordinal first.
    condemned: Vec<Arc<Pod>>,
    plan: Plan,
}

impl<'a> Keeper<'a> {
    fn new(seen: &'a Observed, spec: &'a StatefulSetSpec, revisions: &'a Revisions, pods: &[Arc<Pod>]) -> Self {
        let start = identity::start(&seen.set);
        let mut replicas: BTreeMap<i32, Option<Arc<Pod>>> =
            (start..start + spec.replicas.unwrap_or(1)).map(|o| (o, None)).collect();
        let mut condemned = Vec::new();
        for pod in pods {
            let Some(ordinal) = identity::ordinal(name(&seen.set.metadata), pod) else {
                continue;
            };
            match replicas.get_mut(&ordinal) {
                Some(place) => *place = Some(pod.clone()),
                None => condemned.push((ordinal, pod.clone())),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self {
            regarding: reference(&*seen.set),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            condemned: condemned.into_iter().map(|(_, pod)| pod).collect(),
            seen,
            spec,
            revisions,
            start,
            replicas,
            plan: Plan::default(),
        }
    }

    fn is_ready(&self, pod: &Pod) -> bool {
        pod::phase(pod) == "Running" && pod::is_ready(pod)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        self.is_ready(pod) && pod::is_available(pod, min_ready, self.seen.now) && !pod::is_terminating(pod)
    }

    fn keep(&mut self) {
        let mut creations = Vec::new();
        for (ordinal, pod) in self.replicas.clone() {
            let waits = match pod {
                None => self.create(ordinal, &mut creations),
                Some(pod) => self.keep_replica(ordinal, &pod),
            };
            if waits && self.ordered {
                self.plan.steps.extend([creations].into_iter().filter(|c| !c.is_empty()));
                return;
            }
        }
        let making = !creations.is_empty();
        self.plan.steps.extend([creations].into_iter().filter(|c| !c.is_empty()));
        if self.scale_down() && self.ordered || making {
            return;
        }
        self.roll();
    }

    /// Makes the pod of an ordinal, its claims first; always something to wait for.
    fn create(&mut self, ordinal: i32, creations: &mut Vec<Write>) -> bool {
        let claims = volume::claims(&self.seen.set, ordinal);
        // A claim that is on its way out must be gone before a new pod can have one of that name.
        let leaving = |c: &PersistentVolumeClaim| {
            let existing = self.seen.volumes.get(name(&c.metadata));
            existing.is_some_and(|v| v.metadata.deletion_timestamp.is_some())
        };
        if claims.iter().any(leaving) {
            self.plan.requeue_after = Some(std::time::Duration::from_secs(1));
            return true;
        }
        let pod = self.new_pod(ordinal);
        self.make_claims(&pod, claims);
        creations.push(self.tell("Create", &pod, Write::create(&pod)));
        true
    }

    fn make_claims(&mut self, pod: &Pod, claims: Vec<PersistentVolumeClaim>) {
        let missing = claims.iter().filter(|c| !self.seen.volumes.contains_key(name(&c.metadata)));
        let set = name(&self.seen.set.metadata);
        let create = |claim: &PersistentVolumeClaim| {
            let (claim_name, pod) = (name(&claim.metadata), name(&pod.metadata));
            let mut claim = claim.clone();
            if let Some(owners) = volume::retained_by(&self.seen.set, &Pod::default(), &claim, true) {
                claim.metadata.owner_references = Some(owners);
            }
            let done = format!("Create Claim {claim_name} Pod {pod} in StatefulSet {set} success");
            let failed =
                format!("Create Claim {claim_name} for Pod {pod} in StatefulSet {set} failed error: {{error}}");
            Write::create(&claim).forgiving(&[409]).told(
                Event::normal(self.regarding.clone(), "SuccessfulCreate", done),
                Event::warning(self.regarding.clone(), "FailedCreate", failed),
            )
        };
        let writes: Vec<_> = missing.map(create).collect();
        self.plan.steps.extend([writes].into_iter().filter(|w| !w.is_empty()));
    }

    fn new_pod(&self, ordinal: i32) -> Pod {
        let strategy = self.spec.update_strategy.as_ref();
        let rolls = strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete");
        let current_replicas = self.seen.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
        let old_below = match strategy.and_then(|s| s.rolling_update.as_ref()) {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if rolls => current_replicas,
            None => 0,
        };
        let old = ordinal < self.start + old_below;
        let revision = if old { &self.revisions.current } else { &self.revisions.update };
        let template = history::template(revision).unwrap_or_else(|| self.spec.template.clone());
        identity::new_pod(&self.seen.set, &template, name(&revision.metadata), ordinal)
    }

    fn tell(&self, verb: &str, pod: &Pod, write: Write) -> Write {
        let (pod, set) = (name(&pod.metadata), name(&self.seen.set.metadata));
        let (done, failed) = match verb {
            "Create" => ("SuccessfulCreate", "FailedCreate"),
            "Update" => ("SuccessfulUpdate", "FailedUpdate"),
            _ => ("SuccessfulDelete", "FailedDelete"),
        };
        let about = &self.regarding;
        write.told(
            Event::normal(about.clone(), done, format!("{verb} Pod {pod} in StatefulSet {set} successful")),
            Event::warning(
                about.clone(),
                failed,
                format!("{verb} Pod {pod} in StatefulSet {set} failed error: {{error}}"),
            ),
        )
    }

    fn delete(&mut self, pod: &Pod) {
        let write = self.tell("Delete", pod, Write::delete::<Pod>(&pod.metadata));
        self.plan.steps.push(vec![write]);
    }

    /// Sees to one pod; says whether those after it must wait.
    fn keep_replica(&mut self, ordinal: i32, pod: &Pod) -> bool {
        if pod::is_finished(pod) {
            if !pod::is_terminating(pod) {
                self.delete(pod);
            }
            return true;
        }
        if pod::phase(pod) == "Pending" {
            self.make_claims(pod, volume::claims(&self.seen.set, ordinal));
        }
        if self.ordered && !self.is_available(pod) {
            return true;
        }
        self.restore(ordinal, pod);
        false
    }

    /// Puts back a pod's identity, and its claims' owners.
    fn restore(&mut self, ordinal: i32, pod: &Pod) {
        self.retain(pod, ordinal, true);
        if pod::is_terminating(pod) || identity::is_kept(pod) && volume::is_mounted(&self.seen.set, pod) {
            return;
        }
        let mut updated = pod.clone();
        identity::set_labels(&mut updated, ordinal);
        let write = self.tell("Update", pod, Write::update(&updated));
        self.plan.steps.push(vec![write]);
    }

    fn retain(&mut self, pod: &Pod, ordinal: i32, in_range: bool) {
        let writes: Vec<_> = volume::claims(&self.seen.set, ordinal)
            .iter()
            .filter_map(|c| self.seen.volumes.get(name(&c.metadata)))
            .filter_map(|claim| {
                let owners = volume::retained_by(&self.seen.set, pod, claim, in_range)?;
                let mut updated = PersistentVolumeClaim::clone(claim);
                updated.metadata.owner_references = Some(owners);
                Some(Write::update(&updated))
            })
            .collect();
        self.plan.steps.extend([writes].into_iter().filter(|w| !w.is_empty()));
    }

    /// Removes pods beyond the set's size, the last first; says whether there is something to wait for.
    fn scale_down(&mut self) -> bool {
        let condemned = self.condemned.clone();
        for pod in &condemned {
            if let Some(ordinal) = identity::ordinal(name(&self.seen.set.metadata), pod) {
                self.retain(pod, ordinal, false);
            }
        }
        let in_range = self.replicas.values().flatten().cloned();
        let mut unavailable = in_range.chain(condemned.iter().rev().cloned()).filter(|p| !self.is_available(p));
        let first_unavailable = unavailable.next().map(|p| name(&p.metadata).to_owned());
        for pod in &condemned {
            let going = pod::is_terminating(pod);
            if self.ordered {
                // Another pod is in trouble: scaling down must not make it worse.
                let troubled = !self.is_available(pod) && first_unavailable.as_deref() != Some(name(&pod.metadata));
                if !going && !troubled {
                    self.delete(pod);
                }
                return true;
            }
            if !going {
                self.delete(pod);
            }
        }
        !condemned.is_empty()
    }

    /// Replaces the highest ordinal that is not of the newest revision, once all above it are available.
    fn roll(&mut self) {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let partition = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition).unwrap_or(0);
        let newest = name(&self.revisions.update.metadata);
        for (index, pod) in self.replicas.clone().values().enumerate().rev() {
            if i32::try_from(index).unwrap_or(i32::MAX) < partition {
                return;
            }
            let Some(pod) = pod else {
                return;
            };
            if identity::revision(pod) != newest && !pod::is_terminating(pod) {
                return self.delete(pod);
            }
            if !self.is_available(pod) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{claim::Claim, pod::tests as pods};

    fn set(spec: Value) -> StatefulSet {
        let mut set = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "root", "generation": 1},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "serviceName": "svc",
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c"}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}});
        set["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(set).unwrap()
    }

    /// Pods as `ordinal, state, whether of the newest revision`.
    fn observed(spec: Value, have: &[(i32, &str, bool)]) -> Observed {
        let set = set(spec);
        let template = &set.spec.as_ref().unwrap().template;
        let new = history::new(&set, template, history::data(template), 2, None, HASH_LABEL);
        let mut old = new.clone();
        (old.revision, old.metadata.name) = (1, Some("web-old".into()));
        old.data.as_mut().unwrap().0["spec"]["template"]["spec"]["containers"][0]["image"] = json!("old");
        let pod = |(ordinal, state, newest): &(i32, &str, bool)| {
            let revision = if *newest { name(&new.metadata) } else { "web-old" };
            let mut pod = pods::pod(&format!("web-{ordinal}"), state);
            history::stamp(&mut pod.metadata, revision);
            identity::set_labels(&mut pod, *ordinal);
            Arc::new(pod)
        };
        let owned = have.iter().map(pod).collect();
        Observed {
            set: Arc::new(set),
            claim: Claim { owned, ..Claim::default() },
            revisions: vec![Arc::new(old), Arc::new(new)],
            volumes: BTreeMap::new(),
            now: pods::now(),
        }
    }

    fn changes(plan: &Plan) -> Vec<String> {
        let shown = plan.writes().filter(|w| matches!(&*w.resource.kind, "Pod" | "PersistentVolumeClaim"));
        shown
            .map(|w| match w.body() {
                None => format!("-{}", w.name),
                Some(body) => format!("+{}", body["metadata"]["name"].as_str().unwrap()),
            })
            .collect()
    }

    #[test]
    fn one_at_a_time_or_all_at_once() {
        let parallel = || json!({"podManagementPolicy": "Parallel"});
        let ready = |n: i32| (n, "ready", true);
        for (what, spec, have, want) in [
            ("the first", json!({}), vec![], vec!["+web-0"]),
            ("the next once it is ready", json!({}), vec![ready(0)], vec!["+web-1"]),
            ("not before", json!({}), vec![(0, "running", true)], vec![]),
            ("all at once", parallel(), vec![], vec!["+web-0", "+web-1", "+web-2"]),
            ("from a start", json!({"ordinals": {"start": 5}}), vec![], vec!["+web-5"]),
            ("failed pods are replaced", json!({}), vec![(0, "failed", true)], vec!["-web-0"]),
            ("the last goes first", json!({"replicas": 1}), vec![ready(0), ready(1), ready(2)], vec!["-web-2"]),
            ("and is waited for", json!({"replicas": 1}), vec![ready(0), ready(1), (2, "terminating", true)], vec![]),
            (
                "all go at once",
                json!({"replicas": 1, "podManagementPolicy": "Parallel"}),
                vec![ready(0), ready(1), ready(2)],
                vec!["-web-2", "-web-1"],
            ),
            (
                "trouble stops scaling down",
                json!({"replicas": 2}),
                vec![ready(0), (1, "running", true), ready(2)],
                vec![],
            ),
            (
                "volumes come first",
                json!({"replicas": 1, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}),
                vec![],
                vec!["+data-web-0", "+web-0"],
            ),
        ] {
            assert_eq!(changes(&plan(&observed(spec, &have))), want, "{what}");
        }
    }

    #[test]
    fn rolling_updates() {
        let (new, old) = (|n: i32| (n, "ready", true), |n: i32| (n, "ready", false));
        let partition =
            |n: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": n}}});
        for (what, spec, have, want) in [
            ("the highest ordinal first", json!({}), vec![old(0), old(1), old(2)], vec!["-web-2"]),
            ("the next once it is ready", json!({}), vec![old(0), old(1), new(2)], vec!["-web-1"]),
            ("not before", json!({}), vec![old(0), old(1), (2, "running", true)], vec![]),
            ("down to the partition", partition(2), vec![old(0), old(1), new(2)], vec![]),
            ("only when asked", json!({"updateStrategy": {"type": "OnDelete"}}), vec![old(0), old(1), old(2)], vec![]),
        ] {
            assert_eq!(changes(&plan(&observed(spec, &have))), want, "{what}");
        }
    }

    #[test]
    fn below_the_partition_the_old_template_is_used() {
        let spec = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
        let mut seen = observed(spec, &[]);
        Arc::make_mut(&mut seen.set).status.get_or_insert_default().current_revision = Some("web-old".into());
        let image = |seen: &Observed| {
            let plan = plan(seen);
            plan.writes().find(|w| w.resource.kind == "Pod").unwrap().body().unwrap()["spec"]["containers"][0]["image"]
                .clone()
        };
        assert_eq!(image(&seen), "old");
        seen.claim.owned = observed(json!({}), &[(0, "ready", false)]).claim.owned;
        assert_eq!(image(&seen), Value::Null);
    }

    #[test]
    fn identity_is_given() {
        let plan = plan(&observed(json!({}), &[]));
        let pod = plan.writes().find(|w| w.resource.kind == "Pod").unwrap().body().unwrap();
        assert_eq!(pod["spec"]["hostname"], "web-0");
        assert_eq!(pod["spec"]["subdomain"], "svc");
        assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "0");
    }

    #[test]
    fn counts() {
        let plan = plan(&observed(json!({}), &[(0, "ready", true), (1, "ready", true), (2, "ready", true)]));
        let status = &plan.writes().last().unwrap().body().unwrap()["status"];
        assert_eq!((&status["replicas"], &status["readyReplicas"]), (&json!(3), &json!(3)));
        assert_eq!(status["currentRevision"], status["updateRevision"]);
    }

    #[test]
    fn claims_follow_the_retention_policy() {
        let policy = |scaled: &str, deleted: &str| {
            set(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": scaled, "whenDeleted": deleted}}))
        };
        let pod = pods::pod("web-0", "ready");
        let claim = PersistentVolumeClaim::default();
        for (scaled, deleted, in_range, want) in [
            ("Retain", "Retain", true, None),
            ("Retain", "Delete", true, Some("StatefulSet")),
            ("Delete", "Retain", true, None),
            ("Delete", "Retain", false, Some("Pod")),
            ("Delete", "Delete", true, Some("StatefulSet")),
            ("Delete", "Delete", false, Some("Pod")),
        ] {
            let owners = volume::retained_by(&policy(scaled, deleted), &pod, &claim, in_range);
            assert_eq!(owners.map(|o| o[0].kind.clone()).as_deref(), want, "{scaled} {deleted} {in_range}");
        }
    }
}

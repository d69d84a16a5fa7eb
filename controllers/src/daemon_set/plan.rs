//! Which nodes need a daemon pod, and which old pods give way to new ones.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec},
        core::v1::{Pod, PodSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::json;

use super::{Observed, own_reference, place, status};
use crate::{
    history,
    plan::{Event, Plan, Write},
    pod,
    runtime::object::{label, name, namespace, reference, uid},
    share,
};

/// At most so many pods are made or removed in one go.
const BURST: usize = 250;

/// A node and the set's pods there.
pub struct Place {
    pub name: String,
    pub exists: bool,
    pub should_run: bool,
    pub may_stay: bool,
    pub pods: Vec<Arc<Pod>>,
}

pub struct Placed<'a> {
    pub seen: &'a Observed,
    pub spec: &'a DaemonSetSpec,
    pub pod_spec: PodSpec,
    pub nodes: Vec<Place>,
}

pub fn is_updated(pod: &Pod, hash: &str) -> bool {
    label(&pod.metadata, history::HASH_LABEL) == Some(hash)
}

impl<'a> Placed<'a> {
    fn new(seen: &'a Observed, spec: &'a DaemonSetSpec) -> Self {
        let pod_spec = place::spec(&seen.set);
        let mut pods: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        // A pod that is over and being deleted no longer holds its place.
        for pod in seen.claim.all().into_iter().filter(|p| !(pod::is_finished(p) && pod::is_terminating(p))) {
            pods.entry(place::node_of(&pod).to_owned()).or_default().push(pod);
        }
        let mut nodes: Vec<Place> = Vec::new();
        for node in &seen.nodes {
            let (should_run, may_stay) = place::fit(&pod_spec, node);
            let name = name(&node.metadata).to_owned();
            let pods = pods.remove(&name).unwrap_or_default();
            nodes.push(Place { name, exists: true, should_run, may_stay, pods });
        }
        nodes.extend(pods.into_iter().map(|(name, pods)| Place {
            name,
            exists: false,
            should_run: false,
            may_stay: false,
            pods,
        }));
        Self { seen, spec, pod_spec, nodes }
    }

    pub fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, self.min_ready_seconds(), self.seen.now)
    }

    fn rolls(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn limit(
        &self,
        of: fn(&k8s_openapi::api::apps::v1::RollingUpdateDaemonSet) -> Option<&IntOrString>,
        desired: i32,
    ) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let value = rolling.filter(|_| self.rolls()).and_then(of);
        value.and_then(|v| share::of(v, desired, share::Round::Up)).unwrap_or(0)
    }

    fn max_surge(&self, desired: i32) -> i32 {
        self.limit(|r| r.max_surge.as_ref(), desired)
    }
}

pub fn plan(seen: &Observed) -> Plan {
    let Some(spec) = &seen.set.spec else {
        return Plan::default();
    };
    let everything = spec.selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && spec.selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if everything {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        return Plan::default().tell(Event::warning(reference(&*seen.set), "SelectingAll", message));
    }
    let plan = Plan::default().together(seen.claim.writes(&own_reference(&seen.set)));
    let Revisions { current, old, renumber } = match revisions(seen, spec) {
        Ok(revisions) => revisions,
        Err(first) => return first.into_iter().fold(plan, Plan::together).again_after(Duration::ZERO),
    };
    let hash = history::hash_of(&current).to_owned();
    let placed = Placed::new(seen, spec);
    let mut plan = plan.together(renumber.into_iter().collect());
    let mut changes = Changes::default();
    manage(&placed, &hash, &mut changes, &mut plan);
    if changes.is_empty() && placed.rolls() {
        roll(&placed, &hash, &mut changes);
    }
    let busy = !changes.is_empty();
    plan = changes.into_plan(&placed, &hash, plan);
    if !busy {
        plan = plan.together(clean_up(seen, spec, old));
    }
    let min_ready = placed.min_ready_seconds();
    let pods = placed.nodes.iter().flat_map(|n| n.pods.iter().map(|p| &**p));
    if let Some(at) = pod::next_available(pods, min_ready, seen.now) {
        plan = plan.again_at(seen.now, at);
    }
    match status::status(&placed, &hash) {
        Some(set) => plan.then(Write::status(&set)),
        None => plan,
    }
}

struct Revisions {
    current: Arc<ControllerRevision>,
    old: Vec<Arc<ControllerRevision>>,
    renumber: Option<Write>,
}

/// Finds the revision of the set's template; or the steps to take before anything else: it must exist before pods can be
/// told to be of it, and be the only one.
fn revisions(seen: &Observed, spec: &DaemonSetSpec) -> Result<Revisions, Vec<Vec<Write>>> {
    let data = history::data(&spec.template);
    let mut all = seen.revisions.clone();
    history::sort(&mut all);
    let (mut current, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| history::matches(r, &data));
    let next = old.iter().map(|r| r.revision).max().unwrap_or(0) + 1;
    let Some(found) = current.pop() else {
        let collisions = seen.set.status.as_ref().and_then(|s| s.collision_count);
        let new = history::new(&*seen.set, &spec.template, data, next, collisions, history::HASH_LABEL);
        if old.iter().any(|r| r.metadata.name == new.metadata.name) {
            let mut set = DaemonSet::clone(&seen.set);
            set.status.get_or_insert_default().collision_count = Some(collisions.unwrap_or(0) + 1);
            return Err(vec![vec![Write::status(&set)]]);
        }
        return Err(vec![vec![Write::create(&new)]]);
    };
    // Of several revisions of one template the newest stays, and all pods are told to be of it.
    if !current.is_empty() {
        let hash = history::hash_of(&found);
        let label = json!({"metadata": {"labels": {history::HASH_LABEL: hash}}});
        let others = seen.claim.all().into_iter().filter(|pod| !is_updated(pod, hash));
        let told = others.map(|pod| Write::merge::<Pod>(&pod.metadata, "", label.clone())).collect();
        let deleted = current.iter().map(|r| Write::delete::<ControllerRevision>(&r.metadata)).collect();
        return Err(vec![told, deleted]);
    }
    let renumber = (found.revision < next)
        .then(|| Write::update(&ControllerRevision { revision: next, ..ControllerRevision::clone(&found) }));
    Ok(Revisions { current: found, old, renumber })
}

fn clean_up(seen: &Observed, spec: &DaemonSetSpec, mut old: Vec<Arc<ControllerRevision>>) -> Vec<Write> {
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let excess = old.len().saturating_sub(keep);
    let pods = seen.claim.all();
    old.retain(|r| !pods.iter().any(|p| is_updated(p, history::hash_of(r))));
    old.iter().take(excess).map(|r| Write::delete::<ControllerRevision>(&r.metadata)).collect()
}

#[derive(Default)]
struct Changes {
    /// Nodes that need a pod.
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }

    fn into_plan(self, placed: &Placed<'_>, hash: &str, plan: Plan) -> Plan {
        let set = &*placed.seen.set;
        let (regarding, meta) = (reference(set), &set.metadata);
        let mut template = pod::from_template(&placed.spec.template, namespace(meta), name(meta), own_reference(set));
        history::stamp(&mut template.metadata, hash);
        template.spec = Some(placed.pod_spec.clone());
        let create = |node: &String| {
            let mut daemon = template.clone();
            place::bind(daemon.spec.get_or_insert_default(), node);
            pod::create(&daemon, &regarding)
        };
        let deletions = self.delete.iter().take(BURST).map(|p| pod::delete(p, &regarding)).collect();
        plan.together(self.create.iter().take(BURST).map(create).collect()).together(deletions)
    }
}

/// Makes missing pods; removes those that may not stay, that are over, or that are one too many.
fn manage(placed: &Placed<'_>, hash: &str, changes: &mut Changes, plan: &mut Plan) {
    for node in &placed.nodes {
        if !node.exists {
            // A pod that was never bound to a node that is gone never will be; others are for the pod collector.
            let lost = node.pods.iter().filter(|p| pod::node_name(p).is_empty() && !pod::is_terminating(p));
            changes.delete.extend(lost.cloned());
        } else if node.should_run && node.pods.is_empty() {
            changes.create.push(node.name.clone());
        } else if !node.may_stay {
            changes.delete.extend(node.pods.iter().filter(|p| !pod::is_terminating(p)).cloned());
        } else {
            tidy(placed, node, hash, changes, plan);
        }
    }
}

/// Brings the pods of one node down to one, or while surging to an old and a new one.
fn tidy(placed: &Placed<'_>, node: &Place, hash: &str, changes: &mut Changes, plan: &mut Plan) {
    let mut running = Vec::new();
    for daemon in node.pods.iter().filter(|p| !pod::is_terminating(p)) {
        let named = format!("{}/{}", namespace(&daemon.metadata), name(&daemon.metadata));
        match pod::phase(daemon) {
            "Failed" => {
                let at = placed.seen.replace_at.get(uid(&daemon.metadata)).copied().unwrap_or(placed.seen.now);
                if at > placed.seen.now {
                    *plan = std::mem::take(plan).again_at(placed.seen.now, at);
                    continue;
                }
                let message = format!("Found failed daemon pod {named} on node {}, will try to kill it", node.name);
                plan.events.push(Event::warning(reference(&*placed.seen.set), "FailedDaemonPod", message));
                changes.delete.push(daemon.clone());
            }
            "Succeeded" => {
                let message =
                    format!("Found succeeded daemon pod {named} on node {}, will try to delete it", node.name);
                plan.events.push(Event::normal(reference(&*placed.seen.set), "SucceededDaemonPod", message));
                changes.delete.push(daemon.clone());
            }
            _ => running.push(daemon.clone()),
        }
    }
    // A pod that is bound comes before one that is not, an older before a younger.
    running.sort_by_key(|p| {
        (pod::node_name(p).is_empty(), p.metadata.creation_timestamp.clone(), p.metadata.name.clone())
    });
    if placed.max_surge(1) == 0 {
        changes.delete.extend(running.into_iter().skip(1));
        return;
    }
    if running.is_empty() && node.should_run {
        changes.create.push(node.name.clone());
    }
    if running.len() <= 1 {
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| is_updated(p, hash));
    let (first_new, first_old) = (new.first().cloned(), old.first().cloned());
    changes.delete.extend(new.into_iter().skip(1).chain(old.into_iter().skip(1)));
    if let (Some(new), Some(old)) = (first_new, first_old)
        && (!pod::is_ready(&old) || placed.is_available(&new))
    {
        changes.delete.push(old);
    }
}

/// A node's pod of the newest revision, and that of an older one.
type Generations<'p> = (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>);

/// The new and the old pod of a node; none if there is more than one of either.
fn generations<'p>(node: &'p Place, hash: &str) -> Option<Generations<'p>> {
    let live = node.pods.iter().filter(|p| !pod::is_terminating(p));
    let (new, old): (Vec<_>, Vec<_>) = live.partition(|p| is_updated(p, hash));
    (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
}

/// Replaces old pods as far as the update strategy allows.
fn roll(placed: &Placed<'_>, hash: &str, changes: &mut Changes) {
    let desired = placed.nodes.iter().filter(|n| n.should_run).count();
    let desired = i32::try_from(desired).unwrap_or(i32::MAX);
    let surge = placed.max_surge(desired);
    let unavailable = placed.limit(|r| r.max_unavailable.as_ref(), desired);
    let places: Vec<&Place> = placed.nodes.iter().filter(|n| n.should_run || !n.pods.is_empty()).collect();
    if surge > 0 {
        return roll_with_surge(placed, &places, hash, surge, changes);
    }
    let max_unavailable = if desired > 0 { unavailable.max(1) } else { unavailable };
    let (mut missing, mut candidates) = (0, Vec::new());
    for node in places {
        match generations(node, hash) {
            Some((Some(new), None)) => missing += i32::from(!placed.is_available(new)),
            // What is not available anyway is replaced at once.
            Some((None, Some(old))) if !placed.is_available(old) => {
                changes.delete.push(old.clone());
                missing += 1;
            }
            Some((None, Some(old))) => candidates.push(old.clone()),
            _ => missing += 1,
        }
    }
    let room = usize::try_from(max_unavailable - missing).unwrap_or(0);
    changes.delete.extend(candidates.into_iter().take(room));
}

fn roll_with_surge(placed: &Placed<'_>, places: &[&Place], hash: &str, surge: i32, changes: &mut Changes) {
    let (mut surging, mut candidates) = (0, Vec::new());
    for node in places {
        match generations(node, hash) {
            None => surging += 1,
            Some((_, None)) => {}
            Some((None, Some(old))) if !node.should_run => {
                if !placed.is_available(old) {
                    changes.delete.push(old.clone());
                }
            }
            Some((None, Some(old))) if !placed.is_available(old) => changes.create.push(node.name.clone()),
            Some((None, Some(_))) => candidates.push(node.name.clone()),
            Some((Some(new), Some(_))) if !placed.is_available(new) => surging += 1,
            Some((Some(_), Some(old))) => changes.delete.push(old.clone()),
        }
    }
    let room = usize::try_from(surge - surging).unwrap_or(0);
    changes.create.extend(candidates.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use serde_json::{Value, json};

    use super::*;
    use crate::{claim::Claim, pod::tests as pods};

    fn set(rolling: Value) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "default", "uid": "root", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c"}]}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
        .unwrap()
    }

    fn node(name: &str, taint: Option<&str>) -> Arc<Node> {
        let taints = taint.map(|effect| json!([{"key": "k", "effect": effect}]));
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap())
    }

    /// node, state, whether of the newest revision
    fn daemon(node: &str, state: &str, new: bool, hash: &str) -> Arc<Pod> {
        let mut pod = pods::pod(&format!("{node}-{state}-{new}"), state);
        pod.spec.as_mut().unwrap().node_name = Some(node.into());
        let hash = if new { hash } else { "old" };
        pod.metadata.labels.as_mut().unwrap().insert(history::HASH_LABEL.into(), hash.into());
        Arc::new(pod)
    }

    fn observed(rolling: Value, nodes: Vec<Arc<Node>>, daemons: &[(&str, &str, bool)]) -> Observed {
        let set = set(rolling);
        let template = &set.spec.as_ref().unwrap().template;
        let revision = history::new(&set, template, history::data(template), 1, None, history::HASH_LABEL);
        let hash = history::hash_of(&revision).to_owned();
        let owned = daemons.iter().map(|(n, s, new)| daemon(n, s, *new, &hash)).collect();
        Observed {
            set: Arc::new(set),
            claim: Claim { owned, ..Claim::default() },
            nodes,
            revisions: vec![Arc::new(revision)],
            replace_at: BTreeMap::new(),
            now: pods::now(),
        }
    }

    fn changes(plan: &Plan) -> Vec<String> {
        let pods = plan.writes().filter(|w| w.resource.kind == "Pod");
        pods.map(|w| match w.body() {
            None => format!("-{}", w.name),
            Some(body) => format!("+{}", place::node_of(&serde_json::from_value(body.clone()).unwrap())),
        })
        .collect()
    }

    #[test]
    fn one_pod_a_node() {
        let one = || json!({"maxUnavailable": 1});
        for (what, rolling, nodes, daemons, want) in [
            ("every node gets one", one(), vec![node("a", None), node("b", None)], vec![], vec!["+a", "+b"]),
            ("but not tainted ones", one(), vec![node("a", Some("NoSchedule"))], vec![], vec![]),
            ("what is there may stay", one(), vec![node("a", Some("NoSchedule"))], vec![("a", "ready", true)], vec![]),
            (
                "or must go",
                one(),
                vec![node("a", Some("NoExecute"))],
                vec![("a", "ready", true)],
                vec!["-a-ready-true"],
            ),
            (
                "failed pods are replaced",
                one(),
                vec![node("a", None)],
                vec![("a", "failed", true)],
                vec!["-a-failed-true"],
            ),
            (
                "an update takes down as many as allowed",
                one(),
                vec![node("a", None), node("b", None)],
                vec![("a", "ready", false), ("b", "ready", false)],
                vec!["-a-ready-false"],
            ),
            (
                "and waits for the new ones",
                one(),
                vec![node("a", None), node("b", None)],
                vec![("a", "running", true), ("b", "ready", false)],
                vec![],
            ),
            (
                "unavailable ones go first",
                one(),
                vec![node("a", None), node("b", None)],
                vec![("a", "ready", false), ("b", "running", false)],
                vec!["-b-running-false"],
            ),
            (
                "a surge makes the new one first",
                json!({"maxSurge": 1, "maxUnavailable": 0}),
                vec![node("a", None), node("b", None)],
                vec![("a", "ready", false), ("b", "ready", false)],
                vec!["+a"],
            ),
            (
                "and then removes the old one",
                json!({"maxSurge": 1, "maxUnavailable": 0}),
                vec![node("a", None)],
                vec![("a", "ready", false), ("a", "ready", true)],
                vec!["-a-ready-false"],
            ),
        ] {
            assert_eq!(changes(&plan(&observed(rolling, nodes, &daemons))), want, "{what}");
        }
    }

    #[test]
    fn counts() {
        let nodes = vec![node("a", None), node("b", None), node("c", Some("NoSchedule"))];
        let daemons = [("a", "ready", true), ("b", "running", false), ("c", "ready", true)];
        let plan = plan(&observed(json!({"maxUnavailable": 1}), nodes, &daemons));
        let status = &plan.writes().last().unwrap().body().unwrap()["status"];
        for (field, want) in [
            ("desiredNumberScheduled", 2),
            ("currentNumberScheduled", 2),
            ("numberMisscheduled", 1),
            ("numberReady", 1),
            ("updatedNumberScheduled", 1),
            ("numberUnavailable", 1),
        ] {
            assert_eq!(status[field], want, "{field}");
        }
    }

    #[test]
    fn of_two_revisions_of_one_template_the_newer_stays_with_all_pods() {
        let mut seen = observed(json!({}), vec![node("a", None)], &[("a", "ready", true)]);
        let mut newer = ControllerRevision::clone(&seen.revisions[0]);
        newer.metadata.name = Some("newer".into());
        newer.metadata.labels.get_or_insert_default().insert(history::HASH_LABEL.into(), "h2".into());
        newer.revision += 1;
        let older = seen.revisions[0].metadata.name.clone();
        seen.revisions.push(Arc::new(newer));
        let plan = plan(&seen);
        let steps: Vec<_> =
            plan.steps.iter().map(|step| (step.len(), step[0].is_delete(), step[0].name.clone())).collect();
        assert_eq!(steps.len(), 2, "{steps:?}");
        assert_eq!(plan.steps[0][0].body().unwrap()["metadata"]["labels"][history::HASH_LABEL], "h2");
        assert_eq!(steps[1], (1, true, older.unwrap()));
    }

    #[test]
    fn the_revision_comes_first() {
        let mut seen = observed(json!({}), vec![node("a", None)], &[]);
        seen.revisions.clear();
        let first = plan(&seen);
        let kinds: Vec<_> = first.writes().map(|w| w.resource.kind.to_string()).collect();
        assert_eq!(kinds, ["ControllerRevision"]);
    }
}

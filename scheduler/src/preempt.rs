//! Preemption: which less important pods must leave a node so that a pod fits. Pure, as the decision is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::selector::Selector;
use jiff::Timestamp;

use crate::{
    decide::{Diagnosis, Nominated, checks, histogram, passes},
    framework::Refusal,
    plugins::Profile,
    snapshot::{Node, Pod, Snapshot},
};

/// What a PodDisruptionBudget still allows.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: String,
    pub selector: Selector,
    pub allowed: i32,
    /// Names of pods whose eviction is counted already.
    pub disrupted: BTreeSet<String>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug)]
pub enum Preemption {
    /// These must leave the node for the pod.
    Evict { node: String, victims: Vec<Arc<Pod>> },
    /// Nothing can be done; why, in upstream's words.
    None(String),
}

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// Finds room for `pod`, which fits nowhere for the reasons of `diagnosis`.
pub fn preempt(
    snapshot: &Snapshot,
    pod: &Pod,
    profile: &Profile,
    nominated: &Nominated,
    budgets: &[Budget],
    diagnosis: &Diagnosis,
) -> Preemption {
    if let Some(why) = ineligible(snapshot, pod, diagnosis) {
        return Preemption::None(format!("preemption: not eligible due to {why}."));
    }
    let mut refusals: BTreeMap<&str, String> = BTreeMap::new();
    let mut candidates = Vec::new();
    for node in snapshot.nodes.iter() {
        if !may_help(node, diagnosis) {
            refusals.insert(&node.name, NOT_HELPFUL.to_owned());
            continue;
        }
        match (Attempt { snapshot, pod, profile, nominated }).victims(node, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(refusal) => drop(refusals.insert(&node.name, refusal.to_string())),
        }
    }
    match candidates.into_iter().min_by(|a, b| a.cost.cmp(&b.cost)) {
        Some(best) => Preemption::Evict { node: best.node, victims: best.victims },
        None => Preemption::None(format!(
            "preemption: 0/{} nodes are available: {}.",
            snapshot.nodes.len(),
            histogram(refusals.values())
        )),
    }
}

/// A node that refused for good is not worth looking at, nor is any if all were refused at once.
fn may_help(node: &Node, diagnosis: &Diagnosis) -> bool {
    diagnosis.everywhere.is_none() && diagnosis.nodes.get(&node.name).is_some_and(|r| r.resolvable)
}

fn ineligible(snapshot: &Snapshot, pod: &Pod, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.spec()?.preemption_policy.as_deref() == Some("Never") {
        return Some("preemptionPolicy=Never");
    }
    let promised = pod.object.status.as_ref()?.nominated_node_name.as_deref()?;
    // Where a promised node has become impossible, another one may be looked for at once.
    if diagnosis.nodes.get(promised).is_some_and(|r| !r.resolvable) {
        return None;
    }
    let leaving = |p: &Arc<Pod>| p.is_terminating() && p.priority < pod.priority;
    snapshot.node(promised)?.pods.values().any(leaving).then_some("a terminating pod on the nominated node")
}

struct Attempt<'a> {
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    profile: &'a Profile,
    nominated: &'a Nominated,
}

struct Candidate {
    node: String,
    victims: Vec<Arc<Pod>>,
    cost: Cost,
}

/// What is compared between nodes, the most important first; less is better.
type Cost = (usize, i32, i64, usize, Reverse<Option<Timestamp>>);

impl Attempt<'_> {
    /// All less important pods go, then as many as possible come back, those protected by a budget first.
    fn victims(&self, node: &Arc<Node>, budgets: &[Budget]) -> Result<Candidate, Refusal> {
        let mut lesser: Vec<Arc<Pod>> =
            node.pods.values().filter(|p| p.priority < self.pod.priority).cloned().collect();
        if lesser.is_empty() {
            return Err(Refusal::new("DefaultPreemption", NO_VICTIMS));
        }
        let mut emptied = (**node).clone();
        for pod in &lesser {
            emptied.remove(&pod.uid);
        }
        self.fits(&emptied)?;
        lesser.sort_by_key(|p| (Reverse(p.priority), p.started().unwrap_or(Timestamp::MAX), p.uid.clone()));
        let (violating, harmless) = split(&lesser, budgets);
        let (mut victims, mut violations) = (Vec::new(), 0);
        for (pods, is_violating) in [(violating, true), (harmless, false)] {
            for pod in pods {
                emptied.add(pod.clone());
                if self.fits(&emptied).is_err() {
                    emptied.remove(&pod.uid);
                    violations += usize::from(is_violating);
                    victims.push(pod);
                }
            }
        }
        victims.sort_by_key(|p| (Reverse(p.priority), p.started().unwrap_or(Timestamp::MAX), p.uid.clone()));
        Ok(Candidate { node: node.name.clone(), cost: cost(&victims, violations), victims })
    }

    fn fits(&self, node: &Node) -> Result<(), Refusal> {
        let alone = self.snapshot.with_node(node.clone());
        passes(&checks(&alone, self.pod, self.profile)?, node)?;
        let promised = self.nominated.get(&node.name).into_iter().flatten();
        let promised: Vec<_> = promised.filter(|p| p.priority >= self.pod.priority && p.uid != self.pod.uid).collect();
        if promised.is_empty() {
            return Ok(());
        }
        let mut fuller = node.clone();
        promised.into_iter().for_each(|p| fuller.add(p.clone()));
        let with_promised = self.snapshot.with_node(fuller.clone());
        passes(&checks(&with_promised, self.pod, self.profile)?, &fuller)
    }
}

fn cost(victims: &[Arc<Pod>], violations: usize) -> Cost {
    let highest = victims.iter().map(|p| p.priority).max().unwrap_or(i32::MIN);
    // Shifted, so that more victims never make a smaller sum.
    let sum = victims.iter().map(|p| i64::from(p.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.iter().filter(|p| p.priority == highest).filter_map(|p| p.started()).min();
    (violations, highest, sum, victims.len(), Reverse(earliest))
}

/// Those whose eviction a budget forbids, and the others; each eviction uses up its budgets.
fn split(pods: &[Arc<Pod>], budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<i32> = budgets.iter().map(|b| b.allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            let covers = budget.namespace == pod.namespace
                && !budget.selector.is_everything()
                && budget.selector.matches(&pod.labels);
            if pod.labels.is_empty() || !covers || budget.disrupted.contains(&pod.name) {
                continue;
            }
            *left -= 1;
            violates |= *left < 0;
        }
        violates
    })
}

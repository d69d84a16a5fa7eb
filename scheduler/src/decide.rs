//! The decision: where a pod goes, or why it goes nowhere. Pure: the same arguments give the same decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    framework::{Check, Refusal},
    plugins::Profile,
    snapshot::{Node, Pod, Snapshot},
};

/// Below this all nodes are looked at; above, a share that shrinks as clusters grow.
const NODES_MIN: usize = 100;
const PERCENT_MIN: usize = 5;

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Node(String),
    Nowhere(Diagnosis),
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    pub node_count: usize,
    /// By node; empty if all were refused at once.
    pub nodes: BTreeMap<String, Refusal>,
    /// The refusal of all nodes at once.
    pub everywhere: Option<Refusal>,
}

impl Diagnosis {
    /// Who refused: what must change before another attempt is worthwhile.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        self.nodes.values().chain(&self.everywhere).map(|r| r.plugin).collect()
    }

    /// `0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods.`
    pub fn message(&self) -> String {
        let mut message = format!("0/{} nodes are available:", self.node_count);
        if let Some(refusal) = &self.everywhere {
            return format!("{message} {refusal}.");
        }
        let reasons = histogram(self.nodes.values().flat_map(|r| &r.reasons));
        if !reasons.is_empty() {
            message = format!("{message} {reasons}.");
        }
        message
    }
}

/// `1 a, 2 b`, sorted as text.
pub fn histogram<'a>(reasons: impl IntoIterator<Item = &'a String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counted: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    counted.join(", ")
}

/// Pods that are promised a node where others are being evicted for them, by node.
pub type Nominated = BTreeMap<String, Vec<Arc<Pod>>>;

/// Where `pod` goes. Equally good nodes, and where in a large cluster the search begins, are drawn by `seed`.
pub fn decide(snapshot: &Snapshot, pod: &Pod, profile: &Profile, nominated: &Nominated, seed: u64) -> Decision {
    let refused =
        |everywhere, nodes| Decision::Nowhere(Diagnosis { node_count: snapshot.nodes.len(), nodes, everywhere });
    let checks = match checks(snapshot, pod, profile) {
        Ok(checks) => checks,
        Err(refusal) => return refused(Some(refusal), BTreeMap::new()),
    };
    let (mut feasible, mut refusals) = (Vec::new(), BTreeMap::new());
    let (wanted, count) = (nodes_to_find(snapshot.nodes.len()), snapshot.nodes.len());
    let start = if count > NODES_MIN { mix(seed) as usize % count } else { 0 };
    for node in (0..count).filter_map(|i| snapshot.nodes.get((start + i) % count)) {
        match passes(&checks, node).and_then(|()| passes_with_nominated(snapshot, pod, profile, nominated, node)) {
            Ok(()) => feasible.push(node.as_ref()),
            Err(refusal) => drop(refusals.insert(node.name.clone(), refusal)),
        }
        if feasible.len() == wanted {
            break;
        }
    }
    // A node that others were evicted from for this pod is taken, if it fits by now.
    let promised = pod.object.status.as_ref().and_then(|s| s.nominated_node_name.as_deref());
    if let Some(node) = feasible.iter().find(|n| Some(n.name.as_str()) == promised) {
        return Decision::Node(node.name.clone());
    }
    match best(snapshot, pod, profile, &feasible, seed) {
        Some(node) => Decision::Node(node.name.clone()),
        None => refused(None, refusals),
    }
}

/// The checks of all plugins that have any.
pub fn checks<'a>(snapshot: &'a Snapshot, pod: &'a Pod, profile: &'a Profile) -> Result<Vec<Check<'a>>, Refusal> {
    let mut checks = Vec::new();
    for (plugin, _) in &profile.plugins {
        checks.extend(plugin.filter(pod, snapshot)?);
    }
    Ok(checks)
}

pub fn passes(checks: &[Check], node: &Node) -> Result<(), Refusal> {
    checks.iter().try_for_each(|check| check(node))
}

/// A node must also have room for the pods that were promised it, if they are as important.
fn passes_with_nominated(
    snapshot: &Snapshot,
    pod: &Pod,
    profile: &Profile,
    nominated: &Nominated,
    node: &Arc<Node>,
) -> Result<(), Refusal> {
    let promised = nominated.get(&node.name).into_iter().flatten();
    let promised: Vec<_> = promised.filter(|p| p.priority >= pod.priority && p.uid != pod.uid).cloned().collect();
    if promised.is_empty() {
        return Ok(());
    }
    let mut fuller = (**node).clone();
    promised.into_iter().for_each(|p| fuller.add(p));
    let snapshot = snapshot.with_node(fuller);
    let checks = checks(&snapshot, pod, profile)?;
    snapshot.node(&node.name).map_or(Ok(()), |node| passes(&checks, node))
}

fn best<'a>(snapshot: &Snapshot, pod: &Pod, profile: &Profile, nodes: &[&'a Node], seed: u64) -> Option<&'a Node> {
    if let [] | [_] = nodes {
        return nodes.first().copied();
    }
    let mut totals = vec![0i64; nodes.len()];
    for (plugin, weight) in profile.plugins.iter().filter(|(_, weight)| *weight > 0) {
        let scores = plugin.score(pod, snapshot, nodes).unwrap_or_default();
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * weight;
        }
    }
    let highest = totals.iter().max()?;
    let ties: Vec<&Node> =
        nodes.iter().zip(&totals).filter(|(_, total)| *total == highest).map(|(node, _)| *node).collect();
    ties.get(mix(seed) as usize % ties.len().max(1)).copied()
}

fn nodes_to_find(nodes: usize) -> usize {
    if nodes < NODES_MIN {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(PERCENT_MIN);
    (nodes * percent / 100).max(NODES_MIN)
}

/// Spreads neighbouring seeds over all numbers (the finalizer of SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! InterPodAffinity: pods that want to be near, or far from, others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal, SCORE_MAX},
    snapshot::{Node, Pod, Snapshot, Term},
};

pub struct InterPodAffinity;

/// What a pod that requires this one near it is worth, beside preferences of 1 to 100.
const HARD_AFFINITY_WEIGHT: i64 = 1;

const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";

/// A topology key and the value that a node has for it.
type Place = (String, String);

fn place(term: &Term, node: &Node) -> Option<Place> {
    node.label(&term.topology_key).map(|value| (term.topology_key.clone(), value.to_owned()))
}

fn is_in(places: &HashSet<Place>, node: &Node) -> bool {
    places.iter().any(|(key, value)| node.label(key) == Some(value))
}

fn running(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Node>, &Arc<Pod>)> {
    snapshot.nodes.iter().flat_map(|node| node.pods.values().map(move |pod| (node, pod)))
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        let mut repelled: HashSet<Place> = HashSet::new();
        let mut avoided: HashSet<Place> = HashSet::new();
        let mut wanted: Vec<HashSet<String>> = pod.required_affinity.iter().map(|_| HashSet::new()).collect();
        let mut anybody_matches = false;
        for (node, other) in running(snapshot) {
            let repelling = other.required_anti_affinity.iter().filter(|term| term.matches(pod, snapshot));
            repelled.extend(repelling.filter_map(|term| place(term, node)));
            let avoiding = pod.required_anti_affinity.iter().filter(|term| term.matches(other, snapshot));
            avoided.extend(avoiding.filter_map(|term| place(term, node)));
            // A pod counts only if it matches every term.
            if !pod.required_affinity.is_empty()
                && pod.required_affinity.iter().all(|term| term.matches(other, snapshot))
            {
                for (term, places) in pod.required_affinity.iter().zip(&mut wanted) {
                    if let Some(value) = node.label(&term.topology_key) {
                        anybody_matches = true;
                        places.insert(value.to_owned());
                    }
                }
            }
        }
        if repelled.is_empty() && avoided.is_empty() && pod.required_affinity.is_empty() {
            return Ok(None);
        }
        // The first pod of a group that wants to be together finds nobody yet, and may begin anywhere.
        let begins = !anybody_matches && pod.required_affinity.iter().all(|term| term.matches(pod, snapshot));
        Ok(Some(Box::new(move |node| {
            let near = |(term, places): (&Term, &HashSet<String>)| match node.label(&term.topology_key) {
                None => false,
                Some(value) => begins || places.contains(value),
            };
            if !pod.required_affinity.iter().zip(&wanted).all(near) {
                return Err(Refusal::for_good(self.name(), AFFINITY));
            }
            if is_in(&avoided, node) {
                return Err(Refusal::new(self.name(), ANTI_AFFINITY));
            }
            if is_in(&repelled, node) {
                return Err(Refusal::new(self.name(), EXISTING));
            }
            Ok(())
        })))
    }

    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let mut worth: HashMap<Place, i64> = HashMap::new();
        let mut count = |term: &Term, of: &Pod, node: &Node, weight: i64| {
            if let Some(place) = place(term, node).filter(|_| term.matches(of, snapshot)) {
                *worth.entry(place).or_default() += weight;
            }
        };
        let has_preferences = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
        for (node, other) in running(snapshot).filter(|(_, other)| has_preferences || other.has_affinity()) {
            pod.preferred_affinity.iter().for_each(|(weight, term)| count(term, other, node, *weight));
            pod.preferred_anti_affinity.iter().for_each(|(weight, term)| count(term, other, node, -weight));
            other.required_affinity.iter().for_each(|term| count(term, pod, node, HARD_AFFINITY_WEIGHT));
            other.preferred_affinity.iter().for_each(|(weight, term)| count(term, pod, node, *weight));
            other.preferred_anti_affinity.iter().for_each(|(weight, term)| count(term, pod, node, -weight));
        }
        if worth.is_empty() {
            return None;
        }
        let sum = |node: &&Node| -> i64 {
            worth.iter().filter(|((key, value), _)| node.label(key) == Some(value)).map(|(_, weight)| weight).sum()
        };
        let sums: Vec<i64> = nodes.iter().map(sum).collect();
        let (least, most) = (sums.iter().min().copied()?, sums.iter().max().copied()?);
        let scale = |sum: &i64| if most > least { SCORE_MAX * (sum - least) / (most - least) } else { 0 };
        Some(sums.iter().map(scale).collect())
    }

    fn may_help(&self, _: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeChanged(old, new) => old.labels != new.labels,
            _ => true,
        }
    }
}

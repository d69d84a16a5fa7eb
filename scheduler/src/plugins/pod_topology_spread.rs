//! PodTopologySpread: keeps the numbers of like pods in zones, on nodes and so on close together.

use std::collections::{BTreeMap, HashSet};

use crds::{
    selector::{Labels, Operator, Requirement, Selector},
    taint::{self, NO_EXECUTE, NO_SCHEDULE},
};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::node_affinity;
use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal, SCORE_MAX},
    snapshot::{Node, Pod, Snapshot},
};

pub struct PodTopologySpread;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const NO_MATCH: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: Selector,
    honors_affinity: bool,
    honors_taints: bool,
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = Selector::from_object(constraint.label_selector.as_ref());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                let values = vec![value.clone()];
                selector.requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
            }
        }
        Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
            selector,
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Whether the node counts among those that pods are spread over.
    fn includes(&self, node: &Node, pod: &Pod) -> bool {
        let tolerations = pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let repels = || taint::untolerated(&node.taints, tolerations, &[NO_SCHEDULE, NO_EXECUTE]).is_some();
        (!self.honors_affinity || node_affinity::matches(pod, node)) && !(self.honors_taints && repels())
    }

    fn count(&self, node: &Node, namespace: &str) -> i64 {
        let alike = |p: &&std::sync::Arc<Pod>| {
            !p.is_terminating() && p.namespace == namespace && self.selector.matches(&p.labels)
        };
        node.pods.values().filter(alike).count() as i64
    }
}

fn constraints(pod: &Pod, when: &str) -> Vec<Constraint> {
    let all = pod.spec().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
    all.iter().filter(|c| c.when_unsatisfiable == when).map(|c| Constraint::new(c, &pod.labels)).collect()
}

/// What a pod without constraints of its own is spread by: gently, over nodes and zones, among its service's pods.
fn default_constraints(pod: &Pod, snapshot: &Snapshot) -> Vec<Constraint> {
    let Some(selector) = snapshot.group_of(pod) else { return Vec::new() };
    let constraint = |key: &str, max_skew| Constraint {
        key: key.to_owned(),
        max_skew,
        min_domains: 1,
        selector: selector.clone(),
        honors_affinity: true,
        honors_taints: false,
    };
    vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)]
}

fn has_all_keys(node: &Node, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|c| node.labels.contains_key(&c.key))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        let constraints = constraints(pod, "DoNotSchedule");
        if constraints.is_empty() {
            return Ok(None);
        }
        let mut domains: Vec<BTreeMap<&str, i64>> = constraints.iter().map(|_| BTreeMap::new()).collect();
        for node in snapshot.nodes.iter().filter(|n| has_all_keys(n, &constraints)) {
            for (constraint, domains) in constraints.iter().zip(&mut domains) {
                if let Some(domain) = node.label(&constraint.key).filter(|_| constraint.includes(node, pod)) {
                    *domains.entry(domain).or_default() += constraint.count(node, &pod.namespace);
                }
            }
        }
        Ok(Some(Box::new(move |node| {
            for (constraint, domains) in constraints.iter().zip(&domains) {
                let Some(domain) = node.label(&constraint.key) else {
                    return Err(Refusal::for_good(self.name(), NO_LABEL));
                };
                let fewest = if domains.len() < constraint.min_domains {
                    0
                } else {
                    domains.values().copied().min().unwrap_or(0)
                };
                let own = i64::from(constraint.selector.matches(&pod.labels));
                if domains.get(domain).copied().unwrap_or(0) + own - fewest > constraint.max_skew {
                    return Err(Refusal::new(self.name(), NO_MATCH));
                }
            }
            Ok(())
        })))
    }

    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let own = !pod.spec()?.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty);
        let constraints = if own { constraints(pod, "ScheduleAnyway") } else { default_constraints(pod, snapshot) };
        if constraints.is_empty() {
            return None;
        }
        // With constraints of its own, nodes that lack a label are the last choice.
        let scored = |node: &Node| !own || has_all_keys(node, &constraints);
        let count_of_scored = nodes.iter().filter(|n| scored(n)).count();
        let mut totals = vec![0.0; nodes.len()];
        for constraint in &constraints {
            let by_host = constraint.key == HOSTNAME;
            let present: HashSet<&str> =
                nodes.iter().filter(|n| scored(n)).map(|n| n.label(&constraint.key).unwrap_or("")).collect();
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for node in snapshot.nodes.iter().filter(|n| !by_host && scored(n) && constraint.includes(n, pod)) {
                let domain = node.label(&constraint.key).unwrap_or("");
                if present.contains(domain) {
                    *counts.entry(domain).or_default() += constraint.count(node, &pod.namespace);
                }
            }
            let size = if by_host { count_of_scored } else { present.len() };
            let weight = ((size + 2) as f64).ln();
            for (node, total) in nodes.iter().zip(&mut totals) {
                let Some(domain) = node.label(&constraint.key) else { continue };
                let count = if by_host {
                    constraint.count(node, &pod.namespace)
                } else {
                    counts.get(domain).copied().unwrap_or(0)
                };
                *total += count as f64 * weight + (constraint.max_skew - 1) as f64;
            }
        }
        Some(fewer_is_better(nodes, &totals, scored))
    }

    fn may_help(&self, _: &Pod, event: &ClusterEvent) -> bool {
        !matches!(event, ClusterEvent::Other)
    }
}

fn fewer_is_better(nodes: &[&Node], totals: &[f64], scored: impl Fn(&Node) -> bool) -> Vec<i64> {
    let rounded: Vec<Option<i64>> =
        nodes.iter().zip(totals).map(|(n, t)| scored(n).then_some(t.round() as i64)).collect();
    let (least, most) =
        (rounded.iter().flatten().min().copied().unwrap_or(0), rounded.iter().flatten().max().copied().unwrap_or(0));
    let score = |total: &Option<i64>| match total {
        None => 0,
        Some(_) if most == 0 => SCORE_MAX,
        Some(total) => SCORE_MAX * (most + least - total) / most,
    };
    rounded.iter().map(score).collect()
}

//! NodeAffinity: a pod's node selector and affinity choose nodes by their labels and names.

use std::collections::BTreeMap;

use crds::selector::{Operator, Requirement};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal, normalize},
    snapshot::{Node, Pod, Snapshot},
};

pub struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

/// Whether the node is one that the pod requires.
pub fn matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = pod.spec() else { return true };
    let labelled = |labels: &BTreeMap<String, String>| labels.iter().all(|(k, v)| node.labels.get(k) == Some(v));
    if !spec.node_selector.as_ref().is_none_or(labelled) {
        return false;
    }
    let required = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = required.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selects(selector, node))
}

/// One term is enough.
pub fn selects(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// All of a term's requirements must hold; a term without any matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) =
        (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    labels.iter().all(|r| holds(r, node.label(&r.key)))
        && fields.iter().all(|r| holds(r, (r.key == "metadata.name").then_some(node.name.as_str())))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = requirement.values.clone().unwrap_or_default();
    Requirement { key: requirement.key.clone(), operator, values }.matches_value(value)
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        Ok(Some(Box::new(|node| match matches(pod, node) {
            true => Ok(()),
            false => Err(Refusal::for_good(self.name(), REASON)),
        })))
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let affinity = pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred =
            affinity.preferred_during_scheduling_ignored_during_execution.as_ref().filter(|p| !p.is_empty())?;
        let liked = |node: &&Node| {
            preferred.iter().filter(|p| term_matches(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
        };
        let mut scores: Vec<i64> = nodes.iter().map(liked).collect();
        normalize(&mut scores, false);
        Some(scores)
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => matches(pod, node),
            ClusterEvent::NodeChanged(old, new) => !matches(pod, old) && matches(pod, new),
            _ => false,
        }
    }
}

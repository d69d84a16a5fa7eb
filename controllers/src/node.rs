//! What controllers ask of nodes.

use crds::selector::Labels;
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint};

use crate::runtime::object::name;

pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// Whether a pod's node selector and its required node affinity allow a node.
pub fn is_selected(pod: &PodSpec, node: &Node) -> bool {
    let no_labels = Labels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&no_labels);
    let selector = pod.node_selector.iter().flatten();
    let affinity = pod.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selector.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|selector| matches(selector, node))
}

/// Any of the terms must match; one without requirements matches nothing.
pub fn matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then(|| name(&node.metadata));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, label(&r.key)))
        && fields.iter().all(|r| holds(r, field(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |v: &str| values.iter().any(|want| want == v);
    let compare = |holds: fn(i64, i64) -> bool| {
        let have = value.and_then(|v| v.parse().ok());
        let want = values.first().and_then(|w| w.parse().ok());
        have.zip(want).is_some_and(|(have, want)| holds(have, want))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, want| have > want),
        "Lt" => compare(|have, want| have < want),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selection() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"a": "1", "size": "5"}}})).unwrap();
        let affinity = |term: serde_json::Value| {
            json!({"containers": [], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
        };
        let expression = |operator: &str, key: &str, values: &[&str]| {
            affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (spec, want) in [
            (json!({"containers": []}), true),
            (json!({"containers": [], "nodeSelector": {"a": "1"}}), true),
            (json!({"containers": [], "nodeSelector": {"a": "2"}}), false),
            (expression("In", "a", &["1", "2"]), true),
            (expression("NotIn", "b", &["1"]), true),
            (expression("Gt", "size", &["4"]), true),
            (expression("Lt", "size", &["4"]), false),
            (affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})), true),
            (affinity(json!({})), false),
        ] {
            let pod: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(is_selected(&pod, &node), want, "{spec}");
        }
    }
}

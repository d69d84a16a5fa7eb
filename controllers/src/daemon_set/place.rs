//! Where a daemon pod may run, and how it is bound for its node.

use crds::taint;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration},
};

use crate::{node, pod, runtime::object::name};

const NAME_FIELD: &str = "metadata.name";

/// Daemon pods stay on nodes that are in trouble.
const TOLERATED: [(&str, &str); 7] = [
    (taint::NOT_READY, taint::NO_EXECUTE),
    (taint::UNREACHABLE, taint::NO_EXECUTE),
    (taint::DISK_PRESSURE, taint::NO_SCHEDULE),
    (taint::MEMORY_PRESSURE, taint::NO_SCHEDULE),
    (taint::PID_PRESSURE, taint::NO_SCHEDULE),
    (taint::UNSCHEDULABLE, taint::NO_SCHEDULE),
    (taint::NETWORK_UNAVAILABLE, taint::NO_SCHEDULE),
];

/// The template's pod as it runs on nodes.
pub fn spec(set: &DaemonSet) -> PodSpec {
    let mut spec = set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED {
        if key == taint::NETWORK_UNAVAILABLE && !host_network {
            continue;
        }
        let implied = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |t: &&mut Toleration| {
            t.key == implied.key && t.effect == implied.effect && t.value.is_none() && t.operator == implied.operator
        };
        match tolerations.iter_mut().find(same) {
            Some(toleration) => *toleration = implied,
            None => tolerations.push(implied),
        }
    }
    spec
}

/// Whether a new pod should be made on a node, and whether one that is there may stay.
pub fn fit(spec: &PodSpec, target: &Node) -> (bool, bool) {
    let named = spec.node_name.as_deref().is_none_or(|n| n.is_empty() || n == name(&target.metadata));
    if !named || !node::is_selected(spec, target) {
        return (false, false);
    }
    let (taints, tolerations) = (node::taints(target), spec.tolerations.as_deref().unwrap_or_default());
    let repels = |effects: &[&str]| taint::untolerated(taints, tolerations, effects).is_some();
    (!repels(&[taint::NO_SCHEDULE, taint::NO_EXECUTE]), !repels(&[taint::NO_EXECUTE]))
}

/// Binds a pod for a node through its affinity: the scheduler still has the last word.
pub fn bind(spec: &mut PodSpec, target: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: NAME_FIELD.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![target.to_owned()]),
        }]),
        match_expressions: None,
    };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on or bound for; empty if it is bound for none.
pub fn node_of(daemon: &Pod) -> &str {
    let bound = pod::node_name(daemon);
    if !bound.is_empty() {
        return bound;
    }
    let affinity = daemon.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let fields =
        required.into_iter().flat_map(|r| &r.node_selector_terms).flat_map(|t| t.match_fields.iter().flatten());
    let mut values = fields.filter(|r| r.key == NAME_FIELD && r.operator == "In").filter_map(|r| r.values.as_deref());
    match values.next() {
        Some([only]) => only,
        _ => "",
    }
}

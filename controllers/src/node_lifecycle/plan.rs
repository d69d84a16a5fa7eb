//! What is known of a node's health, as conditions, taints, and the readiness of its pods.

use crds::taint;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Pod, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{Observed, condition_of};
use crate::{
    node,
    plan::{Event, Plan, Write},
    pod,
    runtime::{
        clock::{since, until},
        object::{name, reference},
    },
};

/// Conditions that a silent node no longer vouches for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Condition, the status that is trouble, and the taint that tells of it.
const TROUBLES: [(&str, &str, &str); 6] = [
    ("Ready", "False", taint::NOT_READY),
    ("Ready", "Unknown", taint::UNREACHABLE),
    ("MemoryPressure", "True", taint::MEMORY_PRESSURE),
    ("DiskPressure", "True", taint::DISK_PRESSURE),
    ("PIDPressure", "True", taint::PID_PRESSURE),
    ("NetworkUnavailable", "True", taint::NETWORK_UNAVAILABLE),
];

pub fn plan(seen: &Observed) -> Plan {
    let grace = match condition_of(&seen.node, "Ready") {
        Some(_) => seen.timing.grace,
        None => seen.timing.startup_grace,
    };
    let silent = since(seen.now, seen.heard) >= grace;
    let mut node = Node::clone(&seen.node);
    let (mut plan, mut changed) = (Plan::default(), false);
    if silent {
        let lost = lost_conditions(seen);
        if !lost.is_empty() {
            let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
            for new in &lost {
                conditions.retain(|c| c.type_ != new.type_);
                conditions.push(new.clone());
            }
            let patch = json!({"status": {"conditions": lost}});
            plan = plan.then(Write::strategic::<Node>(&seen.node.metadata, "status", patch));
            changed = true;
        }
    } else {
        let end = seen.heard.checked_add(grace).unwrap_or(seen.now);
        plan = plan.again_after(until(seen.now, end).max(seen.timing.period / 10));
    }
    let was_ready = condition_of(&seen.node, "Ready").is_some_and(|c| c.status == "True");
    let now_ready = condition_of(&node, "Ready").is_some_and(|c| c.status == "True");
    if was_ready && !now_ready {
        let node_name = name(&node.metadata);
        let message = format!("Node {node_name} status is now: NodeNotReady");
        plan = plan.tell(Event::normal(reference(&node), "NodeNotReady", message));
    }
    if !now_ready && condition_of(&node, "Ready").is_some() {
        plan = plan.together(unready_pods(seen));
    }
    // Taints are written against the node as it was seen: after a new status that is the next look.
    if changed { plan } else { plan.together(taints(seen, &node)) }
}

/// The conditions that are unknown from now on.
fn lost_conditions(seen: &Observed) -> Vec<NodeCondition> {
    let lost = VOUCHED.iter().filter_map(|kind| {
        let old = condition_of(&seen.node, kind);
        if old.is_some_and(|c| c.status == "Unknown") {
            return None;
        }
        let (reason, message) = match old {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        Some(NodeCondition {
            type_: (*kind).to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: match old {
                Some(old) => old.last_heartbeat_time.clone(),
                None => seen.node.metadata.creation_timestamp.clone(),
            },
            last_transition_time: Some(Time(seen.now)),
        })
    });
    lost.collect()
}

/// Nobody can say that the pods of such a node are ready.
fn unready_pods(seen: &Observed) -> Vec<Write> {
    let ready = seen.pods.iter().filter(|p| pod::is_ready(p));
    let patch = |p: &std::sync::Arc<Pod>| {
        let time = Time(seen.now);
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": time}]}});
        Write::strategic::<Pod>(&p.metadata, "status", patch).forgiving(&[404, 409])
    };
    ready.map(patch).collect()
}

/// The taints as they should be, if they are not.
fn taints(seen: &Observed, node: &Node) -> Vec<Write> {
    let has = |kind: &str, status: &str| condition_of(node, kind).is_some_and(|c| c.status == status);
    let old = node::taints(node);
    let mut wanted: Vec<(&str, &str)> = TROUBLES
        .iter()
        .filter(|(kind, trouble, _)| has(kind, trouble))
        .map(|(_, _, key)| (*key, taint::NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((taint::UNSCHEDULABLE, taint::NO_SCHEDULE));
    }
    // With no other node to go to, pods stay where they are. What was tainted before stays so.
    for (status, key) in [("False", taint::NOT_READY), ("Unknown", taint::UNREACHABLE)] {
        if has("Ready", status) && seen.others_well {
            wanted.push((key, taint::NO_EXECUTE));
        }
    }
    let ready_known = condition_of(node, "Ready").is_some();
    let managed = |t: &Taint| {
        let condition = TROUBLES.iter().any(|(_, _, key)| *key == t.key) || t.key == taint::UNSCHEDULABLE;
        let scheduling = t.effect == taint::NO_SCHEDULE && condition;
        let executing = t.effect == taint::NO_EXECUTE && matches!(&*t.key, taint::NOT_READY | taint::UNREACHABLE);
        scheduling || executing
    };
    let is = |t: &Taint, (key, effect): &(&str, &str)| t.key == *key && t.effect == *effect;
    let keep = |t: &Taint| {
        // A node that has never reported keeps the taint that it was born with.
        !managed(t) || wanted.iter().any(|w| is(t, w)) || !ready_known && t.key == taint::NOT_READY
    };
    let mut new: Vec<Taint> = old.iter().filter(|t| keep(t)).cloned().collect();
    for (key, effect) in wanted {
        if !new.iter().any(|t| is(t, &(key, effect))) {
            new.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(seen.now)),
            });
        }
    }
    if new == old {
        return Vec::new();
    }
    // The whole list is written: it must still be the one that was seen.
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": new}});
    vec![Write::merge::<Node>(&node.metadata, "", patch)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::{config::NodeTiming, pod::tests as pods, runtime::clock::after};

    fn observed(ready: Option<&str>, taints: Value, heard_ago: i64, others_well: bool) -> Observed {
        let conditions = ready.map(|s| json!([{"type": "Ready", "status": s}]));
        let node = json!({"metadata": {"name": "n", "uid": "u"}, "spec": {"taints": taints},
            "status": {"conditions": conditions}});
        Observed {
            node: Arc::new(serde_json::from_value(node).unwrap()),
            heard: after(pods::now(), -heard_ago),
            pods: vec![Arc::new(pods::pod("a", "ready")), Arc::new(pods::pod("b", "running"))],
            others_well,
            timing: NodeTiming::default(),
            now: pods::now(),
        }
    }

    fn described(plan: &Plan) -> Vec<String> {
        plan.writes()
            .map(|w| {
                let body = w.body().unwrap();
                match &*w.resource.kind {
                    "Pod" => format!("pod {}", w.name),
                    _ if w.subresource == "status" => {
                        format!("status {}", body["status"]["conditions"].as_array().unwrap().len())
                    }
                    _ => {
                        let taints = body["spec"]["taints"].as_array().unwrap();
                        let text = |t: &Value| {
                            format!(
                                "{}:{}",
                                t["key"].as_str().unwrap().rsplit('/').next().unwrap(),
                                t["effect"].as_str().unwrap()
                            )
                        };
                        format!("taints {}", taints.iter().map(text).collect::<Vec<_>>().join(" "))
                    }
                }
            })
            .collect()
    }

    #[test]
    fn health() {
        let not_ready =
            || json!([{"key": taint::NOT_READY, "effect": "NoSchedule"}, {"key": "mine", "effect": "NoExecute"}]);
        for (what, seen, want) in [
            ("all is well", observed(Some("True"), json!([]), 1, true), vec![]),
            ("a node becomes ready", observed(Some("True"), not_ready(), 1, true), vec!["taints mine:NoExecute"]),
            ("a new node is waited for", observed(None, not_ready(), 1, true), vec![]),
            (
                "a node is not ready",
                observed(Some("False"), json!([]), 1, true),
                vec!["pod a", "taints not-ready:NoSchedule not-ready:NoExecute"],
            ),
            ("a node is silent", observed(Some("True"), json!([]), 60, true), vec!["status 4", "pod a"]),
            (
                "and tainted once that is told",
                observed(Some("Unknown"), json!([]), 60, true),
                vec!["status 3", "pod a"],
            ),
            (
                "no node is well: nothing is evicted",
                observed(Some("False"), json!([]), 1, false),
                vec!["pod a", "taints not-ready:NoSchedule"],
            ),
        ] {
            assert_eq!(described(&plan(&seen)), want, "{what}");
        }
    }

    #[test]
    fn looks_again_when_the_grace_is_over() {
        let plan = plan(&observed(Some("True"), json!([]), 20, true));
        assert_eq!(plan.requeue_after.unwrap().as_secs(), 30);
    }
}

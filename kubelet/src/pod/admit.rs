//! Whether a pod that was given to this node can run on it.

use std::collections::BTreeMap;

use crds::{
    pod::sysctl,
    quantity::Quantity,
    selector::{Operator, Requirement},
    taint,
};
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::{PodExt, qos, resource};

/// Why a pod is refused, as its status tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

fn refuse(reason: &str, message: String) -> Result<(), Refusal> {
    Err(Refusal { reason: reason.into(), message })
}

/// What a pod is judged by.
pub struct Place<'a> {
    pub node: &'a Node,
    pub allocatable: &'a resource::List,
    /// The pods that are on the node already and not over.
    pub others: &'a [&'a Pod],
    pub allowed_sysctls: &'a [String],
    /// What presses the node now: `memory`, `disk`, `pid`.
    pub pressures: &'a [&'a str],
}

/// The first thing that keeps the pod away.
pub fn admit(pod: &Pod, place: &Place<'_>) -> Result<(), Refusal> {
    pressure(pod, place)?;
    sysctls(pod, place.allowed_sysctls)?;
    fit(pod, place)?;
    if !matches_node(pod, place.node) {
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if place.others.iter().any(|o| clash(pod, o)) {
        return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let taints = place.node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or(&[]);
    let spec = pod.spec();
    let tolerations = spec.tolerations.as_deref().unwrap_or(&[]);
    if !pod.is_static() && taint::untolerated(taints, tolerations, &[taint::NO_EXECUTE]).is_some() {
        return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

fn predicate(name: &str, why: &str) -> Result<(), Refusal> {
    refuse(name, format!("Predicate {name} failed: {why}"))
}

/// A node under pressure takes no pods, but for those that only memory pressure would hit and that asked for some.
fn pressure(pod: &Pod, place: &Place<'_>) -> Result<(), Refusal> {
    if place.pressures.is_empty() || qos::is_critical(pod) {
        return Ok(());
    }
    let spec = pod.spec();
    let tolerated = taint::tolerated(
        spec.tolerations.as_deref().unwrap_or(&[]),
        &k8s_openapi::api::core::v1::Taint {
            key: taint::MEMORY_PRESSURE.into(),
            effect: taint::NO_SCHEDULE.into(),
            ..Default::default()
        },
    );
    if place.pressures == ["memory"] && (qos::class(pod) != qos::BEST_EFFORT || tolerated) {
        return Ok(());
    }
    let names = place.pressures.iter().map(|p| match *p {
        "memory" => "MemoryPressure",
        "disk" => "DiskPressure",
        _ => "PIDPressure",
    });
    let names = names.collect::<Vec<_>>().join(" ");
    refuse("Evicted", format!("The node had condition: [{names}]. "))
}

fn sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Refusal> {
    let spec = pod.spec();
    let set = spec.security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    for sysctl in set.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        if sysctl::SAFE.contains(&name.as_str()) || allowed.iter().any(fits) {
            continue;
        }
        return refuse("SysctlForbidden", format!("forbidden sysctl: {:?} not allowlisted", sysctl.name));
    }
    Ok(())
}

fn fit(pod: &Pod, place: &Place<'_>) -> Result<(), Refusal> {
    let short = |name: &str, asked: i64, used: i64, capacity: i64| {
        let message =
            format!("Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}");
        refuse(&format!("OutOf{name}"), message)
    };
    // Of cpu thousandths are counted, of everything else whole units.
    let count = |name: &str, q: Quantity| if name == "cpu" { q.millis() } else { q.units() };
    let pods = place.allocatable.get("pods").map_or(i64::MAX, Quantity::units);
    let others = i64::try_from(place.others.len()).unwrap_or(i64::MAX);
    if others + 1 > pods {
        return short("pods", 1, others, pods);
    }
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    for other in place.others {
        for (name, q) in resource::total(other, false) {
            let sum = used.entry(name.clone()).or_default();
            *sum = sum.saturating_add(count(&name, q));
        }
    }
    for (name, q) in resource::total(pod, false) {
        let asked = count(&name, q);
        // What the node does not know of at all is somebody else's to judge.
        let Some(capacity) = place.allocatable.get(&name).map(|c| count(&name, *c)) else { continue };
        let used = used.get(&name).copied().unwrap_or(0);
        if asked > 0 && asked > capacity - used {
            return short(&name, asked, used, capacity);
        }
    }
    Ok(())
}

type Port = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<Port> {
    let all = pod.containers();
    let ports = all.iter().flat_map(|(_, c)| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            let ip = p.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((ip, protocol, p.host_port.filter(|n| *n > 0)?))
        })
        .collect()
}

fn clash(a: &Pod, b: &Pod) -> bool {
    let any = |ip: &str| matches!(ip, "0.0.0.0" | "::");
    let theirs = host_ports(b);
    host_ports(a)
        .iter()
        .any(|x| theirs.iter().any(|y| x.1 == y.1 && x.2 == y.2 && (x.0 == y.0 || any(&x.0) || any(&y.0))))
}

/// The labels of a node may change while a pod runs; this is asked only when it comes.
fn matches_node(pod: &Pod, node: &Node) -> bool {
    let spec = pod.spec();
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let required = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = required.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or("");
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches_term(term, labels, name)))
}

/// All of a term's expressions must hold; an empty term matches nothing.
fn matches_term(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let (expressions, fields) = (term.match_expressions.iter().flatten(), term.match_fields.iter().flatten());
    let some = term.match_expressions.iter().flatten().chain(term.match_fields.iter().flatten()).next().is_some();
    let holds = |r: &NodeSelectorRequirement, value: Option<&str>| {
        let operator = match r.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            _ => return false,
        };
        Requirement { key: r.key.clone(), operator, values: r.values.clone().unwrap_or_default() }.matches_value(value)
    };
    let field = |r: &NodeSelectorRequirement| (r.key == "metadata.name").then_some(name);
    some && expressions.into_iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.into_iter().all(|r| holds(r, field(r)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn refusals() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}))
        .unwrap();
        let list = |cpu: i64| {
            resource::List::from([("cpu".into(), Quantity::from_units(cpu)), ("pods".into(), Quantity::from_units(2))])
        };
        let tolerating = json!([{"operator": "Exists"}]);
        let cpu = |n: &str| json!([{"name": "c", "resources": {"requests": {"cpu": n}}, "ports": [{"containerPort": 1, "hostPort": 80}]}]);
        let other = pod(json!({"containers": cpu("500m")}));
        for (spec, want) in [
            (json!({"tolerations": tolerating}), ""),
            (json!({}), "TaintToleration"),
            (json!({"tolerations": tolerating, "nodeSelector": {"a": "c"}}), "NodeAffinity"),
            (json!({"tolerations": tolerating, "containers": cpu("600m")}), "OutOfcpu"),
            (json!({"tolerations": tolerating, "containers": cpu("100m")}), "NodePorts"),
            (json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), "SysctlForbidden"),
        ] {
            let (allocatable, pod) = (list(1), pod(spec));
            let place = Place {
                node: &node,
                allocatable: &allocatable,
                others: &[&other],
                allowed_sysctls: &[],
                pressures: &[],
            };
            let got = admit(&pod, &place).err().map(|r| r.reason).unwrap_or_default();
            assert_eq!(got, want);
            if want == "OutOfcpu" {
                let message = admit(&pod, &place).unwrap_err().message;
                assert_eq!(message, "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000");
            }
        }
    }
}

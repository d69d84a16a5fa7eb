//! Keeps the node's status in the API up to date.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::status::{self, Seen};
use crate::{agent::Agent, event::Severity};

/// How long a node that was ready is not reported otherwise by an agent that has just started.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Looks every so often and writes when something changed, or when it was silent for long. Never returns.
pub async fn run(agent: Arc<Agent>, port: u16, mut network: tokio::sync::watch::Receiver<bool>) {
    let mut ticks = interval(agent.config.status_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut written: Option<Instant> = None;
    // Until the node is first ready its progress is worth a closer look.
    let mut quick = interval(Duration::from_millis(200));
    quick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = false;
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            _ = quick.tick(), if !ready => {}
            Ok(()) = network.changed() => {}
        }
        let configured = *network.borrow();
        let seen = look(&agent, port, configured).await;
        let Some(node) = agent.node.read().clone() else { continue };
        let old = node.status.clone().unwrap_or_default();
        let new = status::status(&agent.config, &seen, &old, agent.clock.now());
        let was = ready;
        ready = is_ready(&new);
        if ready != was {
            let (reason, word) = if ready { ("NodeReady", "NodeReady") } else { ("NodeNotReady", "NodeNotReady") };
            let name = &agent.config.node_name;
            agent.events.node(name, Severity::Normal, reason, format!("Node {name} status is now: {word}"));
            info!(ready, "the node's readiness changed");
        }
        if settles(&old, ready, begun.elapsed()) {
            continue;
        }
        let due = written.is_none_or(|at| at.elapsed() >= agent.config.status_report_period);
        if !due && !status::differs(&old, &new) {
            continue;
        }
        match write(&agent, &old, &new).await {
            Ok(served) => {
                written = Some(Instant::now());
                *agent.node.write() = Some(Arc::new(served));
            }
            Err(error) => warn!(%error, "cannot write the node's status"),
        }
    }
}

/// While the runtime and the network are looked up anew, nothing has happened to the pods: a report that the node is not
/// ready would have them all marked so.
fn settles(reported: &NodeStatus, ready: bool, elapsed: Duration) -> bool {
    !ready && is_ready(reported) && elapsed < SETTLE_MAX
}

fn is_ready(status: &NodeStatus) -> bool {
    crds::condition::is_true(status.conditions.as_ref(), "Ready")
}

async fn look(agent: &Agent, port: u16, network_configured: bool) -> Seen {
    let (status, version, images) =
        futures::join!(agent.runtime.status(), agent.runtime.version(), agent.runtime.list_images());
    let host = agent.host();
    let version = version.ok().map(|v| (v.runtime_name, v.runtime_version));
    if let Some((name, _)) = &version {
        agent.host.write().runtime.clone_from(name);
    }
    Seen {
        machine: agent.machine.clone(),
        space: agent.system.space(&agent.config.root_dir).unwrap_or_default(),
        addresses: host.ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        hostname: agent.config.node_name.clone(),
        runtime: version,
        runtime_status: status.map_err(|e| e.message),
        images: images.unwrap_or_default(),
        port,
        pressures: agent.pressures.lock().clone(),
        network_configured,
    }
}

/// Sends members that changed. Lists that are merged by key are replaced where an entry is gone.
async fn write(agent: &Agent, old: &NodeStatus, new: &NodeStatus) -> kube::Result<Node> {
    let api: Api<Node> = Api::all(agent.client.clone());
    let patch = json!({"status": changes(old, new)});
    api.patch_status(&agent.config.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await
}

fn changes(old: &NodeStatus, new: &NodeStatus) -> Value {
    let object = |s: &NodeStatus| serde_json::to_value(s).ok().and_then(|v| v.as_object().cloned()).unwrap_or_default();
    let (old, mut new) = (object(old), object(new));
    new.retain(|name, value| name == "conditions" || old.get(name) != Some(value));
    if let (Some(addresses), Some(before)) =
        (new.get_mut("addresses").and_then(Value::as_array_mut), old.get("addresses"))
        && before.as_array().is_some_and(|b| b.iter().any(|a| !addresses.contains(a)))
    {
        addresses.push(json!({"$patch": "replace"}));
    }
    Value::Object(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(ready: &str) -> NodeStatus {
        serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": ready}]})).unwrap()
    }

    #[test]
    fn a_restart_leaves_a_node_ready() {
        let soon = Duration::from_millis(200);
        assert!(settles(&reported("True"), false, soon));
        assert!(!settles(&reported("True"), true, soon));
        assert!(!settles(&reported("True"), false, SETTLE_MAX));
        // A new node, or one that was not ready before, is told of at once.
        assert!(!settles(&reported("False"), false, soon));
        assert!(!settles(&NodeStatus::default(), false, soon));
    }
}

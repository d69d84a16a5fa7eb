//! The pod network of the node: a CNI configuration for the addresses that the cluster gave it.

use std::{path::Path, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{agent::Agent, system::System};

const FILE: &str = "10-keelson.conflist";

/// Follows the node's object: keeps it for the rest of the agent and writes the configuration. Never returns.
pub async fn run(agent: Arc<Agent>, configured: watch::Sender<bool>) {
    let api: Api<Node> = Api::all(agent.client.clone());
    let mut nodes = watch_object(api, &agent.config.node_name).default_backoff().boxed();
    while let Some(event) = nodes.next().await {
        let node = match event {
            Ok(Some(node)) => node,
            Ok(None) => continue,
            Err(error) => {
                debug!(%error, "the watch of the node broke");
                continue;
            }
        };
        if let Some(dir) = &agent.config.cni_conf_dir {
            let ranges = ranges(&node);
            if !ranges.is_empty() {
                match write(agent.system.as_ref(), dir, &ranges) {
                    Ok(()) => _ = configured.send_replace(true),
                    Err(error) => warn!(%error, "cannot write the CNI configuration"),
                }
            }
        }
        *agent.node.write() = Some(Arc::new(node));
    }
}

fn ranges(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.clone().filter(|c| !c.is_empty());
    all.unwrap_or_else(|| spec.pod_cidr.clone().into_iter().collect())
}

/// A link from each pod to its node, with an address of each range, and host ports.
///
/// Everything between pods passes the node's routing, where the service proxy changes addresses: over a bridge answers
/// would take a shorter way back, past it.
pub fn conflist(ranges: &[String]) -> Value {
    let any = |range: &String| if range.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<_> = ranges.iter().map(|r| json!({"dst": any(r)})).collect();
    let ranges: Vec<_> = ranges.iter().map(|r| json!([{"subnet": r}])).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "keelson",
        "plugins": [
            {
                "type": "ptp", "ipMasq": false,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    })
}

fn write(system: &dyn System, dir: &Path, ranges: &[String]) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(&conflist(ranges))?;
    let path = dir.join(FILE);
    if system.read(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    info!(?ranges, "configuring the pod network");
    system.create_dir(dir, 0o755)?;
    // The runtime watches the folder: it must never read half a file.
    let new = dir.join(format!(".{FILE}"));
    system.write(&new, &text, 0o644)?;
    system.rename(&new, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families() {
        let made = conflist(&["10.244.0.0/24".into(), "fd00::/64".into()]);
        assert_eq!(made["plugins"][0]["ipam"]["ranges"][1][0]["subnet"], "fd00::/64");
        assert_eq!(made["plugins"][0]["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
    }
}

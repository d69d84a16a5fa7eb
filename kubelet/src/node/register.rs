//! Makes the node known to the cluster, or itself known to a cluster that has the node already.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Node, NodeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::{info, warn};

use crate::agent::Agent;

/// The first and the longest wait between tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(7));

/// Returns when the node is registered.
pub async fn register(agent: &Agent) -> Node {
    let mut pause = RETRY.0;
    loop {
        match attempt(agent).await {
            Ok(node) => return node,
            Err(error) => warn!(%error, "cannot register the node yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Labels that every node has.
fn labels(agent: &Agent) -> BTreeMap<String, String> {
    let arch = agent.machine.architecture.clone();
    let mut labels = agent.config.node_labels.clone();
    for (key, value) in [
        ("beta.kubernetes.io/arch", arch.clone()),
        ("beta.kubernetes.io/os", "linux".into()),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", agent.config.node_name.clone()),
        ("kubernetes.io/os", "linux".into()),
    ] {
        labels.entry(key.into()).or_insert(value);
    }
    labels
}

async fn attempt(agent: &Agent) -> kube::Result<Node> {
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    let node = Node {
        metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels(agent)), ..Default::default() },
        spec: Some(NodeSpec {
            provider_id: agent.config.provider_id.clone(),
            taints: Some(agent.config.register_with_taints.clone()).filter(|t| !t.is_empty()),
            ..Default::default()
        }),
        status: None,
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(node) => {
            info!(name, "registered the node");
            return Ok(node);
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    let found = api.get(name).await?;
    let have = found.metadata.labels.clone().unwrap_or_default();
    let missing: BTreeMap<_, _> = labels(agent).into_iter().filter(|(k, v)| have.get(k) != Some(v)).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    api.patch(name, &PatchParams::default(), &Patch::Strategic(json!({"metadata": {"labels": missing}}))).await
}

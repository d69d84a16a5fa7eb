//! The node's heartbeat: a lease that is renewed in a task of its own, whatever else is slow.

use std::sync::Arc;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{Api, api::PostParams};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::agent::Agent;

/// Never returns.
pub async fn run(agent: Arc<Agent>) {
    let api: Api<Lease> = Api::namespaced(agent.client.clone(), "kube-node-lease");
    let mut ticks = interval(agent.config.lease_duration / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Lease> = None;
    loop {
        ticks.tick().await;
        match renew(&agent, &api, last.take()).await {
            Ok(lease) => last = Some(lease),
            Err(error) => warn!(%error, "cannot renew the node's lease"),
        }
    }
}

async fn renew(agent: &Agent, api: &Api<Lease>, last: Option<Lease>) -> kube::Result<Lease> {
    let name = &agent.config.node_name;
    let known = match last {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let Some(mut lease) = known else {
        return api.create(&PostParams::default(), &fresh(agent)).await;
    };
    let spec = lease.spec.get_or_insert_default();
    spec.renew_time = Some(micros(agent));
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = i32::try_from(agent.config.lease_duration.as_secs()).ok();
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
        lease.metadata.owner_references = fresh(agent).metadata.owner_references;
    }
    api.replace(name, &PostParams::default(), &lease).await
}

fn micros(agent: &Agent) -> MicroTime {
    MicroTime(agent.clock.now())
}

fn fresh(agent: &Agent) -> Lease {
    let name = &agent.config.node_name;
    let node = agent.node.read().clone();
    let owner = node.and_then(|n| n.metadata.uid.clone()).map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid,
        ..Default::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("kube-node-lease".into()),
            owner_references: owner.map(|o| vec![o]),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: i32::try_from(agent.config.lease_duration.as_secs()).ok(),
            renew_time: Some(micros(agent)),
            ..Default::default()
        }),
    }
}

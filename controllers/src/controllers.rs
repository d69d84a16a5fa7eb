//! THE TABLE of all controllers, and their start and stop.
//!
//! A new controller is one file and two lines here: its row, and its module in `lib.rs`.

use std::sync::Arc;

use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    certificate::{CertificateApprovingController, CertificateCleanerController, CertificateSigningController},
    cluster_role_aggregation::ClusterRoleAggregationController,
    config::Config,
    cron_job::CronJobController,
    daemon_set::DaemonSetController,
    deployment::DeploymentController,
    disruption::DisruptionController,
    endpoint_slice::EndpointSliceController,
    endpoint_slice_mirroring::EndpointSliceMirroringController,
    endpoints::EndpointsController,
    ephemeral_volume::EphemeralVolumeController,
    garbage_collector,
    job::JobController,
    namespace::NamespaceController,
    node_ipam::NodeIpamController,
    node_lifecycle::NodeLifecycleController,
    persistent_volume::{ClaimBinderController, VolumeBinderController},
    pod_gc::PodGcController,
    replica_set::ReplicaSetController,
    replication_controller::ReplicationControllerController,
    resource_quota::ResourceQuotaController,
    root_ca::RootCaController,
    runtime::{Controller, Runtime, leader::Elector, metrics::Metrics, server::Server},
    service_account::ServiceAccountController,
    stateful_set::StatefulSetController,
    taint_eviction::TaintEvictionController,
    ttl_after_finished::TtlAfterFinishedController,
    validating_admission_policy_status::ValidatingAdmissionPolicyStatusController,
    volume_protection::{AttributesClassProtectionController, ClaimProtectionController, VolumeProtectionController},
};

/// A controller's name, as it can be switched off, and how it is started.
type Row = (&'static str, fn(&Runtime));

/// Rows of controllers, and after `;` of those that bring their own loop.
macro_rules! table {
    ($($controller:ident),* $(,)?; $($own:ident),* $(,)?) => {
        &[
            $((<$controller as Controller>::NAME, |runtime| runtime.run($controller::default())),)*
            $(($own::NAME, $own::run),)*
        ]
    };
}

pub const TABLE: &[Row] = table![
    AttributesClassProtectionController,
    CertificateApprovingController,
    CertificateCleanerController,
    CertificateSigningController,
    ClaimBinderController,
    ClaimProtectionController,
    ClusterRoleAggregationController,
    CronJobController,
    DaemonSetController,
    DeploymentController,
    DisruptionController,
    EndpointSliceController,
    EndpointSliceMirroringController,
    EndpointsController,
    EphemeralVolumeController,
    JobController,
    NamespaceController,
    NodeIpamController,
    NodeLifecycleController,
    PodGcController,
    ReplicaSetController,
    ReplicationControllerController,
    ResourceQuotaController,
    RootCaController,
    ServiceAccountController,
    StatefulSetController,
    TaintEvictionController,
    TtlAfterFinishedController,
    ValidatingAdmissionPolicyStatusController,
    VolumeBinderController,
    VolumeProtectionController,
    ;
    garbage_collector,
];

/// All controllers, running.
pub struct Controllers {
    stop: CancellationToken,
    running: JoinHandle<()>,
    pub metrics: Metrics,
}

impl Controllers {
    /// Starts them, at once or (with leader election) when this process leads.
    pub fn start(client: Client, config: Config) -> Self {
        let (stop, metrics) = (CancellationToken::new(), Metrics::default());
        let server = Server::new(client);
        let running = tokio::spawn(lead(server, Arc::new(config), metrics.clone(), stop.clone()));
        Self { stop, running, metrics }
    }

    /// Lets the work under way come to its end.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the controllers did not stop well");
        }
    }

    /// Returns once the controllers have stopped by themselves: the leadership was lost for good.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.running).await {
            tracing::error!(%error, "the controllers did not stop well");
        }
    }
}

async fn lead(server: Server, config: Arc<Config>, metrics: Metrics, stop: CancellationToken) {
    let Some(election) = config.leader_election.clone() else {
        let runtime = run(server, config, metrics);
        stop.cancelled().await;
        return finish(runtime).await;
    };
    let mut elector = Elector::new(server.clone(), config.clock, election);
    while stop.run_until_cancelled(elector.acquire()).await.is_some() {
        let runtime = run(server.clone(), config.clone(), metrics.clone());
        let lost = stop.run_until_cancelled(elector.hold()).await.is_some();
        finish(runtime).await;
        if lost {
            tracing::warn!("the leadership was lost");
            continue;
        }
        if let Err(error) = elector.release().await {
            tracing::warn!(%error, "the lease was not released");
        }
    }
}

fn run(server: Server, config: Arc<Config>, metrics: Metrics) -> Runtime {
    let runtime = Runtime::new(server, config, metrics);
    for (name, start) in TABLE {
        if !runtime.config.disabled.contains(*name) {
            start(&runtime);
        }
    }
    runtime
}

async fn finish(runtime: Runtime) {
    runtime.stop.cancel();
    runtime.tracker.close();
    runtime.tracker.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }
}

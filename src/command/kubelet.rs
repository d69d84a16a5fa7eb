//! `keelson kubelet`: the node agent alone, for any cluster.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use super::{Result, asked_to_end, client::Cluster};
use crate::machine;

#[derive(Args)]
pub struct Kubelet {
    #[command(flatten)]
    cluster: Cluster,
    /// The node's name; by default the machine's.
    #[arg(long)]
    hostname_override: Option<String>,
    /// The address that the node reports; by default that of the default route.
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// The container runtime's socket.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    container_runtime_endpoint: PathBuf,
    /// Where volumes and certificates lie.
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// What pods ask for names.
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// A folder of pods that run without the API server.
    #[arg(long)]
    pod_manifest_path: Option<PathBuf>,
}

impl Kubelet {
    pub async fn run(self) -> Result {
        let endpoint =
            self.container_runtime_endpoint.strip_prefix("unix:").unwrap_or(&self.container_runtime_endpoint);
        let config = kubelet::Config {
            node_name: self.hostname_override.unwrap_or_else(machine::host_name),
            node_ip: self.node_ip.or_else(|| Some(machine::address())),
            runtime_endpoint: endpoint.to_owned(),
            root_dir: self.root_dir,
            cluster_dns: self.cluster_dns,
            cluster_domain: self.cluster_domain,
            static_pod_path: self.pod_manifest_path,
            ..kubelet::Config::default()
        };
        let mut running = kubelet::Kubelet::start(config, self.cluster.client().await?).await?;
        tokio::select! {
            ended = asked_to_end() => ended?,
            () = running.ended() => return Err("a part of the node agent ended by itself".into()),
        }
        running.stop().await;
        Ok(())
    }
}

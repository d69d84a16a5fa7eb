//! Flags of the components that are clients of a cluster.

use std::path::PathBuf;

use clap::Args;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::Result;

#[derive(Args)]
pub struct Cluster {
    /// How to reach the API server.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
}

impl Cluster {
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }
}

/// A client from a kubeconfig's current context.
pub async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let failed = |e: kube::config::KubeconfigError| format!("{}: {e}", kubeconfig.display());
    let read = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(failed)?;
    Ok(Client::try_from(config)?)
}

//! `keelson run`: the whole cluster in the foreground.

use apiserver::zpages::Flags;
use clap::Args;
use ipnet::IpNet;

use super::{Place, Result, asked_to_end};
use crate::cluster::{Cluster, Config};

#[derive(Args, Clone)]
pub struct Run {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub shape: Shape,
}

/// What can be chosen about a cluster.
#[derive(Args, Clone)]
pub struct Shape {
    /// The API server's port.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// The node's name; by default the machine's.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Where pods get their addresses from.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: IpNet,
}

impl Run {
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::new(self.place.open()?);
        config.secure_port = self.shape.secure_port;
        config.pod_range = self.shape.cluster_cidr;
        config.node_name = self.shape.node_name.clone().unwrap_or(config.node_name);
        Ok(config)
    }

    pub async fn run(self, flags: Flags) -> Result {
        let cluster = Cluster::start(Config { flags, ..self.config()? }).await?;
        asked_to_end().await?;
        cluster.stop().await;
        Ok(())
    }
}

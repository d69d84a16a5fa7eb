//! Makes Services reachable on a machine: cluster IPs, node ports, external and load balancer addresses, with nftables.
//!
//! Everything up to the script that changes the kernel's rules is pure: objects become [`service::ServicePort`]s, these
//! a [`ruleset::Ruleset`], and two rule sets the difference between them, which is applied in one atomic transaction, so
//! that no packet ever meets half of a change.

pub mod nft;
pub mod rules;
pub mod ruleset;
pub mod service;
mod watch;

use ipnet::IpNet;
use tokio::task::JoinSet;

/// What the proxy of a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node that it runs on: whose endpoints are local.
    pub node_name: String,
    /// Pods' addresses: traffic to a cluster IP from elsewhere is masqueraded, so that answers come back this way.
    pub cluster_cidrs: Vec<IpNet>,
}

/// A running proxy; when it is dropped the rules stay, and connections go on.
pub struct Proxy {
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Checks that rules can be set, then keeps them true to the cluster's Services.
    pub async fn start(config: Config, client: kube::Client) -> Result<Self, nft::NftError> {
        nft::run("add table ip keelson-proxy\nadd table ip6 keelson-proxy\n").await?;
        let mut tasks = JoinSet::new();
        watch::start(config, client, &mut tasks);
        Ok(Self { _tasks: tasks })
    }

    /// Takes away everything that a proxy has put into the kernel of this network namespace.
    pub async fn clean() -> Result<(), nft::NftError> {
        let tables = ["ip", "ip6"]
            .map(|family| format!("add table {family} keelson-proxy\ndelete table {family} keelson-proxy\n"));
        nft::run(&tables.concat()).await
    }
}

//! `keelson apiserver`: the API server alone, from nothing.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use apiserver::{
    pipeline::Apiserver as Server,
    runtime_config::RuntimeConfig,
    start::{Config, StoreKind},
    zpages::Flags,
};
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::{Place, Result, asked_to_end};
use crate::machine;

mod audit;
mod authentication;
mod authorization;
mod etcd;
mod flow;
mod service_account;

#[derive(Args)]
pub struct Apiserver {
    #[command(flatten)]
    place: Place,
    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind_address: IpAddr,
    /// The port to listen on; 0 lets the system choose.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Where Services get their addresses from.
    #[arg(long, default_value = "10.0.0.0/16")]
    service_cluster_ip_range: IpNet,
    /// Where objects are kept, unless that is etcd.
    #[arg(long, value_enum, default_value_t, conflicts_with = "etcd_servers")]
    store: Store,
    #[command(flatten)]
    etcd: etcd::Flags,
    /// An EncryptionConfiguration: how resources are encrypted in the store.
    #[arg(long)]
    encryption_provider_config: Option<PathBuf>,
    /// Turns built-in APIs on and off: group/version=true|false, group/version/resource=true|false (the core group is
    /// empty: /v1), and api/all, api/ga, api/beta, api/alpha for all versions, or those of such names.
    #[arg(long, value_name = "KEY=VALUE,…")]
    runtime_config: Vec<String>,
    /// Admission plugins that are on by default and shall not be.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    #[command(flatten)]
    service_accounts: service_account::Flags,
    #[command(flatten)]
    authentication: authentication::Flags,
    #[command(flatten)]
    authorization: authorization::Flags,
    #[command(flatten)]
    audit: audit::Flags,
    #[command(flatten)]
    flow: flow::Flags,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Store {
    /// In memory: gone with the process.
    Memory,
    /// In the data directory.
    #[default]
    Embedded,
}

/// `5m30s`
fn duration(text: &str) -> std::result::Result<std::time::Duration, String> {
    apiserver::authorize::mode::duration(text).ok_or_else(|| format!("\"{text}\" is no duration"))
}

impl From<Store> for StoreKind {
    fn from(store: Store) -> Self {
        match store {
            Store::Memory => Self::Memory,
            Store::Embedded => Self::Embedded,
        }
    }
}

impl Apiserver {
    pub async fn run(self, flags: Flags) -> Result {
        let data = self.place.open()?;
        let mut config = Config::new(data.path());
        (config.bind, config.secure_port, config.store) = (self.bind_address, self.secure_port, self.store.into());
        config.flags = flags;
        config.names.host = machine::host_name();
        config.service_range = self.service_cluster_ip_range;
        config.runtime = RuntimeConfig::parse(&self.runtime_config)?;
        config.disabled_plugins = self.disable_admission_plugins;
        config.encryption_provider_config = self.encryption_provider_config;
        self.etcd.put(&mut config);
        self.service_accounts.put(&mut config);
        self.authentication.put(&mut config)?;
        self.authorization.put(&mut config)?;
        self.audit.put(&mut config);
        self.flow.put(&mut config);
        let running = Server::start(config).await?;
        tracing::info!(address = %running.address, kubeconfig = %running.admin_kubeconfig.display(), "serving");
        asked_to_end().await?;
        running.stop().await;
        Ok(())
    }
}

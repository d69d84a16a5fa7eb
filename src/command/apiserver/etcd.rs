//! Flags about the etcd that objects are kept in.

use std::{path::PathBuf, time::Duration};

use apiserver::start::{Config, EtcdOptions, StoreKind};
use clap::Args;

#[derive(Args)]
#[group(skip)]
pub struct Flags {
    /// The servers of an etcd, scheme://ip:port: objects are kept there, and several API servers may share it.
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// What all keys in etcd begin with.
    #[arg(long, default_value = "/registry", requires = "etcd_servers")]
    etcd_prefix: String,
    /// Who signs the certificates of the servers of etcd.
    #[arg(long, requires = "etcd_servers")]
    etcd_cafile: Option<PathBuf>,
    /// The certificate that etcd is shown.
    #[arg(long, requires = "etcd_servers", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "etcd_servers", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// How often etcd is told to forget what is older; 0: never.
    #[arg(long, default_value = "5m0s", value_parser = super::duration, requires = "etcd_servers")]
    etcd_compaction_interval: Duration,
}

impl Flags {
    pub fn put(self, config: &mut Config) {
        if self.etcd_servers.is_empty() {
            return;
        }
        config.store = StoreKind::Etcd(EtcdOptions {
            prefix: self.etcd_prefix,
            ca_file: self.etcd_cafile,
            cert_file: self.etcd_certfile,
            key_file: self.etcd_keyfile,
            compaction_interval: self.etcd_compaction_interval,
            ..EtcdOptions::new(self.etcd_servers)
        });
    }
}

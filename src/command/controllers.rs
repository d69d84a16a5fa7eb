//! `keelson controllers`: all controllers, for any cluster.

use std::path::PathBuf;

use clap::Args;
use controllers::config::{Config, Signer};

use super::{Result, asked_to_end, client::Cluster};

#[derive(Args)]
pub struct Controllers {
    #[command(flatten)]
    cluster: Cluster,
    /// The certificate of the authority that signs certificates (with its key: the signing controller runs).
    #[arg(long, requires = "cluster_signing_key_file")]
    cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long, requires = "cluster_signing_cert_file")]
    cluster_signing_key_file: Option<PathBuf>,
    /// The authority that pods are told to trust; by default the signing one.
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
}

impl Controllers {
    pub async fn run(self) -> Result {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
        let mut config = Config::default();
        if let (Some(certificate), Some(key)) = (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            config.root_ca_pem = Some(read(certificate)?);
            config.signer = Some(Signer { certificate_pem: read(certificate)?, key_pem: read(key)? });
        }
        if let Some(root) = &self.root_ca_file {
            config.root_ca_pem = Some(read(root)?);
        }
        let mut controllers = controllers::controllers::Controllers::start(self.cluster.client().await?, config);
        tokio::select! {
            ended = asked_to_end() => ended?,
            () = controllers.ended() => return Ok(()),
        }
        controllers.stop().await;
        Ok(())
    }
}

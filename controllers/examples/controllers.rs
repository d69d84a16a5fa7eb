//! Runs all controllers against the cluster of the current kubeconfig until interrupted.
//!
//! `SIGNER_CERT` and `SIGNER_KEY` name the files that certificates are signed with, `ROOT_CA` the file to publish.

use controllers::{
    config::{Config, Signer},
    controllers::Controllers,
};

fn file(variable: &str) -> Result<Option<String>, std::io::Error> {
    std::env::var(variable).ok().map(std::fs::read_to_string).transpose()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let client = kube::Client::try_default().await?;
    let signer = file("SIGNER_CERT")?.zip(file("SIGNER_KEY")?);
    let config = Config {
        root_ca_pem: file("ROOT_CA")?,
        signer: signer.map(|(certificate_pem, key_pem)| Signer { certificate_pem, key_pem }),
        cluster_cidr: Some("10.244.0.0/16".to_owned()),
        ..Config::default()
    };
    let running = Controllers::start(client, config);
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}

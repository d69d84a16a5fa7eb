//! Runs a node agent by itself: `kubelet KUBECONFIG NODE-NAME NODE-IP ROOT-DIR [RUNTIME-SOCKET]`.

use std::path::PathBuf;

use kube::{
    Client, Config as ClientConfig,
    config::{KubeConfigOptions, Kubeconfig},
};
use kubelet::{Config, Kubelet, config::Eviction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, name, ip, root, rest @ ..] = arguments.as_slice() else {
        return Err("usage: kubelet KUBECONFIG NODE-NAME NODE-IP ROOT-DIR [RUNTIME-SOCKET]".into());
    };
    let file = Kubeconfig::read_from(kubeconfig)?;
    let client = ClientConfig::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let root = PathBuf::from(root);
    let mut config = Config {
        node_name: name.clone(),
        node_ip: Some(ip.parse()?),
        address: ip.parse()?,
        root_dir: root.join("kubelet"),
        pod_log_dir: root.join("pods"),
        container_log_dir: root.join("containers"),
        cni_conf_dir: Some(root.join("etc/cni")),
        static_pod_path: Some(root.join("manifests")),
        cgroup_root: format!("/{name}"),
        cluster_dns: vec!["10.96.0.10".parse()?],
        client_ca: client.root_cert.clone().unwrap_or_default(),
        // A shared disk is not this node's to judge.
        image_gc: (100, 99),
        eviction_hard: Eviction {
            memory_available_bytes: 100 << 20,
            nodefs_available_percent: 1.0,
            nodefs_inodes_free_percent: 1.0,
            imagefs_available_percent: 1.0,
        },
        ..Config::default()
    };
    if let Some(socket) = rest.first() {
        config.runtime_endpoint = socket.into();
    }
    let mut handle = Kubelet::start(config, Client::try_from(client)?).await?;
    tracing::info!(address = ?handle.address, "running");
    tokio::select! {
        () = handle.ended() => Err("a part of the node agent ended".into()),
        done = tokio::signal::ctrl_c() => { done?; handle.stop().await; Ok(()) }
    }
}

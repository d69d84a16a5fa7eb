//! The wiring: API server, controllers, scheduler, node agent, proxy and DNS in one process.
//!
//! Every component is a client with an identity of its own: what it does is authorized and admitted like what any other
//! client does. Only the way is shorter: requests do not leave the process.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use apiserver::{pipeline::Apiserver, start::Running, zpages::Flags};
use controllers::{
    config::{Accounts, Signer},
    controllers::Controllers,
};
use crds::user::User;
use dns::Dns;
use ipnet::IpNet;
use kube::Client;
use kubelet::{Kubelet, image};
use proxy::Proxy;
use scheduler::Scheduler;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    addon,
    containerd::{Containerd, ContainerdError},
    data_dir::DataDir,
    machine,
};

/// What the owners of fields are called is what users know from upstream's programs.
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: DataDir,
    pub secure_port: u16,
    pub node_name: String,
    pub node_ip: IpAddr,
    /// Where pods get their addresses from.
    pub pod_range: IpNet,
    /// The DNS service's address, within the range of services.
    pub dns_ip: IpAddr,
    pub domain: String,
    /// Those that the cluster was started with.
    pub flags: Flags,
}

impl Config {
    pub fn new(data: DataDir) -> Self {
        Self {
            data,
            secure_port: 6443,
            node_name: machine::host_name(),
            node_ip: machine::address(),
            pod_range: IpNet::new_assert(IpAddr::from([10, 244, 0, 0]), 16),
            dns_ip: IpAddr::from([10, 96, 0, 10]),
            domain: "cluster.local".into(),
            flags: Flags::new(),
        }
    }

    /// Where the node agent listens, for those on this machine.
    pub fn kubelet(&self) -> SocketAddr {
        SocketAddr::new(self.node_ip, kubelet::Config::default().port)
    }

    /// Where DNS listens.
    fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.node_ip, addon::DNS_PORT)
    }

    /// Whether another cluster runs on this machine's network.
    pub fn has_neighbour(&self) -> bool {
        machine::is_free(self.dns()).is_err()
    }
}

/// Fails if something is missing that a cluster needs of its machine: a network, programs, or a port that another process,
/// perhaps of another cluster, has taken. It is asked before anything is made: two clusters would overwrite each other's
/// network rules.
pub fn check_machine(node_ip: IpAddr, secure_port: u16) -> Result<(), ClusterError> {
    if node_ip.is_loopback() {
        return Err(ClusterError::NoNetwork);
    }
    Containerd::check_installed()?;
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let kubelet = any(kubelet::Config::default().port);
    let dns = SocketAddr::new(node_ip, addon::DNS_PORT);
    for (user, address) in [("the API server", any(secure_port)), ("the kubelet", kubelet), ("DNS", dns)] {
        let what = format!("port {} is needed for {user}", address.port());
        machine::is_free(address).map_err(|source| ClusterError::Machine { what, source })?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    #[error("this machine has no default route, and so no address that pods could reach it at")]
    NoNetwork,
    #[error("the API server did not start")]
    Apiserver(#[from] apiserver::start::StartError),
    #[error("the certificates of the node cannot be made")]
    Pki(#[from] apiserver::pki::PkiError),
    #[error("the pause image cannot be loaded")]
    Image(#[source] image::load::LoadError),
    #[error("there is no pause image for this processor")]
    Architecture,
    #[error("the kubelet did not start")]
    Kubelet(#[from] kubelet::StartError),
    #[error("the service proxy did not start")]
    Proxy(#[from] proxy::nft::NftError),
    #[error("DNS did not start")]
    Dns(#[from] dns::BindError),
    #[error("the cluster's own objects cannot be written")]
    Addons(#[from] kube::Error),
    #[error("{what}")]
    Machine {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// A running cluster.
pub struct Cluster {
    apiserver: Running,
    controllers: Controllers,
    node: kubelet::Handle,
    _runtime: AbortOnDropHandle<()>,
    _scheduler: Scheduler,
    _proxy: Proxy,
    _dns: Dns,
}

impl Cluster {
    /// If it fails, nothing runs that has not run before.
    pub async fn start(config: Config) -> Result<Self, ClusterError> {
        check_machine(config.node_ip, config.secure_port)?;
        prepare_machine()?;
        let containerd = Containerd::of(&config.data, image::pause::IMAGE);
        let runs = containerd.process().is_some();
        let started = Self::start_with(config, &containerd).await;
        if started.is_err() && !runs {
            containerd.stop().map_err(ContainerdError::from)?;
        }
        started
    }

    async fn start_with(config: Config, containerd: &Containerd) -> Result<Self, ClusterError> {
        let mut server = apiserver::start::Config::new(config.data.path());
        (server.secure_port, server.advertise) = (config.secure_port, Some(config.node_ip));
        (server.names.host, server.flags) = (config.node_name.clone(), config.flags.clone());
        let (apiserver, runtime) = tokio::join!(Apiserver::start(server), containerd.start());
        runtime?;
        let apiserver = apiserver?;
        let socket = containerd.socket();
        let pause = image::pause::archive(machine::architecture()).ok_or(ClusterError::Architecture)?;
        image::load::load_bytes(&socket, pause).await.map_err(ClusterError::Image)?;

        let client = |agent, user: User| Client::new(apiserver.apiserver.service(user).called(agent), "default");
        let starter = User::named("system:keelson", &[User::MASTERS, User::AUTHENTICATED]);
        addon::ensure(&client("keelson", starter), config.dns_ip, config.node_ip).await?;
        let component = |agent, name: &str| client(agent, User::named(name, &[User::AUTHENTICATED]));

        apiserver.apiserver.components.run_within();
        let controllers = component(CONTROLLER_MANAGER, "system:kube-controller-manager");
        let controllers = Controllers::start(controllers, controllers_config(&config, &apiserver));
        let seeded = scheduler::Config { seed: machine::seed(), ..scheduler::Config::default() };
        let scheduler = Scheduler::start(seeded, component("kube-scheduler", "system:kube-scheduler"));
        let proxy = proxy::Config { node_name: config.node_name.clone(), cluster_cidrs: vec![config.pod_range] };
        let proxy = Proxy::start(proxy, component("kube-proxy", "system:kube-proxy")).await?;
        let dns = Dns::start(dns_config(&config), component("kube-dns", addon::DNS_USER)).await?;
        let node = User::named(format!("system:node:{}", config.node_name), &["system:nodes", User::AUTHENTICATED]);
        let node = Kubelet::start(kubelet_config(&config, containerd, &apiserver)?, client("kubelet", node)).await?;
        let runtime = AbortOnDropHandle::new(tokio::spawn(containerd.clone().keep()));
        Ok(Self { apiserver, controllers, node, _runtime: runtime, _scheduler: scheduler, _proxy: proxy, _dns: dns })
    }

    /// Ends everything but the containers, which keep running.
    pub async fn stop(self) {
        self.node.stop().await;
        self.controllers.stop().await;
        self.apiserver.stop().await;
    }
}

fn controllers_config(config: &Config, apiserver: &Running) -> controllers::config::Config {
    let authority = &apiserver.pki.authority;
    let server = apiserver.apiserver.clone();
    let account = move |name: &str| {
        let service = server.service(User::of_service_account("kube-system", name));
        Client::new(service.called(CONTROLLER_MANAGER), "kube-system")
    };
    controllers::config::Config {
        accounts: Some(Accounts::new(account)),
        root_ca_pem: Some(authority.certificate.clone()),
        signer: Some(Signer { certificate_pem: authority.certificate.clone(), key_pem: authority.key.clone() }),
        cluster_cidr: Some(config.pod_range.to_string()),
        ..Default::default()
    }
}

fn dns_config(config: &Config) -> dns::Config {
    dns::Config {
        domain: config.domain.clone(),
        upstreams: upstreams(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        upstream_patience: Duration::from_secs(2),
        ..dns::Config::new(config.dns())
    }
}

/// The name servers that the machine itself asks.
fn upstreams(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|server| server.trim().parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)).collect()
}

fn kubelet_config(
    config: &Config,
    containerd: &Containerd,
    apiserver: &Running,
) -> Result<kubelet::Config, ClusterError> {
    let names = [config.node_name.clone(), config.node_ip.to_string()];
    let serving = apiserver.pki.kubelet_serving(&config.node_name, &names, jiff::Timestamp::now())?;
    let folder = config.data.kubelet().join("pki");
    let write = |name: &str, content: &str| -> Result<PathBuf, ClusterError> {
        let path = folder.join(name);
        DataDir::write(&path, content.as_bytes()).map_err(|source| ClusterError::Machine {
            what: format!("{} cannot be written", path.display()),
            source,
        })?;
        Ok(path)
    };
    Ok(kubelet::Config {
        node_name: config.node_name.clone(),
        node_ip: Some(config.node_ip),
        root_dir: config.data.kubelet(),
        runtime_endpoint: containerd.socket(),
        cluster_dns: vec![config.dns_ip],
        cluster_domain: config.domain.clone(),
        tls: Some((write("serving.crt", &serving.certificate)?, write("serving.key", &serving.key)?)),
        client_ca: apiserver.pki.authority.der().iter().map(|der| der.to_vec()).collect(),
        cni_conf_dir: Some(containerd.cni_config_folder()),
        static_pod_path: Some(config.data.path().join("manifests")),
        cgroup_root: config.data.cgroup_root(),
        // The disk is the whole machine's: how full it is otherwise is not the cluster's to judge.
        eviction_hard: kubelet::config::Eviction {
            nodefs_available_percent: 0.0,
            nodefs_inodes_free_percent: 0.0,
            imagefs_available_percent: 0.0,
            ..Default::default()
        },
        image_gc: (100, 99),
        ..kubelet::Config::default()
    })
}

/// Kernel settings without which pods cannot reach one another.
fn prepare_machine() -> Result<(), ClusterError> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    fs::write(path, "1").map_err(|source| ClusterError::Machine { what: format!("{path} cannot be set"), source })
}

#[cfg(test)]
mod tests {
    use super::upstreams;

    #[test]
    fn name_servers() {
        let conf = "# x\nnameserver 10.0.0.2\nsearch a b\nnameserver ::1\noptions ndots:1\n";
        let servers: Vec<_> = upstreams(conf).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[::1]:53"]);
    }
}

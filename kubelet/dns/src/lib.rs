//! Answers cluster names (services, headless services, pods, reverse) from caches, and forwards the rest.
//!
//! The names and answers are those of the Kubernetes DNS specification, version 1.1.0, as CoreDNS gives them.

mod forward;
mod server;
mod watch;
mod zone;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
pub use zone::{Alias, Answer, Endpoint, Port, Service, Target, Zone};

/// What the server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens, on UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Without dots at its ends: `cluster.local`.
    pub domain: String,
    /// Who is asked for other names, in order; nobody: such names do not exist.
    pub upstreams: Vec<SocketAddr>,
    /// How long one upstream has to answer.
    pub upstream_patience: Duration,
}

impl Config {
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen: vec![listen],
            domain: "cluster.local".into(),
            upstreams: Vec::new(),
            upstream_patience: Duration::from_secs(2),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("DNS cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A running server; it ends when this is dropped.
pub struct Dns {
    zone: Arc<RwLock<Zone>>,
    _tasks: JoinSet<()>,
}

impl Dns {
    /// Binds its sockets, then fills its caches and serves.
    pub async fn start(config: Config, client: kube::Client) -> Result<Self, BindError> {
        let zone = Arc::new(RwLock::new(Zone::new(&config.domain)));
        let resolver = Arc::new(server::Resolver::new(zone.clone(), config.upstreams, config.upstream_patience));
        let mut tasks = JoinSet::new();
        for address in config.listen {
            let failed = |source| BindError { address, source };
            let udp = UdpSocket::bind(address).await.map_err(failed)?;
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            tasks.spawn(server::serve_udp(Arc::new(udp), resolver.clone()));
            tasks.spawn(server::serve_tcp(tcp, resolver.clone()));
        }
        watch::start(&client, &zone, &mut tasks);
        Ok(Self { zone, _tasks: tasks })
    }

    /// Whether all caches have been filled once, so that a missing name is known to be missing.
    pub fn is_ready(&self) -> bool {
        self.zone.read().is_complete()
    }
}

//! Puts the parts of a node agent together and runs them.

use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    agent::Agent,
    clock::Clock,
    config::Config,
    event::{self, Severity},
    evict,
    image::{Images, collect},
    node::{self, lease, network, register, report},
    object::Objects,
    pod::{status::Host, table::Registry, table::Table},
    runtime::{Runtime, cri::Cri, relist},
    server,
    system::{System, linux::Linux},
};

/// How many changes of the runtime may wait to be looked at.
const CHANGES_MAX: usize = 1024;

/// Why a node agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the node has no name")]
    NoName,
    #[error("the node has no address that others can reach; set --node-ip")]
    NoAddress,
    #[error("cannot prepare {path}")]
    Directory {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot serve the kubelet API")]
    Serve(#[source] server::ServeError),
}

/// A node agent that runs until it is dropped or told to stop. Containers keep running.
pub struct Handle {
    tasks: JoinSet<()>,
    /// Where the kubelet API is served.
    pub address: Option<SocketAddr>,
    pub agent: Arc<Agent>,
}

impl Handle {
    /// Ends all tasks of the agent.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// Returns when a part of the agent ended by itself, which none should.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

/// The node agent.
pub struct Kubelet;

impl Kubelet {
    /// Starts on the real machine with the runtime behind the configured socket.
    pub async fn start(config: Config, client: Client) -> Result<Handle, StartError> {
        let runtime = Arc::new(Cri::new(&config.runtime_endpoint));
        Self::start_on(config, client, runtime, Arc::new(Linux::default()), Clock::system()).await
    }

    /// Starts on any machine and runtime, by any clock.
    pub async fn start_on(
        config: Config,
        client: Client,
        runtime: Arc<dyn Runtime>,
        system: Arc<dyn System>,
        clock: Clock,
    ) -> Result<Handle, StartError> {
        if config.node_name.is_empty() {
            return Err(StartError::NoName);
        }
        let ips = match config.node_ip {
            Some(ip) => vec![ip],
            None => system.addresses(),
        };
        if ips.is_empty() {
            return Err(StartError::NoAddress);
        }
        for (dir, mode) in [(&config.root_dir, 0o750), (&config.pods_dir(), 0o750), (&config.pod_log_dir, 0o755)] {
            system
                .create_dir(dir, mode)
                .map_err(|source| StartError::Directory { path: dir.display().to_string(), source })?;
        }
        let mut tasks = JoinSet::new();
        let (events, sending) = event::recorder(client.clone(), config.node_name.clone(), clock);
        tasks.spawn(sending);
        let machine = system.machine();
        let space = system.space(&config.root_dir).unwrap_or_default();
        let capacity = node::status::capacity(&machine, &space, &config);
        let version = runtime.version().await.map(|v| v.runtime_name).unwrap_or_default();
        let (services, writer) = reflector::store::<Service>();
        let agent = Arc::new(Agent {
            images: Images::new(runtime.clone(), events.clone(), clock),
            config_maps: Objects::new(client.clone()),
            secrets: Objects::new(client.clone()),
            allocatable: node::status::allocatable(&capacity, &config),
            host: RwLock::new(Host { runtime: version, ips: ips.iter().map(ToString::to_string).collect() }),
            node: RwLock::new(None),
            pods: Registry::default(),
            pressures: Mutex::default(),
            handlers: Mutex::new(BTreeMap::new()),
            services,
            machine,
            events,
            clock,
            system,
            runtime,
            client,
            config,
        });
        let address = match agent.config.serve {
            true => Some(server::start(agent.clone(), &mut tasks).await.map_err(StartError::Serve)?),
            false => None,
        };
        let port = address.map_or(agent.config.port, |a| a.port());
        tasks.spawn(services_watch(agent.clone(), writer));
        tasks.spawn(run(agent.clone(), port));
        Ok(Handle { tasks, address, agent })
    }
}

fn services_watch(agent: Arc<Agent>, writer: reflector::store::Writer<Service>) -> impl Future<Output = ()> + Send {
    let api: Api<Service> = Api::all(agent.client.clone());
    let services = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    services.for_each(|event| {
        if let Err(error) = event {
            tracing::debug!(%error, "the watch of services broke");
        }
        std::future::ready(())
    })
}

async fn run(agent: Arc<Agent>, port: u16) {
    let name = agent.config.node_name.clone();
    agent.events.node(&name, Severity::Normal, "Starting", "Starting kubelet.");
    let node = register::register(&agent).await;
    *agent.node.write() = Some(Arc::new(node));
    let (configured, network) = watch::channel(agent.config.cni_conf_dir.is_none());
    let (changed, changes) = mpsc::channel(CHANGES_MAX);
    let pods: Api<Pod> = Api::all(agent.client.clone());
    let own = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
    let pods = watcher(pods, own).default_backoff();
    let mut parts = JoinSet::new();
    parts.spawn(lease::run(agent.clone()));
    parts.spawn(network::run(agent.clone(), configured));
    parts.spawn(report::run(agent.clone(), port, network));
    parts.spawn(relist::run(agent.runtime.clone(), agent.config.relist_period, changed));
    parts.spawn(collect::run(agent.clone()));
    parts.spawn(evict::run(agent.clone()));
    parts.spawn(Table::new(agent.clone()).run(pods, changes));
    while let Some(ended) = parts.join_next().await {
        tracing::error!(broken = ended.is_err(), "a part of the node agent ended");
    }
}

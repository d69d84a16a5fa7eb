//! A whole cluster in one thread under a paused clock: the API server on the memory store, all controllers, the
//! scheduler, and nodes on the fake runtime.
//!
//! A seed decides everything that chance decides elsewhere: names, the order of work, how long each request takes, which
//! answers are lost and when watches break. The same seed gives the same history.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use apiserver::{
    auth::{Authenticator, issuer::Issuer},
    bootstrap,
    pipeline::Apiserver,
    random::Random,
};
use controllers::{config::Accounts, controllers::Controllers, runtime::clock::Clock};
use crds::user::User;
use jiff::Timestamp;
use keelson::addon;
use kube::Client;
use kubelet::{
    Kubelet,
    runtime::fake::{Fake, Script},
    system::{self, Machine},
};
use scheduler::Scheduler;
use store::{MemoryStore, Options, Store, clock::TokioClock};

mod network;

pub use network::Faults;
use network::Network;

/// When every simulation begins.
pub const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);
const ISSUER: &str = "https://kubernetes.default.svc";
/// How long a call of the fake runtime takes.
const RUNTIME_LATENCY: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    #[error(transparent)]
    Apiserver(#[from] apiserver::start::StartError),
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::ensure::EnsureError),
    #[error("the key of tokens cannot be used")]
    Issuer(#[from] apiserver::auth::issuer::IssuerError),
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Kubelet(#[from] kubelet::StartError),
}

/// What a simulation is made of.
pub struct Config {
    pub seed: u64,
    /// The private key of service account tokens, PEM.
    pub token_key: String,
    pub nodes: u8,
    pub faults: Faults,
    /// What containers do.
    pub script: Script,
}

/// A running cluster. It must live on a current-thread runtime whose clock is paused.
pub struct Simulation {
    pub store: Arc<dyn Store>,
    apiserver: Arc<Apiserver>,
    nodes: BTreeMap<String, kubelet::Handle>,
    controllers: Controllers,
    _scheduler: Scheduler,
}

impl Simulation {
    pub async fn start(config: &Config) -> Result<Self, SimulationError> {
        // The jitter of kube-runtime's backoff comes from here.
        fastrand::seed(config.seed);
        let clock = Clock::tokio(BEGIN);
        let options = Options { clock: Arc::new(TokioClock::starting_at(BEGIN.into())), ..Options::default() };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&options));
        let issuer = Issuer::new(&[ISSUER.to_owned()], &[ISSUER.to_owned()], &config.token_key, &[])?;
        let now = Arc::new(move || clock.now());
        let random = Random::seeded(config.seed);
        let apiserver = Apiserver::open(store.clone(), Authenticator::new(issuer), None, now.clone(), random).await?;
        bootstrap::ensure::ensure(&apiserver, &cluster(), BEGIN).await?;
        let admin = Client::new(apiserver.service(User::named("admin", &[User::MASTERS])), "default");
        addon::ensure(&admin, Ipv4Addr::new(10, 96, 0, 10).into(), Ipv4Addr::new(192, 0, 2, 1).into()).await?;

        let network = Network::new(config.seed, config.faults);
        let client = |name: &str, groups: &[&str]| {
            Client::new(network.between(apiserver.service(User::named(name, groups))), "default")
        };
        let component = |name: &str| client(name, &[User::AUTHENTICATED]);
        let (wire, server) = (network.clone(), apiserver.clone());
        let account = move |name: &str| {
            let user = User::of_service_account("kube-system", name);
            Client::new(wire.between(server.service(user)), "default")
        };
        let settings = controllers::config::Config {
            clock,
            accounts: Some(Accounts::new(account)),
            seed: Some(config.seed),
            cluster_cidr: Some("10.244.0.0/16".into()),
            root_ca_pem: Some("the authority".into()),
            ..Default::default()
        };
        let controllers = Controllers::start(component("system:kube-controller-manager"), settings);
        let settings = scheduler::Config { seed: config.seed, clock: now, ..Default::default() };
        let scheduler = Scheduler::start(settings, component("system:kube-scheduler"));
        let mut nodes = BTreeMap::new();
        for number in 1..=config.nodes {
            let name = format!("node-{number}");
            let client = client(&format!("system:node:{name}"), &["system:nodes", User::AUTHENTICATED]);
            nodes.insert(name.clone(), node(&name, number, client, clock.now(), config.script.clone()).await?);
        }
        Ok(Self { store, apiserver, nodes, controllers, _scheduler: scheduler })
    }

    /// An administrator whose requests are never lost.
    pub fn admin(&self) -> Client {
        Client::new(self.apiserver.service(User::named("admin", &[User::MASTERS])), "default")
    }

    /// Takes a node away without a word, as a cut cable would.
    pub async fn lose(&mut self, node: &str) {
        if let Some(handle) = self.nodes.remove(node) {
            handle.stop().await;
        }
    }

    pub async fn stop(self) {
        for handle in self.nodes.into_values() {
            handle.stop().await;
        }
        self.controllers.stop().await;
    }

    /// The last write of every object, in the order of the writes. Without events, whose names the scheduler's recorder
    /// makes of the machine's time.
    pub async fn history(&self) -> store::Result<String> {
        let page = self.store.range("/registry/", None, 0, None).await?;
        let mut lines: Vec<_> = {
            let kept = page.entries.iter().filter(|e| !e.key.starts_with("/registry/events/"));
            kept.map(|e| (e.modified, e.created, e.key.as_str())).collect()
        };
        lines.sort_unstable();
        Ok(lines.iter().map(|(modified, created, key)| format!("{modified} {created} {key}\n")).collect())
    }
}

fn cluster() -> bootstrap::Cluster {
    bootstrap::Cluster {
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
        port: 6443,
        service_ranges: vec!["10.96.0.0/12".into()],
        service_ip: Ipv4Addr::new(10, 96, 0, 1).into(),
        client_authority: "the authority of clients".into(),
        front_proxy_authority: "the authority of the front proxy".into(),
    }
}

async fn node(
    name: &str,
    number: u8,
    client: Client,
    now: Timestamp,
    script: Script,
) -> Result<kubelet::Handle, kubelet::StartError> {
    let clock = kubelet::clock::Clock::from(now);
    let runtime = Arc::new(Fake::new(clock, [10, 10 + number], RUNTIME_LATENCY, script));
    let machine = Machine { cpus: 8, memory_bytes: 16 << 30, architecture: "amd64".into(), ..Machine::default() };
    let address = Ipv4Addr::new(192, 0, 2, 10 + number).into();
    let machine = Arc::new(system::fake::Fake::new(machine, address));
    let config = kubelet::Config { node_name: name.to_owned(), serve: false, ..kubelet::Config::default() };
    Kubelet::start_on(config, client, runtime, machine, clock).await
}

//! A server from nothing: keys and certificates, store, cache, listener.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use crds::kind::Kind;
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use k8s_openapi::{Resource, api::certificates::v1beta1::PodCertificateRequest};
pub use store::EtcdOptions;
use store::{EmbeddedStore, EtcdStore, MemoryStore, Options, Store};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

use crate::{
    access::{self, Access},
    admission::{Chain, UnknownPlugin, escalation::Escalation},
    aggregate::{self, Aggregator},
    allocate::node_port,
    audit::{self, Audit},
    auth::{self, Authenticator, certificate, issuer},
    authorize::{
        Authorizer,
        mode::{Mode, ModeError, Step},
    },
    bootstrap::{
        self, Cluster,
        ensure::EnsureError,
        identity::{self, Identity},
        presence,
    },
    cache::Cache,
    components::Components,
    connect::Connector,
    custom::{CustomKinds, control},
    encryption::{self, EncryptedStore},
    error::ApiError,
    flow::{self, Flow},
    health::Health,
    metrics::{Metrics, store::Measured},
    path::Discovery,
    pipeline::Apiserver,
    pki::{Names, Pki, PkiError, Subject},
    random::Random,
    registry::Registry,
    runtime_config::RuntimeConfig,
    server::{self, threads::Threads},
    world::World,
    zpages::Flags,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    #[default]
    Embedded,
    Etcd(EtcdOptions),
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    pub bind: IpAddr,
    /// 0: any free port.
    pub secure_port: u16,
    pub store: StoreKind,
    pub names: Names,
    pub service_accounts: ServiceAccounts,
    /// An EncryptionConfiguration: how objects are kept in the store.
    pub encryption_provider_config: Option<PathBuf>,
    pub audit: audit::Options,
    pub flow: flow::Options,
    pub authentication: auth::config::Options,
    /// In their order.
    pub authorization: Vec<Mode>,
    /// Where clients in the cluster reach this server; none: the address that this machine calls others from.
    pub advertise: Option<IpAddr>,
    /// The addresses of Services.
    pub service_range: IpNet,
    /// Which built-in kinds are served.
    pub runtime: RuntimeConfig,
    /// The admission plugins that are off.
    pub disabled_plugins: Vec<String>,
    /// All flags, for those who want to know.
    pub flags: Flags,
}

/// How the tokens of service accounts are made and verified.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    /// The first is who makes the tokens; all are accepted.
    pub issuers: Vec<String>,
    /// Where verifiers find the keys; none: here.
    pub jwks_uri: Option<String>,
    /// Who this server is to tokens; none: the issuer.
    pub audiences: Vec<String>,
    /// PEM; none: a key of the data directory.
    pub signing_key_file: Option<PathBuf>,
    /// PEM, of keys whose tokens are accepted too.
    pub key_files: Vec<PathBuf>,
}

impl Default for ServiceAccounts {
    fn default() -> Self {
        Self {
            issuers: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            jwks_uri: None,
            audiences: Vec::new(),
            signing_key_file: None,
            key_files: Vec::new(),
        }
    }
}

impl ServiceAccounts {
    /// `address`: where this server is reached, `host:port`.
    fn issuer(&self, own_key: &str, address: &str) -> Result<issuer::Issuer, StartError> {
        let key = self.signing_key_file.as_deref().map_or_else(|| Ok(own_key.to_owned()), read)?;
        let older: Vec<String> = self.key_files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        let older: Vec<String> = older.iter().flat_map(|file| issuer::split_keys(file)).collect();
        let issuer = issuer::Issuer::new(&self.issuers, &self.audiences, &key, &older)?;
        if !issuer.is_discoverable() {
            tracing::warn!(issuer = issuer.url(), "the issuer is no https URL: verifiers cannot discover its keys");
        }
        let here = || format!("https://{address}/openid/v1/jwks");
        Ok(issuer.with_keys_url(self.jwks_uri.clone().unwrap_or_else(here)))
    }
}

fn read(path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|source| StartError::File { path: path.to_owned(), source })
}

impl Config {
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            secure_port: 6443,
            store: StoreKind::default(),
            names: Names { cluster_domain: "cluster.local".to_owned(), ..Names::default() },
            advertise: None,
            service_range: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12)),
            service_accounts: ServiceAccounts::default(),
            encryption_provider_config: None,
            audit: audit::Options::default(),
            flow: flow::Options::default(),
            authentication: auth::config::Options::default(),
            authorization: Mode::DEFAULT.to_vec(),
            runtime: RuntimeConfig::default(),
            disabled_plugins: Vec::new(),
            flags: Flags::new(),
        }
    }
}

impl Config {
    /// The first address of the range is the `kubernetes` Service's.
    fn service_ip(&self) -> IpAddr {
        self.service_range.hosts().next().unwrap_or_else(|| self.service_range.addr())
    }

    fn advertise(&self) -> IpAddr {
        let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_loopback();
        self.advertise.or(Some(self.bind).filter(usable)).or_else(outward).unwrap_or(self.bind)
    }

    /// The names of the server, with the addresses that it is reached at.
    fn names(&self) -> Names {
        let mut names = self.names.clone();
        names.addresses.extend([self.advertise(), self.bind].into_iter().filter(|ip| !ip.is_unspecified()));
        names.service_ip = names.service_ip.or(Some(self.service_ip()));
        names
    }
}

/// The address that packets to others leave from; nothing is sent to find it.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("keys and certificates")]
    Pki(#[from] PkiError),
    #[error("the client authorities")]
    Trust(#[from] certificate::TrustError),
    #[error("the key of service account tokens")]
    Issuer(#[from] issuer::IssuerError),
    #[error("the serving certificate cannot be used")]
    Tls(#[from] rustls::Error),
    #[error("the serving certificate cannot be read")]
    Certificate,
    #[error("the certificate for nodes cannot be used: {0}")]
    Connector(ApiError),
    #[error("the store cannot be opened")]
    Store(#[from] store::StoreError),
    #[error("the store cannot be read: {0}")]
    Cache(ApiError),
    #[error("the API servers of the cluster cannot be found: {0}")]
    Presence(ApiError),
    #[error("what Services hold cannot be taken down: {0}")]
    Allocations(ApiError),
    #[error("the objects that the server is built with")]
    Rules(#[from] serde_json::Error),
    #[error("the objects that every cluster has")]
    Bootstrap(#[from] EnsureError),
    #[error("{path} cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the audit log cannot be kept")]
    Audit(#[from] audit::AuditError),
    #[error("authentication")]
    Authentication(#[from] auth::config::AuthenticationError),
    #[error(transparent)]
    Plugin(#[from] UnknownPlugin),
    #[error("authorization")]
    Authorization(#[from] ModeError),
    #[error("encryption at rest")]
    Encryption(#[from] encryption::ConfigError),
    #[error("the threads that serve cannot be started")]
    Threads(#[source] io::Error),
    #[error("the start was given up")]
    Aborted(#[from] JoinError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// What watches over requests.
#[derive(Default)]
pub struct Guards {
    pub audit: Option<Audit>,
    pub flow: flow::Options,
    /// None: Node and RBAC.
    pub authorization: Option<Vec<Step>>,
    /// Which built-in kinds there are at all.
    pub runtime: RuntimeConfig,
    /// The admission plugins that are off.
    pub disabled_plugins: Vec<String>,
    /// What `/flagz` tells.
    pub flags: Flags,
}

/// A server that runs.
pub struct Running {
    pub apiserver: Arc<Apiserver>,
    pub address: SocketAddr,
    pub admin_kubeconfig: PathBuf,
    pub pki: Arc<Pki>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    aggregating: JoinHandle<()>,
    presence: Option<Presence>,
    identity: Option<Identified>,
    /// Everything above runs there.
    _threads: Arc<Threads>,
}

/// What this server is called among those of its cluster.
struct Identified {
    keeping: JoinHandle<()>,
    identity: Identity,
}

/// What this server is to those that share its store.
struct Presence {
    keeping: JoinHandle<()>,
    cluster: Cluster,
}

impl Running {
    /// Ends the watches, lets other requests end, and closes the listener.
    pub async fn stop(self) {
        self.aggregating.abort();
        if let Some(Identified { keeping, identity }) = self.identity {
            keeping.abort();
            identity::withdraw(&self.apiserver, &identity).await;
        }
        if let Some(presence) = self.presence {
            presence.keeping.abort();
            if let Err(error) = presence::withdraw(&self.apiserver, presence.cluster).await {
                tracing::warn!(%error, "this server stays an endpoint for some seconds");
            }
        }
        if self.stop.send(()).is_err() {
            tracing::debug!("the listener has ended by itself");
        }
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the listener panicked");
        }
        if let Some(audit) = &self.apiserver.audit {
            audit.flush().await;
        }
    }
}

impl Apiserver {
    /// The server without a listener, over this store.
    pub async fn open(
        store: Arc<dyn Store>,
        authenticator: Authenticator,
        connector: Option<Connector>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        random: Random,
    ) -> Result<Arc<Self>, StartError> {
        Self::guarded(store, authenticator, connector, clock, random, Guards::default()).await
    }

    /// The same with what watches over requests.
    pub async fn guarded(
        store: Arc<dyn Store>,
        authenticator: Authenticator,
        connector: Option<Connector>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        random: Random,
        guards: Guards,
    ) -> Result<Arc<Self>, StartError> {
        let registry = Arc::new(Registry::new(&guards.runtime));
        let mut authorizer = Authorizer::new(bootstrap::node_rules()?);
        if registry.any_version(PodCertificateRequest::GROUP, PodCertificateRequest::ABOUT.plural).is_some() {
            authorizer.node.allow_pod_certificates();
        }
        if let Some(steps) = guards.authorization {
            authorizer = authorizer.with_steps(steps);
        }
        let authorizer = Arc::new(authorizer);
        let observer = access::observer(authorizer.clone(), &registry);
        let admission = Chain::standard(authorizer.clone()).without(&guards.disabled_plugins)?;
        let admission = admission.and(Escalation(authorizer.clone()));
        let flow = Flow::new(guards.flow)?;
        flow.start();
        let custom = CustomKinds::new(registry.clone());
        let observers = vec![observer, flow.observer(), custom.observer()];
        let metrics = Metrics::default();
        let store: Arc<dyn Store> = Arc::new(Measured::new(store, metrics.store.clone()));
        let cache = Cache::start(store.clone(), observers).await.map_err(StartError::Cache)?;
        custom.attach(&cache);
        let reachable = store.clone();
        let started = clock();
        Ok(Arc::new(Self {
            world: Arc::new(World { registry, cache, store, clock, random, converters: Default::default() }),
            admission,
            access: Access::new(authenticator, authorizer),
            health: Health::new(move || reachable.is_reachable()),
            discovery: Discovery::default(),
            metrics,
            connector,
            aggregator: Aggregator::default(),
            audit: guards.audit,
            flow,
            custom,
            components: Components::default(),
            flags: guards.flags,
            started,
        }))
    }

    /// Starts a server from nothing, or from what an earlier one has left in the data directory.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let threads = Arc::new(Threads::start().map_err(StartError::Threads)?);
        threads.run(Self::start_on(threads.clone(), config)).await?
    }

    async fn start_on(threads: Arc<Threads>, config: Config) -> Result<Running, StartError> {
        let now = Timestamp::now();
        let pki = Arc::new(Pki::open(&config.data_dir.join("pki"), &config.names(), now)?);
        let store: Arc<dyn Store> = match &config.store {
            StoreKind::Memory => Arc::new(MemoryStore::new(&Options::default())),
            StoreKind::Embedded => Arc::new(EmbeddedStore::open(&config.data_dir.join("store"), &Options::default())?),
            StoreKind::Etcd(options) => Arc::new(EtcdStore::open(options).await?),
        };
        let store = match &config.encryption_provider_config {
            None => store,
            Some(path) => Arc::new(EncryptedStore::new(store, encryption::Configuration::read(path)?)),
        };
        let wanted = SocketAddr::new(config.bind, config.secure_port);
        let listen = |source| StartError::Listen { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let reached = SocketAddr::new(config.advertise(), address.port()).to_string();
        let issuer = config.service_accounts.issuer(&pki.token_key, &reached)?;
        // As upstream, unless it is told who signs kubelets' certificates: they are not verified.
        let connector = Connector::new(&pki.kubelet_client, None).map_err(StartError::Connector)?;
        let steps = config.authorization.iter().map(Mode::step).collect::<Result<_, _>>().map_err(ModeError::from)?;
        let authenticator = config.authentication.authenticator(issuer, &pki.front_proxy.certificate)?;
        let guards = Guards {
            audit: Audit::open(&config.audit)?,
            flow: config.flow,
            authorization: Some(steps),
            runtime: config.runtime.clone(),
            disabled_plugins: config.disabled_plugins.clone(),
            flags: config.flags.clone(),
        };
        let (clock, random) = (Arc::new(Timestamp::now), Random::default());
        let apiserver = Self::guarded(store, authenticator, Some(connector), clock, random, guards).await?;
        apiserver.aggregator.identify(pki.front_proxy_client.clone());
        let authorities = config.authentication.client_authorities(&pki.authority.certificate)?;
        let trust = Arc::new(certificate::Trust::new(&authorities)?);
        let (certificate, key) = pki.serving.der().ok_or(StartError::Certificate)?;
        let tls = server::tls(certificate, key, &trust)?;
        let admin_kubeconfig = config.data_dir.join("admin.kubeconfig");
        let admin = pki.client("admin", &Subject::admin(), now)?;
        let url = format!("https://127.0.0.1:{}", address.port());
        pki.write_kubeconfig(&admin_kubeconfig, "admin", &admin, &url)?;
        let own = config.advertise();
        let shared = matches!(config.store, StoreKind::Etcd(_));
        if shared {
            presence::announce(&apiserver.world, own).await.map_err(StartError::Presence)?;
        }
        let cluster = Cluster {
            address: own,
            addresses: presence::addresses(&apiserver.world, own).await.map_err(StartError::Presence)?,
            port: address.port(),
            service_ranges: vec![config.service_range.to_string()],
            service_ip: config.service_ip(),
            client_authority: authorities,
            front_proxy_authority: pki.front_proxy.certificate.clone(),
        };
        node_port::adopt(&apiserver.world).await.map_err(StartError::Allocations)?;
        bootstrap::ensure::ensure(&apiserver, &cluster, now).await?;
        flow::dangling::start(Arc::downgrade(&apiserver));
        // Ends with the server.
        tokio::spawn(control::run(Arc::downgrade(&apiserver), apiserver.custom.clone()));
        apiserver.health.ready();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving =
            tokio::spawn(server::serve(apiserver.clone(), listener, tls, trust, threads.clone(), async move {
                // Also resolves when the sender is gone: nobody could stop the server any more.
                drop(stopped.await);
            }));
        let aggregating = tokio::spawn(aggregate::control::run(Arc::downgrade(&apiserver)));
        let presence = shared.then(|| {
            let keeping = tokio::spawn(presence::keep(Arc::downgrade(&apiserver), cluster.clone()));
            Presence { keeping, cluster }
        });
        let host = &config.names.host;
        let identity = (!host.is_empty()).then(|| {
            let identity = Identity::new(host, &apiserver.world.random.uid());
            let keeping = tokio::spawn(identity::keep(Arc::downgrade(&apiserver), identity.clone()));
            Identified { keeping, identity }
        });
        Ok(Running {
            apiserver,
            address,
            admin_kubeconfig,
            pki,
            stop,
            serving,
            aggregating,
            presence,
            identity,
            _threads: threads,
        })
    }
}

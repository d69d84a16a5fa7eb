//! The servers of an etcd: all calls go to one of them, until it does not answer; then to the next.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Channel, Client, ConnectOptions, Error, KvClient, LeaseClient, WatchClient};
use tokio::time::Instant;
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::EtcdOptions;
use crate::{Result, StoreError};

/// How long one call may take: less than etcd itself waits for a leader.
pub(super) const CALL_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a call is tried again, so that the choice of a new leader goes unnoticed.
const TRYING_MAX: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// As upstream: a peer that is gone without a word is found so.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// A watch that is not read must not keep answers from coming over the same connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Why a call was not answered as it should be.
#[derive(Debug)]
pub(super) enum Failure {
    Compacted,
    Future,
    LeaseGone,
    /// Another attempt may succeed. A write may or may not have been done.
    Passing(Error),
    Final(Error),
    TimedOut,
}

impl Failure {
    pub fn of(error: Error) -> Self {
        let Error::GRpcStatus(status) = &error else {
            return match error {
                Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) => Self::Passing(error),
                _ => Self::Final(error),
            };
        };
        let says = |what: &str| status.message().contains(what);
        match status.code() {
            Code::OutOfRange if says("has been compacted") => Self::Compacted,
            Code::OutOfRange if says("future revision") => Self::Future,
            Code::NotFound if says("lease not found") => Self::LeaseGone,
            Code::ResourceExhausted if says("too many requests") => Self::Passing(error),
            // What is not etcd's own word is a connection's that broke.
            Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal | Code::DeadlineExceeded => {
                Self::Passing(error)
            }
            _ => Self::Final(error),
        }
    }

    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_) | Self::TimedOut)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(Error::GRpcStatus(status)) | Failure::Final(Error::GRpcStatus(status)) => {
                Self::failed(told(&status))
            }
            Failure::Passing(error) | Failure::Final(error) => Self::failed(format!("etcd: {error}")),
            Failure::TimedOut => Self::failed("etcd does not answer"),
            Failure::Compacted => Self::failed("etcd: the required revision has been compacted"),
            Failure::Future => Self::failed("etcd: the required revision is a future revision"),
            Failure::LeaseGone => Self::failed("etcd: the lease is gone"),
        }
    }
}

/// etcd's message, or what is at the bottom of a broken connection.
fn told(status: &tonic::Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    match last {
        Some(last) if last != status.message() => format!("etcd: {}: {last}", status.message()),
        _ => format!("etcd: {}", status.message()),
    }
}

struct Member {
    url: String,
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
}

pub(super) struct Members {
    /// At least one.
    all: Vec<Member>,
    current: AtomicUsize,
    /// Whether the last call was answered.
    answer: AtomicBool,
}

impl Members {
    /// Connects when the first call is made.
    pub async fn new(options: &EtcdOptions) -> Result<Self> {
        let tls = tls(options)?;
        let mut all = Vec::new();
        for url in &options.servers {
            all.push(Member::new(url, &tls).await?);
        }
        if all.is_empty() {
            return Err(StoreError::failed("no server of etcd is given"));
        }
        Ok(Self { all, current: AtomicUsize::new(0), answer: AtomicBool::new(true) })
    }

    pub fn answer(&self) -> bool {
        self.answer.load(Ordering::Relaxed)
    }

    fn current(&self) -> (usize, &Member) {
        let index = self.current.load(Ordering::Relaxed) % self.all.len();
        (index, &self.all[index])
    }

    /// The next one is asked from now on, unless somebody has seen to that already.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.all.len();
        if self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() && next != index {
            tracing::warn!(from = self.all[index].url, to = self.all[next].url, "another etcd server is asked");
        }
    }

    async fn once<T, F>(&self, ask: impl FnOnce(&Member) -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let (index, member) = self.current();
        let answer = match tokio::time::timeout(CALL_WAIT_MAX, ask(member)).await {
            Ok(answer) => answer.map_err(Failure::of),
            Err(_) => Err(Failure::TimedOut),
        };
        let passing = answer.as_ref().is_err_and(Failure::is_passing);
        self.answer.store(!passing, Ordering::Relaxed);
        if passing {
            self.leave(index);
        }
        answer
    }

    /// One call.
    pub async fn ask_once<T, F>(&self, ask: impl FnOnce(KvClient) -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        self.once(|member| ask(member.kv.clone())).await
    }

    /// A call that may be made more than once, tried until it is answered or it has taken too long.
    pub async fn ask<T, F>(&self, ask: impl Fn(KvClient) -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let mut trying = Trying::default();
        loop {
            match self.ask_once(&ask).await {
                Err(failure) if failure.is_passing() && trying.again().await => {}
                answer => return answer,
            }
        }
    }

    pub async fn grant(&self, seconds: i64) -> std::result::Result<i64, Failure> {
        let mut trying = Trying::default();
        loop {
            let grant = |member: &Member| {
                let mut lease = member.lease.clone();
                async move { lease.grant(seconds, None).await }
            };
            match self.once(grant).await {
                Ok(granted) => return Ok(granted.id()),
                Err(failure) if failure.is_passing() && trying.again().await => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    pub async fn watch(
        &self,
        key: Vec<u8>,
        options: etcd_client::WatchOptions,
    ) -> std::result::Result<Watching, Failure> {
        let (index, _) = self.current();
        let watch = |member: &Member| {
            let mut watch = member.watch.clone();
            async move { watch.watch(key, Some(options)).await }
        };
        Ok(Watching { stream: self.once(watch).await?, index })
    }

    /// The member of this watch is not to be asked again.
    pub fn lost(&self, watching: &Watching) {
        self.leave(watching.index);
    }
}

pub(super) struct Watching {
    pub stream: etcd_client::WatchStream,
    index: usize,
}

/// The pauses between attempts.
pub(super) struct Trying {
    end: Instant,
    pause: Duration,
}

impl Default for Trying {
    fn default() -> Self {
        Self { end: Instant::now() + TRYING_MAX, pause: PAUSE_MIN }
    }
}

impl Trying {
    /// Waits a little; false if it has been tried long enough.
    pub async fn again(&mut self) -> bool {
        let goes_on = Instant::now() + self.pause < self.end;
        if goes_on {
            self.pause().await;
        }
        goes_on
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Member {
    async fn new(url: &str, tls: &ClientTlsConfig) -> Result<Self> {
        let wrong = |source| StoreError::Failed {
            what: format!("{url:?} is no address of an etcd server"),
            source: Some(Box::new(source)),
        };
        // As etcd's own client: without a scheme it is not encrypted.
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let mut endpoint = Endpoint::from_shared(whole.clone()).map_err(wrong)?;
        match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
            (Some("https"), Some(_)) => endpoint = endpoint.tls_config(tls.clone()).map_err(wrong)?,
            (Some("http"), Some(_)) => {}
            _ => return Err(StoreError::failed(format!("{url:?} is no address of an etcd server"))),
        }
        let channel = endpoint
            .connect_timeout(CONNECT_WAIT_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_WAIT_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_lazy();
        // A member that has lost its leader must say so, or a watch would wait for ever.
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        let client = client.map_err(|error| StoreError::failed(format!("etcd at {url}: {error}")))?;
        Ok(Self {
            url: whole,
            kv: client.kv_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
            // etcd keeps the changes of a revision in one message, however large.
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
        })
    }
}

fn tls(options: &EtcdOptions) -> Result<ClientTlsConfig> {
    let mut tls = ClientTlsConfig::new();
    tls = match &options.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        None => tls.with_native_roots(),
    };
    match (&options.cert_file, &options.key_file) {
        (Some(certificate), Some(key)) => Ok(tls.identity(Identity::from_pem(read(certificate)?, read(key)?))),
        (None, None) => Ok(tls),
        _ => Err(StoreError::failed("a client certificate for etcd needs both its file and its key's")),
    }
}

fn read(path: &PathBuf) -> Result<String> {
    let failed = |source| StoreError::Failed { what: format!("{} cannot be read", show(path)), source: Some(source) };
    fs::read_to_string(path).map_err(|source| failed(Box::new(source)))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

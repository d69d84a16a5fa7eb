//! The store of several API servers: an etcd, version 3.4 or later, with the keys that upstream has there.
//!
//! Nothing is kept here but connections: every read asks etcd, so that it is as new as any write of another server. What
//! a server that stumbles or a new leader interrupts is asked again; a write only if it can be told whether it was done.

mod compact;
mod lease;
mod member;
mod root;
mod txn;
mod watch;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{GetOptions, WatchOptions};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use tokio::task::AbortHandle;

use self::{
    lease::Leases,
    member::{CALL_WAIT_MAX, Failure, Members, Trying},
    root::Root,
    txn::{number, revision, revision_of},
};
use crate::{Entry, Event, Op, Outcome, Page, Result, Revision, Store, StoreError, Txn, decide::refuse_twice_written};

/// Where an etcd is, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// URLs: `https://10.0.0.1:2379`.
    pub servers: Vec<String>,
    /// What all keys of the cluster begin with.
    pub prefix: String,
    /// PEM, who signs the servers' certificates; none: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM, with its key's.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How often the history is compacted; zero: never.
    pub compaction_interval: Duration,
    /// How many transactions a watcher may be behind before it is dropped.
    pub backlog: usize,
    /// How long to wait for etcd at the start.
    pub patience: Duration,
}

impl EtcdOptions {
    /// As upstream without flags.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            prefix: "/registry".to_owned(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            compaction_interval: Duration::from_secs(300),
            backlog: 4096,
            patience: Duration::from_secs(60),
        }
    }
}

/// How many entries are read at once where all are wanted: few at first, for they may be large.
const PAGE_MIN: usize = 500;
const PAGE_MAX: usize = 10_000;
/// How often it is said that etcd is waited for.
const WAITING_TOLD: Duration = Duration::from_secs(5);

pub struct EtcdStore {
    members: Arc<Members>,
    root: Root,
    leases: Leases,
    backlog: usize,
    compactor: Option<AbortHandle>,
}

impl EtcdStore {
    /// Waits until etcd answers.
    ///
    /// # Errors
    /// `Failed` if the options cannot be used, or if etcd does not answer in time.
    pub async fn open(options: &EtcdOptions) -> Result<Self> {
        let members = Arc::new(Members::new(options).await?);
        let mut store = Self {
            members,
            root: Root::new(&options.prefix),
            leases: Leases::default(),
            backlog: options.backlog,
            compactor: None,
        };
        let revision = store.wait(options).await?;
        tracing::info!(servers = options.servers.join(","), prefix = options.prefix, revision, "etcd is the store");
        if !options.compaction_interval.is_zero() {
            let compactor = compact::run(Arc::downgrade(&store.members), options.compaction_interval);
            store.compactor = Some(tokio::spawn(compactor).abort_handle());
        }
        Ok(store)
    }

    async fn wait(&self, options: &EtcdOptions) -> Result<Revision> {
        let (began, mut told) = (Instant::now(), None::<Instant>);
        let mut trying = Trying::default();
        loop {
            let failure = match self.members.ask_once(|kv| self.look(kv, None)).await {
                Ok(revision) => return Ok(revision),
                Err(failure) => failure,
            };
            let (passing, error) = (failure.is_passing(), StoreError::from(failure));
            if !passing || began.elapsed() >= options.patience {
                return Err(error);
            }
            if told.is_none_or(|told| told.elapsed() >= WAITING_TOLD) {
                tracing::warn!(servers = options.servers.join(","), %error, "waiting for etcd");
                told = Some(Instant::now());
            }
            trying.pause().await;
        }
    }

    /// The current revision, if one (none: the current) can be read.
    async fn look(
        &self,
        mut kv: etcd_client::KvClient,
        at: Option<Revision>,
    ) -> std::result::Result<Revision, etcd_client::Error> {
        let options = GetOptions::new().with_count_only().with_revision(at.map_or(0, number));
        let answer = kv.get(self.root.nothing(), Some(options)).await?;
        Ok(revision_of(answer.header()))
    }

    async fn current(&self) -> Result<Revision> {
        Ok(self.members.ask(|kv| self.look(kv, None)).await?)
    }

    /// The error of a read at a revision.
    async fn refused(&self, failure: Failure, asked: Revision) -> StoreError {
        let found = match failure {
            Failure::Compacted => self.compacted().await.map(|oldest| StoreError::Compacted { asked, oldest }),
            Failure::Future => self.current().await.map(|newest| StoreError::Future { asked, newest }),
            other => Ok(other.into()),
        };
        found.unwrap_or_else(|error| error)
    }

    /// The revision of the last compaction. etcd tells it to those who watch from an earlier one.
    async fn compacted(&self) -> Result<Revision> {
        let mut trying = Trying::default();
        loop {
            let options = WatchOptions::new().with_start_revision(1);
            let asking = async {
                let mut watching = self.members.watch(self.root.nothing(), options).await?;
                loop {
                    match watching.stream.message().await.map_err(Failure::of)? {
                        Some(told) if told.compact_revision() > 0 => return Ok(revision(told.compact_revision())),
                        Some(told) if !told.canceled() => {}
                        _ => return Err(Failure::TimedOut),
                    }
                }
            };
            let answer = tokio::time::timeout(CALL_WAIT_MAX, asking).await.unwrap_or(Err(Failure::TimedOut));
            match answer {
                Err(failure) if failure.is_passing() && trying.again().await => {}
                answer => return Ok(answer?),
            }
        }
    }

    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> std::result::Result<Page, Failure> {
        let (first, end) = self.root.range(prefix, after);
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .with_revision(at.map_or(0, number));
        let ask = |mut kv: etcd_client::KvClient| {
            let (first, options) = (first.clone(), options.clone());
            async move { kv.get(first, Some(options)).await }
        };
        let found = self.members.ask(ask).await?;
        let pairs = found.kvs();
        Ok(Page {
            entries: pairs.iter().map(|pair| txn::entry(&self.root, pair)).collect(),
            revision: at.unwrap_or_else(|| revision_of(found.header())),
            more: found.more(),
            remaining: u64::try_from(found.count()).unwrap_or_default().saturating_sub(pairs.len() as u64),
        })
    }

    /// Everything of a range, in pages of one revision.
    async fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        at: Option<Revision>,
    ) -> std::result::Result<Page, Failure> {
        let mut size = PAGE_MIN;
        let mut whole = self.page(prefix, after, size, at).await?;
        while whole.more {
            size = (size * 2).min(PAGE_MAX);
            let last = whole.entries.last().map(|entry| entry.key.clone());
            let page = self.page(prefix, last.as_deref(), size, Some(whole.revision)).await?;
            whole.more = page.more && !page.entries.is_empty();
            whole.entries.extend(page.entries);
        }
        whole.remaining = 0;
        Ok(whole)
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome> {
        refuse_twice_written(&txn.ops)?;
        let repeatable = txn::is_repeatable(&txn);
        let mut trying = Trying::default();
        let mut repeated = false;
        loop {
            let leases = self.leases(&txn.ops).await?;
            let request = txn::request(&self.root, &txn, &leases);
            let answer = match self.members.ask_once(|mut kv| async move { kv.txn(request).await }).await {
                Ok(answer) => answer,
                Err(Failure::LeaseGone) if trying.again().await => {
                    self.leases.forget(&leases).await;
                    continue;
                }
                Err(failure) if failure.is_passing() && repeatable && trying.again().await => {
                    repeated = true;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            let now = revision_of(answer.header());
            if answer.succeeded() {
                return Ok(Outcome::Committed(now));
            }
            let entries = txn::compared(&self.root, &answer);
            if let Some(done) = txn::done_before(&txn, &entries, now).filter(|_| repeated) {
                return Ok(Outcome::Committed(done));
            }
            return Ok(Outcome::Conflict(entries));
        }
    }

    async fn leases(&self, ops: &[Op]) -> Result<Vec<i64>> {
        let mut leases = Vec::with_capacity(ops.len());
        for op in ops {
            leases.push(match op {
                Op::Put { ttl: Some(ttl), .. } => self.leases.of(&self.members, *ttl).await?,
                _ => 0,
            });
        }
        Ok(leases)
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        if let Some(compactor) = &self.compactor {
            compactor.abort();
        }
    }
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        async move {
            let key = self.root.there(key);
            let ask = |mut kv: etcd_client::KvClient| {
                let key = key.clone();
                async move { kv.get(key, None).await }
            };
            let found = self.members.ask(ask).await?;
            Ok(found.kvs().first().map(|pair| txn::entry(&self.root, pair)))
        }
        .boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>> {
        async move {
            let page = match limit {
                0 => self.pages(prefix, after, at).await,
                _ => self.page(prefix, after, limit, at).await,
            };
            match page {
                Ok(page) => Ok(page),
                Err(failure) => Err(self.refused(failure, at.unwrap_or_default()).await),
            }
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        self.commit(txn).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>> {
        async move {
            // A watch itself would tell neither at once.
            if let Err(failure) = self.members.ask(|kv| self.look(kv, Some(after.max(1)))).await {
                return Err(self.refused(failure, after).await);
            }
            let range = self.root.range(prefix, None);
            Ok(watch::follow(self.members.clone(), self.root.clone(), range, after, self.backlog))
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        async move {
            if revision == 0 {
                return Ok(());
            }
            let compact = |mut kv: etcd_client::KvClient| async move { kv.compact(number(revision), None).await };
            match self.members.ask(compact).await {
                Ok(_) | Err(Failure::Compacted) => Ok(()),
                Err(failure) => Err(self.refused(failure, revision).await),
            }
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        self.current().boxed()
    }

    fn is_reachable(&self) -> bool {
        self.members.answer()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision>> {
        async move {
            match self.members.ask(|kv| self.look(kv, Some(1))).await {
                Ok(_) => Ok(1),
                Err(Failure::Compacted) => self.compacted().await,
                Err(failure) => Err(failure.into()),
            }
        }
        .boxed()
    }
}

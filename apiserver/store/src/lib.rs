//! Keeps bytes under keys, with a revision for every change: one trait, several backends, one contract.
//!
//! The model is etcd's: a single revision counter for the whole store, every transaction raises it by one, every key
//! remembers the revisions of its creation and its last change, and history is kept until it is compacted.

pub mod clock;
mod decide;
pub mod embedded;
pub mod etcd;
mod history;
pub mod memory;
mod retention;
mod state;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdOptions, EtcdStore};
pub use memory::MemoryStore;
pub use retention::Retention;

/// The store's clock: raised by one with every committed transaction that changes something. The first is 1.
pub type Revision = u64;

/// A key as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    pub created: Revision,
    pub modified: Revision,
}

/// A condition on a key; the transaction commits only if all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: String,
    /// The revision of the key's last change; 0 if the key must not exist.
    pub modified: Revision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// With a time to live, the key is deleted some time after it has run out.
    Put { key: String, value: Bytes, ttl: Option<Duration> },
    /// Deleting what is not there changes nothing, and if nothing else is changed, the revision stays.
    Delete { key: String },
}

impl Op {
    pub fn key(&self) -> &str {
        let (Self::Put { key, .. } | Self::Delete { key }) = self;
        key
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    /// No two of them on one key.
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, and visible to every read from now on.
    Committed(Revision),
    /// Nothing was changed; the entries are those that were compared, as they are now, in the order of `compare`.
    Conflict(Vec<Option<Entry>>),
}

/// One page of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// The store's revision at the time of the read, or the older one that was asked for.
    pub revision: Revision,
    pub more: bool,
    /// How many keys of the range follow this page.
    pub remaining: u64,
}

/// A change of one key. All changes of a transaction carry its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: String,
    /// None: it was deleted.
    pub value: Option<Entry>,
    pub previous: Option<Entry>,
    pub revision: Revision,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The history before `oldest` is gone.
    #[error("the required revision {asked} has been compacted; the oldest is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("the required revision {asked} is a future revision; the newest is {newest}")]
    Future { asked: Revision, newest: Revision },
    /// The watcher did not keep up; it must start over.
    #[error("the watcher fell behind")]
    Behind,
    #[error("the data directory {path} is damaged: {why}")]
    Damaged { path: String, why: String },
    /// What is kept under this key cannot be read, for instance because the key to decrypt it is missing.
    #[error("{why}")]
    Unreadable { key: String, why: String },
    #[error("the store failed: {what}")]
    Failed {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), source: None }
    }
}

/// What the memory and the embedded backend can be told.
#[derive(Clone)]
pub struct Options {
    pub retention: Retention,
    /// How many transactions a watcher may be behind before it is dropped.
    pub backlog: usize,
    pub clock: Arc<dyn clock::Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self { retention: Retention::default(), backlog: 16_384, clock: Arc::new(clock::TokioClock::system()) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("retention", &self.retention).field("backlog", &self.backlog).finish()
    }
}

/// A store of keys. Every method may be called from any task at any time.
pub trait Store: Send + Sync + 'static {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// Keys that start with `prefix` and come after `after` (a key; exclusive), at most `limit` of them (0: all), as
    /// they were at `at` (`None`: now).
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>>;

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>>;

    /// Every change under `prefix` with a revision greater than `after`, in order, each batch one transaction's,
    /// always with the previous entries. An `after` before the oldest revision is `Compacted`, one after the newest
    /// `Future`. The stream ends with an error if the watcher falls behind or the history was compacted.
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>>;

    /// Forgets what happened before `revision`; what is current stays.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>>;

    /// The revision of the last change; reads from now on show at least this.
    fn revision(&self) -> BoxFuture<'_, Result<Revision>>;

    /// Whether the same value, written again, would be kept in another form: encrypted with another key.
    fn is_stale<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<bool>> {
        let _ = entry;
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Whether it has answered the last time that it was asked.
    fn is_reachable(&self) -> bool {
        true
    }

    /// What it takes on its disk, if it has one of its own.
    fn size_bytes(&self) -> Option<u64> {
        None
    }

    /// The oldest revision that can still be read, and watched from.
    fn oldest(&self) -> BoxFuture<'_, Result<Revision>>;
}

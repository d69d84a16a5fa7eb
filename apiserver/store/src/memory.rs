//! The store that lives as long as its process: for tests and simulation.

use std::sync::{Arc, OnceLock};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
    stream::BoxStream,
};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::{
    Entry, Event, Op, Options, Outcome, Page, Result, Revision, Store, Txn,
    decide::{Decision, decide},
    history::History,
    retention::Compactor,
    state::State,
};

/// How many keys expire in one transaction at most.
pub(crate) const EXPIRY_BATCH: usize = 500;

pub struct MemoryStore {
    inner: Arc<Inner>,
    expiry: OnceLock<AbortHandle>,
}

struct Inner {
    state: Arc<State>,
    compactor: Mutex<Compactor>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(&Options::default())
    }
}

impl MemoryStore {
    pub fn new(options: &Options) -> Self {
        let history = History::default();
        let now = crate::decide::millis(options.clock.now());
        let compactor = Mutex::new(Compactor::new(options.retention.clone(), &history, now));
        Self {
            inner: Arc::new(Inner { state: Arc::new(State::new(history, options)), compactor }),
            expiry: OnceLock::new(),
        }
    }

    fn start_expiry(&self) {
        if self.expiry.get().is_some() {
            return;
        }
        let inner = self.inner.clone();
        if let Some(task) = self.inner.state.spawn_expiry(move || inner.expire())
            && let Err(second) = self.expiry.set(task)
        {
            second.abort();
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        if let Some(task) = self.expiry.get() {
            task.abort();
        }
    }
}

impl Inner {
    fn commit(&self, txn: Txn) -> Result<Outcome> {
        let now = self.state.now();
        self.state.write(|writing| {
            let revision = writing.history.revision() + 1;
            let outcome = match decide(txn, revision, now, |key| writing.history.newest(key))? {
                Decision::Conflict(entries) => return Ok(Outcome::Conflict(entries)),
                Decision::Nothing => return Ok(Outcome::Committed(revision - 1)),
                Decision::Commit(batch) => {
                    writing.commit(&batch);
                    Outcome::Committed(revision)
                }
            };
            if let Some(revision) = self.compactor.lock().due(writing.history, now) {
                writing.history.compact(revision)?;
            }
            writing.trim(1);
            Ok(outcome)
        })
    }

    fn expire(&self) {
        let expired = self.state.read(|history| history.expired(self.state.now(), EXPIRY_BATCH));
        let compare = self.state.read(|history| expired.iter().filter_map(|key| compare(history, key)).collect());
        let ops = expired.iter().map(|key| Op::Delete { key: key.to_string() }).collect();
        // A key that was written meanwhile is a conflict; the next round looks again.
        if let Err(error) = self.commit(Txn { compare, ops }) {
            tracing::warn!(%error, "expired keys were not deleted");
        }
    }
}

fn compare(history: &History, key: &str) -> Option<crate::Compare> {
    history.newest(key).map(|version| crate::Compare { key: key.to_owned(), modified: version.modified })
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        ready(Ok(self.inner.state.get(key))).boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>> {
        ready(self.inner.state.range(prefix, after, limit, at)).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        async move {
            if txn.ops.iter().any(|op| matches!(op, Op::Put { ttl: Some(_), .. })) {
                self.start_expiry();
            }
            self.inner.commit(txn)
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>> {
        ready(self.inner.state.watch(prefix, after)).boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        ready(self.inner.state.write(|writing| {
            writing.history.compact(revision)?;
            writing.trim(usize::MAX / 8);
            Ok(())
        }))
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        ready(Ok(self.inner.state.read(History::revision))).boxed()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision>> {
        ready(Ok(self.inner.state.read(History::oldest))).boxed()
    }
}

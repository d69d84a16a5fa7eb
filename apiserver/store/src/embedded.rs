//! The durable store of one machine: reads and watches from memory, every transaction on disk before its answer.
//!
//! One thread writes: it decides all transactions that wait, puts them into one durable record of a journal, shows them to
//! readers and watchers, and only then answers. When the journal is full, what it holds goes into a database, which holds
//! the versions of all keys that a read can still reach, by revision, so that a restart finds the history, too.

mod file;
mod journal;
mod lock;
mod writer;

#[cfg(test)]
mod faults;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
    stream::BoxStream,
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use self::{
    file::{Disk, File, Files},
    writer::{Request, Writer},
};
use crate::{
    Entry, Event, Options, Outcome, Page, Result, Revision, Store, StoreError, Txn, history::History, state::State,
};

/// How many requests may wait for the writer before callers wait to hand theirs in.
const QUEUE: usize = 1024;

pub struct EmbeddedStore {
    state: Arc<State>,
    requests: Option<mpsc::Sender<Request>>,
    expiry: OnceLock<AbortHandle>,
    writer: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens the store of a directory, which is its own and which it creates with mode 0700. Blocks while it reads
    /// everything.
    ///
    /// # Errors
    /// `Damaged` if the file is not what a store has written, `Failed` if another process has it open or the disk
    /// fails.
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        Self::open_with(directory, options, Box::new(Files))
    }

    fn open_with(directory: &Path, options: &Options, disk: Box<dyn Disk>) -> Result<Self> {
        let mut file = File::open(directory, disk)?;
        let history = file.load()?;
        tracing::info!(
            path = %directory.display(), revision = history.revision(), oldest = history.oldest(), "the store is open"
        );
        let state = Arc::new(State::new(history, options));
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(state.clone(), file, options);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(queue))
            .map_err(|source| file::failed("the writer's thread did not start", source))?;
        Ok(Self {
            state,
            requests: Some(requests),
            expiry: OnceLock::new(),
            writer: Mutex::new(Some(thread)),
            path: directory.to_owned(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lazily, because a store may be opened before there is a runtime.
    fn start_expiry(&self) {
        let Some(requests) = self.requests.as_ref().filter(|_| self.expiry.get().is_none()) else { return };
        // Weak: the writer ends when the store has dropped its queue.
        let requests = requests.downgrade();
        let expire = move || {
            // A full queue is as good as a failed expiry: the next round tries again.
            let sent = requests.upgrade().map(|queue| queue.try_send(Request::Expire));
            tracing::trace!(?sent, "keys expired");
        };
        if let Some(task) = self.state.spawn_expiry(expire)
            && let Err(second) = self.expiry.set(task)
        {
            second.abort();
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        self.start_expiry();
        let ended = || StoreError::failed("the writer has ended");
        let (answer, answered) = oneshot::channel();
        let queue = self.requests.as_ref().ok_or_else(ended)?;
        queue.send(request(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

impl Drop for EmbeddedStore {
    /// Waits for the writer, so that the directory can be opened again at once.
    fn drop(&mut self) {
        if let Some(task) = self.expiry.get() {
            task.abort();
        }
        self.requests = None;
        if let Some(writer) = self.writer.get_mut().take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        ready(Ok(self.state.get(key))).boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>> {
        ready(self.state.range(prefix, after, limit, at)).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        self.ask(|answer| Request::Txn { txn, answer }).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>> {
        async move {
            self.start_expiry();
            self.state.watch(prefix, after)
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.ask(move |answer| Request::Compact { revision, answer }).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        ready(Ok(self.state.read(History::revision))).boxed()
    }

    fn size_bytes(&self) -> Option<u64> {
        file::size_bytes(&self.path)
            .inspect_err(|error| tracing::debug!(%error, "the size of the store is not known"))
            .ok()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision>> {
        ready(Ok(self.state.read(History::oldest))).boxed()
    }
}

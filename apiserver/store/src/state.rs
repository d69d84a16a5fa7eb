//! What the memory and the embedded backend share: the history under its lock, its watchers, its clock.

use std::{sync::Arc, time::Duration};

use futures::stream::BoxStream;
use parking_lot::RwLock;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use crate::{
    Entry, Event, Options, Page, Result, Revision,
    clock::Clock,
    decide::millis,
    history::{Batch, Dead, History, Millis},
    watch::Watchers,
};

/// Changes that ran out are deleted together: at most so often.
const EXPIRY_PERIOD: Duration = Duration::from_millis(500);

pub(crate) struct State {
    history: RwLock<History>,
    watchers: Watchers,
    clock: Arc<dyn Clock>,
    /// Told when the next expiry is another one than before.
    expiry: Notify,
}

impl State {
    pub fn new(history: History, options: &Options) -> Self {
        Self {
            history: RwLock::new(history),
            watchers: Watchers::new(options.backlog),
            clock: options.clock.clone(),
            expiry: Notify::new(),
        }
    }

    pub fn now(&self) -> Millis {
        millis(self.clock.now())
    }

    pub fn read<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.history.read())
    }

    pub fn write<T>(&self, change: impl FnOnce(&mut Writing) -> T) -> T {
        let mut history = self.history.write();
        let expiry = history.next_expiry();
        let answer = change(&mut Writing { history: &mut history, watchers: &self.watchers });
        if history.next_expiry() != expiry {
            self.expiry.notify_one();
        }
        answer
    }

    pub fn get(&self, key: &str) -> Option<Entry> {
        self.history.read().get(key)
    }

    pub fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>) -> Result<Page> {
        self.history.read().range(prefix, after, limit, at)
    }

    pub fn watch(&self, prefix: &str, after: Revision) -> Result<BoxStream<'static, Result<Vec<Event>>>> {
        let history = self.history.read();
        let replay = history.replay(prefix, after)?;
        Ok(self.watchers.follow(prefix, replay))
    }

    /// Calls `expire` whenever a time to live has run out. None outside of a runtime.
    pub fn spawn_expiry(self: &Arc<Self>, expire: impl Fn() + Send + Sync + 'static) -> Option<AbortHandle> {
        let state = self.clone();
        let task = async move {
            loop {
                let Some(next) = state.read(History::next_expiry) else {
                    state.expiry.notified().await;
                    continue;
                };
                let wait = Duration::from_millis(next.saturating_sub(state.now())).max(EXPIRY_PERIOD);
                if tokio::time::timeout(wait, state.expiry.notified()).await.is_err() {
                    expire();
                }
            }
        };
        Handle::try_current().ok().map(|runtime| runtime.spawn(task).abort_handle())
    }
}

/// The history while it is locked for a change.
pub(crate) struct Writing<'a> {
    pub history: &'a mut History,
    watchers: &'a Watchers,
}

impl Writing<'_> {
    /// Makes a batch visible to reads and watches.
    pub fn commit(&mut self, batch: &Batch) {
        let events = self.history.apply(batch);
        self.watchers.publish(events);
    }

    /// Forgets some of what is compacted, a little more than `changes` new transactions add.
    pub fn trim(&mut self, changes: usize) -> Vec<Dead> {
        self.history.trim(changes * 4 + 64)
    }
}

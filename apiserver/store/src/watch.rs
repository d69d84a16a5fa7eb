//! The watchers of a store: each has a bounded queue; who lets it overflow is told so and dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Event, Result, StoreError};

/// A transaction's changes, shared by all watchers.
type Shared = Arc<[Event]>;

#[derive(Debug)]
pub(crate) struct Watchers {
    /// How many transactions a watcher may be behind.
    backlog: usize,
    all: Mutex<Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    prefix: Arc<str>,
    queue: mpsc::Sender<Shared>,
    behind: Arc<AtomicBool>,
}

impl Watcher {
    /// False if it is to be dropped.
    fn offer(&self, events: &Shared) -> bool {
        if !events.iter().any(|event| event.key.starts_with(&*self.prefix)) {
            return true;
        }
        match self.queue.try_send(events.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.behind.store(true, Ordering::Release);
                false
            }
        }
    }
}

impl Watchers {
    pub fn new(backlog: usize) -> Self {
        Self { backlog: backlog.max(1), all: Mutex::default() }
    }

    /// Call it under the lock that orders transactions.
    pub fn publish(&self, events: Vec<Event>) {
        let mut all = self.all.lock();
        if all.is_empty() {
            return;
        }
        let events: Shared = events.into();
        all.retain(|watcher| watcher.offer(&events));
    }

    /// `replay` is what happened before; call it under the lock that orders transactions.
    pub fn follow(&self, prefix: &str, replay: Vec<Vec<Event>>) -> BoxStream<'static, Result<Vec<Event>>> {
        let (queue, receiver) = mpsc::channel(self.backlog);
        let (prefix, behind) = (Arc::<str>::from(prefix), Arc::<AtomicBool>::default());
        let mut all = self.all.lock();
        all.retain(|watcher| !watcher.queue.is_closed());
        all.push(Watcher { prefix: prefix.clone(), queue, behind: behind.clone() });
        stream::unfold(Some(Following { replay: replay.into(), receiver, prefix, behind }), next).boxed()
    }
}

struct Following {
    replay: VecDeque<Vec<Event>>,
    receiver: mpsc::Receiver<Shared>,
    prefix: Arc<str>,
    behind: Arc<AtomicBool>,
}

type Step = Option<(Result<Vec<Event>>, Option<Following>)>;

async fn next(following: Option<Following>) -> Step {
    let mut following = following?;
    if let Some(batch) = following.replay.pop_front() {
        return Some((Ok(batch), Some(following)));
    }
    match following.receiver.recv().await {
        Some(events) => {
            let batch = events.iter().filter(|event| event.key.starts_with(&*following.prefix)).cloned().collect();
            Some((Ok(batch), Some(following)))
        }
        None if following.behind.load(Ordering::Acquire) => Some((Err(StoreError::Behind), None)),
        None => None,
    }
}

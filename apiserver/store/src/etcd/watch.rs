//! Watches of etcd that outlive connections, servers and leaders: each goes on where it was.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use etcd_client::{EventType, WatchOptions, WatchResponse};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    member::{Failure, Members, Trying, Watching},
    root::Root,
    txn::{entry, number, revision, revision_of},
};
use crate::{Event, Result, Revision, StoreError};

type Batch = Result<Vec<Event>>;

/// Every change of the keys in `range` after a revision that etcd still has, a batch for each revision.
pub(super) fn follow(
    members: Arc<Members>,
    root: Root,
    range: (Vec<u8>, Vec<u8>),
    after: Revision,
    backlog: usize,
) -> BoxStream<'static, Batch> {
    let (queue, receiver) = mpsc::channel(backlog.max(1));
    let behind = Arc::<AtomicBool>::default();
    let follower = Follower { members, root, range, after, caught_up: after, queue, behind: behind.clone() };
    // Ends when the receiver is dropped.
    tokio::spawn(follower.run());
    stream::unfold(Some((receiver, behind)), next).boxed()
}

async fn next(
    following: Option<(mpsc::Receiver<Batch>, Arc<AtomicBool>)>,
) -> Option<(Batch, Option<(mpsc::Receiver<Batch>, Arc<AtomicBool>)>)> {
    let (mut receiver, behind) = following?;
    match receiver.recv().await {
        Some(Ok(batch)) => Some((Ok(batch), Some((receiver, behind)))),
        Some(Err(error)) => Some((Err(error), None)),
        None if behind.load(Ordering::Acquire) => Some((Err(StoreError::Behind), None)),
        None => Some((Err(StoreError::failed("the watch of etcd has ended")), None)),
    }
}

struct Follower {
    members: Arc<Members>,
    root: Root,
    range: (Vec<u8>, Vec<u8>),
    /// Everything up to this revision has been told.
    after: Revision,
    /// What happened before the watch was made may come faster than anyone reads.
    caught_up: Revision,
    queue: mpsc::Sender<Batch>,
    behind: Arc<AtomicBool>,
}

/// Why a follower stops.
enum End {
    /// Nobody listens any more, or whoever does was told.
    Done,
    Error(StoreError),
}

impl Follower {
    async fn run(mut self) {
        let mut trying = Trying::default();
        loop {
            let told = self.after;
            let failure = match self.watch_once().await {
                Ok(failure) => failure,
                Err(End::Done) => return,
                Err(End::Error(error)) => {
                    if self.queue.send(Err(error)).await.is_err() {
                        tracing::debug!("nobody listens to the end of a watch");
                    }
                    return;
                }
            };
            if self.after > told {
                trying = Trying::default();
            }
            tracing::warn!(after = self.after, why = %StoreError::from(failure), "a watch of etcd begins anew");
            tokio::select! {
                () = trying.pause() => {}
                () = self.queue.closed() => return,
            }
        }
    }

    /// Watches until the connection or the server is lost, which is told.
    async fn watch_once(&mut self) -> std::result::Result<Failure, End> {
        let options = WatchOptions::new()
            .with_range(self.range.1.clone())
            .with_prev_key()
            // Not the one after it: whether its history is still there is what etcd is asked, too.
            .with_start_revision(number(self.after.max(1)));
        let asking = self.members.watch(self.range.0.clone(), options);
        let answer = tokio::select! {
            answer = asking => answer,
            () = self.queue.closed() => return Err(End::Done),
        };
        let mut watching = match answer {
            Ok(watching) => watching,
            Err(failure) if failure.is_passing() => return Ok(failure),
            Err(failure) => return Err(End::Error(failure.into())),
        };
        loop {
            let message = tokio::select! {
                message = watching.stream.message() => message,
                () = self.queue.closed() => return Err(End::Done),
            };
            let response = match message {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(self.lost(&watching, etcd_client::Error::WatchError("it ended".into()))),
                Err(error) => return Ok(self.lost(&watching, error)),
            };
            if response.canceled() {
                let oldest = revision(response.compact_revision());
                if oldest > 0 {
                    return Err(End::Error(StoreError::Compacted { asked: self.after, oldest }));
                }
                let why = etcd_client::Error::WatchError(response.cancel_reason().to_owned());
                return Ok(self.lost(&watching, why));
            }
            if response.created() {
                self.caught_up = self.caught_up.max(revision_of(response.header()));
            }
            for batch in batches(&self.root, &response, self.after) {
                self.tell(batch).await?;
            }
        }
    }

    fn lost(&self, watching: &Watching, error: etcd_client::Error) -> Failure {
        self.members.lost(watching);
        Failure::Passing(error)
    }

    async fn tell(&mut self, batch: Vec<Event>) -> std::result::Result<(), End> {
        let Some(revision) = batch.last().map(|event| event.revision) else { return Ok(()) };
        if revision <= self.caught_up {
            self.queue.send(Ok(batch)).await.map_err(|_| End::Done)?;
        } else {
            self.queue.try_send(Ok(batch)).map_err(|error| {
                if matches!(error, TrySendError::Full(_)) {
                    self.behind.store(true, Ordering::Release);
                }
                End::Done
            })?;
        }
        self.after = revision;
        Ok(())
    }
}

/// The changes of a message after a revision, by their revisions.
fn batches(root: &Root, response: &WatchResponse, after: Revision) -> VecDeque<Vec<Event>> {
    let mut batches: VecDeque<Vec<Event>> = VecDeque::new();
    for event in response.events() {
        let Some(pair) = event.kv() else { continue };
        let modified = revision(pair.mod_revision());
        if modified <= after {
            continue;
        }
        let put = event.event_type() == EventType::Put;
        let event = Event {
            key: root.here(pair.key()),
            value: put.then(|| entry(root, pair)),
            previous: event.prev_kv().map(|pair| entry(root, pair)),
            revision: modified,
        };
        match batches.back_mut().filter(|batch| batch.last().is_some_and(|last| last.revision == modified)) {
            Some(batch) => batch.push(event),
            None => batches.push_back(vec![event]),
        }
    }
    batches
}

//! The one thread that writes an embedded store: whatever waits goes into one durable commit.

use std::{
    collections::HashMap,
    iter,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::file::{Broken, File};
use crate::{
    Compare, Op, Options, Outcome, Result, Revision, StoreError, Txn,
    decide::{Decision, decide},
    history::{Batch, History, Millis, Version},
    memory::EXPIRY_BATCH,
    retention::Compactor,
    state::State,
};

/// How many requests share a commit at most.
const GROUP: usize = 256;
/// For how long a group waits for more requests: as long as the last commit took, or as it takes to read and to answer those
/// that are missing, but never longer than the maximum.
const PAUSE_EACH: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(2);

type Answer<T> = oneshot::Sender<Result<T>>;

pub(super) enum Request {
    Txn {
        txn: Txn,
        answer: Answer<Outcome>,
    },
    Compact {
        revision: Revision,
        answer: Answer<()>,
    },
    /// Delete the keys whose time to live has run out.
    Expire,
}

pub(super) struct Writer {
    state: Arc<State>,
    file: File,
    compactor: Compactor,
    /// An error of the disk that opening the file again cannot mend.
    broken: Option<String>,
}

/// What a group of requests has come to, before it is durable.
#[derive(Default)]
struct Group {
    batches: Vec<Batch>,
    /// The newest versions in `batches`.
    newest: HashMap<Arc<str>, Version>,
    compacted: Option<Revision>,
    outcomes: Vec<(Answer<Outcome>, Result<Outcome>)>,
    compactions: Vec<(Answer<()>, Result<()>)>,
}

impl Group {
    fn decide(&mut self, txn: Txn, history: &History, now: Millis) -> Result<Outcome> {
        let last = self.batches.last().map_or(history.revision(), |batch| batch.revision);
        let newest = |key: &str| self.newest.get(key).or_else(|| history.newest(key));
        match decide(txn, last + 1, now, newest)? {
            Decision::Conflict(entries) => Ok(Outcome::Conflict(entries)),
            Decision::Nothing => Ok(Outcome::Committed(last)),
            Decision::Commit(batch) => {
                let changes = batch.changes.iter().map(|change| (change.key.clone(), change.version.clone()));
                self.newest.extend(changes);
                self.batches.push(batch);
                Ok(Outcome::Committed(last + 1))
            }
        }
    }

    /// A key that the group itself has written again is left alone.
    fn expire(&mut self, history: &History, now: Millis) -> Result<Outcome> {
        let due = history.expired(now, EXPIRY_BATCH).into_iter().filter(|key| !self.newest.contains_key(key));
        let delete = |key: Arc<str>| Op::Delete { key: key.to_string() };
        let txn = Txn { compare: Vec::<Compare>::new(), ops: due.map(delete).collect() };
        self.decide(txn, history, now)
    }

    fn compact(&mut self, revision: Revision, history: &History) -> Result<()> {
        // Only what is durable already: the group's own batches are no history yet.
        if revision > history.revision() {
            return Err(StoreError::Future { asked: revision, newest: history.revision() });
        }
        if revision > history.oldest() {
            self.compacted = self.compacted.max(Some(revision));
        }
        Ok(())
    }

    fn answer(self, failure: Option<&StoreError>) {
        let what = failure.map(ToString::to_string);
        // Whoever does not wait any more needs no answer.
        for (answer, outcome) in self.outcomes {
            answer.send(what.clone().map_or(outcome, |what| Err(StoreError::failed(what)))).ok();
        }
        for (answer, outcome) in self.compactions {
            answer.send(what.clone().map_or(outcome, |what| Err(StoreError::failed(what)))).ok();
        }
    }
}

fn pause(missing: usize, took: Duration) -> Duration {
    let expected = u32::try_from(missing).map_or(PAUSE_MAX, |missing| PAUSE_EACH * missing);
    took.max(expected).min(PAUSE_MAX)
}

impl Writer {
    pub fn new(state: Arc<State>, file: File, options: &Options) -> Self {
        let now = state.now();
        let compactor = state.read(|history| Compactor::new(options.retention.clone(), history, now));
        Self { state, file, compactor, broken: None }
    }

    /// Until nobody can ask any more.
    pub fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(GROUP);
        let (mut before, mut took) = (0_usize, Duration::ZERO);
        while queue.blocking_recv_many(&mut waiting, GROUP) > 0 {
            // A commit costs the same for one as for many. Those who were answered together are about to ask again.
            let missing = before.saturating_sub(waiting.len());
            if missing > 0 {
                thread::sleep(pause(missing, took));
                waiting.extend(iter::from_fn(|| queue.try_recv().ok()).take(GROUP - waiting.len()));
            }
            before = waiting.len();
            let begun = Instant::now();
            self.serve(waiting.drain(..));
            took = begun.elapsed();
        }
    }

    fn serve(&mut self, requests: impl Iterator<Item = Request>) {
        let ready = self.mend();
        let now = self.state.now();
        let mut group = self.state.read(|history| {
            let mut group = Group::default();
            for request in requests {
                match request {
                    Request::Txn { txn, answer } => {
                        let outcome = group.decide(txn, history, now);
                        group.outcomes.push((answer, outcome));
                    }
                    Request::Compact { revision, answer } => {
                        let outcome = group.compact(revision, history);
                        group.compactions.push((answer, outcome));
                    }
                    Request::Expire => {
                        if let Err(error) = group.expire(history, now) {
                            tracing::warn!(%error, "expired keys were not deleted");
                        }
                    }
                }
            }
            group
        });
        if group.batches.is_empty() && group.compacted.is_none() {
            return group.answer(None);
        }
        group.compacted = group.compacted.max(self.state.read(|history| self.compactor.due(history, now)));
        let done = ready.and_then(|()| self.commit(&group));
        if let Err(error) = &done {
            tracing::error!(%error, "transactions failed");
        }
        group.answer(done.err().as_ref());
    }

    /// Makes a group durable, then visible.
    fn commit(&mut self, group: &Group) -> Result<()> {
        self.file.commit(&group.batches, group.compacted).map_err(|broken| self.note(broken))?;
        self.show(&group.batches, group.compacted)
    }

    fn show(&mut self, batches: &[Batch], compacted: Option<Revision>) -> Result<()> {
        let dead = self.state.write(|writing| {
            batches.iter().for_each(|batch| writing.commit(batch));
            compacted.map_or(Ok(()), |revision| writing.history.compact(revision))?;
            Ok::<_, StoreError>(writing.trim(batches.len()))
        })?;
        self.file.remove(dead);
        Ok(())
    }

    /// A full disk passes. After any other error what the system reads back may not be what the disk holds, so that
    /// nothing more is written until the process starts anew.
    fn note(&mut self, Broken { error, passing }: Broken) -> StoreError {
        if !passing {
            self.broken = Some(format!("{error}; it must be restarted"));
        }
        error
    }

    /// Opens the file again if the last commit failed for want of space. What that commit had written nevertheless
    /// becomes visible now: its clients were told of a failure, not that nothing happened.
    fn mend(&mut self) -> Result<()> {
        if let Some(broken) = &self.broken {
            return Err(StoreError::failed(broken.clone()));
        }
        if self.file.is_open() {
            return Ok(());
        }
        let (batches, compacted) = self.file.reopen(self.state.read(History::revision))?;
        self.show(&batches, Some(compacted))
    }
}

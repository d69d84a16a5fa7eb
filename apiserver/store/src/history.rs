//! The revisions of all keys in memory: what is current, what was before, and in which order it changed.
//!
//! Pure: the backends hold it under a lock, decide transactions on it and apply what has become durable.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::{Entry, Event, Page, Result, Revision, StoreError};

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = u64;

/// A key between two of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// None: deleted.
    pub value: Option<Bytes>,
    pub created: Revision,
    pub modified: Revision,
    pub expires: Option<Millis>,
}

impl Version {
    pub fn entry(&self, key: &str) -> Option<Entry> {
        let value = self.value.clone()?;
        Some(Entry { key: key.to_owned(), value, created: self.created, modified: self.modified })
    }

    fn size(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The changes of one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub key: Arc<str>,
    pub version: Version,
}

/// A version that no read can reach any more.
pub(crate) type Dead = (Revision, Arc<str>);

/// All kept versions of one key, the last apart: most keys have no other.
#[derive(Debug)]
struct Chain {
    newest: Version,
    /// Oldest first.
    older: VecDeque<Version>,
}

impl Chain {
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.newest.modified <= revision {
            return Some(&self.newest);
        }
        let following = self.older.partition_point(|v| v.modified <= revision);
        self.older.get(following.checked_sub(1)?)
    }

    fn push(&mut self, version: Version) {
        self.older.push_back(std::mem::replace(&mut self.newest, version));
    }
}

/// What changed at one revision.
#[derive(Debug)]
struct Logged {
    revision: Revision,
    keys: Box<[Arc<str>]>,
    /// About what forgetting it sets free.
    bytes: usize,
}

/// What a log record costs beside its key and value, roughly.
const RECORD_BYTES: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct History {
    chains: BTreeMap<Arc<str>, Chain>,
    log: VecDeque<Logged>,
    log_bytes: usize,
    expiries: BTreeSet<(Millis, Arc<str>)>,
    revision: Revision,
    oldest: Revision,
}

impl History {
    /// From all kept versions in the order of their revisions, and the last compaction. Also gives those versions
    /// that the compaction has made unreachable.
    pub fn load(batches: impl IntoIterator<Item = Result<Batch>>, compacted: Revision) -> Result<(Self, Vec<Dead>)> {
        let mut history = Self::default();
        for batch in batches {
            history.apply(&batch?);
        }
        history.revision = history.revision.max(compacted);
        history.compact(compacted)?;
        let dead = history.trim(usize::MAX);
        Ok((history, dead))
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The last version of a key, even if that is its deletion.
    pub fn newest(&self, key: &str) -> Option<&Version> {
        self.chains.get(key).map(|chain| &chain.newest)
    }

    pub fn get(&self, key: &str) -> Option<Entry> {
        self.newest(key)?.entry(key)
    }

    /// See [`crate::Store::range`].
    pub fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>) -> Result<Page> {
        let revision = at.unwrap_or(self.revision);
        self.check(revision)?;
        let start = after.filter(|a| *a >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let mut live = self
            .chains
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, chain)| Some((key, chain.at(revision).filter(|v| v.value.is_some())?)));
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries = live.by_ref().take(limit).filter_map(|(key, version)| version.entry(key)).collect();
        let remaining = live.count() as u64;
        Ok(Page { entries, revision, more: remaining > 0, remaining })
    }

    fn check(&self, asked: Revision) -> Result<()> {
        if asked > self.revision {
            return Err(StoreError::Future { asked, newest: self.revision });
        }
        if asked < self.oldest {
            return Err(StoreError::Compacted { asked, oldest: self.oldest });
        }
        Ok(())
    }

    /// The changes under `prefix` after a revision, a batch for each transaction.
    pub fn replay(&self, prefix: &str, after: Revision) -> Result<Vec<Vec<Event>>> {
        self.check(after)?;
        let first = self.log.partition_point(|logged| logged.revision <= after);
        let events = |logged: &Logged| -> Vec<Event> {
            let keys = logged.keys.iter().filter(|key| key.starts_with(prefix));
            keys.filter_map(|key| self.event(key, logged.revision)).collect()
        };
        Ok(self.log.range(first..).map(events).filter(|batch| !batch.is_empty()).collect())
    }

    fn event(&self, key: &str, revision: Revision) -> Option<Event> {
        let chain = self.chains.get(key)?;
        let version = chain.at(revision)?;
        let previous = chain.at(revision - 1).and_then(|v| v.entry(key));
        Some(Event { key: key.to_owned(), value: version.entry(key), previous, revision })
    }

    /// Takes over a batch; gives it as watchers see it.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Event> {
        let mut keys = Vec::with_capacity(batch.changes.len());
        let mut events = Vec::with_capacity(batch.changes.len());
        let mut bytes = 0;
        for Change { key, version } in &batch.changes {
            let key = self.chains.get_key_value(key).map_or(key, |(kept, _)| kept).clone();
            let previous = self.replace(&key, version.clone());
            bytes += RECORD_BYTES + key.len() + previous.as_ref().map_or(0, Version::size);
            events.push(Event {
                key: key.to_string(),
                value: version.entry(&key),
                previous: previous.and_then(|v| v.entry(&key)),
                revision: batch.revision,
            });
            keys.push(key);
        }
        self.log.push_back(Logged { revision: batch.revision, keys: keys.into(), bytes });
        self.log_bytes += bytes;
        self.revision = batch.revision;
        events
    }

    /// Makes a version the newest of its key; gives the one before it.
    fn replace(&mut self, key: &Arc<str>, version: Version) -> Option<Version> {
        if let Some(expires) = version.expires {
            self.expiries.insert((expires, key.clone()));
        }
        let Some(chain) = self.chains.get_mut(key) else {
            self.chains.insert(key.clone(), Chain { newest: version, older: VecDeque::new() });
            return None;
        };
        let previous = chain.newest.clone();
        let expires = version.expires;
        chain.push(version);
        if let Some(expired) = previous.expires.filter(|e| Some(*e) != expires) {
            self.expiries.remove(&(expired, key.clone()));
        }
        Some(previous)
    }

    /// Refuses reads before `revision` from now on; [`Self::trim`] then sets free what they would have needed.
    pub fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision > self.revision {
            return Err(StoreError::Future { asked: revision, newest: self.revision });
        }
        self.oldest = self.oldest.max(revision);
        Ok(())
    }

    /// Forgets compacted changes, at most `limit` transactions' of them, so that no caller waits long.
    pub fn trim(&mut self, limit: usize) -> Vec<Dead> {
        let mut dead = Vec::new();
        for _ in 0..limit {
            let Some(logged) = self.log.pop_front_if(|logged| logged.revision <= self.oldest) else { break };
            self.log_bytes -= logged.bytes;
            for key in &logged.keys {
                self.forget(key, logged.revision, &mut dead);
            }
        }
        dead
    }

    /// Drops what the change of a key at `revision` has superseded, and that change itself if it is a deletion.
    fn forget(&mut self, key: &Arc<str>, revision: Revision, dead: &mut Vec<Dead>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let superseded = |v: &Version| v.modified < revision || (v.modified == revision && v.value.is_none());
        while let Some(version) = chain.older.pop_front_if(|v| superseded(v)) {
            dead.push((version.modified, key.clone()));
        }
        if chain.older.is_empty() && superseded(&chain.newest) {
            dead.push((chain.newest.modified, key.clone()));
            self.chains.remove(key);
        }
    }

    /// Up to which revision to compact so that the log keeps to its limits.
    pub fn excess(&self, revisions: usize, bytes: usize) -> Option<Revision> {
        let trimming = self.log.front().is_none_or(|logged| logged.revision <= self.oldest);
        if trimming || (self.log.len() <= revisions && self.log_bytes <= bytes) {
            return None;
        }
        // A quarter below the limits, so that this walk is rare.
        let (revisions, bytes) = (revisions - revisions / 4, bytes - bytes / 4);
        let (mut kept, mut kept_bytes) = (self.log.len(), self.log_bytes);
        let fits = |logged: &&Logged| {
            kept -= 1;
            kept_bytes -= logged.bytes;
            kept <= revisions && kept_bytes <= bytes
        };
        self.log.iter().find(fits).map(|logged| logged.revision)
    }

    pub fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// Keys whose time to live has run out, at most `limit`.
    pub fn expired(&self, now: Millis, limit: usize) -> Vec<Arc<str>> {
        let due = self.expiries.iter().take_while(|(expires, _)| *expires <= now);
        due.take(limit).map(|(_, key)| key.clone()).collect()
    }
}

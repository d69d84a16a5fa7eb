//! The cache of one kind: its objects, its recent changes, and who watches them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use store::Revision;
use tokio::time::Instant;

use super::{
    changes::Changes,
    event::Event,
    fanout::Fanout,
    filter::{Change, Filter},
    object::Object,
};
use crate::metrics::buckets::Buckets;

/// Changes that are kept for watches that resume.
const HISTORY_EVENTS_MAX: usize = 8192;
const HISTORY_BYTES_MAX: usize = 64 << 20;

pub type Delivery = (Change, Arc<Event>);

/// A key below the kind's prefix, and what is there now; none if it was deleted.
pub type Put = (Box<str>, Option<Arc<Object>>);

/// Upstream's buckets of what a watcher is sent, in bytes.
static EVENT_BYTES: [u64; 8] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

pub struct KindCache {
    /// The events that clients were sent, by their size.
    told: Buckets<8>,
    /// How many changes the store has told of.
    received: AtomicU64,
    state: RwLock<State>,
    watchers: Mutex<Fanout>,
}

impl Default for KindCache {
    fn default() -> Self {
        let (state, watchers) = (RwLock::default(), Mutex::default());
        Self { told: Buckets::new(&EVENT_BYTES), received: AtomicU64::new(0), state, watchers }
    }
}

#[derive(Default)]
struct State {
    /// By the key below the kind's prefix: `namespace/name`, or the name.
    objects: BTreeMap<Box<str>, Arc<Object>>,
    /// The keys of what is stored but cannot be read.
    unreadable: BTreeSet<Box<str>>,
    /// The size of all objects.
    bytes: usize,
    /// Of the last change of this kind.
    revision: Revision,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    /// Every change after this revision is in the history.
    floor: Revision,
}

/// Where a new watcher begins.
pub enum Start {
    /// With the objects as they are.
    State(Vec<Arc<Object>>),
    /// With the changes since its revision.
    Changes(Vec<Delivery>),
    /// The history does not reach back far enough; the changes up to this revision are to be had from the store.
    Older(Revision),
}

pub struct Registered {
    pub start: Start,
    /// The start shows the kind as of this revision.
    pub revision: Revision,
    pub changes: Changes,
}

/// Some objects, and the revision of the kind's last change that they show.
pub struct Snapshot {
    pub objects: Vec<Arc<Object>>,
    pub revision: Revision,
    /// How many objects of the namespace follow.
    pub remaining: usize,
    /// The key of the last object, if more follow.
    pub next: Option<String>,
}

impl KindCache {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        if namespace.is_empty() { self.at(name) } else { self.at(&format!("{namespace}/{name}")) }
    }

    /// The object with this key below the kind's prefix.
    pub fn at(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects of a namespace (empty: of all), in the order of their keys.
    pub fn list(&self, namespace: &str) -> Vec<Arc<Object>> {
        self.state.read().in_namespace(namespace, None).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of all objects, in bytes.
    pub fn bytes(&self) -> usize {
        self.state.read().bytes
    }

    /// The revision of the last change of this kind: what is derived from its objects stays right until it moves.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// At most `limit` matching objects (0: all) whose keys come after `after`, if nothing has changed since `at`.
    pub fn snapshot(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Option<Snapshot> {
        let state = self.state.read();
        if at.is_some_and(|at| state.revision > at) {
            return None;
        }
        let revision = state.revision;
        if limit == 0 {
            // Matching may decode objects, which must not happen under the lock.
            let mut objects: Vec<_> = state.in_namespace(&filter.namespace, after).cloned().collect();
            drop(state);
            objects.retain(|object| filter.matches(object));
            return Some(Snapshot { objects, revision, remaining: 0, next: None });
        }
        let mut rest = state.in_namespace(&filter.namespace, after);
        let objects: Vec<_> = rest.by_ref().filter(|object| filter.matches(object)).take(limit).cloned().collect();
        let remaining = if objects.len() < limit { 0 } else { rest.count() };
        let next = objects.last().filter(|_| remaining > 0).map(|last| last.path());
        Some(Snapshot { objects, revision, remaining, next })
    }

    /// Takes over all objects, as after a restart; nothing is told to watchers.
    pub fn fill(&self, objects: BTreeMap<Box<str>, Arc<Object>>, unreadable: BTreeSet<Box<str>>, revision: Revision) {
        let mut state = self.state.write();
        state.unreadable = unreadable;
        state.bytes = objects.values().map(|object| object.line.len()).sum();
        state.revision = objects.values().map(|o| o.revision).max().unwrap_or_default();
        state.objects = objects;
        state.floor = revision;
    }

    /// An object has become unreadable: watchers cannot be told of it, and must not take it for deleted.
    pub fn lose(&self, key: &str) {
        let mut state = self.state.write();
        if let Some(lost) = state.objects.remove(key) {
            state.bytes -= lost.line.len();
        }
        state.unreadable.insert(key.into());
        drop(state);
        self.end_watches();
    }

    /// The key of an object that is there but cannot be read: of this one, or of any in the namespace (empty: in all).
    pub fn unreadable(&self, namespace: &str, name: Option<&str>) -> Option<Box<str>> {
        let state = self.state.read();
        let found = state.unreadable.iter().find(|key| {
            let (there, called) = key.split_once('/').unwrap_or(("", key));
            (namespace.is_empty() || there == namespace) && name.is_none_or(|name| called == name)
        });
        found.cloned()
    }

    /// The keys that are known.
    pub fn keys(&self) -> Vec<Box<str>> {
        self.state.read().objects.keys().cloned().collect()
    }

    /// Applies the changes of one transaction and tells the watchers; gives the time at which those who are not woken at
    /// once are [to be woken](Self::wake_due).
    pub fn apply(&self, revision: Revision, changes: Vec<Put>, now: Instant) -> Option<Instant> {
        let events = self.state.write().apply(revision, changes);
        if events.is_empty() {
            return None;
        }
        self.received.fetch_add(events.len() as u64, Ordering::Relaxed);
        self.watchers.lock().tell(&events, now)
    }

    /// Wakes the watchers for whom it is time; gives the time of the next ones.
    pub fn wake_due(&self, now: Instant) -> Option<Instant> {
        self.watchers.lock().wake_due(now)
    }

    /// Begins a watch: after a revision, or with the objects as they are.
    pub fn register(&self, filter: Filter, after: Option<Revision>, with_state: bool) -> Registered {
        // The lock of the watchers is held over the read of the state: no change can pass in between.
        let mut watchers = self.watchers.lock();
        let state = self.state.read();
        let revision = state.revision;
        let start = match after {
            None if with_state => Start::State(state.in_namespace(&filter.namespace, None).cloned().collect()),
            None => Start::Changes(Vec::new()),
            Some(after) if after >= state.floor || after >= revision => Start::Changes(state.since(after, &filter)),
            Some(_) => Start::Older(revision),
        };
        drop(state);
        let after = after.map_or(revision, |after| after.max(revision));
        Registered { start, revision, changes: watchers.add(filter, after) }
    }

    /// The events that clients are sent.
    pub fn told(&self) -> &Buckets<8> {
        &self.told
    }

    /// How many changes the store has told of.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub fn watcher_count(&self) -> usize {
        self.watchers.lock().count()
    }

    /// Ends all watches: the history they rely on is gone.
    pub fn end_watches(&self) {
        self.watchers.lock().end();
    }
}

impl State {
    fn in_namespace<'a>(&'a self, namespace: &str, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let low = match after {
            Some(after) => Bound::Excluded(after.to_owned().into_boxed_str()),
            None => Bound::Included(first.clone().into_boxed_str()),
        };
        self.objects
            .range((low, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&first))
            .map(|(_, object)| object)
    }

    fn since(&self, after: Revision, filter: &Filter) -> Vec<Delivery> {
        let from = self.history.partition_point(|event| event.revision <= after);
        self.history
            .range(from..)
            .filter_map(|event| filter.change(event).map(|change| (change, event.clone())))
            .collect()
    }

    fn apply(&mut self, revision: Revision, changes: Vec<Put>) -> Vec<Arc<Event>> {
        let mut events = Vec::with_capacity(changes.len());
        for (key, object) in changes {
            if !self.unreadable.is_empty() {
                self.unreadable.remove(&key);
            }
            self.bytes += object.as_ref().map_or(0, |object| object.line.len());
            let previous = match &object {
                Some(object) => self.objects.insert(key, object.clone()),
                None => self.objects.remove(&key),
            };
            self.bytes -= previous.as_ref().map_or(0, |previous| previous.line.len());
            if object.is_none() && previous.is_none() {
                continue;
            }
            let event = Arc::new(Event::new(revision, object, previous));
            self.history_bytes += event.size();
            self.history.push_back(event.clone());
            events.push(event);
        }
        if !events.is_empty() {
            self.revision = revision;
        }
        self.trim();
        events
    }

    fn trim(&mut self) {
        while self.history.len() > HISTORY_EVENTS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.size();
            self.floor = oldest.revision;
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::kind::Definition;
    use futures::{FutureExt, StreamExt};
    use serde_json::json;

    use super::*;
    use crate::cache::changes::BACKLOG_EVENTS_MAX;

    fn object(revision: Revision) -> Arc<Object> {
        let value =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b", "uid": "u"}});
        Arc::new(Object::of(&value, revision).unwrap())
    }

    fn filter() -> Filter {
        Filter::all(Arc::new(Definition::of::<k8s_openapi::api::core::v1::ConfigMap>()), "")
    }

    #[test]
    fn a_slow_watcher_is_dropped_and_others_are_not() {
        let cache = KindCache::default();
        let slow = cache.register(filter(), None, false);
        let mut quick = cache.register(filter(), None, false);
        for revision in 1..=BACKLOG_EVENTS_MAX + 1 {
            cache.apply(revision, vec![("a/b".into(), Some(object(revision)))], Instant::now());
            assert!(quick.changes.next().now_or_never().is_some());
        }
        assert_eq!(cache.watcher_count(), 1);
        drop(slow);
    }

    #[test]
    fn the_history_has_a_floor() {
        let cache = KindCache::default();
        let newest = HISTORY_EVENTS_MAX as u64 + 10;
        for revision in 1..=newest {
            cache.apply(revision, vec![("a/b".into(), Some(object(revision)))], Instant::now());
        }
        assert!(matches!(cache.register(filter(), Some(5), false).start, Start::Older(until) if until == newest));
        let Start::Changes(changes) = cache.register(filter(), Some(newest - 2), false).start else {
            unreachable!("the history reaches back two changes")
        };
        assert_eq!(changes.len(), 2);
        assert!(matches!(cache.register(filter(), Some(newest + 5), false).start, Start::Changes(c) if c.is_empty()));
    }
}

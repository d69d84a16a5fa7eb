//! The watch cache: everything that is stored, kept current by one watch of the store; all reads come from here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crds::kind::Definition;
use futures::StreamExt;
use parking_lot::RwLock;
use store::{Entry, Revision, Store, StoreError};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use crate::error::{ApiError, Result};

pub mod changes;
pub mod event;
mod fanout;
pub mod filter;
pub mod kind;
pub mod list;
pub mod object;
pub mod page;
mod postponed;
pub mod watcher;

pub use filter::{Change, Filter};
pub use kind::KindCache;
pub use object::Object;
use postponed::Postponed;

const ROOT: &str = "/registry/";
/// How long a read waits for the cache to reach a revision.
const FRESH_WAIT_MAX: Duration = Duration::from_secs(3);
const FEED_RETRY: Duration = Duration::from_millis(200);
/// How many transactions are applied before those who wait for them are woken.
const TRANSACTIONS_MAX: usize = 256;

/// Where an object is stored; the namespace is empty for cluster-scoped kinds.
pub fn key_of(storage_prefix: &str, namespace: &str, name: &str) -> String {
    match namespace {
        "" => format!("{ROOT}{storage_prefix}/{name}"),
        _ => format!("{ROOT}{storage_prefix}/{namespace}/{name}"),
    }
}

/// The kind's prefix and the key below it.
///
/// Upstream's prefixes are one segment, but for the core Service and Endpoints and for everything kept under its group.
pub(crate) fn split_key(key: &str) -> Option<(&str, &str)> {
    let rest = key.strip_prefix(ROOT)?;
    let first = rest.find('/')?;
    let two =
        rest[..first].contains('.') || rest.starts_with("services/specs/") || rest.starts_with("services/endpoints/");
    let end = if two { first + 1 + rest[first + 1..].find('/')? } else { first };
    Some((&rest[..end], &rest[end + 1..]))
}

/// Told of every object as it is now (none: deleted), by its kind's prefix and the key below it, before reads see it.
pub type Observer = Box<dyn Fn(&str, &str, Option<&Arc<Object>>) + Send + Sync>;

pub struct Cache {
    store: Arc<dyn Store>,
    observers: Vec<Observer>,
    kinds: RwLock<HashMap<Box<str>, Arc<KindCache>>>,
    /// Everything up to this revision has been applied and told to the watchers.
    applied: AtomicU64,
    /// Told after every change of `applied`; it wakes in the order of waiting, which a simulation relies on.
    advanced: Notify,
    feed: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(feed) = self.feed.lock().take() {
            feed.abort();
        }
    }
}

impl Cache {
    /// Reads everything that is stored, then follows the store.
    pub async fn start(store: Arc<dyn Store>, observers: Vec<Observer>) -> Result<Arc<Self>> {
        let cache = Arc::new(Self {
            store,
            observers,
            kinds: RwLock::default(),
            applied: AtomicU64::new(0),
            advanced: Notify::new(),
            feed: parking_lot::Mutex::default(),
        });
        let revision = cache.fill().await?;
        let feed = tokio::spawn(follow(Arc::downgrade(&cache), cache.store.clone(), revision));
        *cache.feed.lock() = Some(feed);
        Ok(cache)
    }

    /// The cache of a kind; kinds that nothing is stored of have an empty one.
    pub fn kind(&self, definition: &Definition) -> Arc<KindCache> {
        self.prefix(&definition.storage_prefix)
    }

    pub fn prefix(&self, storage_prefix: &str) -> Arc<KindCache> {
        if let Some(kind) = self.kinds.read().get(storage_prefix) {
            return kind.clone();
        }
        self.kinds.write().entry(storage_prefix.into()).or_default().clone()
    }

    /// An object as an entry of the store has it. Most often the cache has just that, and it need not be read again.
    pub fn object(&self, entry: &Entry) -> Result<Arc<Object>> {
        let cached = split_key(&entry.key).and_then(|(prefix, key)| self.prefix(prefix).at(key));
        match cached.filter(|object| object.revision == entry.modified) {
            Some(object) => Ok(object),
            None => Object::new(entry).map(Arc::new),
        }
    }

    /// Why an object, or any of a namespace (empty: of all), cannot be shown, if that is so. Nobody must take for
    /// absent what is only unreadable.
    pub async fn check_readable(&self, storage_prefix: &str, namespace: &str, name: Option<&str>) -> Result<()> {
        let Some(key) = self.prefix(storage_prefix).unreadable(namespace, name) else { return Ok(()) };
        let whole = format!("{ROOT}{storage_prefix}/{key}");
        let why = match self.store.get(&whole).await {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => match Object::new(&entry) {
                Ok(_) => return Ok(()),
                Err(error) => return Err(error),
            },
            Err(StoreError::Unreadable { why, .. }) => why,
            Err(error) => return Err(ApiError::from_store(error)),
        };
        Err(match name {
            Some(_) => ApiError::internal(why),
            None => ApiError::internal(format!("unable to transform key {}: {why}", crds::field::quote(&whole))),
        })
    }

    /// Ends all watches, of all kinds.
    pub fn end_watches(&self) {
        self.kinds.read().values().for_each(|kind| kind.end_watches());
    }

    /// Everything up to this revision is in the cache.
    pub fn revision(&self) -> Revision {
        self.applied.load(Ordering::Acquire)
    }

    /// Waits until the cache shows what was stored when the call was made.
    pub async fn wait_until_current(&self) -> Result<Revision> {
        let newest = self.store.revision().await.map_err(ApiError::from_store)?;
        self.wait_for(newest).await
    }

    /// Waits until the cache has reached a revision; gives the one that it has reached.
    pub async fn wait_for(&self, revision: Revision) -> Result<Revision> {
        let applied = self.revision();
        if applied >= revision {
            return Ok(applied);
        }
        match tokio::time::timeout(FRESH_WAIT_MAX, self.reach(revision)).await {
            Ok(applied) => Ok(applied),
            Err(_) => Err(ApiError::too_large_resource_version(revision, self.revision())),
        }
    }

    async fn reach(&self, revision: Revision) -> Revision {
        loop {
            let mut advanced = std::pin::pin!(self.advanced.notified());
            // Before the look, or an advance right after it would be missed.
            advanced.as_mut().enable();
            let applied = self.revision();
            if applied >= revision {
                return applied;
            }
            advanced.await;
        }
    }

    fn advance(&self, revision: Revision) {
        self.applied.store(revision, Ordering::Release);
        self.advanced.notify_waiters();
    }

    /// Loads all that is stored. After a lost watch this finds what has changed meanwhile.
    async fn fill(&self) -> Result<Revision> {
        let page = self.store.range(ROOT, None, 0, None).await.map_err(ApiError::from_store)?;
        let mut kinds: HashMap<Box<str>, BTreeMap<Box<str>, Arc<Object>>> = HashMap::new();
        let mut unreadable: HashMap<Box<str>, BTreeSet<Box<str>>> = HashMap::new();
        for entry in &page.entries {
            let Some((prefix, key)) = split_key(&entry.key) else { continue };
            match read(entry) {
                Some(object) => drop(kinds.entry(prefix.into()).or_default().insert(key.into(), object)),
                None => drop(unreadable.entry(prefix.into()).or_default().insert(key.into())),
            }
        }
        let known: HashSet<Box<str>> =
            self.kinds.read().keys().chain(kinds.keys()).chain(unreadable.keys()).cloned().collect();
        for prefix in known {
            let objects = kinds.remove(&prefix).unwrap_or_default();
            let kind = self.prefix(&prefix);
            for key in kind.keys().iter().filter(|key| !objects.contains_key(*key)) {
                self.observe(&prefix, key, None);
            }
            objects.iter().for_each(|(key, object)| self.observe(&prefix, key, Some(object)));
            kind.end_watches();
            kind.fill(objects, unreadable.remove(&prefix).unwrap_or_default(), page.revision);
        }
        self.advance(page.revision);
        Ok(page.revision)
    }

    fn observe(&self, prefix: &str, key: &str, object: Option<&Arc<Object>>) {
        self.observers.iter().for_each(|observer| observer(prefix, key, object));
    }

    /// Applies one transaction; its revision, if there is anything in it, is yet to be [told](Self::advance).
    fn apply(&self, events: Vec<store::Event>, postponed: &mut Postponed) -> Option<Revision> {
        let revision = events.last()?.revision;
        let mut kinds: Vec<(&str, Vec<kind::Put>)> = Vec::new();
        for event in &events {
            let Some((prefix, key)) = split_key(&event.key) else { continue };
            let object = event.value.as_ref().map(read);
            if let Some(None) = object {
                self.observe(prefix, key, None);
                self.prefix(prefix).lose(key);
                continue;
            }
            let object = object.flatten();
            match kinds.iter_mut().find(|(known, _)| *known == prefix) {
                Some((_, changes)) => changes.push((key.into(), object)),
                None => kinds.push((prefix, vec![(key.into(), object)])),
            }
        }
        for (prefix, changes) in kinds {
            changes.iter().for_each(|(key, object)| self.observe(prefix, key, object.as_ref()));
            let kind = self.prefix(prefix);
            if let Some(due) = kind.apply(revision, changes, Instant::now()) {
                postponed.put(kind, due);
            }
        }
        Some(revision)
    }
}

fn read(entry: &Entry) -> Option<Arc<Object>> {
    match Object::new(entry) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            tracing::error!(%error, "an object cannot be read");
            None
        }
    }
}

/// Follows the store until the cache is dropped; a watch that breaks is begun anew from a full read.
async fn follow(cache: Weak<Cache>, store: Arc<dyn Store>, mut revision: Revision) {
    let mut postponed = Postponed::default();
    loop {
        // Not only what is below ROOT: every revision must arrive, or reads would wait for one that never comes.
        match store.watch("", revision).await {
            Ok(events) => {
                // Who waits for a revision is woken once for all that is there.
                let mut events = events.ready_chunks(TRANSACTIONS_MAX);
                loop {
                    let next = tokio::select! {
                        biased;
                        () = postponed.wake(), if !postponed.is_empty() => continue,
                        batches = events.next() => batches,
                    };
                    let Some(batches) = next else { break };
                    let Some(cache) = cache.upgrade() else { return };
                    let (mut reached, mut broken) = (None, None);
                    for batch in batches {
                        match batch {
                            Ok(batch) => reached = cache.apply(batch, &mut postponed).or(reached),
                            Err(error) => broken = Some(error),
                        }
                    }
                    if let Some(revision) = reached {
                        cache.advance(revision);
                    }
                    if let Some(error) = broken {
                        tracing::warn!(%error, "the watch of the store broke");
                        break;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the store cannot be watched"),
        }
        tokio::time::sleep(FEED_RETRY).await;
        let Some(cache) = cache.upgrade() else { return };
        match cache.fill().await {
            Ok(reached) => revision = reached,
            Err(error) => tracing::warn!(%error, "the store cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (key, want) in [
            ("/registry/pods/default/a", Some(("pods", "default/a"))),
            ("/registry/minions/n1", Some(("minions", "n1"))),
            ("/registry/services/specs/default/a", Some(("services/specs", "default/a"))),
            ("/registry/example.com/widgets/default/a", Some(("example.com/widgets", "default/a"))),
            ("/registry/pods", None),
            ("/other/pods/a", None),
        ] {
            assert_eq!(split_key(key), want, "{key}");
        }
        assert_eq!(key_of("pods", "a", "b"), "/registry/pods/a/b");
    }
}

//! The objects of one kind as last seen: fed by one watch, overlaid with the writes that the server acknowledged.
//!
//! **Invariant:** what a controller wrote, it reads. An acknowledged write enters the cache at once and stays until the
//! watch has passed its resource version, so no controller keeps a list of what it expects to see.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::RwLock;
use tokio::{sync::Notify, time::Instant};

use super::object::{Key, Object, Resource, uid, version};

/// One object before and after; one of them is absent when it came or went.
pub struct Change<'a, T> {
    pub old: Option<&'a Arc<T>>,
    pub new: Option<&'a Arc<T>>,
}

impl<T> Change<'_, T> {
    /// Both states, the newer first.
    pub fn states(&self) -> impl Iterator<Item = &Arc<T>> {
        self.new.into_iter().chain(self.old)
    }

    /// The state that is known last.
    pub fn last(&self) -> Option<&Arc<T>> {
        self.new.or(self.old)
    }
}

type Handler<T> = Box<dyn Fn(&Change<'_, T>) + Send + Sync>;
type IndexKeys<T> = fn(&T) -> Vec<String>;

struct Index<T> {
    keys: IndexKeys<T>,
    entries: HashMap<String, BTreeSet<Key>>,
}

impl<T> Index<T> {
    fn insert(&mut self, key: &Key, object: &T) {
        for value in (self.keys)(object) {
            self.entries.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &T) {
        for value in (self.keys)(object) {
            if let Some(keys) = self.entries.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

struct State<T> {
    objects: BTreeMap<Key, Arc<T>>,
    indexes: BTreeMap<&'static str, Index<T>>,
    /// Uids that the server acknowledged as gone, before the watch said so.
    gone: HashMap<String, Instant>,
    /// The newest resource version that the watch has delivered.
    progress: u64,
}

/// A deletion that the watch has not confirmed by then never will be: the watch was re-established in between.
const GONE_SECONDS: Duration = Duration::from_secs(60);
pub const OWNER: &str = "owner";

pub struct Cache<T> {
    pub resource: Resource,
    state: RwLock<State<T>>,
    handlers: RwLock<Vec<Handler<T>>>,
    ready: AtomicBool,
    became_ready: Notify,
}

impl<T: Object> Cache<T> {
    pub fn new(resource: Resource) -> Self {
        let owners = Index { keys: owner_uids::<T>, entries: HashMap::new() };
        let state = State {
            objects: BTreeMap::new(),
            indexes: BTreeMap::from([(OWNER, owners)]),
            gone: HashMap::new(),
            progress: 0,
        };
        Self {
            resource,
            state: RwLock::new(state),
            handlers: RwLock::default(),
            ready: AtomicBool::new(false),
            became_ready: Notify::new(),
        }
    }

    /// Adds an index; before the cache is filled.
    pub fn index_by(&self, name: &'static str, keys: IndexKeys<T>) {
        self.state.write().indexes.entry(name).or_insert_with(|| Index { keys, entries: HashMap::new() });
    }

    pub fn on_change(&self, handler: impl Fn(&Change<'_, T>) + Send + Sync + 'static) {
        self.handlers.write().push(Box::new(handler));
    }

    pub fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.state.read().objects.get(key).cloned()
    }

    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.get(&Key::new(namespace, name))
    }

    /// All objects, by namespace and name.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.state.read().objects.values().cloned().collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.state.read().objects.keys().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = Key::new(namespace, "");
        let state = self.state.read();
        state.objects.range(from..).take_while(|(k, _)| k.namespace == namespace).map(|(_, o)| o.clone()).collect()
    }

    pub fn indexed(&self, index: &str, value: &str) -> Vec<Arc<T>> {
        let state = self.state.read();
        let keys = state.indexes.get(index).and_then(|i| i.entries.get(value));
        keys.into_iter().flatten().filter_map(|k| state.objects.get(k).cloned()).collect()
    }

    /// The objects that name this uid among their owners.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<T>> {
        self.indexed(OWNER, uid)
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub async fn wait_ready(&self) {
        while !self.is_ready() {
            let ready = self.became_ready.notified();
            if self.is_ready() {
                return;
            }
            ready.await;
        }
    }

    /// The whole list at one resource version: what it lacks is gone, unless it was written later.
    pub fn replace(&self, list: Vec<T>, at: u64) {
        let mut listed = BTreeSet::new();
        for object in list {
            let key = Key::of(object.meta());
            listed.insert(key.clone());
            self.store(key, object, false);
        }
        let stale: Vec<Key> = {
            let mut state = self.state.write();
            state.progress = at;
            state.gone.clear();
            let missing = state.objects.iter().filter(|(k, o)| !listed.contains(*k) && version(o.meta()) <= at);
            missing.map(|(k, _)| k.clone()).collect()
        };
        for key in stale {
            self.drop_object(&key, None);
        }
        self.ready.store(true, Ordering::Release);
        self.became_ready.notify_waiters();
    }

    /// An object that the watch added or changed.
    pub fn apply(&self, object: T) {
        let at = version(object.meta());
        self.store(Key::of(object.meta()), object, false);
        self.advance(at);
    }

    /// An object that the watch saw go.
    pub fn delete(&self, object: &T) {
        let meta = object.meta();
        self.state.write().gone.remove(uid(meta));
        self.drop_object(&Key::of(meta), Some(uid(meta)));
        self.advance(version(meta));
    }

    /// The watch has seen all up to this resource version.
    pub fn advance(&self, to: u64) {
        let mut state = self.state.write();
        state.progress = state.progress.max(to);
    }

    /// The server's answer to a write of our own.
    pub fn acknowledge(&self, object: T) {
        self.store(Key::of(object.meta()), object, true);
    }

    /// The server says that this object is gone.
    pub fn acknowledge_gone(&self, key: &Key, uid: &str) {
        {
            let mut state = self.state.write();
            let now = Instant::now();
            state.gone.retain(|_, since| now.duration_since(*since) < GONE_SECONDS);
            if state.objects.get(key).is_some_and(|o| super::object::uid(o.meta()) == uid) {
                state.gone.insert(uid.to_owned(), now);
            }
        }
        self.drop_object(key, Some(uid));
    }

    fn store(&self, key: Key, mut object: T, ours: bool) {
        // No controller reads field ownership, and an update without it leaves it alone.
        object.meta_mut().managed_fields = None;
        let (old, new) = {
            let mut state = self.state.write();
            let (id, at) = (uid(object.meta()).to_owned(), version(object.meta()));
            if state.gone.contains_key(&id) || ours && at <= state.progress {
                return;
            }
            let old = state.objects.get(&key).cloned();
            if old.as_ref().is_some_and(|old| at != 0 && version(old.meta()) >= at) {
                return;
            }
            let new = Arc::new(object);
            for index in state.indexes.values_mut() {
                if let Some(old) = &old {
                    index.remove(&key, old);
                }
                index.insert(&key, &new);
            }
            state.objects.insert(key, new.clone());
            (old, new)
        };
        self.tell(&Change { old: old.as_ref(), new: Some(&new) });
    }

    fn drop_object(&self, key: &Key, only: Option<&str>) {
        let old = {
            let mut state = self.state.write();
            let matches = state.objects.get(key).is_some_and(|o| only.is_none_or(|id| uid(o.meta()) == id));
            if !matches {
                return;
            }
            let Some(old) = state.objects.remove(key) else {
                return;
            };
            for index in state.indexes.values_mut() {
                index.remove(key, &old);
            }
            old
        };
        self.tell(&Change { old: Some(&old), new: None });
    }

    fn tell(&self, change: &Change<'_, T>) {
        for handler in self.handlers.read().iter() {
            handler(change);
        }
    }
}

fn owner_uids<T: Object>(object: &T) -> Vec<String> {
    object.meta().owner_references.iter().flatten().map(|o| o.uid.clone()).collect()
}

pub type AnyHandler = Box<dyn Fn(&ObjectMeta, bool) + Send + Sync>;

/// A cache of a kind that is known only at run time; what the garbage collector sees of all kinds alike.
pub trait AnyCache: Send + Sync {
    fn resource(&self) -> &Resource;
    fn is_ready(&self) -> bool;
    fn find_any(&self, key: &Key) -> Option<Arc<dyn Object>>;
    fn owned_by_any(&self, uid: &str) -> Vec<Arc<dyn Object>>;
    fn keys_any(&self) -> Vec<Key>;
    /// Lays the JSON of an acknowledged write over the cache; false if it cannot be read.
    fn acknowledge_json(&self, object: serde_json::Value) -> bool;
    fn acknowledge_gone_any(&self, key: &Key, uid: &str);
    /// Calls with each object that came or changed, and (true) with each that went.
    fn on_any_change(&self, handler: AnyHandler);
    fn wait_ready_any(&self) -> BoxFuture<'_, ()>;
}

impl<T: Object + serde::de::DeserializeOwned> AnyCache for Cache<T> {
    fn resource(&self) -> &Resource {
        &self.resource
    }

    fn is_ready(&self) -> bool {
        Cache::is_ready(self)
    }

    fn find_any(&self, key: &Key) -> Option<Arc<dyn Object>> {
        self.get(key).map(|o| o as Arc<dyn Object>)
    }

    fn owned_by_any(&self, uid: &str) -> Vec<Arc<dyn Object>> {
        self.owned_by(uid).into_iter().map(|o| o as Arc<dyn Object>).collect()
    }

    fn keys_any(&self) -> Vec<Key> {
        self.keys()
    }

    fn acknowledge_json(&self, object: serde_json::Value) -> bool {
        serde_json::from_value(object).map(|o| self.acknowledge(o)).is_ok()
    }

    fn acknowledge_gone_any(&self, key: &Key, uid: &str) {
        self.acknowledge_gone(key, uid);
    }

    fn wait_ready_any(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wait_ready())
    }

    fn on_any_change(&self, handler: AnyHandler) {
        self.on_change(move |change| {
            if let Some(object) = change.last() {
                handler(object.meta(), change.new.is_none());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::{super::object::Meta, *};

    fn object(name: &str, uid: &str, version: u64) -> Meta {
        let text = |s: &str| Some(s.to_owned());
        Meta {
            metadata: ObjectMeta {
                name: text(name),
                uid: text(uid),
                resource_version: text(&version.to_string()),
                ..ObjectMeta::default()
            },
        }
    }

    fn cache() -> Cache<Meta> {
        Cache::new(Resource {
            group: "".into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced: false,
        })
    }

    fn seen(cache: &Cache<Meta>) -> Vec<(String, u64)> {
        cache.all().iter().map(|o| (Key::of(o.meta()).name, version(o.meta()))).collect()
    }

    #[test]
    fn an_acknowledged_write_is_read_until_the_watch_passes_it() {
        let cache = cache();
        cache.replace(vec![object("a", "1", 5)], 5);
        cache.acknowledge(object("b", "2", 7));
        cache.apply(object("a", "1", 6));
        assert_eq!(seen(&cache), [("a".into(), 6), ("b".into(), 7)]);
        // A list from before the write keeps it, a later one without it drops it.
        cache.replace(vec![object("a", "1", 6)], 6);
        assert_eq!(seen(&cache).len(), 2);
        cache.replace(vec![object("a", "1", 6)], 8);
        assert_eq!(seen(&cache), [("a".into(), 6)]);
        // An answer that comes after the watch saw the object go does not bring it back.
        cache.acknowledge(object("b", "2", 7));
        assert_eq!(seen(&cache), [("a".into(), 6)]);
    }

    #[test]
    fn a_deleted_object_stays_away() {
        let cache = cache();
        cache.replace(vec![object("a", "1", 5)], 5);
        cache.acknowledge_gone(&Key::new("", "a"), "1");
        cache.apply(object("a", "1", 6));
        assert_eq!(seen(&cache), []);
        cache.apply(object("a", "2", 8));
        cache.delete(&object("a", "1", 7));
        assert_eq!(seen(&cache), [("a".into(), 8)]);
    }

    #[test]
    fn changes_are_told_once() {
        let (cache, count) = (cache(), Arc::new(AtomicUsize::new(0)));
        let told = count.clone();
        cache.on_change(move |_| {
            told.fetch_add(1, Ordering::Relaxed);
        });
        cache.acknowledge(object("a", "1", 5));
        cache.apply(object("a", "1", 5));
        cache.delete(&object("a", "1", 6));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

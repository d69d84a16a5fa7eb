//! All of the input and output of all controllers: shared caches, queues, execution of plans, events.
//!
//! **Invariant:** one watch a kind, whoever reads it; one worker a key; every decision is made by a pure `plan`.

pub mod cache;
pub mod clock;
pub mod discovery;
pub mod execute;
pub mod leader;
pub mod metrics;
pub mod object;
pub mod queue;
pub mod record;
pub mod reflector;
pub mod server;

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crds::{kind::Kind, owner};
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    plan::{Outcome, Plan, Write},
};
use cache::{AnyCache, Cache, Change};
use clock::Clock;
use execute::Executor;
use metrics::{Counters, Metrics};
use object::{Key, Meta, Resource};
use queue::Queue;
use record::Recorder;
use server::{Error, Form, Server};

/// What the author of a controller writes.
pub trait Controller: Send + Sync + 'static {
    /// As upstream names it, without `-controller`.
    const NAME: &'static str;
    /// Who the controller's events come from.
    const COMPONENT: &'static str;
    /// The service account in kube-system whose rights it has, as upstream: most often called like the component.
    const ACCOUNT: &'static str = Self::COMPONENT;
    const WORKERS: usize = 5;
    /// All that a decision is made from.
    type Observed: Send + Sync;

    /// Which kinds are watched, and which keys a change of one of their objects concerns.
    fn watch(&self, wiring: &mut Wiring<'_>);

    /// Gathers what is known of a key; none if there is nothing to decide.
    fn observe(&self, view: &View, key: &Key) -> impl Future<Output = Result<Option<Self::Observed>, Error>> + Send;

    /// Decides; pure.
    fn plan(&self, seen: &Self::Observed) -> Plan;

    /// The status to report once the plan was carried out, where it depends on what came of it; pure.
    fn status(&self, _seen: &Self::Observed, _outcome: &Outcome) -> Option<Write> {
        None
    }
}

/// What `observe` reads from.
#[derive(Clone)]
pub struct View {
    pub caches: Caches,
    pub server: Server,
    pub config: Arc<Config>,
    pub now: Timestamp,
}

impl View {
    /// Whether the object is, live, still the one that was seen and not being deleted: to be asked before adopting.
    pub async fn may_adopt<K: Kind>(&self, seen: &K) -> Result<bool, Error> {
        let meta = seen.metadata();
        let live: Option<K> = self.server.get(object::namespace(meta), object::name(meta)).await?;
        Ok(live.is_some_and(|l| l.metadata().uid == meta.uid && l.metadata().deletion_timestamp.is_none()))
    }
}

struct Entry {
    cache: Arc<dyn AnyCache>,
    typed: Arc<dyn Any + Send + Sync>,
    stop: CancellationToken,
}

struct Shelf {
    server: Server,
    types: RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// By group and plural.
    entries: RwLock<BTreeMap<(String, String), Entry>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// The caches of all kinds that some controller reads; each begins with its first reader.
#[derive(Clone)]
pub struct Caches {
    shelf: Arc<Shelf>,
}

impl Caches {
    fn new(server: Server, tracker: TaskTracker, stop: CancellationToken) -> Self {
        let shelf = Shelf { server, types: RwLock::default(), entries: RwLock::default(), tracker, stop };
        Self { shelf: Arc::new(shelf) }
    }

    pub fn get<K: Kind>(&self) -> Arc<Cache<K>> {
        let id = TypeId::of::<K>();
        let known = |any: &Arc<dyn Any + Send + Sync>| any.clone().downcast::<Cache<K>>().ok();
        if let Some(cache) = self.shelf.types.read().get(&id).and_then(known) {
            return cache;
        }
        let mut types = self.shelf.types.write();
        if let Some(cache) = types.get(&id).and_then(known) {
            return cache;
        }
        let cache = Arc::new(Cache::<K>::new(Resource::of::<K>()));
        types.insert(id, cache.clone());
        self.add(cache.clone(), Form::Whole);
        cache
    }

    /// The metadata of a kind that is known only at run time; shares the cache of a kind that is read in full.
    pub fn metadata(&self, resource: &Resource) -> Arc<dyn AnyCache> {
        if let Some(cache) = self.any(resource) {
            return cache;
        }
        let cache = Arc::new(Cache::<Meta>::new(resource.clone()));
        self.add(cache.clone(), Form::Metadata);
        cache
    }

    pub fn any(&self, resource: &Resource) -> Option<Arc<dyn AnyCache>> {
        let id = (resource.group.to_string(), resource.plural.to_string());
        self.shelf.entries.read().get(&id).map(|e| e.cache.clone())
    }

    /// Stops watching a kind that is served no longer; kinds that are read in full stay.
    pub fn retire(&self, resource: &Resource) {
        let id = (resource.group.to_string(), resource.plural.to_string());
        let mut entries = self.shelf.entries.write();
        if entries.get(&id).is_some_and(|e| e.typed.is::<Cache<Meta>>())
            && let Some(entry) = entries.remove(&id)
        {
            entry.stop.cancel();
        }
    }

    fn add<T>(&self, cache: Arc<Cache<T>>, form: Form)
    where
        T: object::Object + serde::de::DeserializeOwned + Clone,
    {
        let id = (cache.resource.group.to_string(), cache.resource.plural.to_string());
        let stop = self.shelf.stop.child_token();
        let entry = Entry { cache: cache.clone(), typed: cache.clone(), stop: stop.clone() };
        if let Some(old) = self.shelf.entries.write().insert(id, entry) {
            old.stop.cancel();
        }
        self.shelf.tracker.spawn(reflector::reflect(self.shelf.server.clone(), cache, form, stop));
    }
}

/// Connects a controller's queue with the caches.
pub struct Wiring<'a> {
    pub caches: &'a Caches,
    pub config: &'a Config,
    pub queue: Arc<Queue<Key>>,
    needs: Vec<Arc<dyn AnyCache>>,
}

impl Wiring<'_> {
    /// The kind is read, its changes concern nobody.
    pub fn reads<K: Kind>(&mut self) -> Arc<Cache<K>> {
        let cache = self.caches.get::<K>();
        self.needs.push(cache.clone());
        cache
    }

    /// Every object of the kind is a key of its own.
    pub fn root<K: Kind>(&mut self) {
        self.map::<K>(|_, change| change.last().map(|o| Key::of(o.metadata())).into_iter().collect());
    }

    /// A change concerns the managing owner of this kind.
    pub fn owned<K: Kind, Owner: Kind>(&mut self) {
        self.map::<K>(|_, change| owners::<K, Owner>(change));
    }

    pub fn map<K: Kind>(&mut self, keys: impl Fn(&Caches, &Change<'_, K>) -> Vec<Key> + Send + Sync + 'static) {
        let cache = self.reads::<K>();
        let (queue, shelf) = (self.queue.clone(), Arc::downgrade(&self.caches.shelf));
        cache.on_change(move |change| {
            let Some(caches) = Weak::upgrade(&shelf).map(|shelf| Caches { shelf }) else {
                return;
            };
            for key in keys(&caches, change) {
                queue.add(key);
            }
        });
    }
}

/// Those of a kind that manage an object, before and after the change.
pub fn owners<K: Kind, Owner: Kind>(change: &Change<'_, K>) -> Vec<Key> {
    let owners = change.states().filter_map(|o| {
        let owner = owner::controller(o.metadata()).filter(|r| object::refers_to::<Owner>(r))?;
        Some(Key::new(object::namespace(o.metadata()), owner.name.as_str()))
    });
    owners.collect()
}

/// Runs controllers over one server until it is stopped.
#[derive(Clone)]
pub struct Runtime {
    pub caches: Caches,
    pub server: Server,
    pub config: Arc<Config>,
    pub recorder: Recorder,
    pub metrics: Metrics,
    pub tracker: TaskTracker,
    pub stop: CancellationToken,
}

impl Runtime {
    pub fn new(server: Server, config: Arc<Config>, metrics: Metrics) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (recorder, recording) = Recorder::new(server.clone(), config.clock);
        let until = stop.clone();
        tracker.spawn(async move {
            until.run_until_cancelled(recording).await;
        });
        let caches = Caches::new(server.clone(), tracker.clone(), stop.clone());
        Self { caches, server, config, recorder, metrics, tracker, stop }
    }

    pub fn clock(&self) -> Clock {
        self.config.clock
    }

    /// The server as a service account sees it.
    pub fn server_of(&self, account: &'static str) -> Server {
        self.config.accounts.as_ref().map_or_else(|| self.server.clone(), |of| Server::new(of.client(account)))
    }

    /// Starts a controller's workers; they begin once the caches that it reads are filled.
    pub fn run<C: Controller>(&self, controller: C) {
        let queue = Arc::new(Queue::new(self.config.seed));
        let mut wiring = Wiring { caches: &self.caches, config: &self.config, queue: queue.clone(), needs: Vec::new() };
        controller.watch(&mut wiring);
        let needs = wiring.needs;
        let (closing, stop) = (queue.clone(), self.stop.clone());
        self.tracker.spawn(async move {
            stop.cancelled().await;
            closing.close();
        });
        let (server, counters) = (self.server_of(C::ACCOUNT), self.metrics.of(C::NAME));
        let worker = Arc::new(Worker { runtime: self.clone(), server, controller, queue, counters });
        let workers = C::WORKERS.min(self.config.workers_max).max(1);
        for _ in 0..workers {
            let (worker, needs) = (worker.clone(), needs.clone());
            self.tracker.spawn(async move {
                let stop = worker.runtime.stop.clone();
                if stop.run_until_cancelled(ready(&needs)).await.is_some() {
                    worker.work().await;
                }
            });
        }
    }
}

async fn ready(needs: &[Arc<dyn AnyCache>]) {
    for cache in needs {
        cache.wait_ready_any().await;
    }
}

struct Worker<C> {
    runtime: Runtime,
    /// Where it writes, and reads what no cache has.
    server: Server,
    controller: C,
    queue: Arc<Queue<Key>>,
    counters: Arc<Counters>,
}

impl<C: Controller> Worker<C> {
    async fn work(&self) {
        while let Some(key) = self.queue.next().await {
            let began = Instant::now();
            self.counters.depth.store(self.queue.len() as u64, Ordering::Relaxed);
            match self.reconcile(&key).await {
                Ok(again) => {
                    self.queue.forget(&key);
                    if let Some(delay) = again {
                        self.queue.add_after(key.clone(), delay);
                    }
                }
                Err(error) => {
                    // A conflict only says that the cache was behind.
                    if matches!(error.code(), 404 | 409) || matches!(error, Error::NotYet(_)) {
                        tracing::debug!(controller = C::NAME, %key, %error, "will be tried again");
                    } else {
                        tracing::warn!(controller = C::NAME, %key, %error, "will be tried again");
                    }
                    self.counters.retries.fetch_add(1, Ordering::Relaxed);
                    self.queue.retry(key.clone());
                }
            }
            self.queue.done(&key);
            count(&self.counters, began.elapsed());
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let runtime = &self.runtime;
        let view = View {
            caches: runtime.caches.clone(),
            server: self.server.clone(),
            config: runtime.config.clone(),
            now: runtime.clock().now(),
        };
        let Some(seen) = self.controller.observe(&view, key).await? else {
            return Ok(None);
        };
        let plan = self.controller.plan(&seen);
        let executor = Executor {
            server: &self.server,
            caches: &runtime.caches,
            recorder: &runtime.recorder,
            component: C::COMPONENT,
        };
        let (outcome, error) = executor.execute(&plan).await;
        if let Some(status) = self.controller.status(&seen, &outcome) {
            executor.write(&status).await?;
        }
        match error {
            Some(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(plan.requeue_after),
        }
    }
}

fn count(counters: &Counters, took: Duration) {
    let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
    add(&counters.reconciles, 1);
    add(&counters.micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

//! Deletes what has lost its last owner, and sees foreground and orphaning deletions through.
//!
//! The graph of owners and dependents is the caches themselves: each knows its objects by their owners' uids. An owner
//! that no cache holds is asked for at the server, by uid, before anything is deleted: caches are no snapshot.

pub mod plan;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};

use crate::runtime::{
    Runtime,
    cache::AnyCache,
    discovery::discover,
    execute::Executor,
    object::{Key, Meta, Resource, uid},
    queue::Queue,
    server::{Error, Form, Server},
};
use plan::{Dependent, Item, Observed, Owner, plan};

pub const NAME: &str = "garbage-collector";
const ACCOUNT: &str = "generic-garbage-collector";
const COMPONENT: &str = "garbage-collector-controller";
const WORKERS: usize = 20;
/// Kinds can change without a CustomResourceDefinition or APIService changing: behind an aggregated server.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// CustomResourceDefinitions come in groups.
const DISCOVERY_PAUSE: Duration = Duration::from_millis(500);
/// A kind that cannot be listed for so long holds nothing up any more.
const PATIENCE: Duration = Duration::from_secs(30);
const ABSENT_MAX: usize = 500;

/// One object, now or once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    resource: Resource,
    key: Key,
    uid: String,
}

struct Monitor {
    cache: Arc<dyn AnyCache>,
    since: Instant,
}

struct Collector {
    runtime: Runtime,
    server: Server,
    queue: Queue<Node>,
    /// By group and kind: how owner references name it.
    monitors: RwLock<BTreeMap<(String, String), Monitor>>,
    /// Uids of owners that are known not to exist.
    absent: Mutex<HashSet<String>>,
    rediscover: Notify,
}

/// Starts the collector.
pub fn run(runtime: &Runtime) {
    let collector = Arc::new(Collector {
        runtime: runtime.clone(),
        server: runtime.server_of(ACCOUNT),
        queue: Queue::new(runtime.config.seed),
        monitors: RwLock::default(),
        absent: Mutex::default(),
        rediscover: Notify::new(),
    });
    let weak = Arc::downgrade(&collector);
    let wake = move || {
        if let Some(collector) = weak.upgrade() {
            collector.rediscover.notify_one();
        }
    };
    let also = wake.clone();
    runtime.caches.get::<CustomResourceDefinition>().on_change(move |_| wake());
    runtime.caches.get::<APIService>().on_change(move |_| also());
    let (discovering, stop) = (collector.clone(), runtime.stop.clone());
    runtime.tracker.spawn(async move {
        stop.run_until_cancelled(discovering.keep_discovering()).await;
        discovering.queue.close();
    });
    for _ in 0..WORKERS.min(runtime.config.workers_max) {
        let collector = collector.clone();
        runtime.tracker.spawn(async move { collector.work().await });
    }
}

impl Collector {
    async fn keep_discovering(self: &Arc<Self>) {
        loop {
            if let Err(error) = self.monitor_all().await {
                tracing::warn!(%error, "discovery for garbage collection failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            if tokio::time::timeout(DISCOVERY_PERIOD, self.rediscover.notified()).await.is_ok() {
                tokio::time::sleep(DISCOVERY_PAUSE).await;
            }
        }
    }

    /// Watches every kind that can be deleted; stops watching those that are no more.
    async fn monitor_all(self: &Arc<Self>) -> Result<(), Error> {
        let discovery = discover(&self.server).await?;
        let usable = |verbs: &[String]| ["delete", "list", "watch"].iter().all(|v| verbs.iter().any(|have| have == v));
        let found: BTreeMap<_, _> = discovery
            .kinds
            .into_iter()
            .filter(|k| usable(&k.verbs) && k.resource.plural != "events")
            .map(|k| ((k.resource.group.to_string(), k.resource.kind.to_string()), k.resource))
            .collect();
        let mut monitors = self.monitors.write();
        // After a partial failure the missing kinds may only be out of reach.
        if discovery.failures.is_empty() {
            let gone: Vec<_> = monitors.keys().filter(|k| !found.contains_key(*k)).cloned().collect();
            for key in gone {
                if let Some(monitor) = monitors.remove(&key) {
                    self.runtime.caches.retire(monitor.cache.resource());
                }
            }
        }
        for (key, resource) in found {
            if monitors.contains_key(&key) {
                continue;
            }
            let cache = self.runtime.caches.metadata(&resource);
            let (weak, kind) = (Arc::downgrade(self), resource.clone());
            cache.on_any_change(Box::new(move |meta, gone| {
                if let Some(collector) = weak.upgrade() {
                    collector.note(&kind, meta, gone);
                }
            }));
            // What came before the handler did.
            for key in cache.keys_any() {
                if let Some(object) = cache.find_any(&key) {
                    self.note(&resource, object.meta(), false);
                }
            }
            monitors.insert(key, Monitor { cache, since: Instant::now() });
        }
        Ok(())
    }

    /// A change concerns the object, if it has owners or is being deleted, and the owners that wait for it.
    fn note(&self, resource: &Resource, meta: &ObjectMeta, gone: bool) {
        let node = Node { resource: resource.clone(), key: Key::of(meta), uid: uid(meta).to_owned() };
        let owned = meta.owner_references.as_ref().is_some_and(|o| !o.is_empty());
        if gone || owned || plan::is_finalizing(meta) {
            self.queue.add(node);
        }
        // Only an owner in the middle of a foreground deletion cares for its dependents.
        if !gone && meta.deletion_timestamp.is_none() {
            return;
        }
        for reference in meta.owner_references.iter().flatten() {
            self.queue.add(self.owner_node(reference, &Key::of(meta).namespace));
        }
    }

    fn owner_node(&self, reference: &OwnerReference, namespace: &str) -> Node {
        let known = self.monitors.try_read().and_then(|m| {
            m.get(&(group_of(reference).to_owned(), reference.kind.clone())).map(|m| m.cache.resource().clone())
        });
        let resource = known.unwrap_or_else(|| Resource {
            group: group_of(reference).to_owned().into(),
            version: "".into(),
            kind: reference.kind.clone().into(),
            plural: "".into(),
            namespaced: true,
        });
        let namespace = if resource.namespaced { namespace } else { "" };
        Node { key: Key::new(namespace, reference.name.as_str()), uid: reference.uid.clone(), resource }
    }

    async fn work(&self) {
        while let Some(node) = self.queue.next().await {
            match self.collect(&node).await {
                Ok(()) => self.queue.forget(&node),
                Err(error) => {
                    tracing::debug!(kind = %node.resource.kind, key = %node.key, %error, "will be tried again");
                    self.queue.retry(node.clone());
                }
            }
            self.queue.done(&node);
        }
    }

    fn cache(&self, group: &str, kind: &str) -> Option<Arc<dyn AnyCache>> {
        self.monitors.read().get(&(group.to_owned(), kind.to_owned())).map(|m| m.cache.clone())
    }

    async fn collect(&self, node: &Node) -> Result<(), Error> {
        let Some(cache) = self.cache(&node.resource.group, &node.resource.kind) else {
            return Ok(());
        };
        let current = cache.find_any(&node.key).filter(|o| uid(o.meta()) == node.uid);
        let Some(object) = current else {
            // It is gone: whoever it owned has to be looked at.
            for dependent in self.dependents(&node.uid) {
                let key = Key::of(&dependent.meta);
                let uid = uid(&dependent.meta).to_owned();
                self.queue.add(Node { resource: dependent.resource, key, uid });
            }
            return Ok(());
        };
        let item = Item { resource: cache.resource().clone(), meta: object.meta().clone() };
        if plan::is_finalizing(&item.meta) {
            self.caches_ready()?;
        }
        let dependents = self.dependents(&node.uid);
        let (mut owners, mut unseen) = (Vec::new(), None);
        if item.meta.deletion_timestamp.is_none() {
            for reference in item.meta.owner_references.iter().flatten() {
                let (owner, is_cached) = self.owner(reference, &item).await?;
                if !is_cached && !matches!(owner, Owner::Absent | Owner::Impossible) {
                    unseen = Some(format!("{} {} is not watched yet", reference.kind, reference.name));
                }
                owners.push((reference.clone(), owner));
            }
        }
        let seen = Observed { item, owners, dependents };
        let decision = plan(&seen);
        for dependent in plan::to_look_at(&seen) {
            let (key, uid) = (Key::of(&dependent.meta), uid(&dependent.meta).to_owned());
            self.queue.add(Node { resource: dependent.resource.clone(), key, uid });
        }
        let executor = Executor {
            server: &self.server,
            caches: &self.runtime.caches,
            recorder: &self.runtime.recorder,
            component: COMPONENT,
        };
        match executor.execute(&decision).await {
            (_, None) => {}
            // Gone, or no longer as it was seen: the change that made it so is on its way.
            (_, Some(error)) if error.code() == 404 => {}
            (_, Some(error)) => return Err(error),
        }
        // Nobody tells of the deletion of an owner that no cache has had.
        unseen.map_or(Ok(()), |why| Err(Error::NotYet(why)))
    }

    fn dependents(&self, owner: &str) -> Vec<Dependent> {
        let monitors = self.monitors.read();
        let of = |monitor: &Monitor| {
            let resource = monitor.cache.resource().clone();
            let objects = monitor.cache.owned_by_any(owner);
            objects.into_iter().map(move |o| Dependent { resource: resource.clone(), meta: o.meta().clone() })
        };
        monitors.values().flat_map(of).collect()
    }

    /// An owner may only be let go when all of its dependents can be known.
    fn caches_ready(&self) -> Result<(), Error> {
        let monitors = self.monitors.read();
        let late = monitors.values().find(|m| !m.cache.is_ready() && m.since.elapsed() < PATIENCE);
        match late {
            Some(m) => Err(Error::NotYet(format!("{} are not listed yet", m.cache.resource().plural))),
            None => Ok(()),
        }
    }

    /// The owner, and whether a cache has it.
    async fn owner(&self, reference: &OwnerReference, item: &Item) -> Result<(Owner, bool), Error> {
        let Some(cache) = self.cache(group_of(reference), &reference.kind) else {
            return Ok((self.unwatched_owner(reference, item).await?, false));
        };
        let resource = cache.resource();
        let namespace = item.meta.namespace.as_deref().unwrap_or_default();
        if resource.namespaced && namespace.is_empty() {
            return Ok((Owner::Impossible, false));
        }
        let key = Key::new(if resource.namespaced { namespace } else { "" }, reference.name.as_str());
        if let Some(owner) = cache.find_any(&key).filter(|o| uid(o.meta()) == reference.uid) {
            return Ok((Owner::of(owner.meta()), true));
        }
        Ok((self.owner_at_server(resource, &key, &reference.uid).await?, false))
    }

    async fn owner_at_server(&self, resource: &Resource, key: &Key, id: &str) -> Result<Owner, Error> {
        if self.absent.lock().contains(id) {
            return Ok(Owner::Absent);
        }
        let path = resource.path(&key.namespace, &key.name, "");
        let live: Option<Meta> = self.server.fetch(&path, Form::Metadata).await?;
        if let Some(owner) = live.filter(|o| uid(&o.metadata) == id) {
            return Ok(Owner::of(&owner.metadata));
        }
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(id.to_owned());
        Ok(Owner::Absent)
    }

    /// An owner of a kind that cannot be watched can still exist; one of no kind at all may come to be known.
    async fn unwatched_owner(&self, reference: &OwnerReference, item: &Item) -> Result<Owner, Error> {
        let discovery = discover(&self.server).await?;
        let matches = |r: &Resource| r.group == group_of(reference) && r.kind == reference.kind.as_str();
        let Some(kind) = discovery.kinds.into_iter().find(|k| matches(&k.resource)) else {
            let (version, kind) = (&reference.api_version, &reference.kind);
            return Err(Error::NotYet(format!("no matches for kind {kind:?} in version {version:?}")));
        };
        let namespace = item.meta.namespace.as_deref().unwrap_or_default();
        if kind.resource.namespaced && namespace.is_empty() {
            return Ok(Owner::Impossible);
        }
        let key = Key::new(if kind.resource.namespaced { namespace } else { "" }, reference.name.as_str());
        self.owner_at_server(&kind.resource, &key, &reference.uid).await
    }
}

fn group_of(reference: &OwnerReference) -> &str {
    reference.api_version.split_once('/').map_or("", |(group, _)| group)
}

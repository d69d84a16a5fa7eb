//! The watches: every change of the kinds that decisions depend on, in one channel.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, StatefulSet},
    core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Service},
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

pub enum Object {
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    ReplicationController(Arc<ReplicationController>),
    ReplicaSet(Arc<ReplicaSet>),
    StatefulSet(Arc<StatefulSet>),
    Budget(Arc<PodDisruptionBudget>),
    Claim(Arc<PersistentVolumeClaim>),
    Class(Arc<StorageClass>),
}

pub enum Change {
    Set(Object),
    Gone(Object),
    /// All objects of this kind have been told once.
    Listed(&'static str),
    /// A decision was carried out, or was not.
    Bound(String),
    NotBound(String),
}

/// Starts all watches; gives the names of the kinds that will be listed.
pub fn start(client: &Client, changes: &mpsc::Sender<Change>, tasks: &mut JoinSet<()>) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    let all = watcher::Config::default;
    // Pods that have ended take nothing of their nodes.
    let live = all().fields("status.phase!=Succeeded,status.phase!=Failed");
    let mut watch = Watch { client, changes, tasks, kinds: &mut kinds };
    watch.of(live, Object::Pod);
    watch.of(all(), Object::Node);
    watch.of(all(), Object::Namespace);
    watch.of(all(), Object::Service);
    watch.of(all(), Object::ReplicationController);
    watch.of(all(), Object::ReplicaSet);
    watch.of(all(), Object::StatefulSet);
    watch.of(all(), Object::Budget);
    watch.of(all(), Object::Claim);
    watch.of(all(), Object::Class);
    kinds
}

struct Watch<'a> {
    client: &'a Client,
    changes: &'a mpsc::Sender<Change>,
    tasks: &'a mut JoinSet<()>,
    kinds: &'a mut BTreeSet<&'static str>,
}

impl Watch<'_> {
    fn of<K>(&mut self, config: watcher::Config, wrap: fn(Arc<K>) -> Object)
    where
        K: Resource<DynamicType = ()>
            + k8s_openapi::Resource
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        self.kinds.insert(K::KIND);
        self.tasks.spawn(follow(Api::<K>::all(self.client.clone()), config, wrap, self.changes.clone()));
    }
}

/// Tells every change; after a relist, what is no longer there is told to be gone.
async fn follow<K>(api: Api<K>, config: watcher::Config, wrap: fn(Arc<K>) -> Object, changes: mpsc::Sender<Change>)
where
    K: Resource<DynamicType = ()> + k8s_openapi::Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut known: HashMap<String, Arc<K>> = HashMap::new();
    let mut listed: HashMap<String, Arc<K>> = HashMap::new();
    let uid = |object: &K| Resource::meta(object).uid.clone().unwrap_or_default();
    let mut events = watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(watcher::Event::Apply(object)) => {
                let object = Arc::new(object);
                known.insert(uid(&object), object.clone());
                vec![Change::Set(wrap(object))]
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(&uid(&object));
                vec![Change::Gone(wrap(Arc::new(object)))]
            }
            Ok(watcher::Event::Init) => {
                listed.clear();
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object)) => {
                let object = Arc::new(object);
                listed.insert(uid(&object), object.clone());
                vec![Change::Set(wrap(object))]
            }
            Ok(watcher::Event::InitDone) => {
                let gone = known
                    .iter()
                    .filter(|(uid, _)| !listed.contains_key(*uid))
                    .map(|(_, o)| Change::Gone(wrap(o.clone())));
                let told = gone.chain([Change::Listed(K::KIND)]).collect();
                known = std::mem::take(&mut listed);
                told
            }
            Err(error) => {
                tracing::debug!(%error, kind = K::KIND, "a watch broke off; it is resumed");
                Vec::new()
            }
        };
        for change in told {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

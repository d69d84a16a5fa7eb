//! The objects that pods refer to: one watch each, shared by all pods that refer to it.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Weak},
};

use futures::StreamExt;
use k8s_openapi::{NamespaceResourceScope, serde::de::DeserializeOwned};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

/// `None` until it is known whether the object exists.
type Known<K> = Option<Option<Arc<K>>>;

/// One object, as long as somebody looks at it.
struct Watch<K> {
    state: watch::Receiver<Known<K>>,
    task: JoinHandle<()>,
}

impl<K> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A view of one object that tells of its changes.
pub struct Watched<K> {
    state: watch::Receiver<Known<K>>,
    keep: Arc<Watch<K>>,
}

impl<K> Clone for Watched<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), keep: self.keep.clone() }
    }
}

impl<K: Send + Sync + 'static> Watched<K> {
    /// The object as it is, once that is known; `None` when there is none.
    pub async fn get(&mut self) -> Option<Arc<K>> {
        match self.state.wait_for(Option::is_some).await {
            Ok(known) => known.clone().flatten(),
            Err(_) => None,
        }
    }

    /// Returns when the object has changed since it was last looked at.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

type Watches<K> = HashMap<(String, String), Weak<Watch<K>>>;

/// All watched objects of one kind.
pub struct Objects<K> {
    client: kube::Client,
    watches: Mutex<Watches<K>>,
}

impl<K> Objects<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    pub fn new(client: kube::Client) -> Self {
        Self { client, watches: Mutex::default() }
    }

    /// Looks at an object, with a watch that is there already if possible.
    pub fn watch(&self, namespace: &str, name: &str) -> Watched<K> {
        let mut watches = self.watches.lock();
        watches.retain(|_, w| w.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        let watch = watches.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let watch = Arc::new(self.start(namespace, name));
            watches.insert(key, Arc::downgrade(&watch));
            watch
        });
        Watched { state: watch.state.clone(), keep: watch }
    }

    fn start(&self, namespace: &str, name: &str) -> Watch<K> {
        let (sender, state) = watch::channel(None);
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            let mut stream = watch_object(api, &name).default_backoff().boxed();
            while let Some(event) = stream.next().await {
                match event {
                    Ok(object) => _ = sender.send_replace(Some(object.map(Arc::new))),
                    Err(error) => tracing::debug!(%error, name, "cannot watch an object that a pod refers to"),
                }
            }
        });
        Watch { state, task }
    }
}

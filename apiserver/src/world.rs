//! What the parts of the apiserver may ask of one another: the kinds, the objects as the cache has them, the time.

use std::sync::Arc;

use crds::kind::{Definition, Kind};
use jiff::Timestamp;
use store::Store;

use crate::{
    cache::{Cache, Object, key_of},
    custom::convert::Converters,
    error::{ApiError, Result},
    random::Random,
    registry::Registry,
};

/// Shared by all requests. Reads come from the watch cache: they never wait for the store, and may lag behind it.
pub struct World {
    pub registry: Arc<Registry>,
    pub cache: Arc<Cache>,
    pub store: Arc<dyn Store>,
    /// The only clock; tests set it.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The only source of chance in what is stored; a simulation seeds it.
    pub random: Random,
    /// The webhooks of custom resources that have such.
    pub converters: Converters,
}

impl World {
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// An object as the cache has it; the namespace is empty for cluster-scoped kinds.
    pub fn object(&self, definition: &Definition, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.cache.kind(definition).get(namespace, name)
    }

    /// The object of a built-in kind, decoded.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>> {
        let kind = self.cache.prefix(K::ABOUT.storage_prefix);
        kind.get(namespace, name).map(|object| object.decode()).transpose()
    }

    /// All objects of a built-in kind, in one namespace or (empty) in all.
    pub fn list<K: Kind>(&self, namespace: &str) -> Result<Vec<K>> {
        let kind = self.cache.prefix(K::ABOUT.storage_prefix);
        kind.list(namespace).iter().map(|object| object.decode()).collect()
    }

    /// An object as the store has it now.
    pub async fn live(&self, definition: &Definition, namespace: &str, name: &str) -> Result<Option<Arc<Object>>> {
        let namespace = if definition.namespaced { namespace } else { "" };
        self.stored(&definition.storage_prefix, namespace, name).await
    }

    /// The object of a built-in kind as the store has it now, for decisions that must not be made on old data.
    pub async fn get_live<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>> {
        let object = self.stored(K::ABOUT.storage_prefix, namespace, name).await?;
        object.map(|object| object.decode()).transpose()
    }

    /// What the store has under a prefix now.
    pub async fn stored(&self, prefix: &str, namespace: &str, name: &str) -> Result<Option<Arc<Object>>> {
        let entry = self.store.get(&key_of(prefix, namespace, name)).await.map_err(ApiError::from_store)?;
        entry.map(|entry| self.cache.object(&entry)).transpose()
    }
}

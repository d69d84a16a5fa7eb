//! How long the store takes: `etcd_request_duration_seconds`, whatever the store is.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Instant,
};

use crds::kinds;
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use prometheus_client::{encoding::EncodeLabelSet, metrics::histogram::Histogram, registry::Registry};
use store::{Entry, Event, Op, Outcome, Page, Result, Revision, Store, Txn};

use super::{Histograms, SECONDS, histograms};
use crate::cache::split_key;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    group: &'static str,
    /// Of custom resources as the keys tell it: below its group.
    resource: String,
}

/// The group and the plural of what is kept under a prefix; custom resources are kept under theirs.
fn kind(prefix: &str) -> (&'static str, &str) {
    static KINDS: LazyLock<HashMap<&str, (&str, &str)>> =
        LazyLock::new(|| kinds::all().map(|kind| (&*kind.storage_prefix, (&*kind.gvk.group, &*kind.plural))).collect());
    KINDS.get(prefix).copied().unwrap_or(("", prefix))
}

/// By operation and kind.
#[derive(Clone)]
pub struct Requests(Histograms<Labels>);

impl Default for Requests {
    fn default() -> Self {
        Self(histograms(|| Histogram::new(SECONDS)))
    }
}

impl Requests {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "[ALPHA] Etcd request latency in seconds for each operation and object type";
        registry.register("etcd_request_duration_seconds", help, self.0.clone());
    }

    fn note(&self, operation: &'static str, key: &str, begun: Instant) {
        let (group, resource) = kind(split_key(key).map_or("", |(prefix, _)| prefix));
        self.0
            .get_or_create(&Labels { operation, group, resource: resource.to_owned() })
            .observe(begun.elapsed().as_secs_f64());
    }
}

/// A store whose requests are measured.
pub struct Measured {
    store: Arc<dyn Store>,
    requests: Requests,
}

impl Measured {
    pub fn new(store: Arc<dyn Store>, requests: Requests) -> Self {
        Self { store, requests }
    }
}

/// What a transaction does to the object that it is about, the first one.
fn operation(txn: &Txn) -> (&'static str, String) {
    match txn.ops.first() {
        Some(Op::Delete { key }) => ("delete", key.clone()),
        Some(Op::Put { key, .. }) => {
            let is_new = txn.compare.iter().any(|compare| compare.key == *key && compare.modified == 0);
            (if is_new { "create" } else { "update" }, key.clone())
        }
        None => ("get", txn.compare.first().map(|compare| compare.key.clone()).unwrap_or_default()),
    }
}

impl Store for Measured {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        let begun = Instant::now();
        self.store.get(key).inspect(move |_| self.requests.note("get", key, begun)).boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>> {
        let begun = Instant::now();
        let range = self.store.range(prefix, after, limit, at);
        range.inspect(move |_| self.requests.note("list", prefix, begun)).boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        let (begun, (operation, key)) = (Instant::now(), operation(&txn));
        self.store.txn(txn).inspect(move |_| self.requests.note(operation, &key, begun)).boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>> {
        self.store.watch(prefix, after)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.store.compact(revision)
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        self.store.revision()
    }

    fn is_stale<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<bool>> {
        self.store.is_stale(entry)
    }

    fn is_reachable(&self) -> bool {
        self.store.is_reachable()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision>> {
        self.store.oldest()
    }

    fn size_bytes(&self) -> Option<u64> {
        self.store.size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode_registry;
    use store::{Compare, MemoryStore, Options};

    use super::*;

    #[tokio::test]
    async fn requests_are_told_by_what_they_do_and_to_which_kind() {
        let requests = Requests::default();
        let mut registry = Registry::default();
        requests.register(&mut registry);
        let store = Measured::new(Arc::new(MemoryStore::new(&Options::default())), requests);
        let key = "/registry/deployments/a/b".to_owned();
        let put = |compare| Txn { compare, ops: vec![Op::Put { key: key.clone(), value: "{}".into(), ttl: None }] };
        store.txn(put(vec![Compare { key: key.clone(), modified: 0 }])).await.unwrap();
        store.txn(put(Vec::new())).await.unwrap();
        store.get(&key).await.unwrap();
        store.range("/registry/deployments/", None, 0, None).await.unwrap();
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        for operation in ["create", "update", "get", "list"] {
            let line = format!(
                "etcd_request_duration_seconds_count{{operation=\"{operation}\",group=\"apps\",resource=\"deployments\"}} 1\n"
            );
            assert!(text.contains(&line), "{text}");
        }
    }
}

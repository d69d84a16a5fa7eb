//! What every store does, whatever it is built on: one suite, run over each backend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use store::{
    Compare, EmbeddedStore, Entry, EtcdOptions, EtcdStore, Event, MemoryStore, Op, Options, Outcome, Page, Result,
    Retention, Revision, Store, StoreError, Txn,
};
use tempfile::TempDir;

use self::server::Etcd;

#[path = "etcd/server.rs"]
mod server;

/// A store for one test, and what must outlive it.
struct Backend {
    store: Arc<dyn Store>,
    _directory: Option<TempDir>,
    _server: Option<Etcd>,
}

fn memory(options: Options) -> BoxFuture<'static, Backend> {
    let store = Arc::new(MemoryStore::new(&options));
    async { Backend { store, _directory: None, _server: None } }.boxed()
}

fn embedded(options: Options) -> BoxFuture<'static, Backend> {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(directory.path(), &options).unwrap());
    async { Backend { store, _directory: Some(directory), _server: None } }.boxed()
}

fn etcd(options: Options) -> BoxFuture<'static, Backend> {
    async move {
        let server = Etcd::start();
        let options = EtcdOptions { backlog: options.backlog, ..server.options() };
        let store = Arc::new(EtcdStore::open(&options).await.unwrap());
        Backend { store, _directory: None, _server: Some(server) }
    }
    .boxed()
}

macro_rules! contract {
    ($($backend:ident),*: $($case:ident),* $(,)?) => { contract!(@ [$($backend)*] [$($case)*]); };
    (@ [] $cases:tt) => {};
    (@ [$backend:ident $($more:ident)*] [$($case:ident)*]) => {
        mod $backend {
            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::cases::$case(super::$backend).await;
            } )*
        }
        contract!(@ [$($more)*] [$($case)*]);
    };
}

contract!(memory, embedded, etcd:
    gets_what_was_put, deletes, refuses_twice_written_keys, compares, applies_all_or_nothing, ranges_by_prefix,
    pages_at_one_revision, reads_old_revisions, refuses_future_revisions, compacts, watches_in_order, watches_from_the_past, watches_only_its_prefix, drops_slow_watchers, expires, expiry_is_renewed,
    orders_concurrent_writers,
);

/// How much history etcd keeps is for all of its clients to say, not for one.
mod alone {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_compacts_by_itself() {
        super::cases::compacts_by_itself(super::memory).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn embedded_compacts_by_itself() {
        super::cases::compacts_by_itself(super::embedded).await;
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }
}

fn put_for(key: &str, ttl: Duration) -> Op {
    Op::Put { key: key.into(), value: Bytes::from_static(b"short"), ttl: Some(ttl) }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

fn modified_at(key: &str, modified: Revision) -> Compare {
    Compare { key: key.into(), modified }
}

async fn write(store: &dyn Store, ops: impl Into<Vec<Op>>) -> Revision {
    match store.txn(Txn { compare: Vec::new(), ops: ops.into() }).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(entries) => panic!("conflict without a compare: {entries:?}"),
    }
}

async fn range(store: &dyn Store, prefix: &str, at: Option<Revision>) -> Page {
    store.range(prefix, None, 0, at).await.unwrap()
}

fn keys(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.key.as_str()).collect()
}

fn entry(key: &str, value: &str, created: Revision, modified: Revision) -> Entry {
    Entry { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), created, modified }
}

type Watch = BoxStream<'static, Result<Vec<Event>>>;

async fn batch(watch: &mut Watch) -> Vec<Event> {
    tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("an event in time").unwrap().unwrap()
}

mod cases {
    use super::*;

    type Open = fn(Options) -> BoxFuture<'static, Backend>;

    async fn fresh(open: Open) -> Backend {
        open(Options::default()).await
    }

    pub async fn gets_what_was_put(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        assert_eq!(store.get("/a").await.unwrap(), None);
        let first = write(store, [put("/a", "1")]).await;
        assert!(first >= 1);
        assert_eq!(store.revision().await.unwrap(), first);
        let second = write(store, [put("/a", "2"), put("/b", "")]).await;
        assert_eq!(second, first + 1);
        assert_eq!(store.get("/a").await.unwrap(), Some(entry("/a", "2", first, second)));
        assert_eq!(store.get("/b").await.unwrap(), Some(entry("/b", "", second, second)));
    }

    pub async fn deletes(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let put_at = write(store, [put("/a", "1")]).await;
        let deleted = write(store, [delete("/a")]).await;
        assert_eq!(deleted, put_at + 1);
        assert_eq!(store.get("/a").await.unwrap(), None);
        assert_eq!(write(store, [delete("/a")]).await, deleted, "deleting what is not there changes nothing");
        let again = write(store, [put("/a", "3")]).await;
        assert_eq!(store.get("/a").await.unwrap(), Some(entry("/a", "3", again, again)));
    }

    pub async fn refuses_twice_written_keys(open: Open) {
        let backend = fresh(open).await;
        let ops = vec![put("/a", "1"), delete("/a")];
        let outcome = backend.store.txn(Txn { compare: Vec::new(), ops }).await;
        assert!(matches!(outcome, Err(StoreError::Failed { .. })), "{outcome:?}");
        assert_eq!(backend.store.get("/a").await.unwrap(), None);
    }

    pub async fn compares(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let try_put = async |modified| {
            let txn = Txn { compare: vec![modified_at("/a", modified)], ops: vec![put("/a", "x")] };
            store.txn(txn).await.unwrap()
        };
        let Outcome::Committed(created) = try_put(0).await else { panic!("the key is new") };
        let now = Some(entry("/a", "x", created, created));
        assert_eq!(try_put(0).await, Outcome::Conflict(vec![now.clone()]));
        assert_eq!(try_put(created + 1).await, Outcome::Conflict(vec![now]));
        assert_eq!(try_put(created).await, Outcome::Committed(created + 1));
        write(store, [delete("/a")]).await;
        assert_eq!(try_put(created + 1).await, Outcome::Conflict(vec![None]));
        assert_eq!(try_put(0).await, Outcome::Committed(created + 3));
        let only_compare = Txn { compare: vec![modified_at("/a", created + 3)], ops: Vec::new() };
        assert_eq!(store.txn(only_compare).await.unwrap(), Outcome::Committed(created + 3));
    }

    pub async fn applies_all_or_nothing(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let at = write(store, [put("/a", "1"), put("/b", "1")]).await;
        let txn = |b| Txn {
            compare: vec![modified_at("/b", b), modified_at("/none", 0), modified_at("/a", at)],
            ops: vec![put("/a", "2"), delete("/b"), put("/c", "2")],
        };
        let (a, b) = (entry("/a", "1", at, at), entry("/b", "1", at, at));
        assert_eq!(store.txn(txn(at + 7)).await.unwrap(), Outcome::Conflict(vec![Some(b), None, Some(a.clone())]));
        assert_eq!(store.get("/a").await.unwrap(), Some(a));
        assert_eq!(store.txn(txn(at)).await.unwrap(), Outcome::Committed(at + 1));
        assert_eq!(keys(&range(store, "/", None).await), ["/a", "/c"]);
    }

    pub async fn ranges_by_prefix(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        for key in ["/p/b", "/p/a", "/p", "/p/", "/p0", "/pods", "/o/z", "/p/ä", "/p/a/x"] {
            write(store, [put(key, key)]).await;
        }
        let page = range(store, "/p/", None).await;
        assert_eq!(keys(&page), ["/p/", "/p/a", "/p/a/x", "/p/b", "/p/ä"]);
        assert_eq!((page.more, page.remaining, page.revision), (false, 0, store.revision().await.unwrap()));
        assert_eq!(range(store, "", None).await.entries.len(), 9);
        assert!(range(store, "/q", None).await.entries.is_empty());
        let after = async |key| store.range("/p/", Some(key), 0, None).await.unwrap();
        assert_eq!(keys(&after("/p/a").await), ["/p/a/x", "/p/b", "/p/ä"]);
        assert_eq!(keys(&after("/o").await).len(), 5);
        assert!(after("/p0").await.entries.is_empty());
    }

    pub async fn pages_at_one_revision(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        for number in 0..10 {
            write(store, [put(&format!("/p/{number}"), "1")]).await;
        }
        let first = store.range("/p/", None, 4, None).await.unwrap();
        assert_eq!((first.entries.len(), first.more, first.remaining), (4, true, 6));
        write(store, [delete("/p/5"), put("/p/6", "2"), put("/p/45", "new")]).await;
        let next = store.range("/p/", Some("/p/3"), 4, Some(first.revision)).await.unwrap();
        assert_eq!(keys(&next), ["/p/4", "/p/5", "/p/6", "/p/7"]);
        assert_eq!((next.entries[2].value.as_ref(), next.revision), (b"1".as_ref(), first.revision));
        let last = store.range("/p/", Some("/p/7"), 4, Some(first.revision)).await.unwrap();
        assert_eq!((keys(&last), last.more, last.remaining), (vec!["/p/8", "/p/9"], false, 0));
        let exact = store.range("/p/", None, 10, None).await.unwrap();
        assert_eq!((exact.entries.len(), exact.more, exact.remaining), (10, false, 0));
    }

    pub async fn reads_old_revisions(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let first = write(store, [put("/a", "1"), put("/b", "1")]).await;
        let second = write(store, [put("/a", "2"), delete("/b")]).await;
        let third = write(store, [put("/b", "3"), put("/c", "3")]).await;
        let at = async |revision| range(store, "/", Some(revision)).await.entries;
        assert_eq!(at(first).await, [entry("/a", "1", first, first), entry("/b", "1", first, first)]);
        assert_eq!(at(second).await, [entry("/a", "2", first, second)]);
        let now = [entry("/a", "2", first, second), entry("/b", "3", third, third), entry("/c", "3", third, third)];
        assert_eq!(at(third).await, now);
    }

    pub async fn refuses_future_revisions(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let newest = write(store, [put("/a", "1")]).await;
        let asked = newest + 1;
        let refused = |error| matches!(error, StoreError::Future { asked: a, newest: n } if (a, n) == (asked, newest));
        assert!(refused(store.range("/", None, 0, Some(asked)).await.unwrap_err()));
        assert!(refused(store.watch("/", asked).await.err().unwrap()));
        assert!(refused(store.compact(asked).await.unwrap_err()));
    }

    pub async fn compacts(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let first = write(store, [put("/a", "1"), put("/gone", "1"), put("/still", "1")]).await;
        let second = write(store, [put("/a", "2"), delete("/gone")]).await;
        let third = write(store, [put("/a", "3")]).await;
        store.compact(second).await.unwrap();
        assert_eq!(store.oldest().await.unwrap(), second);
        let compacted =
            |error| matches!(error, StoreError::Compacted { asked, oldest } if (asked, oldest) == (first, second));
        assert!(compacted(store.range("/", None, 0, Some(first)).await.unwrap_err()));
        assert!(compacted(store.watch("/", first).await.err().unwrap()));
        assert_eq!(keys(&range(store, "/", Some(second)).await), ["/a", "/still"]);
        let mut watch = store.watch("/", second).await.unwrap();
        let event = batch(&mut watch).await.remove(0);
        assert_eq!(event.previous, Some(entry("/a", "2", first, second)), "the previous entry outlives compaction");
        store.compact(first).await.unwrap();
        assert_eq!(store.oldest().await.unwrap(), second, "compacting what is compacted is nothing");
        store.compact(third).await.unwrap();
        assert_eq!(range(store, "/", None).await.entries.len(), 2);
        assert_eq!(write(store, [put("/gone", "4")]).await, third + 1);
    }

    pub async fn compacts_by_itself(open: Open) {
        let retention = Retention { revisions: 40, ..Retention::default() };
        let backend = open(Options { retention, ..Options::default() }).await;
        let store = &*backend.store;
        for number in 0..200 {
            write(store, [put("/a", &number.to_string())]).await;
        }
        let (oldest, newest) = (store.oldest().await.unwrap(), store.revision().await.unwrap());
        assert!((20..=41).contains(&(newest - oldest)), "{oldest}..{newest}");
        assert_eq!(range(store, "/", Some(oldest)).await.entries[0].modified, oldest);
    }

    pub async fn watches_in_order(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let start = store.revision().await.unwrap();
        let mut watch = store.watch("/", start).await.unwrap();
        let first = write(store, [put("/a", "1")]).await;
        let second = write(store, [put("/b", "2"), put("/a", "2")]).await;
        let third = write(store, [delete("/a")]).await;
        let event = |key: &str, value: Option<Entry>, previous: Option<Entry>, revision| Event {
            key: key.into(),
            value,
            previous,
            revision,
        };
        let (one, two) = (entry("/a", "1", first, first), entry("/a", "2", first, second));
        assert_eq!(batch(&mut watch).await, [event("/a", Some(one.clone()), None, first)]);
        let b = entry("/b", "2", second, second);
        let mut both = batch(&mut watch).await;
        both.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(both, [event("/a", Some(two.clone()), Some(one), second), event("/b", Some(b), None, second)]);
        assert_eq!(batch(&mut watch).await, [event("/a", None, Some(two), third)]);
    }

    pub async fn watches_from_the_past(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let first = write(store, [put("/a", "1")]).await;
        for number in 2..20 {
            write(store, [put("/a", &number.to_string()), put("/z/b", "x")]).await;
        }
        let mut watch = store.watch("/a", first).await.unwrap();
        for number in 20..30 {
            write(store, [put("/a", &number.to_string())]).await;
        }
        for number in 2..30_u64 {
            let events = batch(&mut watch).await;
            let [Event { value: Some(value), previous: Some(previous), revision, .. }] = events.as_slice() else {
                panic!("{events:?}")
            };
            assert_eq!(value.value, number.to_string().as_bytes());
            assert_eq!((*revision, value.modified, previous.modified), (first + number - 1, *revision, revision - 1));
        }
    }

    pub async fn watches_only_its_prefix(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let mut watch = store.watch("/pods/", store.revision().await.unwrap()).await.unwrap();
        write(store, [put("/pod", "1"), put("/pods0", "1")]).await;
        let both = write(store, [put("/pods/a", "1"), put("/nodes/a", "1")]).await;
        let events = batch(&mut watch).await;
        assert_eq!((events.len(), events[0].key.as_str(), events[0].revision), (1, "/pods/a", both));
    }

    pub async fn drops_slow_watchers(open: Open) {
        let backend = open(Options { backlog: 8, ..Options::default() }).await;
        let store = &*backend.store;
        let mut slow = store.watch("/", store.revision().await.unwrap()).await.unwrap();
        let mut quick = store.watch("/", store.revision().await.unwrap()).await.unwrap();
        for number in 0..50 {
            write(store, [put("/a", &number.to_string())]).await;
            batch(&mut quick).await;
        }
        let mut seen = 0;
        let end = loop {
            match slow.next().await {
                Some(Ok(_)) => seen += 1,
                Some(Err(error)) => break error,
                None => panic!("the watch ended without a reason"),
            }
        };
        assert!(matches!(end, StoreError::Behind), "{end}");
        assert!(seen < 50 && slow.next().await.is_none());
    }

    pub async fn expires(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let ttl = Duration::from_millis(200);
        let put_at = write(store, [put_for("/short", ttl), put("/long", "1")]).await;
        let mut watch = store.watch("/", put_at).await.unwrap();
        let events = batch(&mut watch).await;
        assert_eq!((events.len(), events[0].key.as_str(), &events[0].value), (1, "/short", &None));
        assert_eq!(keys(&range(store, "/", None).await), ["/long"]);
    }

    pub async fn expiry_is_renewed(open: Open) {
        let backend = fresh(open).await;
        let store = &*backend.store;
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(3600));
        write(store, [put_for("/renewed", short), put_for("/kept", short), put_for("/canary", short)]).await;
        let at = write(store, [put_for("/renewed", long), put("/kept", "for ever")]).await;
        let mut watch = store.watch("/", at).await.unwrap();
        assert_eq!(batch(&mut watch).await[0].key, "/canary");
        assert_eq!(keys(&range(store, "/", None).await), ["/kept", "/renewed"]);
    }

    /// Many writers count up one key and write keys of their own: no count is lost, no revision is given twice.
    pub async fn orders_concurrent_writers(open: Open) {
        let backend = fresh(open).await;
        let store = &backend.store;
        let start = write(&**store, [put("/count", "0")]).await;
        let mut watch = store.watch("/", start).await.unwrap();
        let writers = (0..16).map(|writer| tokio::spawn(count_up(store.clone(), writer, 20)));
        let mut revisions = BTreeSet::new();
        for written in futures::future::join_all(writers).await {
            for revision in written.unwrap() {
                assert!(revisions.insert(revision), "revision {revision} was given twice");
            }
        }
        let count = store.get("/count").await.unwrap().unwrap();
        assert_eq!(count.value, "320".as_bytes());
        for revision in start + 1..=start + 320 {
            let events = batch(&mut watch).await;
            assert!(events.len() == 2 && events.iter().all(|event| event.revision == revision), "{events:?}");
        }
    }

    async fn count_up(store: Arc<dyn Store>, writer: usize, times: usize) -> Vec<Revision> {
        let mut revisions = Vec::new();
        let mut now = store.get("/count").await.unwrap().unwrap();
        while revisions.len() < times {
            let count: u32 = std::str::from_utf8(&now.value).unwrap().parse().unwrap();
            let own = put(&format!("/w/{writer}/{}", revisions.len()), "x");
            let txn = Txn {
                compare: vec![modified_at("/count", now.modified)],
                ops: vec![put("/count", &(count + 1).to_string()), own],
            };
            match store.txn(txn).await.unwrap() {
                Outcome::Committed(revision) => {
                    revisions.push(revision);
                    now = store.get("/count").await.unwrap().unwrap();
                }
                Outcome::Conflict(mut entries) => now = entries.remove(0).unwrap(),
            }
        }
        revisions
    }
}

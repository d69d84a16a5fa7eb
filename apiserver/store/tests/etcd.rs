//! What only etcd does: several servers over one, members that end, leaders that change, compaction by turns, TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use store::{Compare, EtcdOptions, EtcdStore, Op, Outcome, Revision, Store, StoreError, Txn};

use self::{certificates::Certificates, server::Etcd};

#[path = "etcd/certificates.rs"]
mod certificates;
#[path = "etcd/server.rs"]
mod server;

const PATIENCE: Duration = Duration::from_secs(60);

fn put(key: &str, value: &str, modified: Revision) -> Txn {
    Txn {
        compare: vec![Compare { key: key.into(), modified }],
        ops: vec![Op::Put { key: key.into(), value: Bytes::copy_from_slice(value.as_bytes()), ttl: None }],
    }
}

async fn write(store: &EtcdStore, key: &str, value: &str) -> Revision {
    let modified = store.get(key).await.unwrap().map_or(0, |entry| entry.modified);
    match store.txn(put(key, value, modified)).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(entries) => panic!("nobody else writes: {entries:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_sees_what_another_writes() {
    let etcd = Etcd::start();
    let (one, two) = (etcd.store().await, etcd.store().await);
    let mut watch = one.watch("/registry/", one.revision().await.unwrap()).await.unwrap();
    let revision = write(&two, "/registry/pods/a/b", "x").await;
    let events = watch.next().await.unwrap().unwrap();
    assert_eq!((events[0].key.as_str(), events[0].revision), ("/registry/pods/a/b", revision));
    assert_eq!(one.get("/registry/pods/a/b").await.unwrap().unwrap().modified, revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_share_an_etcd_under_prefixes_of_their_own() {
    let etcd = Etcd::start();
    let plain = etcd.store().await;
    let other = EtcdStore::open(&EtcdOptions { prefix: "other/".into(), ..etcd.options() }).await.unwrap();
    let start = other.revision().await.unwrap();
    let mut watch = other.watch("", start).await.unwrap();
    write(&plain, "/registry/pods/a/b", "plain").await;
    let written = write(&other, "/registry/pods/a/b", "other").await;
    let values = async |store: &EtcdStore| -> Vec<Bytes> {
        store.range("/registry/", None, 0, None).await.unwrap().entries.into_iter().map(|e| e.value).collect()
    };
    assert_eq!((values(&plain).await, values(&other).await), (vec!["plain".into()], vec!["other".into()]));
    assert_eq!(plain.get("/other/pods/a/b").await.unwrap().unwrap().value, "other");
    let (first, second) = (watch.next().await.unwrap().unwrap(), watch.next().await.unwrap().unwrap());
    assert_eq!((first[0].key.as_str(), second[0].key.as_str()), ("", "/registry/pods/a/b"));
    assert_eq!((first[0].revision, second[0].revision), (start + 1, written));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_many_pages_is_of_one_revision() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    let keys: Vec<String> = (0..1200).map(|number| format!("/registry/pods/a/{number:04}")).collect();
    for some in keys.chunks(100) {
        let ops = some.iter().map(|key| Op::Put { key: key.clone(), value: Bytes::from_static(b"x"), ttl: None });
        store.txn(Txn { compare: Vec::new(), ops: ops.collect() }).await.unwrap();
    }
    let page = store.range("/registry/", None, 0, None).await.unwrap();
    assert_eq!((page.more, page.remaining), (false, 0));
    assert_eq!(page.entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), keys);
}

/// While each of three members is ended and started again, one after the other: no acknowledged write is lost, no event
/// is lost or told twice.
#[tokio::test(flavor = "multi_thread")]
async fn members_may_end() {
    let mut etcd = Etcd::with_members(3, &[]);
    let (writer, watcher) = (Arc::new(etcd.store().await), etcd.store().await);
    let start = writer.revision().await.unwrap();
    let mut watch = watcher.watch("/registry/", start).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(writer.clone(), stop.clone()));
    let mut seen = BTreeMap::new();
    for number in 0..3 {
        etcd.members[number].kill();
        see(&mut watch, &mut seen, 20).await;
        etcd.members[number].start();
        see(&mut watch, &mut seen, 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = tokio::time::timeout(PATIENCE, writing).await.expect("the writer ends").unwrap();
    let newest = *written.last_key_value().unwrap().0;
    while seen.last_key_value().is_none_or(|(revision, _)| *revision < newest) {
        see(&mut watch, &mut seen, 1).await;
    }
    for (revision, value) in &written {
        assert_eq!(seen.get(revision), Some(value), "revision {revision}");
    }
}

/// Writes one key as fast as it goes; gives what was acknowledged.
async fn write_until(store: Arc<EtcdStore>, stop: Arc<AtomicBool>) -> BTreeMap<Revision, String> {
    let (mut written, mut modified, mut number) = (BTreeMap::new(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let value = number.to_string();
        match store.txn(put("/registry/pods/a/b", &value, modified)).await {
            Ok(Outcome::Committed(revision)) => {
                modified = revision;
                written.insert(revision, value);
            }
            // An attempt that was given up may have been done all the same.
            Ok(Outcome::Conflict(entries)) => modified = entries[0].as_ref().unwrap().modified,
            Err(StoreError::Failed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    written
}

type Watch = futures::stream::BoxStream<'static, store::Result<Vec<store::Event>>>;

async fn see(watch: &mut Watch, seen: &mut BTreeMap<Revision, String>, count: usize) {
    for _ in 0..count {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event in time").unwrap().unwrap();
        for event in batch {
            let value = String::from_utf8(event.value.unwrap().value.to_vec()).unwrap();
            assert_eq!(seen.insert(event.revision, value), None, "revision {} was told twice", event.revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_go_on_says_so() {
    let mut etcd = Etcd::start();
    let (store, other) = (etcd.store().await, etcd.store().await);
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("/registry/quiet/", start).await.unwrap();
    write(&store, "/registry/quiet/a", "x").await;
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
    let newest = write(&other, "/registry/pods/a/b", "x").await;
    other.compact(newest).await.unwrap();
    etcd.members[0].kill();
    etcd.members[0].start();
    let end = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an end in time").unwrap();
    assert!(matches!(end, Err(StoreError::Compacted { oldest, .. }) if oldest == newest), "{end:?}");
    assert!(watch.next().await.is_none());
}

/// Two servers compact by turns: the history that is left reaches back one interval at least, not none.
#[tokio::test(flavor = "multi_thread")]
async fn servers_compact_by_turns() {
    let etcd = Etcd::start();
    let options = EtcdOptions { compaction_interval: Duration::from_millis(300), ..etcd.options() };
    let one = EtcdStore::open(&options).await.unwrap();
    let _two = EtcdStore::open(&options).await.unwrap();
    let mut watch = one.watch("compact_rev_key", one.revision().await.unwrap()).await.unwrap();
    let mut turns = Vec::new();
    while turns.len() < 6 {
        for event in watch.next().await.unwrap().unwrap() {
            turns.push((event.revision, String::from_utf8(event.value.unwrap().value.to_vec()).unwrap()));
        }
    }
    assert_eq!(turns[0].1, "0", "the first only takes its turn");
    let compacted: Vec<Revision> = turns[1..].iter().map(|(_, value)| value.parse().unwrap()).collect();
    assert!(compacted.is_sorted(), "{turns:?}");
    assert!(turns[1..].iter().zip(&compacted).all(|((now, _), compacted)| compacted < now), "{turns:?}");
    assert!(one.oldest().await.unwrap() >= compacted[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_not_there_is_waited_for_and_given_up() {
    let mut etcd = Etcd::start();
    // An etcd that is killed before it has begun does not start again.
    etcd.store().await.revision().await.unwrap();
    etcd.members[0].kill();
    let options = EtcdOptions { patience: Duration::from_secs(1), ..etcd.options() };
    let error = EtcdStore::open(&options).await.err().unwrap().to_string();
    assert!(error.contains("etcd") && error.contains("onnect"), "{error}");
    let opening = tokio::spawn({
        let options = etcd.options();
        async move { EtcdStore::open(&options).await.map(drop) }
    });
    etcd.members[0].start();
    tokio::time::timeout(PATIENCE, opening).await.expect("it opens").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_told() {
    let options = |server: &str| EtcdOptions::new([server]);
    let missing = Some("/nowhere/ca.crt".into());
    for (options, want) in [
        (EtcdOptions::new([""; 0]), "no server of etcd is given"),
        (options("ftp://127.0.0.1:1"), "\"ftp://127.0.0.1:1\" is no address of an etcd server"),
        (options("http://a b"), "\"http://a b\" is no address of an etcd server"),
        (EtcdOptions { ca_file: missing.clone(), ..options("https://127.0.0.1:1") }, "/nowhere/ca.crt cannot be read"),
        (EtcdOptions { cert_file: missing, ..options("https://127.0.0.1:1") }, "needs both its file and its key's"),
    ] {
        let error = EtcdStore::open(&options).await.err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// The first of several endpoints does not answer; the other one wants a certificate, and has one itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_behind_tls_is_used_by_whoever_has_a_certificate() {
    let certificates = Certificates::make();
    let etcd = Etcd::with_members(1, &certificates.arguments());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers = std::iter::once(format!("https://{free}")).chain(etcd.urls()).collect();
    let options = EtcdOptions {
        servers,
        ca_file: Some(certificates.authority()),
        cert_file: Some(certificates.certificate()),
        key_file: Some(certificates.key()),
        ..etcd.options()
    };
    let store = EtcdStore::open(&options).await.unwrap();
    let mut watch = store.watch("/registry/", store.revision().await.unwrap()).await.unwrap();
    let revision = write(&store, "/registry/pods/a/b", "x").await;
    let events = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event in time").unwrap().unwrap();
    assert_eq!((events[0].key.as_str(), events[0].revision), ("/registry/pods/a/b", revision));

    let strangers = Certificates::make();
    let patience = Duration::from_millis(300);
    for refused in [
        EtcdOptions { ca_file: Some(strangers.authority()), patience, ..options.clone() },
        EtcdOptions { cert_file: None, key_file: None, patience, ..options.clone() },
        EtcdOptions {
            cert_file: Some(strangers.certificate()),
            key_file: Some(strangers.key()),
            patience,
            ..options.clone()
        },
        EtcdOptions { servers: vec![etcd.urls()[0].replace("https", "http")], patience, ..options.clone() },
    ] {
        assert!(EtcdStore::open(&refused).await.is_err(), "{refused:?}");
    }
}

//! How many durable transactions a second: `cargo run --release -p keelson-store --example commits [SECONDS] [DIRECTORY]`.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::{Compare, EmbeddedStore, MemoryStore, Op, Options, Outcome, Store, Txn};

const VALUE_BYTES: usize = 1024;
const KEYS: usize = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let period = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("keelson-store-bench");
    for writers in [1, 64] {
        measure("memory", Arc::new(MemoryStore::default()), writers, period).await?;
        let started = Instant::now();
        let store = Arc::new(EmbeddedStore::open(&directory, &Options::default())?);
        println!("embedded: open with {} revisions in {:?}", store.revision().await?, started.elapsed());
        measure("embedded", store, writers, period).await?;
    }
    let store = EmbeddedStore::open(&directory, &Options::default())?;
    let started = Instant::now();
    let page = store.range("/registry/", None, 0, None).await?;
    println!("embedded: range of {} entries in {:?}", page.entries.len(), started.elapsed());
    drop(store);
    Ok(std::fs::remove_dir_all(directory)?)
}

async fn measure(name: &str, store: Arc<dyn Store>, writers: usize, period: Duration) -> Result<(), String> {
    let end = Instant::now() + period;
    let tasks = (0..writers).map(|writer| tokio::spawn(write(store.clone(), writer, writers, end)));
    let mut latencies = Vec::new();
    for task in futures::future::join_all(tasks).await {
        latencies.extend(task.map_err(|error| error.to_string())??);
    }
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    let rate = latencies.len() as f64 / period.as_secs_f64();
    println!("{name}: {writers:2} writers {rate:8.0} txns/s, p50 {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

async fn write(store: Arc<dyn Store>, writer: usize, step: usize, end: Instant) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    for number in (writer..).step_by(step) {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let key = format!("/registry/pods/default/pod-{:08}", number % KEYS);
        let modified = store.get(&key).await.map_err(|e| e.to_string())?.map_or(0, |entry| entry.modified);
        let value: Vec<u8> = (0..VALUE_BYTES).map(|byte| (byte * number) as u8).collect();
        let compare = vec![Compare { key: key.clone(), modified }];
        let txn = Txn { compare, ops: vec![Op::Put { key, value: Bytes::from(value), ttl: None }] };
        match store.txn(txn).await.map_err(|e| e.to_string())? {
            Outcome::Committed(_) => latencies.push(started.elapsed()),
            Outcome::Conflict(_) => return Err("nobody else writes this key".into()),
        }
    }
    Ok(latencies)
}

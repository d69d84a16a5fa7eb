//! Every recorded request is answered as a stock apiserver answered it, but for those that `replay/failing.txt` lists.
//!
//! With `KEELSON_REPLAY_UPDATE=1` the list is written anew instead. `KEELSON_REPLAY=protocol-watch` runs one file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use apiserver::pipeline::Apiserver;
use e2e::replay::{self, Server};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("replay")
}

async fn server(data: &Path) -> (apiserver::start::Running, Server) {
    let mut config = e2e::passing_server(data);
    config.names.host = "replay".to_owned();
    // The range of the recorded server.
    config.service_range = "10.0.0.0/16".parse().unwrap();
    let running = Apiserver::start(config).await.unwrap();
    let server = Server::open(&running.admin_kubeconfig).await.unwrap();
    (running, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_stock() {
    let data = tempfile::tempdir().unwrap();
    let (running, server) = server(data.path()).await;
    let only = std::env::var("KEELSON_REPLAY").ok();
    let mut stems = replay::files(&folder().join("cases"), Vec::new()).unwrap();
    stems.retain(|stem| only.as_ref().is_none_or(|only| stem.starts_with(only)));

    let (mut failing, mut passed, mut told) = (BTreeSet::new(), 0, String::new());
    for stem in &stems {
        let cases = replay::parse(&fs::read_to_string(folder().join("cases").join(format!("{stem}.http"))).unwrap());
        let expected = fs::read(folder().join("expected").join(format!("{stem}.json"))).unwrap();
        let expected: Vec<serde_json::Value> = serde_json::from_slice(&expected).unwrap();
        for outcome in replay::run(&server, stem, &cases, &expected).await.unwrap() {
            if outcome.differences.is_empty() {
                passed += 1;
                continue;
            }
            let name = format!("{stem}: {}", outcome.name);
            told += &format!(
                "{name}\n    {}\n",
                outcome.differences.iter().take(6).cloned().collect::<Vec<_>>().join("\n    ")
            );
            failing.insert(name);
        }
    }
    running.stop().await;
    println!("{passed} answers as expected, {} not", failing.len());

    let list = folder().join("failing.txt");
    if std::env::var_os("KEELSON_REPLAY_UPDATE").is_some() {
        let text: String = failing.iter().map(|name| format!("{name}\n")).collect();
        return fs::write(list, text).unwrap();
    }
    let known: BTreeSet<String> = fs::read_to_string(list).unwrap().lines().map(str::to_owned).collect();
    let lost: Vec<_> = failing.difference(&known).collect();
    assert!(lost.is_empty(), "{} answers are no longer as expected:\n{told}", lost.len());
    let run = |name: &&String| stems.iter().any(|stem| name.starts_with(&format!("{stem}: ")));
    let won: Vec<_> = known.difference(&failing).filter(run).collect();
    if !won.is_empty() {
        println!("as expected now, to be taken off {}: {won:#?}", folder().join("failing.txt").display());
    }
}

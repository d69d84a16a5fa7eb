//! Ten thousand watches that nobody reads cost little, and lose nothing.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use apiserver::{pipeline::Apiserver, server::InProcess};
use bytes::Bytes;
use crds::user::User;
use futures::{StreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

const WATCHES: usize = 10_000;
const EVENTS: usize = 20;
const EVENT_BYTES: usize = 500_000;
const PATH: &str = "/api/v1/namespaces/default/configmaps";
const WATCH: &str = "/api/v1/namespaces/default/configmaps?watch=1";
/// Of a watch in this process without its connection: most often less than two.
const WATCH_BYTES_MAX: usize = 10_000;
/// All that is kept of the events: the store's versions, the cache's, and one form for all watches.
const KEPT_BYTES_MAX: usize = EVENTS * EVENT_BYTES * 10;

/// What of this process is in memory.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn ask(
    service: &InProcess,
    method: &str,
    path: &str,
    body: String,
) -> http::Response<apiserver::codec::body::Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = service.clone().oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watches_share_what_they_are_to_be_told() {
    let data = tempfile::tempdir().unwrap();
    let running = Apiserver::start(e2e::passing_server(data.path())).await.unwrap();
    let service = running.apiserver.service(User::named("tester", &[User::MASTERS]));

    let before = resident_bytes();
    let opened = stream::iter(0..WATCHES).map(|_| ask(&service, "GET", WATCH, String::new()));
    let watches: Vec<_> = opened.buffer_unordered(64).collect().await;
    let open = resident_bytes();
    assert!(open.saturating_sub(before) < WATCHES * WATCH_BYTES_MAX, "{} bytes a watch", (open - before) / WATCHES);

    for number in 0..EVENTS {
        let data = "x".repeat(EVENT_BYTES);
        let body = format!(r#"{{"metadata": {{"name": "event-{number}"}}, "data": {{"k": "{data}"}}}}"#);
        ask(&service, "POST", PATH, body).await;
    }
    let told = resident_bytes();
    assert!(told.saturating_sub(open) < KEPT_BYTES_MAX, "{} bytes for the events", told - open);

    for mut watch in watches.into_iter().step_by(WATCHES / 10) {
        let mut seen = String::new();
        while seen.matches("\"type\":\"ADDED\"").count() < EVENTS {
            let frame = watch.body_mut().frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        assert!((0..EVENTS).all(|number| seen.contains(&format!("\"name\":\"event-{number}\""))));
    }
    running.stop().await;
}

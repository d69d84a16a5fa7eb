//! A whole server under flow control: who is let in, who waits, who is sent away.

use std::{sync::Arc, time::Duration};

use crds::user::User;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::{
    pipeline::{Apiserver, tests},
    request::Query,
    start::Guards,
};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

async fn server(options: Options) -> Arc<Apiserver> {
    tests::server(tests::memory(), Guards { flow: options, ..Guards::default() }).await
}

async fn send(
    server: &Arc<Apiserver>,
    user: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, HeaderMap, Value) {
    let groups: &[&str] = if user == "admin" { &[User::MASTERS] } else { &[User::AUTHENTICATED] };
    let mut service = server.service(User::named(user, groups));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let (parts, body) = service.call(request.body(Full::from(body)).unwrap()).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
    (parts.status, parts.headers, value)
}

/// A level with one seat, and a schema that sends everybody's requests for paths there.
async fn narrow(server: &Arc<Apiserver>, response: Value) {
    let level = json!({
        "metadata": {"name": "narrow"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response}},
    });
    let (code, _, made) = send(server, "admin", "POST", &format!("{GROUP}/prioritylevelconfigurations"), level).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let rule = json!({
        "subjects": [{"kind": "Group", "group": {"name": User::AUTHENTICATED}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/version"]}],
    });
    let schema = json!({
        "metadata": {"name": "narrow"},
        "spec": {
            "priorityLevelConfiguration": {"name": "narrow"}, "matchingPrecedence": 5,
            "distinguisherMethod": {"type": "ByUser"}, "rules": [rule],
        },
    });
    let (code, _, made) = send(server, "admin", "POST", &format!("{GROUP}/flowschemas"), schema).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    server.world.cache.wait_until_current().await.unwrap();
}

fn version() -> RequestInfo {
    RequestInfo::new(&http::Method::GET, &"/version".parse().unwrap(), &Query::default())
}

async fn enter(server: &Apiserver, user: &str, patience: Duration) -> Result<Seated, ()> {
    let row = server.flow.classify(&User::named(user, &[User::AUTHENTICATED]), &version()).unwrap();
    assert_eq!(row.schema.name, "narrow");
    let hash = row.schema.flow(&User::named(user, &[]), &version());
    row.level.enter(&row.counts, estimate::Work::ONE, hash, patience).await
}

#[tokio::test]
async fn who_finds_no_seat_is_sent_away() {
    let server =
        server(Options { max_requests_inflight: 4, max_mutating_requests_inflight: 2, ..Options::default() }).await;
    narrow(&server, json!({"type": "Reject"})).await;
    let (_, headers, _) = send(&server, "alice", "GET", "/version", Value::Null).await;
    let (_, _, schema) = send(&server, "admin", "GET", &format!("{GROUP}/flowschemas/narrow"), Value::Null).await;
    assert_eq!(headers["x-kubernetes-pf-flowschema-uid"], schema["metadata"]["uid"].as_str().unwrap());
    assert!(headers.contains_key("x-kubernetes-pf-prioritylevel-uid"));

    let seated = enter(&server, "alice", WAIT_MAX).await.ok().unwrap();
    let (code, headers, said) = send(&server, "bob", "GET", "/version", Value::Null).await;
    assert_eq!((code, said), (StatusCode::TOO_MANY_REQUESTS, json!("Too many requests, please try again later.\n")));
    assert_eq!(headers["retry-after"], "1");
    let (code, ..) = send(&server, "admin", "GET", "/version", Value::Null).await;
    assert_ne!(code, StatusCode::TOO_MANY_REQUESTS, "the exempt do not wait");
    drop(seated);
    let (code, ..) = send(&server, "bob", "GET", "/version", Value::Null).await;
    assert_ne!(code, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn who_waits_gets_the_seat_that_is_left_and_gives_up_in_the_end() {
    let server =
        server(Options { max_requests_inflight: 4, max_mutating_requests_inflight: 2, ..Options::default() }).await;
    let queuing = json!({"queues": 8, "handSize": 2, "queueLengthLimit": 2});
    narrow(&server, json!({"type": "Queue", "queuing": queuing})).await;
    let seated = enter(&server, "alice", WAIT_MAX).await.ok().unwrap();
    assert!(enter(&server, "bob", Duration::from_millis(5)).await.is_err(), "nobody waits for ever");
    let waiting = enter(&server, "bob", WAIT_MAX);
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());
    {
        let gone = enter(&server, "carol", WAIT_MAX);
        tokio::pin!(gone);
        assert!(futures::poll!(&mut gone).is_pending());
    }
    drop(seated);
    let seated = waiting.await.ok().unwrap();
    let level = server.flow.levels_now().into_iter().find(|level| level.name == "narrow").unwrap();
    let usage = level.usage();
    assert_eq!((usage.executing, usage.waiting, usage.seats), (1, 0, 1));
    drop(seated);
    assert_eq!(level.usage().seats, 0);
    let row = server.flow.rows().into_iter().find(|row| row.schema.name == "narrow").unwrap();
    assert_eq!((row.counts.dispatched.load(Ordering::Relaxed), row.counts.timed_out.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test]
async fn without_fairness_there_are_two_limits() {
    let options =
        Options { max_requests_inflight: 1, max_mutating_requests_inflight: 1, enable_priority_and_fairness: false };
    let server = server(options).await;
    let running = server.flow.count(&User::default(), false).ok().unwrap();
    let (code, headers, _) = send(&server, "bob", "GET", "/version", Value::Null).await;
    assert_eq!((code, headers["retry-after"].to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "1"));
    let (code, ..) = send(&server, "bob", "POST", "/version", Value::Null).await;
    assert_ne!(code, StatusCode::TOO_MANY_REQUESTS, "writes are counted apart");
    drop(running);
    let (code, ..) = send(&server, "bob", "GET", "/version", Value::Null).await;
    assert_ne!(code, StatusCode::TOO_MANY_REQUESTS);
}

/// Prints what flow control costs a request that does not have to wait.
#[tokio::test]
async fn it_costs_next_to_nothing() {
    let flow = Flow::new(Options::default()).unwrap();
    *flow.objects.lock() = flow::suggested().unwrap();
    flow.compile();
    let user = User::named("system:serviceaccount:x:y", &["system:serviceaccounts", User::AUTHENTICATED]);
    let info = RequestInfo::new(&http::Method::GET, &"/api/v1/namespaces/x/pods/a".parse().unwrap(), &Query::default());
    let begun = std::time::Instant::now();
    let rounds = 20_000;
    for _ in 0..rounds {
        let row = flow.classify(&user, &info).unwrap();
        let hash = row.schema.flow(&user, &info);
        let work = estimate::work(&info, &Query::default(), row.level.seats_max(), || None);
        drop(row.level.enter(&row.counts, work, hash, WAIT_MAX).await.ok().unwrap());
    }
    let each = begun.elapsed() / rounds;
    println!("flow control costs a request {each:?}");
    assert!(each < Duration::from_micros(100), "{each:?}");
}

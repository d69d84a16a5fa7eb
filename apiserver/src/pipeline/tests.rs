//! The whole server in this process, over the memory store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crds::user::User;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Entry, Event, MemoryStore, Op, Options, Outcome, Page, Revision, Store, Txn};
use tower_service::Service;

use super::Apiserver;
use crate::{
    auth::{Authenticator, issuer::Issuer},
    codec::body::Body,
    random::Random,
    server::InProcess,
    start::Guards,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server over this store, with what watches over its requests.
pub(crate) async fn server(store: Arc<dyn Store>, guards: Guards) -> Arc<Apiserver> {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let audiences = ["https://here".to_owned()];
    let authenticator = Authenticator::new(Issuer::new(&audiences, &audiences, &key, &[]).unwrap());
    let (clock, random) = (Arc::new(Timestamp::now), Random::seeded(1));
    Apiserver::guarded(store, authenticator, None, clock, random, guards).await.unwrap()
}

pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(&Options::default()))
}

pub(crate) struct Client(InProcess);

/// A store whose transactions are done by something else.
pub(crate) struct Meddled<F>(pub Arc<dyn Store>, pub F);

/// Whatever is marked as going is taken away at once, before whoever has marked it is answered.
fn hasty(store: Arc<dyn Store>, txn: Txn) -> BoxFuture<'static, store::Result<Outcome>> {
    Box::pin(async move {
        let marked = txn.ops.iter().find_map(|op| match op {
            Op::Put { key, value, .. } if String::from_utf8_lossy(value).contains("deletionTimestamp") => {
                Some(key.clone())
            }
            _ => None,
        });
        let outcome = store.txn(txn).await?;
        if let Some(key) = marked {
            store.txn(Txn { compare: Vec::new(), ops: vec![Op::Delete { key }] }).await?;
        }
        Ok(outcome)
    })
}

impl<F> Store for Meddled<F>
where
    F: Fn(Arc<dyn Store>, Txn) -> BoxFuture<'static, store::Result<Outcome>> + Send + Sync + 'static,
{
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, store::Result<Option<Entry>>> {
        self.0.get(key)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, store::Result<Page>> {
        self.0.range(prefix, after, limit, at)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, store::Result<Outcome>> {
        (self.1)(self.0.clone(), txn)
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, store::Result<BoxStream<'static, store::Result<Vec<Event>>>>> {
        self.0.watch(prefix, after)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, store::Result<()>> {
        self.0.compact(revision)
    }

    fn revision(&self) -> BoxFuture<'_, store::Result<Revision>> {
        self.0.revision()
    }

    fn oldest(&self) -> BoxFuture<'_, store::Result<Revision>> {
        self.0.oldest()
    }
}

impl Client {
    pub(crate) async fn new() -> (Arc<Apiserver>, Self) {
        Self::over(memory()).await
    }

    async fn over(store: Arc<dyn Store>) -> (Arc<Apiserver>, Self) {
        let apiserver = server(store, Guards::default()).await;
        let client = Self(apiserver.service(User::named("admin", &[User::MASTERS])));
        let (code, _) = client.send("POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        assert_eq!(code, StatusCode::CREATED);
        (apiserver, client)
    }

    /// What its connections are to.
    pub(crate) fn service(&self) -> InProcess {
        self.0.clone()
    }

    async fn open(&self, method: &str, path: &str, body: &[u8], content_type: &str) -> http::Response<Body> {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        self.0.clone().call(request).await.unwrap()
    }

    pub(crate) async fn send_as(
        &self,
        method: &str,
        path: &str,
        body: Value,
        content_type: &str,
    ) -> (StatusCode, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.open(method, path, &body, content_type).await;
        let code = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.send_as(method, path, body, "application/json").await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send_as("PATCH", path, body, "application/merge-patch+json").await
    }

    async fn make(&self, name: &str, labels: Value) -> Value {
        let object = json!({"metadata": {"name": name, "labels": labels}});
        let (code, made) = self.send("POST", MAPS, object).await;
        assert_eq!(code, StatusCode::CREATED, "{made}");
        made
    }

    async fn watch(&self, query: &str) -> Watching {
        let answer = self.open("GET", &format!("{MAPS}?watch=1&{query}"), b"", "application/json").await;
        assert_eq!(answer.status(), StatusCode::OK);
        Watching { body: BodyStream::new(answer.into_body()), rest: Vec::new() }
    }
}

struct Watching {
    body: BodyStream<Body>,
    rest: Vec<u8>,
}

impl Watching {
    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await.unwrap();
            self.rest.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
        }
    }

    /// Types and names of the next events.
    async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
            told.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
        told
    }
}

#[tokio::test]
async fn an_object_from_beginning_to_end() {
    let (_server, client) = Client::new().await;
    let made = client.make("a", json!({"x": "1"})).await;
    assert_eq!(made["kind"], "ConfigMap");
    let path = format!("{MAPS}/a");
    let (code, got) = client.send("GET", &path, Value::Null).await;
    assert_eq!((code, &got), (StatusCode::OK, &made));

    let (_, same) = client.merge(&path, json!({"metadata": {"labels": {"x": "1"}}})).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "a no-op is no write");
    let (_, dry) = client.merge(&format!("{path}?dryRun=All"), json!({"data": {"k": "v"}})).await;
    assert_eq!(dry["data"]["k"], "v");
    let (_, changed) = client.merge(&path, json!({"data": {"k": "w"}})).await;
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);

    let stale = json!({"metadata": {"name": "a", "resourceVersion": made["metadata"]["resourceVersion"]}});
    let (code, refused) = client.send("PUT", &path, stale).await;
    assert_eq!((code, refused["reason"].as_str()), (StatusCode::CONFLICT, Some("Conflict")));
    let (code, _) = client.send("DELETE", &path, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let (code, gone) = client.send("GET", &path, Value::Null).await;
    assert_eq!((code, gone["reason"].as_str()), (StatusCode::NOT_FOUND, Some("NotFound")));
}

/// To the byte: what people and simple clients see is in upstream's order, escaped as there, and ends with the line.
#[tokio::test]
async fn objects_are_written_as_go_writes_them() {
    let (_server, client) = Client::new().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "<"}});
    let head = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default","uid":""#;
    let tail = "}]},\"data\":{\"k\":\"\\u003c\"}}\n";
    for (method, path, body) in [
        ("POST", format!("{MAPS}?dryRun=All"), map.to_string()),
        ("POST", MAPS.to_owned(), map.to_string()),
        ("GET", format!("{MAPS}/a"), String::new()),
        ("PUT", format!("{MAPS}/a?dryRun=All"), map.to_string()),
    ] {
        let answer = client.open(method, &path, body.as_bytes(), "application/json").await;
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with(head) && text.ends_with(tail), "{method} {path}: {text}");
    }
}

#[tokio::test]
async fn finalizers_keep_and_let_go() {
    let (_server, client) = Client::new().await;
    client.make("a", json!({})).await;
    let path = format!("{MAPS}/a");
    client.merge(&path, json!({"metadata": {"finalizers": ["example.com/x"]}})).await;
    let (_, kept) = client.send("DELETE", &path, Value::Null).await;
    assert!(kept["metadata"]["deletionTimestamp"].is_string());
    let (code, _) = client.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, StatusCode::CONFLICT);
    client.merge(&path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(client.send("GET", &path, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let (_server, client) = Client::new().await;
    for name in ["a", "b", "c", "d"] {
        client.make(name, json!({})).await;
    }
    let (_, first) = client.send("GET", &format!("{MAPS}?limit=2"), Value::Null).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    let next = first["metadata"]["continue"].as_str().unwrap();
    client.make("bb", json!({})).await;
    client.make("e", json!({})).await;
    client.send("DELETE", &format!("{MAPS}/d"), Value::Null).await;
    let (_, second) = client.send("GET", &format!("{MAPS}?limit=10&continue={next}"), Value::Null).await;
    let names: Vec<_> = second["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn selectors_turn_changes_into_entering_and_leaving() {
    let (_server, client) = Client::new().await;
    client.make("a", json!({"app": "x"})).await;
    let mut all = client.watch("resourceVersion=0").await;
    let mut selected = client.watch("resourceVersion=0&labelSelector=app%3Dx").await;
    assert_eq!(selected.told(1).await, ["ADDED a"]);
    client.make("b", json!({})).await;
    client.merge(&format!("{MAPS}/b"), json!({"metadata": {"labels": {"app": "x"}}})).await;
    client.merge(&format!("{MAPS}/b"), json!({"data": {"k": "v"}})).await;
    client.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": null}})).await;
    client.send("DELETE", &format!("{MAPS}/b"), Value::Null).await;
    assert_eq!(selected.told(4).await, ["ADDED b", "MODIFIED b", "DELETED a", "DELETED b"]);
    let want = ["ADDED a", "ADDED b", "MODIFIED b", "MODIFIED b", "MODIFIED a", "DELETED b"];
    assert_eq!(all.told(6).await, want);
}

#[tokio::test]
async fn a_watch_resumes_where_it_was() {
    let (_server, client) = Client::new().await;
    let made = client.make("a", json!({})).await;
    client.make("b", json!({})).await;
    client.send("DELETE", &format!("{MAPS}/a"), Value::Null).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = client.watch(&format!("resourceVersion={version}")).await;
    assert_eq!(watch.told(2).await, ["ADDED b", "DELETED a"]);
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let (_server, client) = Client::new().await;
    client.make("a", json!({})).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = client.watch(query).await;
    assert_eq!(watch.told(1).await, ["ADDED a"]);
    let end = watch.next().await;
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_tells_before_its_end_how_far_it_came() {
    let (_server, client) = Client::new().await;
    let made = client.make("a", json!({})).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let query = format!("resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=3");
    let mut watch = client.watch(&query).await;
    let other = client.send("POST", "/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await.1;
    let bookmark = watch.next().await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], other["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_burst_cuts_nobody_off() {
    let (_server, client) = Client::new().await;
    let mut watches = Vec::new();
    for _ in 0..1000 {
        watches.push(client.watch("resourceVersion=0").await);
    }
    for i in 0..100 {
        client.make(&format!("m{i:03}"), json!({})).await;
    }
    for watch in &mut watches {
        let told = watch.told(100).await;
        assert_eq!((told[0].as_str(), told[99].as_str()), ("ADDED m000", "ADDED m099"));
    }
}

/// As the pod garbage collector does with pods that are on no node.
#[tokio::test]
async fn a_pod_that_others_take_away_first_has_been_deleted() {
    let (_server, client) = Client::over(Arc::new(Meddled(memory(), hasty))).await;
    let namespace = "/api/v1/namespaces/default";
    client.send("POST", &format!("{namespace}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, made) = client.send("POST", &format!("{namespace}/pods"), pod).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let path = format!("{namespace}/pods/a");
    let (code, deleted) = client.send("DELETE", &path, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(code, StatusCode::OK, "{deleted}");
    assert_eq!(deleted["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(client.send("DELETE", &path, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let (_server, client) = Client::new().await;
    client.make("a", json!({})).await;
    let path = format!("{MAPS}/a");
    let patches = (0..20).map(|i| client.merge(&path, json!({"data": {format!("k{i}"): "v"}})));
    let answers = futures::future::join_all(patches.collect::<Vec<_>>()).await;
    assert!(answers.iter().all(|(code, _)| *code == StatusCode::OK));
    let (_, got) = client.send("GET", &path, Value::Null).await;
    assert_eq!(got["data"].as_object().unwrap().len(), 20);
}

#[tokio::test]
async fn bad_requests_get_their_status() {
    let (_server, client) = Client::new().await;
    for (method, path, body, want) in [
        ("GET", "/api/v1/gadgets", Value::Null, (404, "NotFound")),
        ("GET", "/apis/apps/v9/deployments", Value::Null, (404, "NotFound")),
        ("DELETE", "/api/v1/namespaces", Value::Null, (405, "MethodNotAllowed")),
        ("POST", MAPS, json!({"metadata": {"name": "A B"}}), (422, "Invalid")),
        ("POST", MAPS, json!({"metadata": {"name": "a", "namespace": "other"}}), (400, "BadRequest")),
        ("POST", MAPS, json!({"kind": "Secret", "metadata": {"name": "a"}}), (400, "BadRequest")),
        ("POST", "/api/v1/namespaces/none/configmaps", json!({"metadata": {"name": "a"}}), (404, "NotFound")),
        ("GET", &format!("{MAPS}?limit=x"), Value::Null, (400, "BadRequest")),
        ("GET", &format!("{MAPS}?continue=nonsense"), Value::Null, (400, "BadRequest")),
    ] {
        let (code, status) = client.send(method, path, body).await;
        assert_eq!((code.as_u16(), status["reason"].as_str().unwrap_or("")), want, "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn nobody_may_do_anything() {
    let (server, _) = Client::new().await;
    let client = Client(server.service(User::named("alice", &[User::AUTHENTICATED])));
    let (code, status) = client.send("GET", MAPS, Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(status["message"].as_str().unwrap().contains("User \"alice\" cannot list resource \"configmaps\""));
}

//! The whole server with another one behind an APIService.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::control;
use crate::{
    backend::tests::{Serve, Stub},
    pipeline::{Apiserver, tests::Client},
};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1.w.example.com";

type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// Serves `w.example.com/v1`, and keeps who asked for what.
async fn other() -> (Stub, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let serve: Serve = Arc::new(move |parts, body| {
        let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        kept.lock().push((header("x-remote-user"), format!("{} {}", parts.method, parts.uri)));
        let answer = match parts.uri.path() {
            "/apis/w.example.com/v1" => json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "w.example.com/v1",
                "resources": [{"name": "ws", "singularName": "w", "namespaced": true, "kind": "W", "verbs": ["get"]}],
            }),
            "/openapi/v3" => json!({"paths": {"apis/w.example.com/v1": {"serverRelativeURL": "/openapi/v3/x?hash=H"}}}),
            path if path.contains("/ws/") => json!({"kind": "W", "echo": String::from_utf8_lossy(body)}),
            _ => {
                let mut none = Response::new(Full::new(Bytes::new()));
                *none.status_mut() = StatusCode::NOT_FOUND;
                return none;
            }
        };
        let mut answer = Response::new(Full::new(Bytes::from(answer.to_string())));
        answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
        answer
    });
    (Stub::start(&["s.default.svc"], serve).await, seen)
}

async fn register(client: &Client, port: u16, authority: &str) {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let (code, made) = client.send("POST", "/api/v1/namespaces/default/services", service).await;
    assert_eq!(code, 201, "{made}");
    let spec = json!({
        "group": "w.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
        "caBundle": BASE64_STANDARD.encode(authority),
        "service": {"namespace": "default", "name": "s", "port": port},
    });
    let (code, made) = client.send("POST", SERVICES, json!({"metadata": {"name": NAME}, "spec": spec})).await;
    assert_eq!(code, 201, "{made}");
}

/// The condition, once it has this reason.
async fn becomes(apiserver: &Arc<Apiserver>, client: &Client, reason: &str) -> Value {
    let running = tokio::spawn(control::run(Arc::downgrade(apiserver)));
    let waiting = async {
        loop {
            let (_, service) = client.send("GET", &format!("{SERVICES}/{NAME}"), Value::Null).await;
            let condition = service["status"]["conditions"][0].clone();
            if condition["reason"] == reason {
                return condition;
            }
            tokio::task::yield_now().await;
        }
    };
    let condition = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.unwrap();
    // What follows the condition: discovery, and the cache.
    let discovered = async {
        while reason == "Passed" && apiserver.aggregator.discovered.load().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), discovered).await.unwrap();
    apiserver.world.cache.wait_until_current().await.unwrap();
    running.abort();
    condition
}

#[tokio::test]
async fn requests_are_passed_on_for_those_who_make_them() {
    let (stub, seen) = other().await;
    let (apiserver, client) = Client::new().await;
    register(&client, stub.address.port(), &stub.authority).await;
    apiserver.world.cache.wait_until_current().await.unwrap();
    assert_eq!(client.send("GET", "/apis/w.example.com/v1", Value::Null).await.0, 503);
    assert_eq!(becomes(&apiserver, &client, "Passed").await["status"], "True");
    seen.lock().clear();
    let path = "/apis/w.example.com/v1/namespaces/default/ws/a?x=y";
    let (code, answer) = client.send("PUT", path, json!({"b": "c"})).await;
    assert_eq!((code.as_u16(), &answer["echo"]), (200, &json!("{\"b\":\"c\"}")));
    assert_eq!(*seen.lock(), [("admin".to_owned(), format!("PUT {path}"))]);

    let (_, groups) = client.send("GET", "/apis", Value::Null).await;
    let of = |group: &&Value| group["name"] == "w.example.com";
    let found = groups["groups"].as_array().unwrap().iter().find(of).unwrap();
    assert_eq!(found["preferredVersion"]["groupVersion"], "w.example.com/v1");
    let (_, group) = client.send("GET", "/apis/w.example.com", Value::Null).await;
    assert_eq!((&group["kind"], &group["versions"][0]["version"]), (&json!("APIGroup"), &json!("v1")));
    let (_, index) = client.send("GET", "/openapi/v3", Value::Null).await;
    assert_eq!(index["paths"]["apis/w.example.com/v1"]["serverRelativeURL"], "/openapi/v3/x?hash=H");

    let (code, _) = client.send("DELETE", &format!("{SERVICES}/{NAME}"), Value::Null).await;
    assert_eq!(code, 200);
    apiserver.world.cache.wait_until_current().await.unwrap();
    assert_eq!(client.send("GET", path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_not_available() {
    let ((stub, _), (other, _)) = (other().await, other().await);
    let (apiserver, client) = Client::new().await;
    register(&client, stub.address.port(), &other.authority).await;
    let condition = becomes(&apiserver, &client, "FailedDiscoveryCheck").await;
    let words = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(condition["message"].as_str().unwrap().ends_with(words), "{condition}");
    assert_eq!(client.send("GET", "/apis/w.example.com/v1", Value::Null).await.0, 503);
}

//! Secrets over a store that is encrypted: what lies in it, and what becomes of it when keys change or are lost.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::user::User;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::{MemoryStore, Op, Options, Store, Txn};
use tower_service::Service;

use super::{Configuration, EncryptedStore};
use crate::{
    pipeline::{Apiserver, tests},
    start::Guards,
};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = "/registry/secrets/default/a";

/// A provider with a key of this name; each name has a secret of its own.
fn keys(provider: &str, names: &[&str]) -> Value {
    let secret = |name: &&str| BASE64_STANDARD.encode([name.as_bytes()[name.len() - 1]; 32]);
    let keys: Vec<_> = names.iter().map(|name| json!({"name": name, "secret": secret(name)})).collect();
    json!({provider: {"keys": keys}})
}

fn configuration(resources: &[&str], providers: &[Value]) -> Configuration {
    let file = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": resources, "providers": providers}],
    });
    Configuration::parse(file.to_string().as_bytes()).unwrap()
}

async fn server(store: Arc<dyn Store>) -> Arc<Apiserver> {
    tests::server(store, Guards::default()).await
}

async fn send(server: &Arc<Apiserver>, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let mut service = server.service(User::named("admin", &[User::MASTERS]));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = service.call(request.body(Full::from(body)).unwrap()).await.unwrap();
    let code = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn secret() -> Value {
    json!({"metadata": {"name": "a"}, "data": {"password": "aHVudGVyMg=="}})
}

async fn stored(store: &MemoryStore) -> Vec<u8> {
    store.get(KEY).await.unwrap().unwrap().value.to_vec()
}

#[tokio::test]
async fn keys_are_rotated_by_writing_anew() {
    let store = Arc::new(MemoryStore::new(&Options::default()));
    let with = |providers: &[Value]| EncryptedStore::new(store.clone(), configuration(&["secrets"], providers));
    let first = server(Arc::new(with(&[keys("aesgcm", &["key1"]), json!({"identity": {}})]))).await;
    send(&first, "POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
    assert_eq!(send(&first, "POST", SECRETS, secret()).await.0, StatusCode::CREATED);
    assert!(stored(&store).await.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
    let namespace = store.get("/registry/namespaces/default").await.unwrap().unwrap().value;
    assert!(namespace.starts_with(b"{\"kind\":\"Namespace\""), "only what is named is encrypted");

    let providers = [keys("secretbox", &["key2"]), keys("aesgcm", &["key1"])];
    let second = server(Arc::new(with(&providers))).await;
    let (code, got) = send(&second, "GET", &format!("{SECRETS}/a"), Value::Null).await;
    assert_eq!((code, &got["data"]["password"]), (StatusCode::OK, &json!("aHVudGVyMg==")));
    let newest = second.world.store.revision().await.unwrap();
    let mut watch = second.world.store.watch(KEY, newest).await.unwrap();
    let (code, put) = send(&second, "PUT", &format!("{SECRETS}/a"), got.clone()).await;
    assert_eq!(code, StatusCode::OK);
    assert_ne!(put["metadata"]["resourceVersion"], got["metadata"]["resourceVersion"], "the form is stale");
    assert!(stored(&store).await.starts_with(b"k8s:enc:secretbox:v1:key2:"));
    let (_, again) = send(&second, "PUT", &format!("{SECRETS}/a"), put.clone()).await;
    assert_eq!(again["metadata"]["resourceVersion"], put["metadata"]["resourceVersion"], "now it is no write");
    let seen = watch.next().await.unwrap().unwrap();
    assert!(seen[0].value.as_ref().unwrap().value.starts_with(b"{\"kind\":\"Secret\""));
}

#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_absent() {
    let store = Arc::new(MemoryStore::new(&Options::default()));
    let with = |keys| EncryptedStore::new(store.clone(), configuration(&["*.*"], &[keys]));
    let first = server(Arc::new(with(keys("aescbc", &["key1"])))).await;
    send(&first, "POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
    send(&first, "POST", SECRETS, secret()).await;
    assert!(stored(&store).await.starts_with(b"k8s:enc:aescbc:v1:key1:"));

    let second = server(Arc::new(with(keys("aescbc", &["key2"])))).await;
    let why = "no matching key was found for the provided AES transformer";
    for (method, path, body, want) in [
        ("GET", format!("{SECRETS}/a"), Value::Null, format!("Internal error occurred: {why}")),
        ("DELETE", format!("{SECRETS}/a"), Value::Null, format!("Internal error occurred: {why}")),
        ("PUT", format!("{SECRETS}/a"), secret(), format!("Internal error occurred: {why}")),
        (
            "GET",
            SECRETS.into(),
            Value::Null,
            format!("Internal error occurred: unable to transform key \"{KEY}\": {why}"),
        ),
    ] {
        let (code, status) = send(&second, method, &path, body).await;
        assert_eq!(
            (code, status["reason"].as_str(), status["message"].as_str()),
            (StatusCode::INTERNAL_SERVER_ERROR, Some("InternalError"), Some(want.as_str())),
            "{method} {path}"
        );
    }

    let third = server(Arc::new(with(keys("aescbc", &["key1"])))).await;
    assert_eq!(send(&third, "GET", &format!("{SECRETS}/a"), Value::Null).await.0, StatusCode::OK);
    let damaged = b"k8s:enc:aescbc:v1:key1:0123456789abcdef0".to_vec().into();
    let ops = vec![Op::Put { key: KEY.into(), value: damaged, ttl: None }];
    store.txn(Txn { compare: vec![], ops }).await.unwrap();
    let (code, status) = send(&third, "GET", &format!("{SECRETS}/a"), Value::Null).await;
    assert_eq!(
        (code, &status["message"]),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!("Internal error occurred: the stored data is not a multiple of the block size")
        )
    );
}

#[test]
fn a_value_is_bound_to_its_key_and_a_plain_reader_refuses_it() {
    let configuration = configuration(&["secrets", "deployments.apps"], &[keys("aesgcm", &["key1"])]);
    let transformer = configuration.of("", "secrets");
    let hidden = transformer.write("/registry/secrets/a/b", b"plain").unwrap().unwrap();
    assert_eq!(transformer.read("/registry/secrets/a/b", &hidden).unwrap().plain.unwrap(), "plain");
    let moved = transformer.read("/registry/secrets/a/c", &hidden).unwrap_err();
    assert_eq!(moved, "cipher: message authentication failed");
    let refused = configuration.of("", "configmaps").read("x", &hidden).unwrap_err();
    assert_eq!(refused, "identity transformer tried to read encrypted data");
    let plain = transformer.read("x", b"{}").unwrap_err();
    assert_eq!(plain, "no matching prefix found");
    assert!(configuration.of("apps", "deployments").write("x", b"y").unwrap().is_some());
}

#[test]
fn configurations_that_are_refused() {
    let short = json!({"aesgcm": {"keys": [{"name": "k", "secret": "AAAA"}]}});
    for (resources, provider, want) in [
        (vec!["secrets"], short, "secret is not of the expected length, got 3, expected one of [16 24 32]"),
        (vec!["Secrets"], json!({"identity": {}}), "should not contain capital letters"),
        (vec!["*"], json!({"identity": {}}), "use '*.' to encrypt all the resources from core API group"),
        (vec!["secrets", "*."], json!({"identity": {}}), "overlapping resources"),
        (vec!["secrets"], json!({}), "does not contain any of the expected providers"),
        (vec![], json!({"identity": {}}), "at least one resources[0].resources is required"),
    ] {
        let file = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": resources, "providers": [provider]}],
        });
        let error = Configuration::parse(file.to_string().as_bytes()).err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    }
}

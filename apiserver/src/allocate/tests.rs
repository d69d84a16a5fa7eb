//! Two servers over one store never give the same to two Services.
#![allow(clippy::unwrap_used, clippy::panic)] // a test

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crds::user::User;
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use rcgen::KeyPair;
use serde_json::{Value, json};
use store::{MemoryStore, Op, Options, Outcome, Store, Txn};

use crate::{
    auth::{Authenticator, issuer::Issuer},
    bootstrap::{ensure, tests::cluster},
    pipeline::{
        Apiserver,
        tests::{Meddled, memory},
    },
    random::Random,
    server::InProcess,
};

const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn server(store: &Arc<dyn Store>) -> (Arc<Apiserver>, InProcess) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let issuer = Issuer::new(&["https://kubernetes.default.svc".to_owned()], &[], &key, &[]).unwrap();
    let (authenticator, clock) = (Authenticator::new(issuer), Arc::new(Timestamp::now));
    let apiserver = Apiserver::open(store.clone(), authenticator, None, clock, Random::default());
    let apiserver = apiserver.await.unwrap();
    ensure::ensure(&apiserver, &cluster(), Timestamp::now()).await.unwrap();
    let service = apiserver.service(User::named("admin", &[User::MASTERS, User::AUTHENTICATED]));
    (apiserver, service)
}

async fn create(service: InProcess, name: String, node_port: Option<u64>) -> Option<Value> {
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    ensure::send(&service, Method::POST, SERVICES, Some(object)).await.ok()?
}

fn node_port(service: &Value) -> u64 {
    service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
}

#[tokio::test]
async fn servers_share_ranges() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&Options::default()));
    let ((_one, one), (_two, two)) = (server(&store).await, server(&store).await);
    let creating = (0..40).map(|number| {
        let service = if number % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(create(service, format!("s{number}"), None))
    });
    let services: Vec<Value> =
        futures::future::join_all(creating).await.into_iter().map(|made| made.unwrap().unwrap()).collect();
    let ports: BTreeSet<u64> = services.iter().map(node_port).collect();
    let addresses: BTreeSet<&str> = services.iter().map(|s| s["spec"]["clusterIP"].as_str().unwrap()).collect();
    assert_eq!((ports.len(), addresses.len()), (40, 40));

    let port = node_port(&services[0]);
    assert_eq!(create(two.clone(), "again".into(), Some(port)).await, None, "it is taken");
    ensure::send(&one, Method::DELETE, &format!("{SERVICES}/s0"), None).await.unwrap();
    assert_eq!(create(two, "again".into(), Some(port)).await.as_ref().map(node_port), Some(port));
}

/// What was written without the ports being taken down is known after a start.
#[tokio::test]
async fn ports_of_services_are_adopted() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&Options::default()));
    let (apiserver, service) = server(&store).await;
    create(service.clone(), "a".into(), Some(30123)).await.unwrap();
    let key = "/registry/ranges/servicenodeports".to_owned();
    store.txn(store::Txn { compare: Vec::new(), ops: vec![store::Op::Delete { key }] }).await.unwrap();
    super::node_port::adopt(&apiserver.world).await.unwrap();
    assert_eq!(create(service, "b".into(), Some(30123)).await, None);
}

#[tokio::test]
async fn who_loses_what_he_was_to_get_tries_again() {
    let lost = AtomicBool::default();
    let once = move |store: Arc<dyn Store>, txn: Txn| -> BoxFuture<'static, store::Result<Outcome>> {
        let is_contested = |op: &Op| matches!(op, Op::Put { key, .. } if key.ends_with("/default/contested"));
        if txn.ops.iter().any(is_contested) && !lost.swap(true, Ordering::Relaxed) {
            return Box::pin(ready(Ok(Outcome::Conflict(vec![None; txn.compare.len()]))));
        }
        Box::pin(async move { store.txn(txn).await })
    };
    let store: Arc<dyn Store> = Arc::new(Meddled(memory(), once));
    let (_apiserver, service) = server(&store).await;
    let spec = json!({"ports": [{"port": 80}]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "contested"}, "spec": spec});
    let made = ensure::send(&service, Method::POST, SERVICES, Some(object)).await.unwrap().unwrap();
    assert_eq!(made["metadata"]["name"], "contested");
}

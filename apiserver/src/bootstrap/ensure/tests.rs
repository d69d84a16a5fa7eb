use rcgen::KeyPair;
use store::{MemoryStore, Options, Store};

use super::*;
use crate::{
    auth::{Authenticator, issuer::Issuer},
    bootstrap::tests::cluster,
    registry::Registry,
    runtime_config::RuntimeConfig,
    start::Guards,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

async fn apiserver(store: &Arc<dyn Store>) -> Arc<Apiserver> {
    serving(store, "api/ga=true").await
}

async fn serving(store: &Arc<dyn Store>, runtime: &str) -> Arc<Apiserver> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let issuer = Issuer::new(&["https://kubernetes.default.svc".to_owned()], &[], &key, &[]).unwrap();
    let guards = Guards { runtime: RuntimeConfig::parse([runtime]).unwrap(), ..Guards::default() };
    Apiserver::guarded(store.clone(), Authenticator::new(issuer), None, Arc::new(|| NOW), Default::default(), guards)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_second_start_writes_nothing() {
    let (store, cluster): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new(&Options::default())), cluster());
    let count = waves(&cluster, &Registry::default().table(), NOW).unwrap().iter().map(Vec::len).sum::<usize>();
    ensure(&apiserver(&store).await, &cluster, NOW).await.unwrap();
    let first = store.range("/registry/", None, 0, None).await.unwrap();
    assert!(first.entries.len() >= count, "{} of {count}", first.entries.len());

    ensure(&apiserver(&store).await, &cluster, NOW).await.unwrap();
    let second = store.range("/registry/", None, 0, None).await.unwrap();
    assert_eq!(first.revision, second.revision);

    let moved = Cluster { port: 7443, ..cluster };
    ensure(&apiserver(&store).await, &moved, NOW).await.unwrap();
    let third = store.range("/registry/", None, 0, None).await.unwrap();
    // The Endpoints and the EndpointSlice; the Service is its owner's.
    assert_eq!(third.revision, second.revision + 2);
}

/// Each of them makes the Service `kubernetes`, with the same address.
#[tokio::test]
async fn several_servers_may_start_at_once() {
    let (store, cluster): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new(&Options::default())), cluster());
    let servers = [apiserver(&store).await, apiserver(&store).await, apiserver(&store).await];
    let starts = servers.iter().map(|server| ensure(server, &cluster, NOW));
    futures::future::try_join_all(starts).await.unwrap();
}

#[tokio::test]
async fn what_is_served_no_longer_has_no_api_service() {
    let (store, cluster): (Arc<dyn Store>, _) = (Arc::new(MemoryStore::new(&Options::default())), cluster());
    let key = "/registry/apiregistration.k8s.io/apiservices/v1beta1.networking.k8s.io";
    ensure(&serving(&store, "networking.k8s.io/v1beta1=true").await, &cluster, NOW).await.unwrap();
    assert!(store.get(key).await.unwrap().is_some());
    ensure(&apiserver(&store).await, &cluster, NOW).await.unwrap();
    assert!(store.get(key).await.unwrap().is_none());
}

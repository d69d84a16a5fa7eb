use rcgen::KeyPair;
use store::{MemoryStore, Options, Store};

use super::*;
use crate::auth::{Authenticator, issuer::Issuer};
use crate::registry::Registry;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

async fn apiserver(store: &Arc<dyn Store>) -> Arc<Apiserver> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let issuer = Issuer::new(&["https://kubernetes.default.svc".to_owned()], &[], &key, &[]).unwrap();
    Apiserver::open(store.clone(), Authenticator::new(issuer), None, Arc::new(|| NOW), Default::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_second_start_writes_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(&Options::default()));
    let cluster = Cluster {
        address: "192.0.2.1".parse().unwrap(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        port: 6443,
        service_ranges: vec!["10.0.0.0/16".into()],
        service_ip: "10.0.0.1".parse().unwrap(),
        client_authority: "pem".into(),
        front_proxy_authority: "pem".into(),
    };
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

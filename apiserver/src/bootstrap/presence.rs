//! Which servers of the cluster live. Each says so in the store for a time, in upstream's form, and says it again before
//! that has passed; all of them are the endpoints of the `kubernetes` Service.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Compare, Entry, Op, Outcome, Txn};

use super::{
    Cluster,
    ensure::{self, EnsureError},
};
use crate::{
    cache::Object,
    codec::typed,
    error::{ApiError, Result},
    pipeline::Apiserver,
    world::World,
};

const PREFIX: &str = "/registry/masterleases/";
/// As upstream's reconciler of the kind `lease`.
const PERIOD: Duration = Duration::from_secs(10);
const TIME_TO_LIVE: Duration = Duration::from_secs(15);

fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// Says that this server lives.
pub async fn announce(world: &World, address: IpAddr) -> Result<()> {
    let put = Op::Put { key: key(address), value: object(address), ttl: Some(TIME_TO_LIVE) };
    world.store.txn(Txn { compare: Vec::new(), ops: vec![put] }).await.map_err(ApiError::from_store)?;
    Ok(())
}

/// The servers that live, of the family of this one: an EndpointSlice has one.
pub async fn addresses(world: &World, own: IpAddr) -> Result<Vec<IpAddr>> {
    let page = world.store.range(PREFIX, None, 0, None).await.map_err(ApiError::from_store)?;
    let mut addresses = BTreeSet::from([own]);
    addresses.extend(page.entries.iter().filter_map(address).filter(|address| address.is_ipv4() == own.is_ipv4()));
    Ok(addresses.into_iter().collect())
}

fn address(entry: &Entry) -> Option<IpAddr> {
    let object = Object::new(entry).and_then(|object| object.value()).ok()?;
    crds::syntax::parse_ip(object.pointer("/subsets/0/addresses/0/ip")?.as_str()?)
}

/// Upstream keeps the address in an Endpoints.
fn object(address: IpAddr) -> Bytes {
    let object: Value = json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {},
        "subsets": [{"addresses": [{"ip": address.to_string()}]}],
    });
    typed::json(&object).into()
}

/// Keeps saying it until the server ends.
pub async fn keep(server: Weak<Apiserver>, mut cluster: Cluster) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(apiserver) = server.upgrade() else { return };
        let said = announce(&apiserver.world, cluster.address).await;
        if let Err(error) = said.and(reconcile(&apiserver, &mut cluster).await) {
            tracing::warn!(%error, "the endpoints of the API servers are not kept");
        }
    }
}

async fn reconcile(apiserver: &Arc<Apiserver>, cluster: &mut Cluster) -> Result<()> {
    cluster.addresses = addresses(&apiserver.world, cluster.address).await?;
    ensure::endpoints(apiserver, cluster).await.map_err(|error: EnsureError| ApiError::internal(error))
}

/// Says that this server ends: the others stay endpoints.
pub async fn withdraw(apiserver: &Arc<Apiserver>, mut cluster: Cluster) -> Result<()> {
    let world = &apiserver.world;
    let key = key(cluster.address);
    let Some(there) = world.store.get(&key).await.map_err(ApiError::from_store)? else { return Ok(()) };
    let compare = vec![Compare { key: key.clone(), modified: there.modified }];
    let gone = world.store.txn(Txn { compare, ops: vec![Op::Delete { key }] }).await.map_err(ApiError::from_store)?;
    // A server that has begun at the same address is not to be told of as gone.
    if let Outcome::Conflict(_) = gone {
        return Ok(());
    }
    let mut others = addresses(world, cluster.address).await?;
    others.retain(|address| *address != cluster.address);
    if others.is_empty() {
        return Ok(());
    }
    cluster.addresses = others;
    ensure::endpoints(apiserver, &cluster).await.map_err(|error: EnsureError| ApiError::internal(error))
}

//! Aggregation: groups and versions that another server serves, as APIServices say, appear as if this one did.
//!
//! What the registry serves itself is never passed on. Whether a server is available is found out beside the requests,
//! by [`control`]; requests go by what it has written.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use crds::kind::Kind;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::{cache::Object, pki::Identity, registry::Table, world::World};

mod available;
pub mod control;
mod discovery;
mod openapi;
mod proxy;
mod remote;

pub use remote::Remote;

/// What is known of the other servers.
#[derive(Default)]
pub struct Aggregator {
    /// Whom we are to them: the one who may name users.
    identity: OnceLock<Identity>,
    remotes: ArcSwap<Vec<Compiled>>,
    discovered: ArcSwap<discovery::Discovered>,
    merged: discovery::Merged,
}

/// An APIService as it was stored, and the server behind it; none for what is served here.
type Compiled = (Arc<Object>, Option<Arc<Remote>>);

/// All APIServices, those of this server among them, and whether they are available.
pub fn availability(world: &World) -> Vec<(String, bool)> {
    let services = world.cache.prefix(APIService::ABOUT.storage_prefix).list("");
    let told = services.iter().filter_map(|object| {
        let service = object.decode::<APIService>().ok()?;
        Some((object.name.to_string(), available::is_told(&service)))
    });
    told.collect()
}

impl Aggregator {
    /// Tells other servers who calls, with the front proxy's certificate.
    pub fn identify(&self, identity: Identity) {
        if self.identity.set(identity).is_err() {
            tracing::error!("the front proxy's certificate was set before");
        }
    }

    /// All servers behind APIServices, as the cache has them now.
    pub fn remotes(&self, world: &World) -> Vec<Arc<Remote>> {
        let objects = world.cache.prefix(APIService::ABOUT.storage_prefix).list("");
        let known = self.remotes.load_full();
        let same = |(object, (compiled, _)): (&Arc<Object>, &Compiled)| Arc::ptr_eq(object, compiled);
        if known.len() == objects.len() && objects.iter().zip(known.iter()).all(same) {
            return known.iter().filter_map(|(_, remote)| remote.clone()).collect();
        }
        let compiled = objects.into_iter().map(|object| {
            let before = known.iter().find(|(compiled, _)| compiled.name == object.name);
            if let Some((compiled, remote)) = before.filter(|(compiled, _)| Arc::ptr_eq(compiled, &object)) {
                return (compiled.clone(), remote.clone());
            }
            let before = before.and_then(|(_, remote)| remote.as_deref());
            let remote = Remote::read(&object, before, self.identity.get()).map(Arc::new);
            (object, remote)
        });
        let compiled: Vec<Compiled> = compiled.collect();
        let remotes = compiled.iter().filter_map(|(_, remote)| remote.clone()).collect();
        self.remotes.store(Arc::new(compiled));
        remotes
    }

    /// The server that answers a path below `/apis/{group}/{version}`, unless this one does.
    pub fn find(&self, world: &World, table: &Table, path: &str) -> Option<Arc<Remote>> {
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (parts.next()?, parts.next().filter(|version| !version.is_empty())?);
        if table.has_version(group, version) {
            return None;
        }
        self.remotes(world).into_iter().find(|remote| remote.group == group && remote.version == version)
    }
}

#[cfg(test)]
mod tests;

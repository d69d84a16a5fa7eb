//! What objects take from shared ranges (addresses, ports): chosen before an object is checked, and taken and given
//! back in the very transaction that writes it.
//!
//! A claim is a key in the store that one object holds, or a bit in one that all share. Because it is put with the object,
//! only if nobody has it, no two objects ever hold the same, however many servers write, and none is lost when a server
//! ends midway.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crds::kind::Definition;
use futures::future::BoxFuture;
use serde_json::Value;
use store::{Compare, Op, Outcome, Txn};

use crate::{
    error::{ApiError, Result},
    world::World,
};

pub mod address;
pub mod family;
pub mod node_port;
pub mod port;
pub mod range;
pub mod service;

/// How often a change of the node ports is tried while others change them.
const ATTEMPTS_MAX: usize = 64;

/// The key that says who holds something, and what is stored under it.
pub type Claims = BTreeMap<String, Bytes>;

/// All that an object holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub claims: Claims,
    pub node_ports: BTreeSet<i32>,
}

/// What one kind takes from shared ranges.
pub trait Allocator: Send + Sync {
    fn is_for(&self, definition: &Definition) -> bool;

    /// Fills in what the object leaves open, and refuses what it may not have. `old`: what is there, on update.
    fn allocate<'a>(
        &'a self,
        object: &'a mut Value,
        old: Option<&'a Value>,
        dry_run: bool,
        world: &'a World,
    ) -> BoxFuture<'a, Result<()>>;

    fn held(&self, object: &Value, world: &World) -> Result<Held>;

    /// Keys of what ends with the object.
    fn ends_with(&self, object: &Value) -> Vec<String>;
}

/// THE TABLE: every allocator.
const ALLOCATORS: [&dyn Allocator; 1] = [&service::Services];

pub fn of(definition: &Definition) -> Option<&'static dyn Allocator> {
    ALLOCATORS.into_iter().find(|allocator| allocator.is_for(definition))
}

/// What a write takes and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    taken: Claims,
    released: Vec<String>,
    node_ports: node_port::Change,
}

impl Change {
    /// From what an object holds (none: it is not there) to what it shall hold.
    pub fn between(allocator: &dyn Allocator, old: Option<&Value>, new: Option<&Value>, world: &World) -> Result<Self> {
        let held = |object: Option<&Value>| object.map_or(Ok(Held::default()), |object| allocator.held(object, world));
        let (before, after) = (held(old)?, held(new)?);
        let mut taken = after.claims;
        let mut released: Vec<String> = before.claims.keys().filter(|key| !taken.contains_key(*key)).cloned().collect();
        if let (Some(old), None) = (old, new) {
            released.extend(allocator.ends_with(old));
        }
        taken.retain(|key, _| !before.claims.contains_key(key));
        let node_ports = node_port::Change {
            taken: &after.node_ports - &before.node_ports,
            released: &before.node_ports - &after.node_ports,
        };
        Ok(Self { taken, released, node_ports })
    }

    /// Commits a transaction with this as a part of it, which fails if somebody else has taken the same meanwhile.
    pub async fn commit(self, mut txn: Txn, world: &World) -> Result<Outcome> {
        let store = ApiError::from_store;
        for (key, value) in self.taken {
            txn.compare.push(Compare { key: key.clone(), modified: 0 });
            txn.ops.push(Op::Put { key, value, ttl: None });
        }
        txn.ops.extend(self.released.into_iter().map(|key| Op::Delete { key }));
        if self.node_ports.is_empty() {
            return world.store.txn(txn).await.map_err(store);
        }
        let mut now = node_port::Taken::load(world).await?;
        for _ in 0..ATTEMPTS_MAX {
            let mut whole = txn.clone();
            if !now.join(&self.node_ports, &mut whole) {
                break;
            }
            match world.store.txn(whole.clone()).await.map_err(store)? {
                Outcome::Conflict(entries) if node_port::is_contended(&whole, &entries) => {
                    now = node_port::Taken::read(entries.last().and_then(Option::as_ref))?;
                }
                outcome => return Ok(outcome),
            }
        }
        let mut entries = Vec::with_capacity(txn.compare.len());
        for compare in &txn.compare {
            entries.push(world.store.get(&compare.key).await.map_err(store)?);
        }
        Ok(Outcome::Conflict(entries))
    }
}

#[cfg(test)]
mod tests;

//! What objects take from shared ranges (addresses, ports): chosen before an object is checked, and taken and given
//! back in the very transaction that writes it.
//!
//! A claim is a key in the store that one object holds. Because it is put with the object, only if nobody has it, no
//! two objects ever hold the same, however many servers write, and none is lost when a server ends midway.

use std::collections::BTreeMap;

use bytes::Bytes;
use crds::kind::Definition;
use futures::future::BoxFuture;
use serde_json::Value;
use store::{Compare, Op, Txn};

use crate::{error::Result, world::World};

pub mod address;
pub mod family;
pub mod port;
pub mod range;
pub mod service;

/// The key that says who holds something, and what is stored under it.
pub type Claims = BTreeMap<String, Bytes>;

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

    /// All that an object holds.
    fn held(&self, object: &Value, world: &World) -> Result<Claims>;

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
}

impl Change {
    /// From what an object holds (none: it is not there) to what it shall hold.
    pub fn between(allocator: &dyn Allocator, old: Option<&Value>, new: Option<&Value>, world: &World) -> Result<Self> {
        let held = |object: Option<&Value>| object.map_or(Ok(Claims::new()), |object| allocator.held(object, world));
        let (before, mut taken) = (held(old)?, held(new)?);
        let mut released: Vec<String> = before.keys().filter(|key| !taken.contains_key(*key)).cloned().collect();
        if let (Some(old), None) = (old, new) {
            released.extend(allocator.ends_with(old));
        }
        taken.retain(|key, _| !before.contains_key(key));
        Ok(Self { taken, released })
    }

    /// Makes this part of a transaction, which fails if somebody else has taken the same meanwhile.
    pub fn join(self, txn: &mut Txn) {
        for (key, value) in self.taken {
            txn.compare.push(Compare { key: key.clone(), modified: 0 });
            txn.ops.push(Op::Put { key, value, ttl: None });
        }
        txn.ops.extend(self.released.into_iter().map(|key| Op::Delete { key }));
    }
}

//! Which node ports are taken: one object of the store that says it of all, in upstream's form, so that servers of either
//! make can share it.

use std::{collections::BTreeSet, ops::RangeInclusive};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use crds::kind::Gvk;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use store::{Compare, Entry, Op, Outcome, Revision, Txn};

use super::port;
use crate::{
    cache::Object,
    codec::typed,
    error::{ApiError, Result},
    world::World,
};

const KEY: &str = "/registry/ranges/servicenodeports";
pub const PORTS: RangeInclusive<i32> = port::FIRST..=port::LAST;
/// How often the ports of Services that are there already are tried to be taken down.
const ATTEMPTS_MAX: usize = 16;

/// What a write takes and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub taken: BTreeSet<i32>,
    pub released: BTreeSet<i32>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.released.is_empty()
    }
}

/// The ports that are taken, as one revision says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub ports: BTreeSet<i32>,
    modified: Revision,
}

impl Taken {
    pub async fn load(world: &World) -> Result<Self> {
        Self::read(world.store.get(KEY).await.map_err(ApiError::from_store)?.as_ref())
    }

    pub fn read(entry: Option<&Entry>) -> Result<Self> {
        let Some(entry) = entry else { return Ok(Self::default()) };
        let object = Object::new(entry)?.value()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let data = BASE64_STANDARD.decode(text("data")).map_err(ApiError::internal)?;
        let first = text("range").split('-').next().and_then(|first| first.parse().ok()).unwrap_or(*PORTS.start());
        Ok(Self { ports: members(first, &data), modified: entry.modified })
    }

    /// Makes a change part of a transaction, which fails if anything was taken or given back meanwhile. False: what it
    /// takes is taken.
    pub fn join(&self, change: &Change, txn: &mut Txn) -> bool {
        if !change.taken.is_disjoint(&self.ports) {
            return false;
        }
        let ports = self.ports.union(&change.taken).filter(|port| !change.released.contains(port)).copied().collect();
        txn.compare.push(Compare { key: KEY.to_owned(), modified: self.modified });
        txn.ops.push(Op::Put { key: KEY.to_owned(), value: object(&ports), ttl: None });
        true
    }
}

/// Whether it was only this object, the last that was compared, that stood in the way.
pub fn is_contended(txn: &Txn, entries: &[Option<Entry>]) -> bool {
    let holds = |(compare, entry): (&Compare, &Option<Entry>)| {
        compare.key == KEY || entry.as_ref().map_or(0, |entry| entry.modified) == compare.modified
    };
    txn.compare.last().is_some_and(|last| last.key == KEY) && txn.compare.iter().zip(entries).all(holds)
}

/// Takes down the ports of the Services that are there, which a server that keeps them elsewhere may have written.
pub async fn adopt(world: &World) -> Result<()> {
    world.cache.wait_until_current().await?;
    let held: BTreeSet<i32> = world.list::<Service>("")?.iter().flat_map(port::held).collect();
    for _ in 0..ATTEMPTS_MAX {
        let now = Taken::load(world).await?;
        let missing = Change { taken: &held - &now.ports, released: BTreeSet::new() };
        let mut txn = Txn::default();
        if missing.is_empty() || !now.join(&missing, &mut txn) {
            return Ok(());
        }
        if let Outcome::Committed(_) = world.store.txn(txn).await.map_err(ApiError::from_store)? {
            return Ok(());
        }
    }
    Err(ApiError::internal("the node ports change all the time"))
}

/// A bit for each port, the first port's the lowest of the last byte.
fn members(first: i32, data: &[u8]) -> BTreeSet<i32> {
    let bits = data.iter().rev().zip(0_i32..).flat_map(|(byte, at)| {
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at.saturating_mul(8).saturating_add(bit))
    });
    bits.filter_map(|offset| first.checked_add(offset)).filter(|port| PORTS.contains(port)).collect()
}

fn bits(ports: &BTreeSet<i32>) -> Vec<u8> {
    let offset = |port: &i32| usize::try_from(port - PORTS.start()).unwrap_or_default();
    let mut data = vec![0; ports.last().map_or(0, |last| offset(last) / 8 + 1)];
    for port in ports {
        let (byte, bit) = (offset(port) / 8, offset(port) % 8);
        if let Some(byte) = data.iter_mut().rev().nth(byte) {
            *byte |= 1 << bit;
        }
    }
    data
}

fn object(ports: &BTreeSet<i32>) -> Bytes {
    let gvk = Gvk { group: "".into(), version: "v1".into(), kind: "RangeAllocation".into() };
    let object = json!({
        "kind": gvk.kind, "apiVersion": gvk.api_version(), "metadata": {},
        "range": format!("{}-{}", PORTS.start(), PORTS.end()), "data": BASE64_STANDARD.encode(bits(ports)),
    });
    typed::json(&object).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ports: &[i32]) -> BTreeSet<i32> {
        ports.iter().copied().collect()
    }

    #[test]
    fn bits_are_a_big_number() {
        let cases: [(&[i32], &[u8]); 4] =
            [(&[], &[]), (&[30000], &[1]), (&[30000, 30009], &[2, 1]), (&[30007, 30016], &[1, 0, 128])];
        for (ports, data) in cases {
            assert_eq!(bits(&taken(ports)), data);
            assert_eq!(members(30000, data), taken(ports));
        }
        assert_eq!(bits(&taken(&[32767])).len(), 346);
        assert_eq!(members(32760, &[255, 255]), taken(&[32760, 32761, 32762, 32763, 32764, 32765, 32766, 32767]));
    }

    #[test]
    fn a_change_joins_unless_what_it_takes_is_taken() {
        let now = Taken { ports: taken(&[30001, 30002]), modified: 7 };
        let change = |take: &[i32], release: &[i32]| Change { taken: taken(take), released: taken(release) };
        let mut txn = Txn::default();
        assert!(!now.join(&change(&[30002], &[]), &mut txn) && txn == Txn::default());
        assert!(now.join(&change(&[30003], &[30001]), &mut txn));
        let [Op::Put { key, value, .. }] = txn.ops.as_slice() else { unreachable!("one object is put") };
        let entry = Entry { key: key.clone(), value: value.clone(), created: 1, modified: 8 };
        assert_eq!(Taken::read(Some(&entry)).unwrap().ports, taken(&[30002, 30003]));
        assert!(is_contended(&txn, &[Some(entry)]));
    }
}

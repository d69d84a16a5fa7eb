//! Transactions as etcd has them, and what became of one whose answer was lost.

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, KeyValue, ResponseHeader, Txn as Request, TxnOp, TxnOpResponse, TxnResponse};

use super::root::Root;
use crate::{Entry, Op, Revision, Txn};

/// etcd's revisions are never negative.
pub(super) fn revision(number: i64) -> Revision {
    Revision::try_from(number).unwrap_or_default()
}

pub(super) fn revision_of(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| revision(header.revision()))
}

/// No revision is so large.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(super) fn entry(root: &Root, pair: &KeyValue) -> Entry {
    Entry {
        key: root.here(pair.key()),
        value: Bytes::copy_from_slice(pair.value()),
        created: revision(pair.create_revision()),
        modified: revision(pair.mod_revision()),
    }
}

/// `leases`: that of each operation, 0 for none.
pub(super) fn request(root: &Root, txn: &Txn, leases: &[i64]) -> Request {
    let compare = |c: &crate::Compare| Compare::mod_revision(root.there(&c.key), CompareOp::Equal, number(c.modified));
    let op = |(op, lease): (&Op, &i64)| match op {
        Op::Put { key, value, .. } => {
            let options = etcd_client::PutOptions::new().with_lease(*lease);
            TxnOp::put(root.there(key), value.as_ref(), Some(options))
        }
        Op::Delete { key } => TxnOp::delete(root.there(key), None),
    };
    let look = |c: &crate::Compare| TxnOp::get(root.there(&c.key), None);
    Request::new()
        .when(txn.compare.iter().map(compare).collect::<Vec<_>>())
        .and_then(txn.ops.iter().zip(leases).map(op).collect::<Vec<_>>())
        .or_else(txn.compare.iter().map(look).collect::<Vec<_>>())
}

/// What was compared, as it is now.
pub(super) fn compared(root: &Root, response: &TxnResponse) -> Vec<Option<Entry>> {
    let found = |response| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(|pair| entry(root, pair)),
        _ => None,
    };
    response.op_responses().into_iter().map(found).collect()
}

/// Whether doing it a second time would be refused, because what it writes is what it compares.
pub(super) fn is_repeatable(txn: &Txn) -> bool {
    own(txn).next().is_some()
}

/// The operations on keys that are compared, with the place of the comparison.
fn own(txn: &Txn) -> impl Iterator<Item = (usize, &Op)> {
    txn.ops.iter().filter_map(|op| Some((txn.compare.iter().position(|c| c.key == op.key())?, op)))
}

/// At which revision a repeated transaction that was refused had been done the first time, if it was: what it would
/// have written is there. `now`: the revision that the entries are from.
pub(super) fn done_before(txn: &Txn, entries: &[Option<Entry>], now: Revision) -> Option<Revision> {
    let mut done = None;
    for (at, op) in own(txn) {
        let before = txn.compare.get(at).map_or(0, |compare| compare.modified);
        done = match (op, entries.get(at)?) {
            (Op::Put { value, .. }, Some(entry)) if entry.value == *value && entry.modified > before => {
                Some(entry.modified)
            }
            (Op::Delete { .. }, None) if before > 0 => done.or(Some(now)),
            _ => return None,
        };
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &'static str) -> Op {
        Op::Put { key: key.into(), value: Bytes::from_static(value.as_bytes()), ttl: None }
    }

    fn there(key: &str, value: &'static str, modified: Revision) -> Option<Entry> {
        Some(Entry { key: key.into(), value: Bytes::from_static(value.as_bytes()), created: 1, modified })
    }

    #[test]
    fn a_lost_answer_is_found_again() {
        let compare = |key: &str, modified| crate::Compare { key: key.into(), modified };
        let update = Txn { compare: vec![compare("/a", 4)], ops: vec![put("/a", "new")] };
        let delete = Txn { compare: vec![compare("/a", 4)], ops: vec![Op::Delete { key: "/a".into() }] };
        let both = Txn {
            compare: vec![compare("/a", 0), compare("/b", 0)],
            ops: vec![put("/a", "new"), put("/b", "new"), Op::Delete { key: "/c".into() }],
        };
        for (txn, entries, want) in [
            (&update, vec![there("/a", "new", 7)], Some(7)),
            (&update, vec![there("/a", "other", 7)], None),
            // It was so before.
            (&update, vec![there("/a", "new", 3)], None),
            (&update, vec![None], None),
            (&delete, vec![None], Some(9)),
            (&delete, vec![there("/a", "again", 8)], None),
            (&both, vec![there("/a", "new", 7), there("/b", "new", 7)], Some(7)),
            (&both, vec![there("/a", "new", 7), None], None),
        ] {
            assert_eq!(done_before(txn, &entries, 9), want, "{txn:?} {entries:?}");
        }
        assert!(is_repeatable(&update) && !is_repeatable(&Txn { compare: Vec::new(), ops: vec![put("/a", "x")] }));
    }
}

//! What a transaction comes to: pure, before anything is written.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    Entry, Op, Result, Revision, StoreError, Txn,
    history::{Batch, Change, Millis, Version},
};

#[derive(Debug)]
pub(crate) enum Decision {
    Commit(Batch),
    /// The entries that were compared, as they are now.
    Conflict(Vec<Option<Entry>>),
    /// It would change nothing.
    Nothing,
}

/// Decides a transaction that would get `revision`, on the newest versions of the keys (deletions included).
pub(crate) fn decide<'a>(
    txn: Txn,
    revision: Revision,
    now: Millis,
    newest: impl Fn(&str) -> Option<&'a Version>,
) -> Result<Decision> {
    let current = |key: &str| newest(key).filter(|version| version.value.is_some());
    let holds = |key: &str, modified| current(key).map_or(0, |version| version.modified) == modified;
    if !txn.compare.iter().all(|compare| holds(&compare.key, compare.modified)) {
        let entries = txn.compare.iter().map(|compare| current(&compare.key).and_then(|v| v.entry(&compare.key)));
        return Ok(Decision::Conflict(entries.collect()));
    }
    refuse_twice_written(&txn.ops)?;
    let change = |op| match op {
        Op::Put { key, value, ttl } => {
            let created = current(&key).map_or(revision, |version| version.created);
            let expires = ttl.map(|ttl| now.saturating_add(millis(ttl)));
            let version = Version { value: Some(value), created, modified: revision, expires };
            Some(Change { key: Arc::from(key), version })
        }
        Op::Delete { key } => {
            current(&key)?;
            let version = Version { value: None, created: 0, modified: revision, expires: None };
            Some(Change { key: Arc::from(key), version })
        }
    };
    let changes: Vec<Change> = txn.ops.into_iter().filter_map(change).collect();
    if changes.is_empty() {
        return Ok(Decision::Nothing);
    }
    Ok(Decision::Commit(Batch { revision, changes }))
}

/// As etcd does: the order of operations on one key would be lost in its single revision.
pub(crate) fn refuse_twice_written(ops: &[Op]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let twice = ops.iter().map(Op::key).find(|key| !seen.insert(*key));
    twice.map_or(Ok(()), |key| Err(StoreError::failed(format!("key {key} is written twice in one transaction"))))
}

pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

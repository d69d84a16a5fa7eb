//! Compaction as upstream's API servers do it, so that several of them, of either make, do not fight: who raises the
//! version of a key that all know compacts, up to what was current when it was raised before.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::{
    member::{Failure, Members},
    txn::{number, revision_of},
};
use crate::Revision;

const KEY: &str = "compact_rev_key";

/// What a compactor knows of the key, and what was current when it last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    version: i64,
    seen: Revision,
}

/// Compacts at every interval until the store is dropped.
pub(super) async fn run(members: Weak<Members>, interval: Duration) {
    let mut turn = Turn::default();
    loop {
        tokio::time::sleep(interval).await;
        let Some(members) = members.upgrade() else { return };
        match compact(&members, turn).await {
            Ok((next, compacted)) => {
                turn = next;
                if let Some(revision) = compacted {
                    tracing::debug!(revision, "the history in etcd is compacted");
                }
            }
            Err(failure) => tracing::error!(error = %crate::StoreError::from(failure), "etcd was not compacted"),
        }
    }
}

/// One turn: the next one, and the revision that was compacted to, if it was ours to do.
pub(super) async fn compact(members: &Arc<Members>, turn: Turn) -> Result<(Turn, Option<Revision>), Failure> {
    let txn = Txn::new()
        .when([Compare::version(KEY, CompareOp::Equal, turn.version)])
        .and_then([TxnOp::put(KEY, turn.seen.to_string(), None)])
        .or_else([TxnOp::get(KEY, None)]);
    let answer = members.ask_once(|mut kv| async move { kv.txn(txn).await }).await?;
    let seen = revision_of(answer.header());
    if !answer.succeeded() {
        let version = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().map(|pair| pair.version()),
            _ => None,
        });
        return Ok((Turn { version: version.unwrap_or_default(), seen }, None));
    }
    let next = Turn { version: turn.version + 1, seen };
    if turn.seen == 0 {
        return Ok((next, None));
    }
    let revision = number(turn.seen);
    match members.ask(|mut kv| async move { kv.compact(revision, None).await }).await {
        Ok(_) => Ok((next, Some(turn.seen))),
        // Somebody else has compacted further.
        Err(Failure::Compacted) => Ok((next, None)),
        Err(failure) => {
            tracing::error!(error = %crate::StoreError::from(failure), "etcd was not compacted");
            Ok((next, None))
        }
    }
}

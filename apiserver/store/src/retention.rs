//! How much history is kept without being asked to.

use std::time::Duration;

use crate::{
    Revision,
    decide::millis,
    history::{History, Millis},
};

/// The limits of a store's history; whichever is reached first compacts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Changes are kept at least this long, and at most twice as long while the store is written to.
    pub age: Duration,
    /// This many transactions at most.
    pub revisions: usize,
    /// About this much memory at most.
    pub bytes: usize,
}

impl Default for Retention {
    /// Upstream's apiserver compacts every five minutes what was there five minutes before.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), revisions: 100_000, bytes: 64 << 20 }
    }
}

/// Decides when to compact. No timer: what is not written to does not grow.
#[derive(Debug)]
pub(crate) struct Compactor {
    retention: Retention,
    sampled: Revision,
    sampled_at: Millis,
}

impl Compactor {
    pub fn new(retention: Retention, history: &History, now: Millis) -> Self {
        Self { retention, sampled: history.revision(), sampled_at: now }
    }

    /// The revision to compact to, if it is time.
    pub fn due(&mut self, history: &History, now: Millis) -> Option<Revision> {
        let excess = history.excess(self.retention.revisions, self.retention.bytes);
        if now.saturating_sub(self.sampled_at) < millis(self.retention.age) {
            return excess;
        }
        let aged = std::mem::replace(&mut self.sampled, history.revision());
        self.sampled_at = now;
        excess.max(Some(aged)).filter(|revision| *revision > history.oldest())
    }
}

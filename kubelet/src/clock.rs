//! The wall clock, taken from tokio's so that a paused runtime also stops it.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time; copies tell the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock that follows the machine's.
    pub fn system() -> Self {
        Self::from(Timestamp::now())
    }

    /// A clock that shows `base` now: what a simulation starts with.
    pub fn from(base: Timestamp) -> Self {
        Self { base, started: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX);
        self.base.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// The instant to sleep until for a time of this clock; a past one is now.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.base);
        self.started + std::time::Duration::try_from(ahead).unwrap_or_default()
    }
}

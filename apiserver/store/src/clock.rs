//! Where stores take the time from: only expiry and compaction ask for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock that a store is given.
pub trait Clock: Send + Sync + 'static {
    /// The time since the Unix epoch.
    fn now(&self) -> Duration;
}

/// The clock of the tokio runtime: the system's, and a simulation's when that pauses and advances the time.
#[derive(Clone, Debug)]
pub struct TokioClock {
    epoch: Duration,
    start: Instant,
}

impl TokioClock {
    /// From the system's time on.
    pub fn system() -> Self {
        Self::starting_at(SystemTime::now())
    }

    pub fn starting_at(time: SystemTime) -> Self {
        Self { epoch: time.duration_since(UNIX_EPOCH).unwrap_or_default(), start: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.epoch + self.start.elapsed()
    }
}

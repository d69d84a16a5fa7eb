//! Time as the controllers see it: the system's, or one that follows tokio's (paused) clock in a simulation.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub enum Clock {
    System,
    /// Began at this time, at this instant of tokio's clock.
    Tokio(Timestamp, Instant),
}

impl Clock {
    /// A clock that shows `start` now and advances with tokio's.
    pub fn tokio(start: Timestamp) -> Self {
        Self::Tokio(start, Instant::now())
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Tokio(start, began) => {
                let passed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
                start.checked_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

/// How long from `now` until `then`; zero if it has passed.
pub fn until(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}

/// How long ago `then` was; zero if it is still to come.
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    until(then, now)
}

/// `then` and so many seconds more, within the years that a timestamp can hold.
pub fn after(then: Timestamp, seconds: i64) -> Timestamp {
    then.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// The time without its fraction, as the API stores most times.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

//! Exponential backoff that forgets after a quiet time, as the kubelet has for crashing containers and failing pulls.

use jiff::{SignedDuration, Timestamp};

/// The first wait after a failure.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub delay: SignedDuration,
    pub updated: Timestamp,
}

impl Backoff {
    /// The wait after one more failure at `event`. After twice the longest wait without one it starts anew.
    pub fn next(previous: Option<Self>, event: Timestamp, now: Timestamp) -> Self {
        let delay = match previous {
            Some(p) if !p.expired(event) => (p.delay + p.delay).min(MAX),
            _ => INITIAL,
        };
        Self { delay, updated: now }
    }

    /// When a failure at `event` may be tried again.
    pub fn until(&self, event: Timestamp) -> Timestamp {
        if self.expired(event) { event } else { event + self.delay }
    }

    fn expired(&self, event: Timestamp) -> bool {
        event.duration_since(self.updated) > MAX + MAX
    }
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn doubles_up_to_the_longest_and_forgets() {
        let mut backoff = None;
        let delays: Vec<_> = (0..7)
            .map(|n| {
                let next = Backoff::next(backoff, at(n * 300), at(n * 300));
                backoff = Some(next);
                next.delay.as_secs()
            })
            .collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        let late = at(7 * 300 + 601);
        assert_eq!(backoff.unwrap().until(late), late);
        assert_eq!(Backoff::next(backoff, late, late).delay, INITIAL);
    }

    #[test]
    fn go_durations() {
        let texts = [10, 80, 300, 3661].map(|s| go_duration(SignedDuration::from_secs(s)));
        assert_eq!(texts, ["10s", "1m20s", "5m0s", "1h1m1s"]);
    }
}

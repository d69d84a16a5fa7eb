//! When a client that was sent away may come again: the longer, the more are sent away.

use std::collections::VecDeque;

const RETRY_SECONDS_MAX: i64 = 32;

/// Of one level. Times are in seconds.
#[derive(Debug)]
pub struct Retry {
    /// How many were sent away in each past second.
    history: VecDeque<(i64, i64)>,
    current: i64,
    count: i64,
    after: i64,
    updated: i64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { history: VecDeque::new(), current: 0, count: 0, after: 1, updated: 0 }
    }
}

impl Retry {
    /// Notes that a request was sent away; gives the seconds that its client should wait.
    pub fn sent_away(&mut self, now: i64) -> i64 {
        if now == self.current {
            self.count += 1;
            return self.after;
        }
        self.remember();
        (self.current, self.count) = (now, 1);
        self.update(now);
        self.after
    }

    fn remember(&mut self) {
        self.history.push_back((self.current, self.count));
        let oldest = self.current - (2 * self.after).min(RETRY_SECONDS_MAX);
        while self.history.front().is_some_and(|(at, _)| *at < oldest) {
            self.history.pop_front();
        }
    }

    fn update(&mut self, now: i64) {
        let recent = self.history.iter().filter(|(at, _)| now - at <= self.after && *at < now);
        let dropped: i64 = recent.map(|(_, count)| count).sum();
        if now - self.updated >= self.after && dropped >= 3 * self.after {
            self.after = (self.after * 2).min(RETRY_SECONDS_MAX);
            self.updated = now;
        } else if dropped < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_under_pressure_and_comes_down_slowly() {
        let mut retry = Retry::default();
        let mut seen = Vec::new();
        for second in 1..=40 {
            for _ in 0..20 {
                retry.sent_away(second);
            }
            seen.push(retry.after);
        }
        assert_eq!(seen[0], 1);
        assert!(seen.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == 2 * pair[0]), "{seen:?}");
        let highest = seen[39];
        assert!(highest > 4, "{seen:?}");
        retry.sent_away(200);
        retry.sent_away(201);
        assert!(retry.after < highest);
    }
}

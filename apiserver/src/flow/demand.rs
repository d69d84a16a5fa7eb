//! How many seats a level's requests ask for, over time.

/// Of the last smoothed value, so much stays at each adjustment.
const SMOOTHING: f64 = 0.977;

/// Adds up a number that changes now and then, weighted by how long it lasted. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    now: u32,
    since: u64,
    begun: u64,
    /// Seats times nanoseconds, and seats squared times nanoseconds.
    sum: f64,
    squares: f64,
    max: u32,
    smoothed: f64,
}

/// What was seen between two adjustments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub max: u32,
    pub average: f64,
    pub deviation: f64,
    pub smoothed: f64,
}

impl Demand {
    pub fn set(&mut self, seats: u32, now: u64) {
        self.pass(now);
        self.now = seats;
        self.max = self.max.max(seats);
    }

    pub fn now(&self) -> u32 {
        self.now
    }

    fn pass(&mut self, now: u64) {
        let (seats, took) = (f64::from(self.now), now.saturating_sub(self.since) as f64);
        self.sum += seats * took;
        self.squares += seats * seats * took;
        self.since = now;
    }

    /// What was seen since the last time; counting begins anew.
    pub fn reset(&mut self, now: u64) -> Seen {
        self.pass(now);
        let took = now.saturating_sub(self.begun) as f64;
        let (mut average, mut deviation) = (0.0, 0.0);
        if took > 0.0 {
            average = self.sum / took;
            deviation = (self.squares / took - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        }
        let seen = Seen { max: self.max, average, deviation, smoothed: self.smoothed };
        *self =
            Self { now: self.now, since: now, begun: now, max: self.now, smoothed: self.smoothed, ..Self::default() };
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_weighs() {
        let mut demand = Demand::default();
        demand.set(4, 0);
        demand.set(0, 500);
        let seen = demand.reset(1000);
        assert_eq!((seen.max, seen.average, seen.deviation, seen.smoothed), (4, 2.0, 2.0, 4.0));
        let later = demand.reset(2000);
        assert_eq!((later.max, later.average), (0, 0.0));
        assert!((later.smoothed - 4.0 * SMOOTHING).abs() < 1e-9, "it is forgotten slowly");
    }
}

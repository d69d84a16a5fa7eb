//! How the server's seats are shared by its priority levels: what each is promised, lends, borrows and gets for now.

/// What a level is promised, and how far it may go down and up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nominal: u32,
    pub min: u32,
    pub max: u32,
}

/// What a PriorityLevelConfiguration says of shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    pub shares: u32,
    pub lendable_percent: u32,
    /// None: it may borrow all that others lend.
    pub borrowing_percent: Option<u32>,
}

impl Shares {
    /// `total`: the seats of the server; `sum`: the shares of all levels.
    pub fn limits(&self, total: u32, sum: u32) -> Limits {
        let nominal = (f64::from(total) * f64::from(self.shares) / f64::from(sum.max(1))).ceil() as u32;
        let percent = |percent: u32| (f64::from(nominal) * f64::from(percent) / 100.0).round() as u32;
        let borrowed = self.borrowing_percent.map_or(total, percent);
        Limits { nominal, min: nominal.saturating_sub(percent(self.lendable_percent)), max: nominal + borrowed }
    }
}

impl Limits {
    /// What a level begins with, before anything is known of the demand.
    pub const fn initial(&self) -> u32 {
        self.nominal - (self.nominal - self.min) / 2
    }
}

/// A level at the time of an adjustment.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub limits: Limits,
    pub exempt: bool,
    /// The most seats that were asked for at once since the last adjustment.
    pub high_watermark: u32,
    /// How many seats are asked for, smoothed over time.
    pub smoothed: f64,
    /// What it has now; kept if no allocation is possible.
    pub current: u32,
}

impl Claim {
    fn floor(&self) -> u32 {
        if self.exempt {
            return self.limits.min.max(self.high_watermark);
        }
        self.limits.min.max(self.limits.nominal.min(self.high_watermark))
    }
}

/// The seats that each level has until the next adjustment.
pub fn adjust(claims: &[Claim]) -> Vec<u32> {
    let total: i64 = claims.iter().map(|claim| i64::from(claim.limits.nominal)).sum();
    let exempt: i64 = claims.iter().filter(|c| c.exempt).map(|c| i64::from(c.floor())).sum();
    let limited: Vec<&Claim> = claims.iter().filter(|claim| !claim.exempt).collect();
    let sum = |of: fn(&Claim) -> u32| limited.iter().map(|claim| i64::from(of(claim))).sum::<i64>();
    let (min, floor, left) = (sum(|c| c.limits.min), sum(Claim::floor), total - exempt);
    let between = |claim: &Claim, part: f64| {
        claim.limits.min + (f64::from(claim.floor() - claim.limits.min) * part).round() as u32
    };
    let mut given: Vec<u32> = if left <= min {
        limited.iter().map(|claim| claim.limits.min).collect()
    } else if left <= floor {
        let part = (left - min) as f64 / (floor - min) as f64;
        limited.iter().map(|claim| between(claim, part)).collect()
    } else {
        let items: Vec<Item> = limited.iter().map(|claim| Item::of(claim)).collect();
        match allocate(f64::from(u32::try_from(total).unwrap_or(u32::MAX)), &items) {
            Some(seats) => seats.iter().map(|seats| seats.round() as u32).collect(),
            None => limited.iter().map(|claim| claim.current).collect(),
        }
    };
    given.reverse();
    claims.iter().map(|claim| if claim.exempt { claim.floor() } else { given.pop().unwrap_or_default() }).collect()
}

/// A class that wants `target`, and takes no less than `low` and no more than `high`.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub target: f64,
    pub low: f64,
    pub high: f64,
}

const TARGET_MIN: f64 = 0.001;
const EPSILON: f64 = 1e-7;

impl Item {
    fn of(claim: &Claim) -> Self {
        let low = f64::from(claim.floor());
        Self { target: low.max(claim.smoothed), low, high: f64::from(claim.limits.max) }
    }

    fn at(&self, proportion: f64) -> f64 {
        (self.target.max(TARGET_MIN) * proportion).clamp(self.low, self.high)
    }
}

/// Gives each class the same proportion of its target, as far as the bounds let it, so that the sum is as required.
/// None: the bounds do not allow the sum.
pub fn allocate(sum: f64, items: &[Item]) -> Option<Vec<f64>> {
    let given = |proportion: f64| items.iter().map(|item| item.at(proportion)).sum::<f64>();
    if items.iter().any(|item| item.low < 0.0 || item.high < item.low || item.target < item.low) {
        return None;
    }
    let low: f64 = items.iter().map(|item| item.low).sum();
    let high: f64 = items.iter().map(|item| item.high).sum();
    if low - sum > EPSILON || sum - high > EPSILON {
        return None;
    }
    // What is given grows with the proportion, in straight lines between the points where a bound begins to count.
    let mut bounds: Vec<f64> =
        items.iter().flat_map(|i| [i.low, i.high].map(|bound| bound / i.target.max(TARGET_MIN))).collect();
    bounds.sort_by(f64::total_cmp);
    let at = bounds.partition_point(|bound| given(*bound) < sum);
    let Some(upper) = bounds.get(at).or(bounds.last()).copied() else { return Some(Vec::new()) };
    let lower = at.checked_sub(1).and_then(|at| bounds.get(at)).copied().unwrap_or(upper);
    let (from, to) = (given(lower), given(upper));
    let proportion = if to > from { lower + (upper - lower) * (sum - from) / (to - from) } else { upper };
    Some(items.iter().map(|item| item.at(proportion)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(sum: f64, items: &[(f64, f64, f64)], want: &[f64]) {
        let items: Vec<_> =
            items.iter().map(|(low, target, high)| Item { target: *target, low: *low, high: *high }).collect();
        let got = allocate(sum, &items).unwrap();
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{got:?} {want:?}");
    }

    #[test]
    fn proportions_within_bounds() {
        close(50.0, &[(0.0, 20.0, 100.0), (0.0, 30.0, 100.0)], &[20.0, 30.0]);
        close(100.0, &[(0.0, 20.0, 200.0), (0.0, 30.0, 200.0)], &[40.0, 60.0]);
        close(100.0, &[(0.0, 20.0, 30.0), (0.0, 30.0, 200.0)], &[30.0, 70.0]);
        close(50.0, &[(25.0, 30.0, 100.0), (10.0, 70.0, 100.0)], &[25.0, 25.0]);
        close(35.0, &[(25.0, 30.0, 100.0), (10.0, 70.0, 100.0)], &[25.0, 10.0]);
        close(13.0, &[(0.0, 0.0, 100.0), (0.0, 0.0, 4.0)], &[9.0, 4.0]);
        assert!(allocate(10.0, &[Item { target: 20.0, low: 15.0, high: 30.0 }]).is_none());
        assert!(allocate(40.0, &[Item { target: 20.0, low: 15.0, high: 30.0 }]).is_none());
    }

    #[test]
    fn the_default_levels() {
        let shares = |shares, lendable_percent| Shares { shares, lendable_percent, borrowing_percent: None };
        let limits = shares(100, 90).limits(600, 245);
        assert_eq!(limits, Limits { nominal: 245, min: 24, max: 845 });
        assert_eq!(limits.initial(), 135);
        assert_eq!(shares(5, 0).limits(600, 245), Limits { nominal: 13, min: 13, max: 613 });
        let bound = Shares { shares: 40, lendable_percent: 50, borrowing_percent: Some(10) };
        assert_eq!(bound.limits(600, 245), Limits { nominal: 98, min: 49, max: 108 });
    }

    /// Two levels of 100 seats each, of which half may be lent.
    fn claims(first: u32, second: u32, exempt: u32) -> Vec<u32> {
        let limits = Limits { nominal: 100, min: 50, max: 300 };
        let claim = |seats: u32| Claim {
            limits,
            exempt: false,
            high_watermark: seats,
            smoothed: f64::from(seats),
            current: 75,
        };
        let none = Limits { nominal: 0, min: 0, max: 200 };
        let free = Claim { limits: none, exempt: true, ..claim(exempt) };
        adjust(&[claim(first), claim(second), free])
    }

    #[test]
    fn the_idle_lend_to_the_busy() {
        assert_eq!(claims(0, 0, 0), [100, 100, 0]);
        assert_eq!(claims(300, 0, 0), [150, 50, 0], "lent no further than the minimum");
        assert_eq!(claims(300, 300, 0), [100, 100, 0]);
        assert_eq!(claims(300, 300, 60), [70, 70, 60], "the exempt take from all alike");
        assert_eq!(claims(300, 300, 500), [50, 50, 500]);
    }
}

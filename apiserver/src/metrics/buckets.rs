//! A histogram that costs two additions to feed: of what comes too often for labels to be looked up each time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::text::Family;

/// How many values are not above each bound, of `N`, and how many are above all.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    /// In the order of their size.
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Buckets<N> {
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; N], beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        place.map_or(&self.beyond, |place| &self.counts[place]).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().chain([&self.beyond]).map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Tells bounds and sum in a unit that is so many of theirs.
    pub fn write(&self, family: &mut Family<'_>, labels: &[(&str, &str)], unit: f64) {
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count.load(Ordering::Relaxed);
            let bound = (*bound as f64 / unit).to_string();
            family.part("_bucket", &[labels, &[("le", bound.as_str())]].concat(), below);
        }
        let all = below + self.beyond.load(Ordering::Relaxed);
        family.part("_bucket", &[labels, &[("le", "+Inf")]].concat(), all);
        family.part("_sum", labels, self.sum.load(Ordering::Relaxed) as f64 / unit);
        family.part("_count", labels, all);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::text::{Kind, Text},
        *,
    };

    #[test]
    fn values_up_to_a_bound_are_counted_there_and_above() {
        static BOUNDS: [u64; 2] = [500, 2000];
        let buckets = Buckets::new(&BOUNDS);
        [500, 501, 3000].into_iter().for_each(|value| buckets.observe(value));
        assert_eq!(buckets.count(), 3);
        let mut text = Text::default();
        buckets.write(&mut text.family("a", Kind::Histogram, "How long."), &[("x", "y")], 1000.0);
        let want = "# HELP a How long.\n# TYPE a histogram\na_bucket{x=\"y\",le=\"0.5\"} 1\na_bucket{x=\"y\",le=\"2\"} 2\n\
                    a_bucket{x=\"y\",le=\"+Inf\"} 3\na_sum{x=\"y\"} 4.001\na_count{x=\"y\"} 3\n";
        assert_eq!(text.into_string(), want);
    }
}

//! Chance: the uids, name suffixes, addresses and ports that nobody chose. A simulation seeds it, and sees the same again.

use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// A source of chance, shared by all requests.
pub struct Random(Mutex<StdRng>);

impl Default for Random {
    /// Seeded by the system.
    fn default() -> Self {
        Self(Mutex::new(rand::make_rng()))
    }
}

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A version 4 UUID.
    pub fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.0.lock().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// At least 0 and less than `bound`, evenly.
    pub fn below(&self, bound: u128) -> u128 {
        self.0.lock().random_range(0..bound.max(1))
    }

    /// One of these bytes.
    pub fn one_of(&self, choices: &[u8]) -> u8 {
        let at = self.0.lock().random_range(0..choices.len().max(1));
        choices.get(at).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_same_seed_gives_the_same() {
        let (one, other) = (Random::seeded(7), Random::seeded(7));
        let uid = one.uid();
        assert_eq!(uid, other.uid());
        assert_ne!(uid, one.uid());
        assert_eq!(uid.as_bytes()[14], b'4', "{uid} is of version 4");
        assert!((0..100).all(|_| one.below(3) < 3));
    }
}

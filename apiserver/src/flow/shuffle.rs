//! Shuffle sharding: a flow gets a hand of queues, so that two flows seldom share all of theirs.

/// Hands have at most this many queues.
const HAND_MAX: usize = 10;

/// Calls `pick` with each card of the hand that this hash deals from a deck, all different.
pub fn deal(mut hash: u64, deck: usize, hand: usize, mut pick: impl FnMut(usize)) {
    let hand = hand.clamp(1, HAND_MAX).min(deck);
    let mut remainders = [0; HAND_MAX];
    for (i, remainder) in remainders[..hand].iter_mut().enumerate() {
        let left = (deck - i) as u64;
        *remainder = (hash % left) as usize;
        hash /= left;
    }
    for i in 0..hand {
        // The remainder counts only cards that have not been dealt yet.
        let mut card = remainders[i];
        for earlier in remainders[..i].iter().rev() {
            if card >= *earlier {
                card += 1;
            }
        }
        pick(card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_are_of_different_cards_and_every_hand_comes_as_often() {
        let mut counts = std::collections::BTreeMap::new();
        for hash in 0..5 * 4 * 3 * 10 {
            let mut hand = Vec::new();
            deal(hash, 5, 3, |card| hand.push(card));
            let mut sorted = hand.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert!(sorted.len() == 3 && sorted.iter().all(|card| *card < 5), "{hand:?}");
            *counts.entry(hand).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 60);
        assert!(counts.values().all(|count| *count == 10));
    }
}

//! Numbers of pods that are given as such or as a percentage of all.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The number meant; none if it is neither a number nor a percentage.
pub fn of(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match value {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent * i64::from(total);
            let share = match round {
                Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(share).ok()
        }
    }
}

/// The surge and the unavailability that an update may use; never both zero, or nothing could ever move.
pub fn fence_posts(surge: Option<&IntOrString>, unavailable: Option<&IntOrString>, total: i32) -> (i32, i32) {
    let surge = surge.and_then(|v| of(v, total, Round::Up)).unwrap_or(0);
    let unavailable = unavailable.and_then(|v| of(v, total, Round::Down)).unwrap_or(0);
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let percent = |n: i32| IntOrString::String(format!("{n}%"));
        for (value, total, round, want) in [
            (IntOrString::Int(3), 10, Round::Up, Some(3)),
            (percent(25), 10, Round::Up, Some(3)),
            (percent(25), 10, Round::Down, Some(2)),
            (percent(100), 7, Round::Down, Some(7)),
            (IntOrString::String("x".into()), 7, Round::Down, None),
        ] {
            assert_eq!(of(&value, total, round), want, "{value:?}");
        }
        assert_eq!(fence_posts(Some(&IntOrString::Int(0)), Some(&percent(1)), 2), (0, 1));
    }
}

//! Durations as kubectl shows them: short, for people, exact only where they are small.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Two to three significant figures: `90s`, `3m10s`, `2d5h`, `3y40d`.
pub fn human(duration: SignedDuration) -> String {
    let seconds = match duration.as_secs() {
        // Clocks may differ a little: what is to come within two seconds is now.
        ..-1 => return "<invalid>".into(),
        seconds => seconds.max(0),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, 'm', seconds % MINUTE, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, 'h', seconds % HOUR / MINUTE, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, 'd', seconds % DAY / HOUR, 'h'),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, 'y', seconds % YEAR / DAY, 'd'),
        _ => format!("{}y", seconds / YEAR),
    }
}

fn two(large: i64, unit: char, small: i64, small_unit: char) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
}

/// One figure: `90m` is `1h`.
pub fn short(duration: SignedDuration) -> String {
    let seconds = match duration.as_secs() {
        ..-1 => return "<invalid>".into(),
        seconds => seconds.max(0),
    };
    match seconds {
        ..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        DAY..YEAR => format!("{}d", seconds / DAY),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The cell of a column like Age: how long ago something was.
pub fn since(time: Option<&Time>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".into(), |time| human(now.duration_since(time.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_upstream() {
        let (m, h, d, y) = (MINUTE, HOUR, DAY, YEAR);
        for (seconds, long, brief) in [
            (-2, "<invalid>", "<invalid>"),
            (-1, "0s", "0s"),
            (0, "0s", "0s"),
            (70, "70s", "1m"),
            (2 * m, "2m", "2m"),
            (2 * m + 1, "2m1s", "2m"),
            (9 * m + 59, "9m59s", "9m"),
            (10 * m + 1, "10m", "10m"),
            (3 * h - 1, "179m", "2h"),
            (3 * h, "3h", "3h"),
            (7 * h + 5 * m, "7h5m", "7h"),
            (8 * h + 5 * m, "8h", "8h"),
            (47 * h, "47h", "1d"),
            (2 * d, "2d", "2d"),
            (2 * d + 5 * h, "2d5h", "2d"),
            (7 * d + 23 * h, "7d23h", "7d"),
            (8 * d + 23 * h, "8d", "8d"),
            (2 * y - 1, "729d", "1y"),
            (2 * y, "2y", "2y"),
            (3 * y + 40 * d, "3y40d", "3y"),
            (8 * y + d, "8y", "8y"),
        ] {
            let duration = SignedDuration::from_secs(seconds);
            assert_eq!((human(duration).as_str(), short(duration).as_str()), (long, brief), "{seconds}");
        }
        assert_eq!(human(SignedDuration::from_millis(-1900)), "0s");
    }

    #[test]
    fn since_a_time() {
        let now: Timestamp = "2024-05-01T10:00:00Z".parse().unwrap();
        assert_eq!(since(Some(&Time(now - SignedDuration::from_secs(90))), now), "90s");
        assert_eq!(since(None, now), "<unknown>");
    }
}

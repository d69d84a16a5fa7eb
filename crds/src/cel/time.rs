//! Points in time and durations: what may be read, how they are written, and their arithmetic.

use std::{cmp::Ordering, fmt};

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::{Offset, TimeZone},
};

/// Of these seconds on, and to the others, are the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS: i128 = 1_000_000_000;

/// A point in time; it remembers the offset in which it was written, which is how it is written back.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Timestamp,
    offset: Offset,
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self { at, offset: Offset::UTC }
    }
}

impl Moment {
    /// Reads RFC 3339 as Go does: `2020-01-01T00:00:00.5+02:00`. `None` if it is not that, `Err` outside of the years.
    pub(crate) fn rfc3339(text: &str) -> Option<Self> {
        let (clock, offset) = match text.strip_suffix('Z') {
            Some(clock) => (clock, Offset::UTC),
            None => {
                let at = text.len().checked_sub(6)?;
                let (clock, offset) = (text.get(..at)?, text.get(at..)?);
                let sign = match offset.as_bytes().first()? {
                    b'+' => 1,
                    b'-' => -1,
                    _ => return None,
                };
                let (hours, minutes) = offset[1..].split_once(':')?;
                let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
                if hours > 24 || minutes >= 60 {
                    return None;
                }
                (clock, Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?)
            }
        };
        let (date, time) = clock.split_once('T')?;
        let date = civil_date(date)?;
        let (time, fraction) = time.split_once(['.', ',']).map_or((time, None), |(time, f)| (time, Some(f)));
        let mut parts = time.split(':');
        let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
        // Go allows an hour of one digit.
        let hour = if hour.len() == 1 { hour.parse().ok()? } else { two_digits(hour)? };
        let (minute, second) = (two_digits(minute)?, two_digits(second)?);
        if parts.next().is_some() {
            return None;
        }
        let nanos = fraction.map_or(Some(0), |digits| {
            let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            all.then(|| format!("{:0<9.9}", digits)).and_then(|digits| digits.parse::<i32>().ok())
        })?;
        let civil = DateTime::new(
            date.year(),
            date.month(),
            date.day(),
            i8::try_from(hour).ok()?,
            i8::try_from(minute).ok()?,
            i8::try_from(second).ok()?,
            nanos,
        );
        let at = offset.to_timestamp(civil.ok()?).ok()?;
        Some(Self { at, offset })
    }

    /// Whether this is a time that expressions may handle.
    pub(crate) fn is_within_years(&self) -> bool {
        SECONDS.contains(&self.at.as_second())
    }

    /// `2020-01-01`
    pub(crate) fn date(text: &str) -> Option<Self> {
        let at = civil_date(text)?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(at.into())
    }

    /// A `date-time` of a schema, which is a little wider than RFC 3339: small letters, a space, offsets without colon.
    pub(crate) fn date_time(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase().replacen(' ', "T", 1);
        Self::rfc3339(&text).or_else(|| {
            let at = text.len().checked_sub(2)?;
            let (before, minutes) = (text.get(..at)?, text.get(at..)?);
            Self::rfc3339(&format!("{before}:{minutes}"))
        })
    }

    pub(crate) fn from_seconds(seconds: i64) -> Option<Self> {
        SECONDS.contains(&seconds).then(|| Timestamp::from_second(seconds).ok()).flatten().map(Self::from)
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        self.at.as_nanosecond().div_euclid(NANOS) as i64
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.at.as_second() == *SECONDS.start()
    }

    /// Later by so many nanoseconds; `None` outside of the years.
    pub(crate) fn after(&self, nanos: i128) -> Option<Self> {
        let at = Timestamp::from_nanosecond(self.at.as_nanosecond().checked_add(nanos)?).ok()?;
        Some(Self { at, ..*self }).filter(Self::is_within_years)
    }

    pub(crate) fn since(&self, other: &Self) -> i128 {
        self.at.as_nanosecond() - other.at.as_nanosecond()
    }

    /// What a clock shows at this time, in UTC or in a zone: a name, or `±hours:minutes`.
    pub(crate) fn clock(&self, zone: Option<&str>) -> Result<DateTime, String> {
        let Some(zone) = zone else {
            return Ok(Offset::UTC.to_datetime(self.at));
        };
        let Some((hours, minutes)) = zone.split_once(':') else {
            if zone.is_empty() || zone == "UTC" {
                return Ok(Offset::UTC.to_datetime(self.at));
            }
            let found = TimeZone::get(zone).map_err(|_| format!("unknown time zone {zone}"))?;
            return Ok(found.to_datetime(self.at));
        };
        let number =
            |text: &str| text.parse::<i32>().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes = hours.saturating_mul(60).saturating_add(if zone.starts_with('-') { -minutes } else { minutes });
        let offset = Offset::from_seconds(minutes.saturating_mul(60)).map_err(|error| error.to_string())?;
        Ok(offset.to_datetime(self.at))
    }
}

fn two_digits(text: &str) -> Option<i32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn civil_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_ascii() {
        return None;
    }
    let year = text[..4].bytes().all(|b| b.is_ascii_digit()).then(|| text[..4].parse().ok()).flatten()?;
    let (month, day) = (two_digits(&text[5..7])?, two_digits(&text[8..])?);
    Date::new(year, month as i8, day as i8).ok()
}

impl fmt::Display for Moment {
    /// RFC 3339 with the fraction that there is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.offset.to_datetime(self.at);
        write!(f, "{:04}-{:02}-{:02}", local.year(), local.month(), local.day())?;
        write!(f, "T{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
        if local.subsec_nanosecond() != 0 {
            let digits = format!("{:09}", local.subsec_nanosecond());
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        let seconds = self.offset.seconds();
        if seconds == 0 {
            return f.write_str("Z");
        }
        let minutes = seconds.abs() / 60;
        write!(f, "{}{:02}:{:02}", if seconds < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }
}

/// Nanoseconds as seconds: `1.5s`.
pub(crate) fn seconds(nanos: i64) -> String {
    // The division is Go's: whole seconds and the rest, added as doubles.
    let seconds = (nanos / 1_000_000_000) as f64 + (nanos % 1_000_000_000) as f64 / 1e9;
    format!("{seconds}s")
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration as Go does: `1h30m`, `-1.5s`; nanoseconds.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        rest = after;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut part = whole.checked_mul(*scale)?;
        if !fraction.is_empty() {
            let digits = &fraction[..fraction.len().min(18)];
            let value = digits.parse::<u64>().ok()? as f64 * (*scale as f64 / 10f64.powi(digits.len() as i32));
            part = part.checked_add(value as u64)?;
        }
        total = total.checked_add(part).filter(|total| *total <= 1 << 63)?;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(total)) => Some(total),
        (true, Ok(total)) => Some(-total),
        (true, Err(_)) => Some(i64::MIN),
        (false, Err(_)) => None,
    }
}

/// Reads the `duration` of a schema: as Go does, or a number of long units (`3 days`); nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    go_duration(text).or_else(|| {
        const MINUTE: i64 = 60_000_000_000;
        let (mut total, mut rest, mut any) = (0i64, text, false);
        while !rest.trim_start().is_empty() {
            rest = rest.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, after) = rest.split_at(end);
            let after = after.trim_start();
            let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            rest = after;
            let scale = match unit.to_lowercase().as_str() {
                "ns" | "nano" | "nanos" => 1,
                "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
                "ms" | "milli" | "millis" => 1_000_000,
                "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
                "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
                "h" | "hr" | "hrs" | "hour" | "hours" => 60 * MINUTE,
                "d" | "day" | "days" => 24 * 60 * MINUTE,
                "w" | "week" | "weeks" | "wk" | "wks" => 7 * 24 * 60 * MINUTE,
                _ => return None,
            };
            total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(scale)?)?;
            any = true;
        }
        any.then_some(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("1parsec", None),
            ("", None),
            ("1", None),
            ("1.5h", Some(5_400_000_000_000)),
        ] {
            assert_eq!(go_duration(text), want, "{text}");
        }
        assert_eq!(parse_duration("3 days"), Some(259_200_000_000_000));
        assert_eq!(seconds(1_500_000_000), "1.5s");
    }

    #[test]
    fn moments() {
        for text in ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+02:00", "0001-01-01T00:00:00Z"] {
            assert_eq!(Moment::rfc3339(text).map(|m| m.to_string()).as_deref(), Some(text));
        }
        for text in ["2020-01-01", "2020-01-01T00:00:00", "2020-1-01T00:00:00Z", "2020-02-30T00:00:00Z"] {
            assert_eq!(Moment::rfc3339(text), None, "{text}");
        }
    }
}

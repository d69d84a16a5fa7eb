//! Schedules of CronJobs: the five fields of cron, names like `@daily`, and `@every` so long.
//!
//! Parsed and stepped as upstream's library does it (robfig/cron), with its words about what is wrong.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// When a job is to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// At the times that all fields allow, in this time zone if the schedule names one.
    Fields(Box<Fields>, Option<TimeZone>),
    /// So long after the last time, in whole seconds.
    Every(SignedDuration),
}

/// The allowed numbers of each field, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

/// Why a text is no schedule, in upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct CronError(String);

/// The field was `*`: it then does not widen what the other of day and weekday allows.
const STAR: u64 = 1 << 63;
const MONTHS: &[&str] = &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// No schedule is looked for beyond so many years.
const YEARS_MAX: i16 = 5;

struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds { min: 1, max: 12, names: MONTHS };
const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: WEEKDAYS };

fn wrong(text: impl Into<String>) -> CronError {
    CronError(text.into())
}

/// Parses a schedule in the standard form: minute, hour, day of the month, month, day of the week.
pub fn parse(text: &str) -> Result<Schedule, CronError> {
    if text.is_empty() {
        return Err(wrong("empty spec string"));
    }
    let (zone, text) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
        None => (None, text),
        Some(rest) => {
            let Some((name, rest)) = rest.split_once(' ') else {
                return Err(wrong("invalid schedule format: runtime error: slice bounds out of range [:-1]"));
            };
            let zone = time_zone(name).map_err(|why| wrong(format!("provided bad location {name}: {why}")))?;
            (Some(zone), rest.trim())
        }
    };
    if text.starts_with('@') {
        return descriptor(text, zone);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        let found = fields.join(" ");
        return Err(wrong(format!("expected exactly 5 fields, found {}: [{found}]", fields.len())));
    };
    let fields = Fields {
        minute: field(minute, &MINUTE)?,
        hour: field(hour, &HOUR)?,
        day: field(day, &DAY)?,
        month: field(month, &MONTH)?,
        weekday: field(weekday, &WEEKDAY)?,
    };
    Ok(Schedule::Fields(Box::new(fields), zone))
}

/// A time zone by its name in the IANA database, upper and lower case as it is written there.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    if ["", "UTC"].contains(&name) {
        return Ok(TimeZone::UTC);
    }
    if name.contains("..") || name.starts_with(['/', '\\']) {
        return Err("time: invalid location name".to_owned());
    }
    TimeZone::get(name)
        .ok()
        .filter(|zone| zone.iana_name() == Some(name))
        .ok_or_else(|| format!("unknown time zone {name}"))
}

fn descriptor(text: &str, zone: Option<TimeZone>) -> Result<Schedule, CronError> {
    let all = |bounds: &Bounds| bits(bounds.min, bounds.max, 1) | STAR;
    let hourly = Fields { minute: 1, hour: all(&HOUR), day: all(&DAY), month: all(&MONTH), weekday: all(&WEEKDAY) };
    let daily = Fields { hour: 1, ..hourly };
    let monthly = Fields { day: 1 << 1, ..daily };
    let fields = match text {
        "@yearly" | "@annually" => Fields { month: 1 << 1, ..monthly },
        "@monthly" => monthly,
        "@weekly" => Fields { weekday: 1, ..daily },
        "@daily" | "@midnight" => daily,
        "@hourly" => hourly,
        _ => {
            let Some(every) = text.strip_prefix("@every ") else {
                return Err(wrong(format!("unrecognized descriptor: {text}")));
            };
            let period = duration(every).map_err(|why| wrong(format!("failed to parse duration {text}: {why}")))?;
            return Ok(Schedule::Every(SignedDuration::from_secs(period.as_secs().max(1))));
        }
    };
    Ok(Schedule::Fields(Box::new(fields), zone))
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    text.split(',').filter(|part| !part.is_empty()).try_fold(0, |all, part| Ok(all | range(part, bounds)?))
}

/// `number`, `number-number`, `*`, each with `/number` behind it.
fn range(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = 0;
    let (start, mut end) = if ["*", "?"].contains(&ends[0]) {
        star = STAR;
        (bounds.min, bounds.max)
    } else {
        let start = number_or_name(ends[0], bounds.names)?;
        match ends.len() {
            1 => (start, start),
            2 => (start, number_or_name(ends[1], bounds.names)?),
            _ => return Err(wrong(format!("too many hyphens: {text}"))),
        }
    };
    let step = match parts.len() {
        1 => 1,
        2 => {
            let step = number(parts[1])?;
            if ends.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return Err(wrong(format!("too many slashes: {text}"))),
    };
    if start < bounds.min {
        return Err(wrong(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min)));
    }
    if end > bounds.max {
        return Err(wrong(format!("end of range ({end}) above maximum ({}): {text}", bounds.max)));
    }
    if start > end {
        return Err(wrong(format!("beginning of range ({start}) beyond end of range ({end}): {text}")));
    }
    if step == 0 {
        return Err(wrong(format!("step of range should be a positive number: {text}")));
    }
    Ok(bits(start, end, step) | star)
}

fn number_or_name(text: &str, names: &[&str]) -> Result<u64, CronError> {
    let lower = text.to_lowercase();
    match names.iter().position(|name| !name.is_empty() && *name == lower) {
        Some(at) => Ok(at as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, CronError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let failed = |why: &str| wrong(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"));
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    u64::try_from(number).map_err(|_| wrong(format!("negative number ({number}) not allowed: {text}")))
}

fn bits(start: u64, end: u64, step: u64) -> u64 {
    (start..=end).step_by(usize::try_from(step).unwrap_or(usize::MAX)).fold(0, |all, n| all | 1 << n)
}

/// A duration as Go writes it: `1h30m`, `1.5s`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let amount: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        nanos += amount * unit;
        rest = &rest[end..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    let whole = nanos as i64;
    Ok(SignedDuration::from_nanos(if negative { -whole } else { whole }))
}

impl Schedule {
    /// The first time after this one; none if there is none in the next five years. Fields are held against the clock of
    /// `zone` if the schedule names none of its own.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Self::Fields(fields, own) => fields.next(after, own.as_ref().unwrap_or(zone)),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut now = Local { time: Timestamp::from_second(after.as_second().checked_add(1)?).ok()?, zone };
        let last_year = now.clock().year() + YEARS_MAX;
        let mut added = false;
        'wrap: loop {
            if now.clock().year() > last_year {
                return None;
            }
            while !has(self.month, now.clock().month()) {
                let clock = now.clock();
                if !added {
                    added = true;
                    now.set(clock.date().first_of_month().at(0, 0, 0, 0))?;
                }
                now.set(now.clock().checked_add(jiff::Span::new().months(1)).ok()?)?;
                if now.clock().month() == 1 {
                    continue 'wrap;
                }
            }
            while !self.day_matches(now.clock()) {
                if !added {
                    added = true;
                    now.set(now.clock().date().at(0, 0, 0, 0))?;
                }
                now.set(now.clock().checked_add(jiff::Span::new().days(1)).ok()?)?;
                // Midnight may not be on the clock that day.
                match i64::from(now.clock().hour()) {
                    0 => {}
                    hour if hour > 12 => now.add((24 - hour) * 3600)?,
                    hour => now.add(-hour * 3600)?,
                }
                if now.clock().day() == 1 {
                    continue 'wrap;
                }
            }
            while !has(self.hour, now.clock().hour()) {
                if !added {
                    added = true;
                    let clock = now.clock();
                    now.set(clock.date().at(clock.hour(), 0, 0, 0))?;
                }
                now.add(3600)?;
                if now.clock().hour() == 0 {
                    continue 'wrap;
                }
            }
            while !has(self.minute, now.clock().minute()) {
                if !added {
                    added = true;
                    now.add(-now.time.as_second().rem_euclid(60))?;
                }
                now.add(60)?;
                if now.clock().minute() == 0 {
                    continue 'wrap;
                }
            }
            // Jobs run at full minutes.
            while now.clock().second() != 0 {
                now.add(1)?;
                if now.clock().second() == 0 {
                    continue 'wrap;
                }
            }
            return Some(now.time);
        }
    }

    fn day_matches(&self, clock: DateTime) -> bool {
        let day = has(self.day, clock.day());
        let weekday = has(self.weekday, clock.date().weekday().to_sunday_zero_offset());
        if self.day & STAR > 0 || self.weekday & STAR > 0 { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, number: i8) -> bool {
    bits & (1 << number) > 0
}

/// A time and the clock on the wall.
struct Local<'a> {
    time: Timestamp,
    zone: &'a TimeZone,
}

impl Local<'_> {
    fn clock(&self) -> DateTime {
        self.zone.to_datetime(self.time)
    }

    fn add(&mut self, seconds: i64) -> Option<()> {
        self.time = Timestamp::from_second(self.time.as_second().checked_add(seconds)?).ok()?;
        Some(())
    }

    /// What the clock skips or shows twice is resolved as Go does it: with the offset that the guessed time has.
    fn set(&mut self, clock: DateTime) -> Option<()> {
        let as_utc = TimeZone::UTC.to_timestamp(clock).ok()?.as_second();
        let at = |second: i64| Timestamp::from_second(second).ok();
        let guess = as_utc - i64::from(self.zone.to_offset(at(as_utc)?).seconds());
        let offset = self.zone.to_offset(at(guess)?);
        self.time = at(as_utc - i64::from(offset.seconds()))?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let zone = time_zone(zone).unwrap();
        let next = parse(schedule).unwrap().next(after.parse().unwrap(), &zone);
        next.map_or_else(|| "never".to_owned(), |t| t.to_string())
    }

    #[test]
    fn times() {
        for (schedule, zone, after, want) in [
            ("* * * * *", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2024-01-01T00:14:59.5Z", "2024-01-01T00:15:00Z"),
            ("0 0 29 2 *", "UTC", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "UTC", "2024-03-01T00:00:00Z", "never"),
            ("30 6 * * mon-fri", "UTC", "2024-01-05T07:00:00Z", "2024-01-08T06:30:00Z"),
            ("0 0 13 * fri", "UTC", "2024-01-01T00:00:00Z", "2024-01-05T00:00:00Z"),
            ("@hourly", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("@every 90s", "UTC", "2024-01-01T00:00:00.7Z", "2024-01-01T00:01:30Z"),
            ("0 9 * * *", "Europe/Berlin", "2024-07-01T00:00:00Z", "2024-07-01T07:00:00Z"),
            ("TZ=America/New_York 0 9 * * *", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T14:00:00Z"),
            ("30 2 * * *", "America/New_York", "2024-03-10T06:00:00Z", "2024-03-11T06:30:00Z"),
        ] {
            assert_eq!(next(schedule, zone, after), want, "{schedule} in {zone} after {after}");
        }
    }

    #[test]
    fn malformed() {
        for (schedule, want) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
            ("TZ=Nowhere/City * * * * *", "provided bad location Nowhere/City: unknown time zone Nowhere/City"),
        ] {
            assert_eq!(parse(schedule).unwrap_err().to_string(), want, "{schedule}");
        }
    }
}

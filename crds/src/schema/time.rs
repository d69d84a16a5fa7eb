//! Times and bytes as Go reads them from text, with Go's words for what is wrong.

use base64::{Engine, engine::general_purpose::STANDARD};

/// A time as Go holds it; `jiff::Timestamp` ends a day before the year 9999 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Since 1970, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: i32,
}

impl Instant {
    /// Go's zero time, the first second of the year 1, is written as null.
    pub const fn is_zero(self) -> bool {
        self.seconds == -62_135_596_800 && self.nanos == 0
    }
}

/// How many digits a time's seconds have behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// `metav1.Time`: read with any number of digits, written with none.
    Seconds,
    /// `metav1.MicroTime`: exactly six.
    Micros,
}

const ELEMENTS: [(&str, &str); 6] = [("", "2006"), ("-", "01"), ("-", "02"), ("T", "15"), (":", "04"), (":", "05")];

impl Precision {
    const fn layout(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }

    /// The canonical form, in UTC.
    pub fn write(self, time: Instant) -> String {
        let (year, month, day) = civil(time.seconds.div_euclid(86_400));
        let second = time.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if self == Self::Seconds { text + "Z" } else { format!("{text}.{:06}Z", time.nanos / 1_000) }
    }

    /// Reads RFC 3339 as Go's `time.Parse` does; the error is its text.
    pub fn read(self, text: &str) -> Result<Instant, String> {
        Reader { precision: self, all: text, rest: text }.read()
    }
}

/// Days since 1970 of a date of the Gregorian calendar. Years are counted from March, so that the leap day is the last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year, month and day that are so many days after 1970.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

struct Reader<'a> {
    precision: Precision,
    all: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn cannot(&self, element: &str, rest: &str) -> String {
        let (all, layout) = (go_quote(self.all), self.precision.layout());
        format!("parsing time {all} as \"{layout}\": cannot parse {} as \"{element}\"", go_quote(rest))
    }

    fn range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", go_quote(self.all))
    }

    fn literal(&mut self, prefix: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(prefix).ok_or_else(|| self.cannot(prefix, self.rest))?;
        Ok(())
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i16, String> {
        let part = self.rest.get(..count).filter(|part| part.bytes().all(|c| c.is_ascii_digit()));
        let number = part.and_then(|part| part.parse().ok()).ok_or_else(|| self.cannot(element, self.rest))?;
        self.rest = &self.rest[count..];
        Ok(number)
    }

    fn read(mut self) -> Result<Instant, String> {
        let mut parts = [0i16; 6];
        for (part, (prefix, element)) in parts.iter_mut().zip(ELEMENTS) {
            self.literal(prefix)?;
            let lenient_hour = element == "15" && self.rest.as_bytes().get(1).is_none_or(|c| !c.is_ascii_digit());
            *part = self.digits(if element == "2006" { 4 } else { 2 - usize::from(lenient_hour) }, element)?;
            let limits = match element {
                "01" => Some((1..=12, "month")),
                "15" => Some((0..=23, "hour")),
                "04" => Some((0..=59, "minute")),
                "05" => Some((0..=59, "second")),
                _ => None,
            };
            if let Some((allowed, what)) = limits
                && !allowed.contains(part)
            {
                return Err(self.range(what));
            }
        }
        let nanos = self.fraction()?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            let rest = go_quote(self.rest);
            return Err(format!("parsing time {}: extra text: {rest}", go_quote(self.all)));
        }
        let [year, month, day, hour, minute, second] = parts.map(i64::from);
        let date = days(year, month, day);
        if civil(date) != (year, month, day) {
            return Err(self.range("day"));
        }
        Ok(Instant { seconds: date * 86_400 + hour * 3_600 + minute * 60 + second - offset, nanos })
    }

    /// Nanoseconds.
    fn fraction(&mut self) -> Result<i32, String> {
        let bytes = self.rest.as_bytes();
        let digits = bytes.iter().skip(1).take_while(|c| c.is_ascii_digit()).count();
        let point = matches!(bytes.first(), Some(b'.' | b','));
        if self.precision == Precision::Micros {
            if !point || digits < 6 {
                return Err(self.cannot(".000000", self.rest));
            }
            let micros: i32 = self.rest[1..7].parse().unwrap_or_default();
            self.rest = &self.rest[7..];
            return Ok(micros * 1_000);
        }
        if !point || digits == 0 {
            return Ok(0);
        }
        let kept = format!("{:0<9.9}", &self.rest[1..=digits]);
        self.rest = &self.rest[digits + 1..];
        Ok(kept.parse().unwrap_or_default())
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let b = self.rest.as_bytes();
        let number = |at: usize| {
            let (tens, ones) = (char::from(*b.get(at)?).to_digit(10)?, char::from(*b.get(at + 1)?).to_digit(10)?);
            Some(i64::from(tens * 10 + ones))
        };
        let sign = match b.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.cannot("Z07:00", self.rest)),
        };
        let (Some(hours), Some(minutes), Some(b':')) = (number(1), number(4), b.get(3)) else {
            return Err(self.cannot("Z07:00", self.rest));
        };
        if hours > 24 {
            return Err(self.range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.range("time zone offset minute"));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 60 + minutes) * 60)
    }
}

/// Package `time` quotes by itself: bytes that are not plain ASCII as `\xNN`.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.bytes() {
        match c {
            b'"' | b'\\' => out.extend(['\\', char::from(c)]),
            0x20..0x7f => out.push(char::from(c)),
            _ => out.push_str(&format!("\\x{c:02x}")),
        }
    }
    out.push('"');
    out
}

/// Reads standard base64 as Go does, line breaks passed over; the error is Go's text.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let plain;
    let clean = if text.contains(['\r', '\n']) {
        plain = text.replace(['\r', '\n'], "");
        &plain
    } else {
        text
    };
    let lenient = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    lenient.decode(clean).map_err(|_| format!("illegal base64 data at input byte {}", corrupt(text.as_bytes())))
}

/// Base64 as Kubernetes writes it.
pub fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Where Go finds the fault.
fn corrupt(text: &[u8]) -> usize {
    let is_break = |at: usize| matches!(text.get(at), Some(b'\r' | b'\n'));
    let (mut at, mut quantum) = (0, 0);
    while at < text.len() {
        let c = text[at];
        at += 1;
        if c.is_ascii_alphanumeric() || c == b'+' || c == b'/' {
            quantum = (quantum + 1) % 4;
            continue;
        }
        if is_break(at - 1) {
            continue;
        }
        if c != b'=' || quantum < 2 {
            return at - 1;
        }
        while is_break(at) {
            at += 1;
        }
        if quantum == 2 {
            if at == text.len() {
                return at;
            }
            if text[at] != b'=' {
                return at - 1;
            }
            at += 1;
            while is_break(at) {
                at += 1;
            }
        }
        return at;
    }
    at - quantum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        use Precision::{Micros, Seconds};
        for (precision, text, want) in [
            (Seconds, "2026-01-02T03:04:05Z", Ok("2026-01-02T03:04:05Z")),
            (Seconds, "2026-01-02T03:04:05.678+01:00", Ok("2026-01-02T02:04:05Z")),
            (
                Seconds,
                "yesterday",
                Err(
                    "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
                ),
            ),
            (Seconds, "2026-13-02T03:04:05Z", Err("parsing time \"2026-13-02T03:04:05Z\": month out of range")),
            (Seconds, "2026-02-30T03:04:05Z", Err("parsing time \"2026-02-30T03:04:05Z\": day out of range")),
            (
                Seconds,
                "2026-01-02",
                Err("parsing time \"2026-01-02\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\""),
            ),
            (
                Seconds,
                "2026-01-02T03:04:05",
                Err(
                    "parsing time \"2026-01-02T03:04:05\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
                ),
            ),
            (Seconds, "2026-01-02T03:04:05Zx", Err("parsing time \"2026-01-02T03:04:05Zx\": extra text: \"x\"")),
            (Micros, "2026-01-02T03:04:05.123456Z", Ok("2026-01-02T03:04:05.123456Z")),
            (
                Micros,
                "2026-01-02T03:04:05Z",
                Err(
                    "parsing time \"2026-01-02T03:04:05Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\"",
                ),
            ),
        ] {
            let read = precision.read(text).map(|time| precision.write(time));
            assert_eq!(read, want.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert!(Seconds.read("0001-01-01T00:00:00Z").unwrap().is_zero());
        for text in ["0000-02-29T00:00:00Z", "1969-12-31T23:59:59Z", "2000-02-29T12:00:00Z", "9999-12-31T23:59:59Z"] {
            assert_eq!(Seconds.write(Seconds.read(text).unwrap()), text);
        }
    }

    #[test]
    fn base64() {
        for (text, fault) in
            [("!", 0), ("a", 0), ("YQ", 0), ("YQ=", 3), ("YQ==x", 4), ("YWJj!", 4), ("YWJjZ", 4), ("Y=Q=", 1)]
        {
            assert_eq!(bytes(text).unwrap_err(), format!("illegal base64 data at input byte {fault}"), "{text}");
        }
        assert_eq!(bytes("YWJj\nZGVm").unwrap(), b"abcdef");
        assert_eq!(bytes("YR==").unwrap(), b"a");
    }
}

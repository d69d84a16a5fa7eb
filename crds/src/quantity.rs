//! Quantities: the fixed-point numbers with suffixes that resources are counted in (`100m`, `1Gi`, `12e6`).

use std::{cmp::Ordering, fmt, ops, str::FromStr};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const NANO: i128 = 1_000_000_000;
/// Upstream caps a quantity at the largest `int64` that is still exact at its scale.
const LIMIT: i128 = i64::MAX as i128 * NANO;

/// How a quantity was written, which is how it is written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `2k`, `3M`
    DecimalSi,
    /// `1Ki`, `2Gi`
    BinarySi,
    /// `1e3`
    DecimalExponent,
}

/// A fixed-point number with nine decimals; finer parts are rounded away from zero, as upstream does.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity; the words are upstream's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANO, format: Format::DecimalSi }
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    pub const fn from_bytes(bytes: i64) -> Self {
        Self { nanos: bytes as i128 * NANO, format: Format::BinarySi }
    }

    /// Whole units, rounded up (away from zero), saturating.
    pub fn units(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up (away from zero), saturating.
    pub fn millis(&self) -> i64 {
        saturate(divide_up(self.nanos, NANO / 1000))
    }

    /// Finer parts than a thousandth rounded up (away from zero).
    pub fn rounded_to_millis(self) -> Self {
        Self { nanos: divide_up(self.nanos, NANO / 1000) * (NANO / 1000), ..self }
    }

    pub const fn nanos(&self) -> i128 {
        self.nanos
    }

    pub const fn format(&self) -> Format {
        self.format
    }

    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Reads a quantity off the wire; absent or malformed counts as zero, since stored objects were validated.
    pub fn of(wire: Option<&Wire>) -> Self {
        wire.and_then(|w| w.0.parse().ok()).unwrap_or(Self::ZERO)
    }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

fn divide_up(n: i128, by: i128) -> i128 {
    let (q, r) = (n / by, n % by);
    q + if r == 0 { 0 } else { r.signum() }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (format, factor) = parse_suffix(suffix)?;
        let nanos = scaled(whole, fraction, factor).ok_or(QuantityError::Numeric)?.min(LIMIT);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Factor {
    Ten(i32),
    Two(u32),
}

fn parse_suffix(suffix: &str) -> Result<(Format, Factor), QuantityError> {
    if let Some((_, shift)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::BinarySi, Factor::Two(*shift)));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, Factor::Ten(*exponent)));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
        return Ok((Format::DecimalExponent, Factor::Ten(exponent)));
    }
    let known = suffix.chars().all(|c| "eEinumkKMGTP+-0123456789".contains(c));
    Err(if known { QuantityError::Suffix } else { QuantityError::Format })
}

/// The number in nanos, rounded up; `None` if it is no number, capped where it is too large.
fn scaled(whole: &str, fraction: &str, factor: Factor) -> Option<i128> {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let mut exponent = 9 - i32::try_from(fraction.len()).ok()?;
    let mut shift = 0;
    match factor {
        Factor::Ten(e) => exponent = exponent.saturating_add(e),
        Factor::Two(s) => shift = s,
    }
    // 38 digits are what an i128 holds; everything beyond is far above the limit or below a nano.
    if i64::from(exponent) + digits.len() as i64 > 30 {
        return Some(LIMIT);
    }
    let kept = &digits[..digits.len().min(30)];
    exponent += (digits.len() - kept.len()) as i32;
    let lost = digits.len() > kept.len();
    let number = kept.parse::<i128>().ok()?;
    if exponent >= 0 {
        let number = number.checked_mul(10i128.checked_pow(exponent as u32)?);
        return Some(number.and_then(|n| n.checked_mul(1 << shift)).unwrap_or(LIMIT));
    }
    let number = match number.checked_mul(1 << shift) {
        Some(n) => n,
        None => return Some(LIMIT),
    };
    let Some(by) = 10i128.checked_pow(exponent.unsigned_abs()) else {
        return Some(1);
    };
    Some((number / by) + i128::from(number % by != 0 || lost))
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANO;
        if self.format == Format::BinarySi && self.nanos % NANO == 0 && units.abs() >= 1024 {
            let shift = (units.trailing_zeros() / 10 * 10).min(60);
            let suffix = BINARY.iter().find(|(_, s)| *s == shift).map_or("", |(s, _)| s);
            return write!(f, "{}{suffix}", units >> shift);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{number}"),
            Format::DecimalExponent => write!(f, "{number}e{exponent}"),
            _ => {
                let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s);
                write!(f, "{number}{suffix}")
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl ops::Add for Quantity {
    type Output = Self;

    /// A zero takes the other's format, as upstream's `Add` does.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

impl ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl From<Quantity> for Wire {
    fn from(q: Quantity) -> Self {
        Wire(q.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn canonical_form() {
        for (text, want) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("1E", "1E"),
            ("0.1n", "1n"),
            ("-1500m", "-1500m"),
            ("+1", "1"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.5Ki", "512"),
            ("100000000000000000000", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
        }
    }

    #[test]
    fn malformed() {
        for (text, want) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1ki", QuantityError::Suffix),
            ("1 Gi", QuantityError::Format),
            ("1mm", QuantityError::Suffix),
            ("-", QuantityError::Format),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn arithmetic() {
        let [a, b]: [Quantity; 2] = ["1500m", "1Gi"].map(|t| t.parse().unwrap());
        assert_eq!(a.units(), 2);
        assert_eq!(a.millis(), 1500);
        assert_eq!((Quantity::ZERO + b).to_string(), "1Gi");
        assert_eq!((b - Quantity::from_bytes(1 << 20)).to_string(), "1023Mi");
        assert!(a < b);
    }
}

//! Versions as semver.org orders them: `semver('1.2.3').isLessThan(semver('1.3.0'))`.

use std::{cmp::Ordering, fmt, sync::Arc};

use super::{Declared, text};
use crate::cel::value::{EvalError, Outcome, Value};

/// A version; builds do not count in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: Vec<String>,
}

const NUMBERS: [(&str, &str); 3] = [("major", "Major"), ("minor", "Minor"), ("patch", "Patch")];

fn all(text: &str, fits: fn(u8) -> bool) -> bool {
    text.bytes().all(fits)
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

impl Semver {
    /// Reads `1.2.3-rc.1+build`; the words of the error are the library's that upstream uses.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let mut numbers = [0; 3];
        for ((number, text), (small, large)) in numbers.iter_mut().zip([major, minor, patch]).zip(NUMBERS) {
            if !all(text, |b| b.is_ascii_digit()) {
                return Err(format!("Invalid character(s) found in {small} number {text:?}"));
            }
            if has_leading_zero(text) {
                return Err(format!("{large} number must not contain leading zeroes {text:?}"));
            }
            *number = text.parse().map_err(|_| {
                let why = if text.is_empty() { "invalid syntax" } else { "value out of range" };
                format!("strconv.ParseUint: parsing {text:?}: {why}")
            })?;
        }
        let words = |words: Option<&str>| words.map(|w| w.split('.').map(str::to_owned).collect()).unwrap_or_default();
        let (pre, build): (Vec<String>, Vec<String>) = (words(pre), words(build));
        for word in &pre {
            if word.is_empty() {
                return Err("Prerelease is empty".to_owned());
            }
            if all(word, |b| b.is_ascii_digit()) {
                if has_leading_zero(word) {
                    return Err(format!("Numeric PreRelease version must not contain leading zeroes {word:?}"));
                }
            } else if !all(word, is_word) {
                return Err(format!("Invalid character(s) found in prerelease {word:?}"));
            }
        }
        for word in &build {
            if word.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !all(word, is_word) {
                return Err(format!("Invalid character(s) found in build meta data {word:?}"));
            }
        }
        Ok(Self { numbers, pre, build })
    }

    /// Reads what is nearly a version: `v1`, `1.02`.
    fn normalized(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in parts.iter_mut().filter(|part| part.len() > 1) {
            let trimmed = part.trim_start_matches('0');
            let digit = trimmed.starts_with(|c: char| c.is_ascii_digit());
            *part = if digit { trimmed.to_owned() } else { format!("0{trimmed}") };
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|part| part.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        let words = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let each = self.pre.iter().zip(&other.pre).map(|(a, b)| word_order(a, b));
                each.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(words)
    }
}

fn word_order(one: &str, other: &str) -> Ordering {
    let number = |word: &str| all(word, |b| b.is_ascii_digit());
    match (number(one), number(other)) {
        (true, true) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.cmp(other),
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build.join("."))?;
        }
        Ok(())
    }
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new(
        "semver",
        &[
            ("string_to_semver", "(string): kubernetes.Semver", semver),
            ("string_bool_to_semver", "(string, bool): kubernetes.Semver", semver),
        ],
    ),
    Declared::new(
        "isSemver",
        &[
            ("is_semver_string", "(string): bool", |a| Ok(Value::Bool(read(a)?.is_ok()))),
            ("is_semver_string_bool", "(string, bool): bool", |a| Ok(Value::Bool(read(a)?.is_ok()))),
        ],
    ),
    Declared::new(
        "isGreaterThan",
        &[("semver_is_greater_than", "kubernetes.Semver.(kubernetes.Semver): bool", |a| {
            order(a, |order| Value::Bool(order.is_gt()))
        })],
    ),
    Declared::new(
        "isLessThan",
        &[("semver_is_less_than", "kubernetes.Semver.(kubernetes.Semver): bool", |a| {
            order(a, |order| Value::Bool(order.is_lt()))
        })],
    ),
    Declared::new(
        "compareTo",
        &[("semver_compare_to", "kubernetes.Semver.(kubernetes.Semver): int", |a| {
            order(a, |order| Value::Int(order as i64))
        })],
    ),
    Declared::new("major", &[("semver_major", "kubernetes.Semver.(): int", |a| number(a, 0))]),
    Declared::new("minor", &[("semver_minor", "kubernetes.Semver.(): int", |a| number(a, 1))]),
    Declared::new("patch", &[("semver_patch", "kubernetes.Semver.(): int", |a| number(a, 2))]),
];

fn read(arguments: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    match arguments {
        [version] | [version, Value::Bool(false)] => Ok(Semver::parse(text(version)?)),
        [version, Value::Bool(true)] => Ok(Semver::normalized(text(version)?)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn semver<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    read(arguments)?.map(|version| Value::Semver(Arc::new(version))).map_err(EvalError::new)
}

fn order<'a>(arguments: &[Value<'a>], read: fn(Ordering) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Semver(one), Value::Semver(other)] => Ok(read(one.cmp(other))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn number<'a>(arguments: &[Value<'a>], index: usize) -> Outcome<'a> {
    match arguments {
        [Value::Semver(version)] => Ok(Value::Int(version.numbers[index] as i64)),
        _ => Err(EvalError::no_such_overload()),
    }
}

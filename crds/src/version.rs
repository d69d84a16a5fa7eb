//! Versions of the API, by what their names promise.

use std::cmp::Ordering;

/// Stable versions before beta before alpha, of these the newest first; what is no Kubernetes version comes last, in
/// the order of the alphabet.
pub fn by_maturity(a: &str, b: &str) -> Ordering {
    match (maturity(a), maturity(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How far a version has come; none: its name says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Alpha,
    Beta,
    General,
}

/// The level by the name alone, as `--runtime-config` tells versions apart: `v1`, `v1beta1`, `v1alpha1`.
pub fn level(version: &str) -> Option<Level> {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let rest = version.strip_prefix('v')?;
    let of = |word: &str| rest.split_once(word).is_some_and(|(major, minor)| is_number(major) && is_number(minor));
    match () {
        () if is_number(rest) => Some(Level::General),
        () if of("beta") => Some(Level::Beta),
        () if of("alpha") => Some(Level::Alpha),
        () => None,
    }
}

/// `v2beta1` is (1, 2, 1).
fn maturity(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let number = |digits: &str| digits.parse().ok().filter(|n| *n > 0 && !digits.starts_with(['0', '+']));
    for (level, word) in [(1, "beta"), (0, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((level, number(major)?, number(minor)?));
        }
    }
    Some((2, number(rest)?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (version, want) in [
            ("v1", Some(Level::General)),
            ("v12beta3", Some(Level::Beta)),
            ("v1alpha1", Some(Level::Alpha)),
            ("v1beta", None),
            ("vbeta1", None),
            ("1", None),
            ("v", None),
        ] {
            assert_eq!(level(version), want, "{version}");
        }
    }

    #[test]
    fn versions_by_maturity() {
        let mut versions = ["v1alpha1", "v1", "foo1", "v2beta1", "v11", "v2", "v10beta3", "v01", "bar"];
        versions.sort_by(|a, b| by_maturity(a, b));
        assert_eq!(versions, ["v11", "v2", "v1", "v10beta3", "v2beta1", "v1alpha1", "bar", "foo1", "v01"]);
    }
}

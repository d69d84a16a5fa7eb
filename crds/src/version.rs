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
    fn versions_by_maturity() {
        let mut versions = ["v1alpha1", "v1", "foo1", "v2beta1", "v11", "v2", "v10beta3", "v01", "bar"];
        versions.sort_by(|a, b| by_maturity(a, b));
        assert_eq!(versions, ["v11", "v2", "v1", "v10beta3", "v2beta1", "v1alpha1", "bar", "foo1", "v01"]);
    }
}

//! The types of the conditions of both kinds.

use std::collections::HashSet;

use crate::field::{Error, Errors, Path};

pub fn validate(kinds: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, kind) in kinds.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(kind) {
            errors.push(Error::duplicate(path.child("type"), *kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(path.child("type"), ""));
        }
    }
}

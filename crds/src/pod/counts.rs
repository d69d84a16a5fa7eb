//! Rules for the counts in the status of who runs pods.

use crate::field::{Error, Errors, Path, not_negative};

const STATUS: Path = Path::new("status");

/// Counts by their fields' names.
pub type Counts<'a> = [(&'a str, i32)];

pub fn are_not_negative(counts: &Counts, errors: &mut Errors) {
    counts.iter().for_each(|(name, count)| not_negative(*count, STATUS.child(name), errors));
}

/// Some of the pods are not more than `all` of them.
pub fn are_some_of(all: i32, counts: &Counts, errors: &mut Errors) {
    for (name, count) in counts.iter().filter(|(_, count)| *count > all) {
        errors.push(Error::invalid(STATUS.child(name), *count, "cannot be greater than status.replicas"));
    }
}

/// Upstream names the field of those that are ready in two ways.
pub fn available_are_ready(available: i32, ready: i32, field: &str, errors: &mut Errors) {
    if available > ready {
        let why = format!("cannot be greater than {field}");
        errors.push(Error::invalid(STATUS.child("availableReplicas"), available, why));
    }
}

/// Names that were taken are never forgotten.
pub fn collisions_only_grow(new: Option<i32>, old: Option<i32>, errors: &mut Errors) {
    let fewer = old.is_some_and(|old| new.is_none_or(|new| new < old));
    if fewer {
        let path = STATUS.child("collisionCount");
        errors.push(Error::invalid(path, new.unwrap_or(0), "cannot be decremented"));
    }
}

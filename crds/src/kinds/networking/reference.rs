//! References to objects of any kind, by group, kind and name.

use crate::field::{self, Error, Errors, Path, extend};

pub fn validate(group: Option<&str>, kind: &str, name: &str, path: &Path, errors: &mut Errors) {
    if let Some(group) = group {
        extend(errors, path.child("apiGroup"), group, field::dns_subdomain(group));
    }
    segment(kind, &path.child("kind"), errors);
    segment(name, &path.child("name"), errors);
}

/// What must be given and be a segment of a path.
pub fn segment(value: &str, path: &Path, errors: &mut Errors) {
    match value {
        "" => errors.push(Error::required(*path, "")),
        value => extend(errors, *path, value, field::path_segment(value)),
    }
}

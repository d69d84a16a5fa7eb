//! The names of devices, of their pools and attributes; and rules of lists of them.

use std::{collections::HashSet, hash::Hash};

use serde_json::Value;

use crate::{
    field::{self, Error, Errors, Path, extend},
    meta, syntax,
    volume::source,
};

const POOL_LENGTH_MAX: usize = 253;
const ID_LENGTH_MAX: usize = 32;
const BINDING_CONDITIONS_MAX: usize = 4;

/// Drivers are named as those of CSI.
pub fn driver(name: &str, path: &Path, errors: &mut Errors) {
    source::csi_driver(name, path, errors);
}

pub fn label(name: &str, path: &Path, errors: &mut Errors) {
    extend(errors, *path, name, field::dns_label(name));
}

pub fn class(name: &str, path: &Path, errors: &mut Errors) {
    match name {
        "" => errors.push(Error::required(*path, "")),
        name => extend(errors, *path, name, field::dns_subdomain(name)),
    }
}

pub fn pool(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    if name.len() > POOL_LENGTH_MAX {
        errors.push(Error::too_long(*path, POOL_LENGTH_MAX as i64));
    }
    for part in name.split('/') {
        extend(errors, *path, part, field::dns_subdomain(part));
    }
}

/// An identifier, with the domain of a driver before it or not.
pub fn qualified(name: &str, path: &Path, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            match domain {
                "" => errors.push(Error::invalid(*path, "", "the domain must not be empty")),
                domain => driver(domain, path, errors),
            }
            match id {
                "" => errors.push(Error::invalid(*path, "", "the name must not be empty")),
                id => identifier(id, path, errors),
            }
        }
        // Upstream lets names with more slashes pass.
        _ => {}
    }
}

pub fn fully_qualified(name: &str, path: &Path, errors: &mut Errors) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(*path, name, why));
    }
}

fn identifier(id: &str, path: &Path, errors: &mut Errors) {
    if id.len() > ID_LENGTH_MAX {
        errors.push(Error::too_long(*path, ID_LENGTH_MAX as i64));
    }
    extend(errors, *path, id, syntax::c_identifier(id));
}

pub fn uid(uid: &str, path: &Path, errors: &mut Errors) {
    let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    let valid = |(i, c): (usize, u8)| if dash(i) { c == b'-' } else { c.is_ascii_hexdigit() };
    if uid.len() != 36 {
        let why = format!("error validating uid: invalid UUID length: {}", uid.len());
        errors.push(Error::invalid(*path, uid, why));
    } else if !uid.bytes().enumerate().all(valid) {
        errors.push(Error::invalid(*path, uid, "error validating uid: invalid UUID format"));
    } else if uid.bytes().any(|c| c.is_ascii_uppercase()) {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.push(Error::invalid(*path, uid, why));
    }
}

/// Checks each of a list, and then that no key comes twice.
pub fn each<T, K: Eq + Hash + Into<Value> + Clone>(
    list: &[T],
    max: usize,
    key: impl Fn(&T) -> K,
    path: &Path,
    errors: &mut Errors,
    check: impl Fn(&T, &Path, &mut Errors),
) {
    if !field::at_most_items(list, max, path, errors) {
        return;
    }
    for (i, item) in list.iter().enumerate() {
        check(item, &path.index(i), errors);
    }
    let keys: Vec<K> = list.iter().map(key).collect();
    duplicates(&keys, path, errors, |path, key| Error::duplicate(path, key.clone()));
}

/// Tells the keys that have come before.
pub fn duplicates<K: Eq + Hash>(keys: &[K], path: &Path, errors: &mut Errors, told: impl Fn(Path, &K) -> Error) {
    let mut seen = HashSet::new();
    for (i, key) in keys.iter().enumerate() {
        if !seen.insert(key) {
            errors.push(told(path.index(i), key));
        }
    }
}

pub fn binding_conditions(conditions: &[String], failures: &[String], path: &Path, errors: &mut Errors) {
    let (list, failure_list) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    for (names, list) in [(conditions, &list), (failures, &failure_list)] {
        if field::at_most_items(names, BINDING_CONDITIONS_MAX, list, errors) {
            names.iter().enumerate().for_each(|(i, name)| meta::label_name(name, list.index(i), errors));
        }
    }
    duplicates(conditions, &list, errors, |path, name| Error::duplicate(path, name.as_str()));
    let conditions_set: HashSet<&String> = conditions.iter().collect();
    let mut seen = HashSet::new();
    for (i, name) in failures.iter().enumerate() {
        if !seen.insert(name) {
            errors.push(Error::duplicate(failure_list.index(i), name.as_str()));
        }
        if conditions_set.contains(name) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(Error::invalid(failure_list.index(i), name.as_str(), why));
        }
    }
    let shown = |list: &[String]| if list.is_empty() { Value::Null } else { list.into() };
    if conditions.is_empty() && !failures.is_empty() {
        let why = "bindingConditions are required to use bindingFailureConditions";
        errors.push(Error::invalid(list, shown(conditions), why));
    }
    if failures.is_empty() && !conditions.is_empty() {
        let why = "bindingFailureConditions are required to use bindingConditions";
        errors.push(Error::invalid(failure_list, shown(failures), why));
    }
}

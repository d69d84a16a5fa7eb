//! Whether two objects say the same, however they say it: an empty list is none, `1000m` is `1`.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    field::{Error, Errors},
    go,
    meta::IMMUTABLE,
};

pub fn same<T: Serialize>(a: &T, b: &T) -> bool {
    let plain = |object: &T| {
        serde_json::to_value(object).map(|mut value| {
            prune(&mut value);
            value
        })
    };
    matches!((plain(a), plain(b)), (Ok(a), Ok(b)) if a == b)
}

/// What may not change: a plain value.
pub fn immutable<T: Serialize>(new: &T, old: &T, path: impl fmt::Display, errors: &mut Errors) {
    if !same(new, old) {
        errors.push(Error::invalid(path, serde_json::to_value(new).unwrap_or_default(), IMMUTABLE));
    }
}

/// What may not change: a struct, shown as Go shows it.
pub fn immutable_struct<T: Serialize>(new: &T, old: &T, type_name: &str, path: impl fmt::Display, errors: &mut Errors) {
    if !same(new, old) {
        errors.push(Error::invalid(path, "", IMMUTABLE).showing(go::show(new, type_name)));
    }
}

/// Drops what is null or an empty list.
fn prune(value: &mut Value) {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| !empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

//! Rules that upstream declares at the fields of newer types, in the words of the validation it generates from them.

use std::{collections::HashSet, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::{
    equal,
    field::{self, Error, Errors, Path},
    meta::IMMUTABLE,
    schema,
};

const LABEL_LENGTH_MAX: usize = 63;
const SUBDOMAIN_LENGTH_MAX: usize = 253;
const CASELESS: &str = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end \
    with an alphanumeric character (e.g. 'Example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A text that must be given, and what else must hold for it.
pub fn required(value: &str, wrong: fn(&str) -> Vec<String>, path: impl fmt::Display + Copy, errors: &mut Errors) {
    match value {
        "" => errors.push(Error::required(path, "")),
        value => field::extend(errors, path, value, wrong(value)),
    }
}

/// RFC 1123 label.
pub fn short_name(value: &str) -> Vec<String> {
    in_bytes(value, LABEL_LENGTH_MAX, field::dns_label(value))
}

/// RFC 1123 subdomain.
pub fn long_name(value: &str) -> Vec<String> {
    in_bytes(value, SUBDOMAIN_LENGTH_MAX, field::dns_subdomain(value))
}

/// RFC 1123 subdomain in whatever case.
pub fn caseless_long_name(value: &str) -> Vec<String> {
    let mut wrong = long_name(&value.to_ascii_lowercase());
    if let Some(last) = wrong.last_mut().filter(|last| last.starts_with("a lowercase")) {
        CASELESS.clone_into(last);
    }
    wrong
}

/// The length of names is counted in bytes here, and in characters elsewhere.
fn in_bytes(value: &str, max: usize, mut wrong: Vec<String>) -> Vec<String> {
    if value.len() > max
        && let Some(first) = wrong.first_mut()
    {
        *first = field::too_long_text(max);
    }
    wrong
}

pub fn at_least(value: impl Into<i64>, min: i64, path: impl fmt::Display, errors: &mut Errors) {
    let value = value.into();
    if value < min {
        errors.push(Error::invalid(path, value, format!("must be greater than or equal to {min}")));
    }
}

pub fn at_most(value: impl Into<i64>, max: i64, path: impl fmt::Display, errors: &mut Errors) {
    let value = value.into();
    if value > max {
        errors.push(Error::invalid(path, value, format!("must be less than or equal to {max}")));
    }
}

/// No two items have the same key. `type_name` is the OpenAPI name of their type.
pub fn unique<'a, T: Serialize>(
    list: &'a [T],
    key: impl Fn(&'a T) -> &'a str,
    type_name: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let mut seen = HashSet::new();
    for (i, item) in list.iter().enumerate() {
        if !seen.insert(key(item)) {
            errors.push(Error::duplicate(path.index(i), "").showing(show(item, type_name)));
        }
    }
}

/// As Go writes a value of a served type.
fn show<T: Serialize>(item: &T, type_name: &str) -> String {
    let (schema, mut value) = (schema::builtin(), serde_json::to_value(item).unwrap_or_default());
    let Some(id) = schema.id(type_name) else { return value.to_string() };
    schema::encode::canonical(schema, id, &mut value);
    String::from_utf8(schema::encode::json(schema, id, &value)).unwrap_or_default()
}

/// Exactly one of these fields is set.
pub fn one_of_fields(fields: &[(&str, bool)], path: impl fmt::Display, errors: &mut Errors) {
    let all = fields.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let set: Vec<_> = fields.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    match set.len() {
        0 => errors.push(Error::invalid(path, "", format!("must specify one of: {all}"))),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.push(Error::invalid(path, shown, format!("must specify exactly one of: {all}")));
        }
    }
}

/// What may not change; the value is not told. False: it has changed.
pub fn immutable<T: Serialize>(new: &T, old: &T, path: impl fmt::Display, errors: &mut Errors) -> bool {
    let same = equal::same(new, old);
    if !same {
        errors.push(Error::invalid(path, Value::Null, IMMUTABLE));
    }
    same
}

/// What is off may be taken away, but not be changed.
pub fn off<T: Serialize>(new: &Option<T>, old: &Option<T>, path: impl fmt::Display, errors: &mut Errors) {
    if new.is_some() && !equal::same(new, old) {
        errors.push(Error::forbidden(path, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_measured_in_bytes() {
        assert_eq!(short_name("a"), [""; 0]);
        assert_eq!(short_name(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(short_name("a.b"), ["must not contain dots"]);
        assert_eq!(long_name(&"a".repeat(254)), ["must be no more than 253 bytes"]);
        assert_eq!(caseless_long_name("GPU.example.com"), [""; 0]);
        assert_eq!(caseless_long_name("_"), [CASELESS]);
    }

    #[test]
    fn one_of_two() {
        let told = |a, b| {
            let mut errors = Errors::new();
            one_of_fields(&[("a", a), ("b", b)], Path::new("x"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(true, false), [""; 0]);
        assert_eq!(told(false, false), ["x: Invalid value: \"\": must specify one of: `a`, `b`"]);
        assert_eq!(told(true, true), ["x: Invalid value: \"{a, b}\": must specify exactly one of: `a`, `b`"]);
    }
}

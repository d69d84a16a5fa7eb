//! The order of values: `<`, `<=`, `>`, `>=`.

use std::cmp::Ordering;

use super::{Declared, standard::not_for};
use crate::cel::{
    equality::compare,
    value::{EvalError, Outcome, Value},
};

macro_rules! overloads {
    ($name:literal, $id:literal, $call:expr) => {
        Declared::singleton(
            $name,
            &[
                (concat!($id, "_bool"), "(bool, bool): bool", $call),
                (concat!($id, "_int64"), "(int, int): bool", $call),
                (concat!($id, "_int64_double"), "(int, double): bool", $call),
                (concat!($id, "_int64_uint64"), "(int, uint): bool", $call),
                (concat!($id, "_uint64"), "(uint, uint): bool", $call),
                (concat!($id, "_uint64_double"), "(uint, double): bool", $call),
                (concat!($id, "_uint64_int64"), "(uint, int): bool", $call),
                (concat!($id, "_double"), "(double, double): bool", $call),
                (concat!($id, "_double_int64"), "(double, int): bool", $call),
                (concat!($id, "_double_uint64"), "(double, uint): bool", $call),
                (concat!($id, "_string"), "(string, string): bool", $call),
                (concat!($id, "_bytes"), "(bytes, bytes): bool", $call),
                (concat!($id, "_timestamp"), "(timestamp, timestamp): bool", $call),
                (concat!($id, "_duration"), "(duration, duration): bool", $call),
            ],
        )
    };
}

pub(super) const FUNCTIONS: &[Declared] = &[
    overloads!("_<_", "less", |a| ordered(a, "_<_", Ordering::is_lt)),
    overloads!("_<=_", "less_equals", |a| ordered(a, "_<=_", Ordering::is_le)),
    overloads!("_>_", "greater", |a| ordered(a, "_>_", Ordering::is_gt)),
    overloads!("_>=_", "greater_equals", |a| ordered(a, "_>=_", Ordering::is_ge)),
];

fn ordered<'a>(arguments: &[Value<'a>], name: &str, holds: fn(Ordering) -> bool) -> Outcome<'a> {
    match arguments {
        [
            one @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Timestamp(_)
            | Value::Duration(_)),
            other,
        ] => compare(one, other).map(|order| Value::Bool(holds(order))),
        [_, _] => Err(not_for(name)),
        _ => Err(EvalError::no_such_overload()),
    }
}

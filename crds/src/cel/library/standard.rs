//! The core of the language: logic, equality, membership, sizes, types. What evaluates its parts itself has its
//! signature here alone.

use super::{Declared, text};
use crate::cel::{
    equality::equal,
    typing::Type,
    value::{EvalError, Outcome, Value},
};

/// Of what the evaluator does without a call.
fn evaluated<'a>(_: &[Value<'a>]) -> Outcome<'a> {
    Err(EvalError::no_such_overload())
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::singleton("_?_:_", &[("conditional", "(bool, A, A): A", evaluated)]),
    Declared::singleton("_&&_", &[("logical_and", "(bool, bool): bool", evaluated)]),
    Declared::singleton("_||_", &[("logical_or", "(bool, bool): bool", evaluated)]),
    Declared::singleton("!_", &[("logical_not", "(bool): bool", not)]),
    Declared::singleton("@not_strictly_false", &[("not_strictly_false", "(bool): bool", evaluated)]),
    Declared::singleton("_==_", &[("equals", "(A, A): bool", |a| same(a).map(Value::Bool))]),
    Declared::singleton("_!=_", &[("not_equals", "(A, A): bool", |a| same(a).map(|same| Value::Bool(!same)))]),
    Declared::singleton(
        "_[_]",
        &[
            ("index_list", "(list(A), int): A", evaluated),
            ("index_map", "(map(A, B), A): B", evaluated),
            ("optional_list_index_int", "(optional(list(V)), int): optional(V)", evaluated),
            ("optional_map_index_value", "(optional(map(K, V)), K): optional(V)", evaluated),
        ],
    ),
    Declared::singleton("@in", &[("in_list", "(A, list(A)): bool", is_in), ("in_map", "(A, map(A, B)): bool", is_in)]),
    Declared::singleton(
        "size",
        &[
            ("size_bytes", "(bytes): int", size),
            ("bytes_size", "bytes.(): int", size),
            ("size_list", "(list(A)): int", size),
            ("list_size", "list(A).(): int", size),
            ("size_map", "(map(A, B)): int", size),
            ("map_size", "map(A, B).(): int", size),
            ("size_string", "(string): int", size),
            ("string_size", "string.(): int", size),
        ],
    ),
    Declared::singleton("type", &[("type", "(A): type(A)", type_of)]),
    Declared::singleton("dyn", &[("to_dyn", "(A): dyn", same_value)]),
    Declared::singleton(
        "contains",
        &[("contains_string", "string.(string): bool", |a| tested(a, |text, part| text.contains(part)))],
    ),
    Declared::singleton(
        "startsWith",
        &[("starts_with_string", "string.(string): bool", |a| tested(a, |t, part| t.starts_with(part)))],
    ),
    Declared::singleton(
        "endsWith",
        &[("ends_with_string", "string.(string): bool", |a| tested(a, |text, part| text.ends_with(part)))],
    ),
    Declared::new(
        "cel.@mapInsert",
        &[
            ("@mapInsert_map_key_value", "(map(K, V), K, V): map(K, V)", insert),
            ("@mapInsert_map_map", "(map(K, V), map(K, V)): map(K, V)", insert),
        ],
    ),
];

/// The error of values whose type has nothing to do with a function.
pub(super) fn not_for(function: &str) -> EvalError {
    EvalError::new(format!("no such overload: {function}"))
}

fn not<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn same(arguments: &[Value<'_>]) -> Result<bool, EvalError> {
    match arguments {
        [one, other] => equal(one, other),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn is_in<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [value, Value::List(list)] => list.contains(value).map(Value::Bool),
        [key, Value::Map(map)] => match map.find(key) {
            Some(Err(error)) => Err(error),
            found => Ok(Value::Bool(found.is_some())),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn size<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [
            value @ (Value::String(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Ip(_)
            | Value::Cidr(_)),
        ] => Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX))),
        _ => Err(not_for("size")),
    }
}

fn type_of<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Type(_)] => Ok(Value::Type(Type::Type(None))),
        [value] => Ok(Value::Type(value.type_of())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn same_value<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    arguments.first().cloned().ok_or_else(EvalError::no_such_overload)
}

fn tested<'a>(arguments: &[Value<'a>], test: fn(&str, &str) -> bool) -> Outcome<'a> {
    match arguments {
        [Value::String(whole), part] => Ok(Value::Bool(test(whole, text(part)?))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn insert<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        [Value::Map(map), key, value] => map.clone().insert(key, value.clone()).map(Value::Map),
        [Value::Map(map), Value::Map(more)] => {
            let mut map = map.clone();
            for (key, value) in more.iter() {
                map = map.insert(&key, value?)?;
            }
            Ok(Value::Map(map))
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

//! Values that may be missing: `self.?field.orValue(0)`.

use super::{Declared, standard::not_for};
use crate::cel::value::{EvalError, Outcome, Value};

/// Of what the evaluator does without a call.
fn evaluated<'a>(_: &[Value<'a>]) -> Outcome<'a> {
    Err(EvalError::no_such_overload())
}

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new(
        "optional.of",
        &[("optional_of", "(V): optional(V)", |a| match a {
            [value] => Ok(Value::some(value.clone())),
            _ => Err(EvalError::no_such_overload()),
        })],
    ),
    Declared::new(
        "optional.ofNonZeroValue",
        &[("optional_ofNonZeroValue", "(V): optional(V)", |a| match a {
            [value] if value.is_zero() => Ok(Value::Optional(None)),
            [value] => Ok(Value::some(value.clone())),
            _ => Err(EvalError::no_such_overload()),
        })],
    ),
    Declared::new("optional.none", &[("optional_none", "(): optional(V)", |_| Ok(Value::Optional(None)))]),
    Declared::new(
        "value",
        &[("optional_value", "optional(V).(): V", |a| match a {
            [Value::Optional(Some(value))] => Ok(Value::clone(value)),
            [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
            _ => Err(not_for("value")),
        })],
    ),
    Declared::new(
        "hasValue",
        &[("optional_hasValue", "optional(V).(): bool", |a| match a {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => Err(not_for("hasValue")),
        })],
    ),
    Declared::new("or", &[("optional_or_optional", "optional(V).(optional(V)): optional(V)", evaluated)]),
    Declared::new("orValue", &[("optional_orValue_value", "optional(V).(V): V", evaluated)]),
    Declared::new("_?._", &[("select_optional_field", "(dyn, string): optional(V)", evaluated)]),
    Declared::new(
        "_[?_]",
        &[
            ("list_optindex_optional_int", "(list(V), int): optional(V)", evaluated),
            ("optional_list_optindex_optional_int", "(optional(list(V)), int): optional(V)", evaluated),
            ("map_optindex_optional_value", "(map(K, V), K): optional(V)", evaluated),
            ("optional_map_optindex_optional_value", "(optional(map(K, V)), K): optional(V)", evaluated),
        ],
    ),
    Declared::new(
        "last",
        &[("list_last", "list(V).(): optional(V)", |a| match a {
            [Value::List(list)] => at(list.len().checked_sub(1).and_then(|last| list.get(last))),
            _ => Err(EvalError::no_such_overload()),
        })],
    ),
    Declared::new(
        "first",
        &[("list_first", "list(V).(): optional(V)", |a| match a {
            [Value::List(list)] => at(list.get(0)),
            _ => Err(EvalError::no_such_overload()),
        })],
    ),
    Declared::new("optional.unwrap", &[("optional_unwrap", "(list(optional(V))): list(V)", unwrap)]),
    Declared::new("unwrapOpt", &[("optional_unwrapOpt", "list(optional(V)).(): list(V)", unwrap)]),
];

fn at(found: Option<Outcome<'_>>) -> Outcome<'_> {
    found.map_or(Ok(Value::Optional(None)), |value| value.map(Value::some))
}

fn unwrap<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let mut items = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(value)) => items.push(Value::clone(&value)),
            Value::Optional(None) => {}
            other => return Err(EvalError::new(format!("value {other} is not optional"))),
        }
    }
    Ok(Value::list(items))
}

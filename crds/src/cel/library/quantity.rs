//! Quantities: `quantity('1Gi').isGreaterThan(quantity('500M'))`.

use std::cmp::Ordering;

use super::{Declared, text};
use crate::{
    cel::value::{EvalError, Outcome, Value},
    quantity::Quantity,
};

const COMPARED: &str = "kubernetes.Quantity.(kubernetes.Quantity): bool";
const ADDED: &str = "kubernetes.Quantity.(kubernetes.Quantity): kubernetes.Quantity";
const ADDED_INT: &str = "kubernetes.Quantity.(int): kubernetes.Quantity";

pub(super) const FUNCTIONS: &[Declared] = &[
    Declared::new("quantity", &[("string_to_quantity", "(string): kubernetes.Quantity", quantity)]),
    Declared::new(
        "isQuantity",
        &[("is_quantity_string", "(string): bool", |a| {
            Ok(Value::Bool(text(a.first().unwrap_or(&Value::Null))?.parse::<Quantity>().is_ok()))
        })],
    ),
    Declared::new(
        "sign",
        &[("quantity_sign", "(kubernetes.Quantity): int", |a| of(a, |q| Ok(Value::Int(q.nanos().signum() as i64))))],
    ),
    Declared::new(
        "isGreaterThan",
        &[("quantity_is_greater_than", COMPARED, |a| order(a, |order| Value::Bool(order.is_gt())))],
    ),
    Declared::new(
        "isLessThan",
        &[("quantity_is_less_than", COMPARED, |a| order(a, |order| Value::Bool(order.is_lt())))],
    ),
    Declared::new(
        "compareTo",
        &[("quantity_compare_to", "kubernetes.Quantity.(kubernetes.Quantity): int", |a| {
            order(a, |order| Value::Int(order as i64))
        })],
    ),
    Declared::new(
        "asApproximateFloat",
        &[("quantity_get_float", "kubernetes.Quantity.(): double", |a| {
            of(a, |q| Ok(Value::Double(q.nanos() as f64 / 1e9)))
        })],
    ),
    Declared::new(
        "asInteger",
        &[("quantity_get_int", "kubernetes.Quantity.(): int", |a| {
            of(a, |q| integer(q).map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer")))
        })],
    ),
    Declared::new(
        "isInteger",
        &[("quantity_is_integer", "kubernetes.Quantity.(): bool", |a| {
            of(a, |q| Ok(Value::Bool(integer(q).is_some())))
        })],
    ),
    Declared::new(
        "add",
        &[
            ("quantity_add", ADDED, |a| both(a, |a, b| a + b)),
            ("quantity_add_int", ADDED_INT, |a| both(a, |a, b| a + b)),
        ],
    ),
    Declared::new(
        "sub",
        &[
            ("quantity_sub", ADDED, |a| both(a, |a, b| a - b)),
            ("quantity_sub_int", ADDED_INT, |a| both(a, |a, b| a - b)),
        ],
    ),
];

fn quantity<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let [quantity] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    text(quantity)?
        .parse()
        .map(Value::Quantity)
        .map_err(|error: crate::quantity::QuantityError| EvalError::new(error.to_string()))
}

fn integer(quantity: &Quantity) -> Option<i64> {
    const NANO: i128 = 1_000_000_000;
    (quantity.nanos() % NANO == 0).then(|| i64::try_from(quantity.nanos() / NANO).ok()).flatten()
}

fn of<'a>(arguments: &[Value<'a>], read: fn(&Quantity) -> Outcome<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Quantity(quantity)] => read(quantity),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order<'a>(arguments: &[Value<'a>], read: fn(Ordering) -> Value<'static>) -> Outcome<'a> {
    match arguments {
        [Value::Quantity(one), Value::Quantity(other)] => Ok(read(one.cmp(other))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn both<'a>(arguments: &[Value<'a>], reckon: fn(Quantity, Quantity) -> Quantity) -> Outcome<'a> {
    match arguments {
        [Value::Quantity(one), Value::Quantity(other)] => Ok(Value::Quantity(reckon(*one, *other))),
        [Value::Quantity(one), Value::Int(other)] => Ok(Value::Quantity(reckon(*one, Quantity::from_units(*other)))),
        _ => Err(EvalError::no_such_overload()),
    }
}

//! Functions of lists, and of lists as sets.

use std::cmp::Ordering;

use super::{Declared, arithmetic::sum};
use crate::cel::{
    equality::{compare, equal},
    list::List,
    value::{EvalError, Outcome, Value},
};

/// Lists that are made are no longer than this.
const ITEMS_MAX: i64 = 1_000_000;

macro_rules! of_comparable {
    ($name:literal, $before:literal, $after:literal, $result:literal, $call:expr) => {
        Declared::new(
            $name,
            &[
                (concat!("list_int", $before, $after), concat!("list(int).(): ", $result), $call),
                (concat!("list_uint", $before, $after), concat!("list(uint).(): ", $result), $call),
                (concat!("list_double", $before, $after), concat!("list(double).(): ", $result), $call),
                (concat!("list_bool", $before, $after), concat!("list(bool).(): ", $result), $call),
                (concat!("list_duration", $before, $after), concat!("list(duration).(): ", $result), $call),
                (concat!("list_timestamp", $before, $after), concat!("list(timestamp).(): ", $result), $call),
                (concat!("list_string", $before, $after), concat!("list(string).(): ", $result), $call),
                (concat!("list_bytes", $before, $after), concat!("list(bytes).(): ", $result), $call),
            ],
        )
    };
}

pub(super) const FUNCTIONS: &[Declared] = &[
    of_comparable!("isSorted", "_is_sorted", "_bool", "bool", is_sorted),
    Declared::new(
        "sum",
        &[
            ("list_int_sum_int", "list(int).(): int", |a| total(a, Value::Int(0))),
            ("list_uint_sum_uint", "list(uint).(): uint", |a| total(a, Value::Uint(0))),
            ("list_double_sum_double", "list(double).(): double", |a| total(a, Value::Double(0.0))),
            ("list_duration_sum_duration", "list(duration).(): duration", |a| total(a, Value::Duration(0))),
        ],
    ),
    Declared::new(
        "max",
        &[
            ("list_int_max_int", "list(int).(): int", |a| extreme(a, "max", Ordering::Less)),
            ("list_uint_max_uint", "list(uint).(): uint", |a| extreme(a, "max", Ordering::Less)),
            ("list_double_max_double", "list(double).(): double", |a| extreme(a, "max", Ordering::Less)),
            ("list_bool_max_bool", "list(bool).(): bool", |a| extreme(a, "max", Ordering::Less)),
            ("list_duration_max_duration", "list(duration).(): duration", |a| extreme(a, "max", Ordering::Less)),
            ("list_timestamp_max_timestamp", "list(timestamp).(): timestamp", |a| extreme(a, "max", Ordering::Less)),
            ("list_string_max_string", "list(string).(): string", |a| extreme(a, "max", Ordering::Less)),
            ("list_bytes_max_bytes", "list(bytes).(): bytes", |a| extreme(a, "max", Ordering::Less)),
        ],
    ),
    Declared::new(
        "min",
        &[
            ("list_int_min_int", "list(int).(): int", |a| extreme(a, "min", Ordering::Greater)),
            ("list_uint_min_uint", "list(uint).(): uint", |a| extreme(a, "min", Ordering::Greater)),
            ("list_double_min_double", "list(double).(): double", |a| extreme(a, "min", Ordering::Greater)),
            ("list_bool_min_bool", "list(bool).(): bool", |a| extreme(a, "min", Ordering::Greater)),
            ("list_duration_min_duration", "list(duration).(): duration", |a| extreme(a, "min", Ordering::Greater)),
            ("list_timestamp_min_timestamp", "list(timestamp).(): timestamp", |a| extreme(a, "min", Ordering::Greater)),
            ("list_string_min_string", "list(string).(): string", |a| extreme(a, "min", Ordering::Greater)),
            ("list_bytes_min_bytes", "list(bytes).(): bytes", |a| extreme(a, "min", Ordering::Greater)),
        ],
    ),
    Declared::new("indexOf", &[("list_a_index_of_int", "list(A).(A): int", |a| position(a, false))]),
    Declared::new("lastIndexOf", &[("list_a_last_index_of_int", "list(A).(A): int", |a| position(a, true))]),
    Declared::new("slice", &[("list_slice", "list(T).(int, int): list(T)", slice)]),
    Declared::new(
        "flatten",
        &[
            ("list_flatten", "list(list(T)).(): list(T)", flatten),
            ("list_flatten_int", "list(dyn).(int): list(dyn)", flatten),
        ],
    ),
    Declared::new(
        "sort",
        &[
            ("list_int_sort", "list(int).(): list(int)", sort),
            ("list_uint_sort", "list(uint).(): list(uint)", sort),
            ("list_double_sort", "list(double).(): list(double)", sort),
            ("list_bool_sort", "list(bool).(): list(bool)", sort),
            ("list_google.protobuf.Duration_sort", "list(duration).(): list(duration)", sort),
            ("list_google.protobuf.Timestamp_sort", "list(timestamp).(): list(timestamp)", sort),
            ("list_string_sort", "list(string).(): list(string)", sort),
            ("list_bytes_sort", "list(bytes).(): list(bytes)", sort),
        ],
    ),
    Declared::new(
        "@sortByAssociatedKeys",
        &[
            ("list_int_sortByAssociatedKeys", "list(T).(list(int)): list(T)", sort),
            ("list_uint_sortByAssociatedKeys", "list(T).(list(uint)): list(T)", sort),
            ("list_double_sortByAssociatedKeys", "list(T).(list(double)): list(T)", sort),
            ("list_bool_sortByAssociatedKeys", "list(T).(list(bool)): list(T)", sort),
            ("list_google.protobuf.Duration_sortByAssociatedKeys", "list(T).(list(duration)): list(T)", sort),
            ("list_google.protobuf.Timestamp_sortByAssociatedKeys", "list(T).(list(timestamp)): list(T)", sort),
            ("list_string_sortByAssociatedKeys", "list(T).(list(string)): list(T)", sort),
            ("list_bytes_sortByAssociatedKeys", "list(T).(list(bytes)): list(T)", sort),
        ],
    ),
    Declared::new("lists.range", &[("lists_range", "(int): list(int)", range)]),
    Declared::new(
        "reverse",
        &[("list_reverse", "list(T).(): list(T)", |a| {
            let mut items = items(list(a, 0)?)?;
            items.reverse();
            Ok(Value::list(items))
        })],
    ),
    Declared::new("distinct", &[("list_distinct", "list(T).(): list(T)", distinct)]),
    Declared::new(
        "sets.contains",
        &[("list_sets_contains_list", "(list(T), list(T)): bool", |a| {
            contains(list(a, 0)?, list(a, 1)?).map(Value::Bool)
        })],
    ),
    Declared::new(
        "sets.equivalent",
        &[("list_sets_equivalent_list", "(list(T), list(T)): bool", |a| {
            let (one, other) = (list(a, 0)?, list(a, 1)?);
            Ok(Value::Bool(contains(one, other)? && contains(other, one)?))
        })],
    ),
    Declared::new("sets.intersects", &[("list_sets_intersects_list", "(list(T), list(T)): bool", intersects)]),
];

fn list<'v, 'a>(arguments: &'v [Value<'a>], index: usize) -> Result<&'v List<'a>, EvalError> {
    match arguments.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn items<'a>(list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}

fn is_sorted<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let items = items(list(arguments, 0)?)?;
    for pair in items.windows(2) {
        if let [one, next] = pair
            && compare(one, next)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn total<'a>(arguments: &[Value<'a>], zero: Value<'a>) -> Outcome<'a> {
    list(arguments, 0)?.iter().try_fold(zero, |so_far, item| sum(&so_far, &item?))
}

/// The item before which every other stands in the given order.
fn extreme<'a>(arguments: &[Value<'a>], name: &str, replaced_when: Ordering) -> Outcome<'a> {
    let mut found: Option<Value<'a>> = None;
    for item in list(arguments, 0)?.iter() {
        let item = item?;
        found = Some(match found {
            Some(best) if compare(&best, &item)? != replaced_when => best,
            _ => item,
        });
    }
    found.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn position<'a>(arguments: &[Value<'a>], last: bool) -> Outcome<'a> {
    let list = list(arguments, 0)?;
    let wanted = arguments.get(1).ok_or_else(EvalError::no_such_overload)?;
    let is = |index: &usize| {
        let item = list.get(*index);
        matches!(item, Some(Ok(item)) if matches!(equal(&item, wanted), Ok(true)))
    };
    let found = if last { (0..list.len()).rev().find(is) } else { (0..list.len()).find(is) };
    Ok(Value::Int(found.map_or(-1, |index| index as i64)))
}

fn slice<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let list = list(arguments, 0)?;
    let [_, Value::Int(start), Value::Int(end)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let wrong = |why: &str| Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return wrong("negative indexes not supported");
    };
    if from > to {
        return wrong("start index must be less than or equal to end index");
    }
    if list.len() < to {
        return wrong(&format!("list is length {}", list.len()));
    }
    let items = (from..to).filter_map(|index| list.get(index)).collect::<Result<_, _>>()?;
    Ok(Value::list(items))
}

fn flatten<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let depth = match arguments.get(1) {
        None => 1,
        Some(Value::Int(depth)) if *depth < 0 => return Err(EvalError::new("level must be non-negative")),
        Some(Value::Int(depth)) => *depth,
        Some(_) => return Err(EvalError::no_such_overload()),
    };
    let mut items = Vec::new();
    flatten_into(&mut items, list(arguments, 0)?, depth)?;
    Ok(Value::list(items))
}

fn flatten_into<'a>(items: &mut Vec<Value<'a>>, list: &List<'a>, depth: i64) -> Result<(), EvalError> {
    for item in list.iter() {
        match item? {
            Value::List(nested) if depth > 0 => flatten_into(items, &nested, depth - 1)?,
            item => items.push(item),
        }
    }
    Ok(())
}

/// Sorts a list by itself, or by the keys beside.
fn sort<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let values = items(list(arguments, 0)?)?;
    let keys = if arguments.len() > 1 { items(list(arguments, 1)?)? } else { values.clone() };
    if keys.len() != values.len() {
        let message = format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            values.len(),
            keys.len()
        );
        return Err(EvalError::new(message));
    }
    if let Some(first) = keys.first() {
        compare(first, first).map_err(|_| EvalError::new("list elements must be comparable"))?;
        if keys.iter().any(|key| key.type_of() != first.type_of()) {
            return Err(EvalError::new("list elements must have the same type"));
        }
    }
    let mut pairs: Vec<_> = keys.into_iter().zip(values).collect();
    pairs.sort_by(|(one, _), (other, _)| compare(one, other).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

fn range<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    match arguments {
        // What is longer costs more than any limit, and must not be made before that is told.
        [Value::Int(end)] if *end > ITEMS_MAX => Err(EvalError::over_budget()),
        [Value::Int(end)] => Ok(Value::list((0..*end).map(Value::Int).collect())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn distinct<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let mut found: Vec<Value<'a>> = Vec::new();
    for item in list(arguments, 0)?.iter() {
        let item = item?;
        if !found.iter().any(|known| matches!(equal(&item, known), Ok(true))) {
            found.push(item);
        }
    }
    Ok(Value::list(found))
}

fn contains(whole: &List<'_>, part: &List<'_>) -> Result<bool, EvalError> {
    for item in part.iter() {
        if !whole.contains(&item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(arguments: &[Value<'a>]) -> Outcome<'a> {
    let (one, other) = (list(arguments, 0)?, list(arguments, 1)?);
    for item in one.iter() {
        if matches!(other.contains(&item?), Ok(true)) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

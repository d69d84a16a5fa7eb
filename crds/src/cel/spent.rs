//! What a call cost when it was made, by the sizes of its arguments.

use super::value::Value;

/// What looking at a character costs.
pub(super) const CHARACTER: f64 = 0.1;
/// What a character of a regular expression costs.
pub(super) const PATTERN: f64 = 0.25;

pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(value)) => size(value),
        value => value.size(),
    }
}

/// The cost of a call. Without the result `None` says that it depends on that.
pub(crate) fn call(function: &str, overload: &str, arguments: &[Value<'_>], result: Option<&Value<'_>>) -> Option<u64> {
    let of = |index: usize| arguments.get(index).map_or(1, Value::size);
    if let Some(cost) = of_list(overload, arguments, result) {
        return cost;
    }
    Some(match (function, arguments.len()) {
        ("check", _) => 350_000,
        (
            "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
            | "reason" | "error" | "errored",
            _,
        ) => 1,
        ("fieldSelector" | "labelSelector", 2..) => selector(of(1)),
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", _) => arguments.first().map_or(0, traversal),
        ("url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey", 1..) => {
            scaled(of(0), CHARACTER)
        }
        ("replace" | "split", 1..) => scaled(of(0), 2.0 * CHARACTER),
        ("join", 1..) => scaled(result?.size(), 2.0 * CHARACTER),
        ("find" | "findAll", 2..) => scaled(1 + of(0), CHARACTER).saturating_mul(scaled(of(1), PATTERN)),
        ("ip", 1..) if overload == "cidr_ip" => 1,
        ("cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver", 1..) => {
            scaled(of(0), CHARACTER)
        }
        ("ip.isCanonical", 1..) => scaled(of(0), 2.0 * CHARACTER),
        ("containsIP", 2..) => {
            let text = if overload == "cidr_contains_ip_string" { scaled(of(1), CHARACTER) } else { 0 };
            scaled(2 * of(0), CHARACTER) + text
        }
        ("containsCIDR", 2..) => {
            let text = if overload == "cidr_contains_cidr_string" { scaled(of(1), CHARACTER) } else { 0 };
            scaled(2 * of(0), CHARACTER) + scaled(of(0), CHARACTER) + 1 + text
        }
        ("validate", 2..) => match arguments.first() {
            Some(Value::Format(format)) => {
                scaled(1 + of(1), CHARACTER).saturating_mul(scaled(format.regex_size, PATTERN))
            }
            _ => 1,
        },
        ("_==_", 2) if is_single(arguments.first()) => 1,
        _ => of_overload(overload, arguments),
    })
}

/// Values of Kubernetes' own types, which compare at once.
const fn is_single(value: Option<&Value<'_>>) -> bool {
    matches!(
        value,
        Some(
            Value::Quantity(_)
                | Value::Ip(_)
                | Value::Cidr(_)
                | Value::Format(_)
                | Value::Url(_)
                | Value::Semver(_)
                | Value::Authorizer(_)
                | Value::PathCheck(_)
                | Value::GroupCheck(_)
                | Value::ResourceCheck(_)
                | Value::Decision(_)
        )
    )
}

/// What the libraries of lists and sets count themselves; the outer `None` is of all other functions.
fn of_list(overload: &str, arguments: &[Value<'_>], result: Option<&Value<'_>>) -> Option<Option<u64>> {
    let of = |index: usize| arguments.get(index).map_or(1, size);
    let made = |factor: f64, size: u64| (size as f64 * factor) as u64 + 1 + 10;
    let compared = |index: usize| {
        let first = match arguments.get(index) {
            Some(Value::List(list)) => list.get(0).and_then(Result::ok),
            _ => None,
        };
        let long = matches!(first, Some(Value::String(_) | Value::Bytes(_)));
        let size = of(index);
        made(if long { 2.0 + CHARACTER } else { 2.0 }, size.saturating_mul(size))
    };
    let compared_sets = |factor: f64| 1 + (of(0).saturating_mul(of(1)) as f64 * factor) as u64;
    Some(Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => compared_sets(1.0),
        "list_sets_equivalent_list" => compared_sets(2.0),
        "lists_range" => match arguments.first() {
            Some(Value::Int(end)) => made(1.0, u64::try_from(*end).unwrap_or(0)),
            _ => made(1.0, 1),
        },
        "list_reverse" => made(1.0, of(0)),
        "list_slice" => match result {
            Some(result) => made(1.0, size(result)),
            None => return Some(None),
        },
        "list_flatten" => made(1.0, of(0)),
        "list_flatten_int" => match arguments.get(1) {
            Some(Value::Int(depth)) => made(*depth as f64, of(0)),
            _ => made(1.0, of(0)),
        },
        "list_distinct" => compared(0),
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => compared(0),
        _ if overload.ends_with("_sortByAssociatedKeys") => compared(1),
        _ => return None,
    }))
}

/// What cel-go itself counts.
fn of_overload(overload: &str, arguments: &[Value<'_>]) -> u64 {
    let of = |index: usize| arguments.get(index).map_or(1, size);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => scaled(of(0), CHARACTER),
        "in_list" => of(1),
        "equals" | "not_equals" => scaled(of(0).min(of(1)), CHARACTER),
        "add_string" | "add_bytes" => scaled(of(0) + of(1), CHARACTER),
        "matches_string" => scaled(1 + of(0), CHARACTER).saturating_mul(scaled(of(1), PATTERN)),
        "contains_string" => scaled(of(0), CHARACTER).saturating_mul(scaled(of(1), CHARACTER)),
        _ if is_text_comparison(overload) => scaled(of(0).min(of(1)), CHARACTER),
        _ => 1,
    }
}

pub(super) fn is_text_comparison(overload: &str) -> bool {
    let order = overload.strip_suffix("_string").or_else(|| overload.strip_suffix("_bytes"));
    matches!(order, Some("less" | "less_equals" | "greater" | "greater_equals"))
}

fn selector(length: u64) -> u64 {
    10 + scaled(length, CHARACTER) + scaled(length, 0.5) * 50
}

fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * CHARACTER) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * CHARACTER) as u64,
        Value::List(list) => list.iter().map(|item| item.as_ref().map_or(1, traversal)).sum(),
        Value::Map(map) => map.iter().map(|(key, value)| traversal(&key) + value.as_ref().map_or(1, traversal)).sum(),
        _ => 1,
    }
}

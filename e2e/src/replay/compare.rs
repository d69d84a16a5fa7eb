//! Compares an answer with its recording.

use serde_json::{Map, Value};

use super::{Case, normal};

/// The value at a path such as `.status.conditions[1].status`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    segments(path).try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Object(map) => map.get(part),
        _ => None,
    })
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|s| !s.is_empty())
}

fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        Value::Object(map) => map.get_mut(*part),
        _ => None,
    })
}

/// The answer as the case's directives want it compared, normalised.
pub fn clean(case: &Case, mut answer: Value) -> Value {
    let body = &mut answer["body"];
    for path in case.all("ignore") {
        let parts: Vec<_> = segments(path).collect();
        if let Some((last, parents)) = parts.split_last()
            && let Some(parent) = at_mut(body, parents).and_then(Value::as_object_mut)
        {
            parent.remove(*last);
        }
    }
    for head in case.all("head") {
        let (count, path) = head.split_once(' ').unwrap_or((head, ""));
        if let Some(items) = at_mut(body, &segments(path).collect::<Vec<_>>()).and_then(Value::as_array_mut) {
            items.truncate(count.parse().unwrap_or(0));
        }
    }
    for path in case.all("sorted") {
        if let Some(items) = at_mut(body, &segments(path).collect::<Vec<_>>()).and_then(Value::as_array_mut) {
            items.sort_by_key(|item| normal(item).to_string());
        }
    }
    let only: Map<String, Value> =
        case.all("only").map(|p| (p.to_owned(), at(body, p).cloned().unwrap_or(Value::Null))).collect();
    if !only.is_empty() {
        *body = Value::Object(only);
    }
    normal(&answer)
}

/// What differs, a line each.
pub fn differences(want: &Value, got: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(want, got, String::new(), &mut out);
    out
}

fn walk(want: &Value, got: &Value, path: String, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(w), Value::Object(g)) => {
            for (key, want) in w {
                match g.get(key) {
                    Some(got) => walk(want, got, format!("{path}.{key}"), out),
                    None => out.push(format!("{path}.{key}: missing, want {}", short(want))),
                }
            }
            for (key, got) in g.iter().filter(|(key, _)| !w.contains_key(*key)) {
                out.push(format!("{path}.{key}: unexpected {}", short(got)));
            }
        }
        (Value::Array(w), Value::Array(g)) if w.len() == g.len() => {
            for (i, (want, got)) in w.iter().zip(g).enumerate() {
                walk(want, got, format!("{path}[{i}]"), out);
            }
        }
        _ if want != got => out.push(format!("{path}: got {}\n      want {}", short(got), short(want))),
        _ => {}
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(240).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn told_apart() {
        let want = json!({"a": 1, "b": [1, 2], "c": 1});
        assert!(differences(&want, &want).is_empty());
        assert_eq!(differences(&want, &json!({"a": 2, "b": [1, 2], "d": 1})).len(), 3);
    }

    #[test]
    fn paths() {
        let value = json!({"a": [{"b": 1}]});
        assert_eq!(at(&value, ".a[0].b"), Some(&json!(1)));
        assert_eq!(at(&value, ".a[1].b"), None);
    }
}

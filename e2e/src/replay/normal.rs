//! Replaces what differs from run to run: uids, revisions, times, tokens, allocated addresses and ports, generated names.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => { $(
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).unwrap_or_else(|e| unreachable!("{e}")));
    )* };
}

patterns! {
    TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z";
    UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    JWT = r"eyJ[\w-]+\.[\w-]+\.[\w-]+";
    ADDRESS = r"^10\.\d+\.\d+\.\d+$";
    CELL_PORT = r"(\d+):3[0-2]\d{3}/";
    AGE = r"^(\d+[smhdy])+$";
    FINGERPRINT = r"X509SHA256=[0-9a-f]{64}";
    TOKEN_VOLUME = r"kube-api-access-[a-z0-9]{5}";
    REVISION = r#"(resourceVersion|resource version|revision)([ :="\\]+)\d+"#;
}

/// The value with everything that is particular to one run replaced.
pub fn normal(value: &Value) -> Value {
    walk(value, "", None)
}

fn walk(value: &Value, key: &str, parent: Option<&Map<String, Value>>) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().map(|(k, v)| (UUID.replace_all(k, "<uid>").into_owned(), walk(v, k, Some(map))));
            Value::Object(fields.collect())
        }
        Value::Array(items) if key == "managedFields" => {
            // Their order depends on the second of each write.
            let mut items: Vec<_> = items.iter().collect();
            items.sort_by_key(|e| {
                ["manager", "operation", "subresource", "apiVersion"]
                    .map(|k| e.get(k).map_or_else(|| "None".to_owned(), text))
            });
            items.into_iter().map(|v| walk(v, key, parent)).collect()
        }
        Value::Array(items) => items.iter().map(|v| walk(v, key, parent)).collect(),
        Value::String(s) => Value::String(walk_text(s, key, parent)),
        _ if matches!(key, "nodePort" | "healthCheckNodePort") && value.as_i64().unwrap_or(0) != 0 => "<port>".into(),
        other => other.clone(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn walk_text(s: &str, key: &str, parent: Option<&Map<String, Value>>) -> String {
    match key {
        "resourceVersion" if !matches!(s, "" | "0") => return "<rv>".to_owned(),
        "continue" if !s.is_empty() => return "<continue>".to_owned(),
        "clusterIP" | "clusterIPs" | "ip" if ADDRESS.is_match(s) => return "<ip>".to_owned(),
        "name" => {
            let prefix = parent.and_then(|p| p.get("generateName")).and_then(Value::as_str).unwrap_or("");
            if !prefix.is_empty() && s.starts_with(prefix) {
                return format!("{prefix}<generated>");
            }
        }
        _ => {}
    }
    let mut s = s.to_owned();
    if key == "cells" {
        s = CELL_PORT.replace_all(&s, "$1:<port>/").into_owned();
        s = ADDRESS.replace_all(&s, "<ip>").into_owned();
        s = AGE.replace_all(&s, "<age>").into_owned();
    }
    for (pattern, with) in [
        (&*TIME, "<time>"),
        (&*UUID, "<uid>"),
        (&*JWT, "<token>"),
        (&*FINGERPRINT, "X509SHA256=<hash>"),
        (&*TOKEN_VOLUME, "kube-api-access-<generated>"),
        (&*REVISION, "$1$2<rv>"),
    ] {
        s = pattern.replace_all(&s, with).into_owned();
    }
    s
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replaced() {
        let uid = "00000000-0000-0000-0000-000000000001";
        let given = json!({"metadata": {"uid": uid, "resourceVersion": "5", "name": "a-x1", "generateName": "a-"}, "nodePort": 30001,
            "message": format!("{uid} at 2026-01-01T00:00:00Z, revision 7")});
        let want = json!({"metadata": {"uid": "<uid>", "resourceVersion": "<rv>", "name": "a-<generated>", "generateName": "a-"},
            "nodePort": "<port>", "message": "<uid> at <time>, revision <rv>"});
        assert_eq!(normal(&given), want);
    }
}

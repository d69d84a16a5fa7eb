//! The smallest strategic merge patch that turns one reported status into another.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use super::condition::OWNED;

/// Lists that are merged by a key: what is gone from them must be deleted by name.
const KEYED: [(&str, &str); 2] = [("podIPs", "ip"), ("hostIPs", "ip")];

/// `None` when nothing of what the kubelet reports has changed.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (object(old), object(new));
    let mut status = Map::new();
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before == after {
            continue;
        }
        let changed = match name.as_str() {
            "conditions" => conditions(before, after),
            name => match KEYED.iter().find(|(n, _)| *n == name) {
                Some((_, key)) => keyed(key, before, after),
                None => Some(after.cloned().unwrap_or(Value::Null)),
            },
        };
        if let Some(changed) = changed {
            status.insert(name.clone(), changed);
        }
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn keyed(key: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Value> {
    let gone = items(before).iter().filter(|b| !items(after).iter().any(|a| a[key] == b[key]));
    let deletions = gone.map(|b| json!({"$patch": "delete", key: b[key]}));
    Some(Value::Array(items(after).iter().cloned().chain(deletions).collect()))
}

/// Only conditions that differ; members that are gone are set to null.
fn conditions(before: Option<&Value>, after: Option<&Value>) -> Option<Value> {
    let same = |kind: &Value, list: Option<&Value>| items(list).iter().find(|c| c["type"] == *kind).cloned();
    let mut changed = Vec::new();
    for condition in items(after) {
        let old = same(&condition["type"], before);
        if old.as_ref() == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        if let (Some(Value::Object(old)), Some(new)) = (old, condition.as_object_mut()) {
            old.into_iter().for_each(|(name, _)| _ = new.entry(name).or_insert(Value::Null));
        }
        changed.push(condition);
    }
    for condition in items(before) {
        let owned = condition["type"].as_str().is_some_and(|t| OWNED.contains(&t));
        if owned && same(&condition["type"], after).is_none() {
            changed.push(json!({"$patch": "delete", "type": condition["type"]}));
        }
    }
    (!changed.is_empty()).then_some(Value::Array(changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_differs() {
        let a = status(json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1.1.1.1"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "r"}, {"type": "Theirs", "status": "True"},
            {"type": "PodScheduled", "status": "True"}, {"type": "PodResizePending", "status": "True"},
        ]}));
        let b = status(json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"},
        ]}));
        assert_eq!(patch("u", &a, &a), None);
        assert_eq!(
            patch("u", &a, &b),
            Some(json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null,
                "podIPs": [{"ip": "2.2.2.2"}, {"$patch": "delete", "ip": "1.1.1.1"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null},
                    {"$patch": "delete", "type": "PodResizePending"}],
            }}))
        );
    }
}

//! What upstream does with bootstrap objects that are there already: what is missing is added, little is taken away.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Keep, Write, flow::AUTOUPDATE};
use crate::authorize::rule;

pub fn plan(keep: Keep, wanted: &Value, existing: &Value) -> Option<Write> {
    match keep {
        Keep::AsItIs => None,
        Keep::Rules => updated(existing, with_rules(wanted, existing)?),
        Keep::Subjects => subjects(wanted, existing),
        Keep::Spec { always } => updated(existing, with_spec(wanted, existing, always)),
        Keep::Fields(fields) => {
            let mut object = existing.clone();
            for field in fields {
                object[*field] = wanted[*field].clone();
            }
            updated(existing, object)
        }
        Keep::Absent => {
            let is_ours = wanted["metadata"]["labels"] == existing["metadata"]["labels"];
            is_ours.then_some(Write::Delete)
        }
    }
}

fn updated(existing: &Value, object: Value) -> Option<Write> {
    (object != *existing).then_some(Write::Update(object))
}

/// The conditions that an object must have, or none if it has them.
pub fn conditions(wanted: &Value, existing: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let there = existing["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut changed = false;
    let with_time = |condition: &Value| {
        let text = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let same =
            |c: &&Value| ["type", "status", "reason"].iter().all(|field| text(c, field) == text(condition, field));
        let told = there.iter().find(same);
        changed |= told.is_none();
        let begun = || now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        let mut condition = condition.clone();
        condition["lastTransitionTime"] = told.map_or_else(begun, |told| told["lastTransitionTime"].clone());
        condition
    };
    let conditions = wanted["conditions"].as_array()?.iter().map(with_time).collect();
    changed.then_some(conditions)
}

/// What is to be applied for these conditions.
pub fn applied(existing: &Value, conditions: Vec<Value>) -> Value {
    json!({
        "apiVersion": existing["apiVersion"],
        "kind": existing["kind"],
        "metadata": {"name": existing["metadata"]["name"]},
        "status": {"conditions": conditions},
    })
}

/// The object with these conditions beside those of other types.
pub fn updated_status(existing: &Value, conditions: Vec<Value>) -> Value {
    let mut all = existing["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.retain(|other| conditions.iter().all(|condition| condition["type"] != other["type"]));
    all.extend(conditions);
    let mut object = existing.clone();
    object["status"]["conditions"] = all.into();
    object
}

/// An administrator may take a role or a binding out of our hands.
fn is_protected(existing: &Value) -> bool {
    existing["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "false"
}

/// Labels and annotations that are missing are added.
fn merge_metadata(object: &mut Value, wanted: &Value) {
    for field in ["annotations", "labels"] {
        let Some(ours) = wanted["metadata"][field].as_object() else { continue };
        let mut merged: Map<String, Value> = ours.clone();
        merged.extend(object["metadata"][field].as_object().cloned().unwrap_or_default());
        object["metadata"][field] = merged.into();
    }
}

fn with_rules(wanted: &Value, existing: &Value) -> Option<Value> {
    if is_protected(existing) {
        return None;
    }
    let mut object = existing.clone();
    merge_metadata(&mut object, wanted);
    let rules =
        |role: &Value| Option::<Vec<PolicyRule>>::deserialize(&role["rules"]).ok().flatten().unwrap_or_default();
    let missing = rule::uncovered(&rules(existing), &rules(wanted));
    if !missing.is_empty() {
        let mut all = existing["rules"].as_array().cloned().unwrap_or_default();
        all.extend(missing.iter().map(|rule| json!(rule)));
        object["rules"] = all.into();
    }
    merge_selectors(&mut object, wanted);
    Some(object)
}

fn merge_selectors(object: &mut Value, wanted: &Value) {
    if wanted["aggregationRule"].is_null() {
        object.as_object_mut().map(|o| o.remove("aggregationRule"));
        return;
    }
    let list = |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].as_array().cloned().unwrap_or_default();
    let mut selectors = list(object);
    let missing: Vec<_> = list(wanted).into_iter().filter(|s| !selectors.contains(s)).collect();
    if !missing.is_empty() {
        selectors.extend(missing);
        object["aggregationRule"]["clusterRoleSelectors"] = selectors.into();
    }
}

fn subjects(wanted: &Value, existing: &Value) -> Option<Write> {
    if wanted["roleRef"] != existing["roleRef"] {
        return Some(Write::Delete);
    }
    if is_protected(existing) {
        return None;
    }
    let mut object = existing.clone();
    merge_metadata(&mut object, wanted);
    let list = |binding: &Value| binding["subjects"].as_array().cloned().unwrap_or_default();
    let mut all = list(existing);
    let missing: Vec<_> = list(wanted).into_iter().filter(|s| !all.contains(s)).collect();
    if !missing.is_empty() {
        all.extend(missing);
        object["subjects"] = all.into();
    }
    updated(existing, object)
}

fn with_spec(wanted: &Value, existing: &Value, always: bool) -> Value {
    let told = existing["metadata"]["annotations"][AUTOUPDATE].as_str().and_then(|text| text.parse::<bool>().ok());
    // Untouched since it was made: it may be brought up to date.
    let ours = always || told.unwrap_or(existing["metadata"]["generation"] == 1);
    let mut object = existing.clone();
    if told != Some(ours) {
        object["metadata"]["annotations"][AUTOUPDATE] = ours.to_string().into();
    }
    if ours {
        object["spec"] = wanted["spec"].clone();
        // How much the exempt level may borrow is the administrator's to say.
        if wanted["spec"]["type"] == "Exempt" && existing["spec"]["exempt"].is_object() {
            object["spec"]["exempt"] = existing["spec"]["exempt"].clone();
        }
    }
    object
}

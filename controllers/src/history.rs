//! ControllerRevisions: the templates that a DaemonSet or a StatefulSet has had.

use std::sync::Arc;

use crds::{kind::Kind, owner};
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};

use crate::{
    revision::hash,
    runtime::object::{label, name},
};

pub const HASH_LABEL: &str = "controller-revision-hash";

/// What a revision remembers of a template: a patch that puts it back.
///
/// Upstream compares these as bytes, so keys are sorted and what Go always writes is there.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    value["$patch"] = json!("replace");
    if value["metadata"].is_null() {
        value["metadata"] = json!({});
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in value["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
        }
    }
    sorted(json!({"spec": {"template": value}}))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

pub fn matches(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.as_ref().is_some_and(|d| d.0 == *data)
}

/// The template that a revision remembers.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut value = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    value.as_object_mut()?.remove("$patch");
    serde_json::from_value(value).ok()
}

/// A revision for this template; named after its content.
pub fn new<K: Kind>(
    root: &K,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
    collisions: Option<i32>,
    hash_label: &str,
) -> ControllerRevision {
    let meta = root.metadata();
    let hash = hash(template, collisions);
    let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(hash_label.to_owned(), hash.clone());
    let prefix: String = name(meta).chars().take(223).collect();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: meta.annotations.clone(),
            owner_references: Some(vec![owner::controller_reference::<K>(meta)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

pub fn hash_of(revision: &ControllerRevision) -> &str {
    label(&revision.metadata, HASH_LABEL).unwrap_or_default()
}

/// By number, the oldest first.
pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by_key(|r| (r.revision, r.metadata.creation_timestamp.clone(), r.metadata.name.clone()));
}

/// A pod's metadata with the revision that it was made from.
pub fn stamp(meta: &mut ObjectMeta, hash: &str) {
    meta.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_what_go_writes() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": {"labels": {"b": "1", "a": "2"}},
            "spec": {"securityContext": {}, "containers": [{"name": "c", "image": "i"}]}}))
        .unwrap();
        let want = concat!(
            r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","b":"1"}},"#,
            r#""spec":{"containers":[{"image":"i","name":"c","resources":{}}],"securityContext":{}}}}}"#
        );
        let written = data(&template);
        assert_eq!(written.to_string(), want);
        let revision =
            new(&k8s_openapi::api::apps::v1::DaemonSet::default(), &template, written.clone(), 1, None, HASH_LABEL);
        assert!(matches(&revision, &written));
        let restored = super::template(&revision).unwrap();
        assert_eq!(data(&restored), written);
    }
}

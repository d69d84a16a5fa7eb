//! What the cells of `kubectl get` are made of.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

use crate::{duration, selector::Selector};

/// How long ago an object was made, or `<unknown>`.
pub fn age(meta: &ObjectMeta, now: Timestamp) -> String {
    duration::since(meta.creation_timestamp.as_ref(), now)
}

pub fn since(then: Timestamp, now: Timestamp) -> String {
    duration::human(now.duration_since(then))
}

pub fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// A set of labels, `a=1,b=2`, or `<none>`.
pub fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<_> = labels.into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    or_none(&pairs.join(",")).to_owned()
}

/// A selector as text, or `<none>`.
pub fn selector(selector: Option<&LabelSelector>) -> String {
    match selector {
        None => "<none>".to_owned(),
        Some(selector) => or_none(&Selector::from_object(Some(selector)).to_string()).to_owned(),
    }
}

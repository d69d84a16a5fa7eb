//! Conditions: the named observations in a status, merged one type at a time.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as General;
use serde_json::Value;

use crate::{
    field::{Error, Errors, Path},
    meta,
};

/// What all condition types of the API have in common.
pub trait Condition {
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    /// Takes over the transition time of an older condition of the same type and status.
    fn keep_transition(&mut self, old: &Self);
    /// Whether anything but times differs.
    fn differs(&self, other: &Self) -> bool;
}

macro_rules! conditions {
    ($($path:ty),* $(,)?) => { $(
        impl Condition for $path {
            fn kind(&self) -> &str {
                &self.type_
            }

            fn status(&self) -> &str {
                &self.status
            }

            fn keep_transition(&mut self, old: &Self) {
                if self.status == old.status {
                    self.last_transition_time = old.last_transition_time.clone();
                }
            }

            fn differs(&self, other: &Self) -> bool {
                self.status != other.status || self.reason != other.reason || self.message != other.message
            }
        }
    )* };
}

conditions!(
    k8s_openapi::api::apps::v1::DaemonSetCondition,
    k8s_openapi::api::apps::v1::DeploymentCondition,
    k8s_openapi::api::apps::v1::ReplicaSetCondition,
    k8s_openapi::api::apps::v1::StatefulSetCondition,
    k8s_openapi::api::batch::v1::JobCondition,
    k8s_openapi::api::core::v1::NamespaceCondition,
    k8s_openapi::api::core::v1::NodeCondition,
    k8s_openapi::api::core::v1::PodCondition,
    k8s_openapi::api::core::v1::ReplicationControllerCondition,
    General,
);

const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
const REASON_MAX: usize = 1 << 10;
const MESSAGE_MAX: usize = 32 << 10;

/// Go's zero time, 0001-01-01T00:00:00Z.
const ZERO: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The object with Go's zero time where a condition does not say since when it holds; none if they all say it. The types
/// of general conditions have nothing else for it.
pub fn with_zero_times(object: &Value) -> Option<Value> {
    let mut object = object.clone();
    let status = object.get_mut("status")?;
    let mut filled = fill_times(status);
    for device in status.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
        filled |= fill_times(device);
    }
    filled.then_some(object)
}

/// Whether any condition had none.
fn fill_times(of: &mut Value) -> bool {
    let conditions = of.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten();
    let mut filled = false;
    for condition in conditions.filter_map(Value::as_object_mut) {
        if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
            condition.insert("lastTransitionTime".into(), Value::String(ZERO.to_string()));
            filled = true;
        }
    }
    filled
}

/// The rules of the general conditions.
pub fn validate(conditions: &[General], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(condition.type_.as_str()) {
            errors.push(Error::duplicate(path.child("type"), condition.type_.as_str()));
        }
        meta::label_name(&condition.type_, path.child("type"), errors);
        let statuses = ["False", "True", "Unknown"];
        if !statuses.contains(&condition.status.as_str()) {
            errors.push(Error::not_supported(path.child("status"), condition.status.as_str(), &statuses));
        }
        if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(path.child("observedGeneration"), generation, why));
        }
        if condition.last_transition_time.0 == ZERO {
            errors.push(Error::required(path.child("lastTransitionTime"), ""));
        }
        let reason = condition.reason.as_str();
        if reason.is_empty() {
            errors.push(Error::required(path.child("reason"), ""));
        } else {
            if !is_reason(reason) {
                errors.push(Error::invalid(path.child("reason"), reason, REASON));
            }
            if reason.len() > REASON_MAX {
                errors.push(Error::too_long(path.child("reason"), REASON_MAX as i64));
            }
        }
        if condition.message.len() > MESSAGE_MAX {
            errors.push(Error::too_long(path.child("message"), MESSAGE_MAX as i64));
        }
    }
}

fn is_reason(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || c == ',' || c == ':')
}

pub fn find<'a, C: Condition>(conditions: &'a [C], kind: &str) -> Option<&'a C> {
    conditions.iter().find(|c| c.kind() == kind)
}

pub fn is_true<C: Condition>(conditions: Option<&Vec<C>>, kind: &str) -> bool {
    conditions.is_some_and(|c| find(c, kind).is_some_and(|c| c.status() == "True"))
}

/// Sets one condition in place: others keep their place, an unchanged one stays as it was. Says whether anything changed.
pub fn set<C: Condition>(conditions: &mut Vec<C>, mut new: C) -> bool {
    match conditions.iter_mut().find(|c| c.kind() == new.kind()) {
        Some(old) if !new.differs(old) => false,
        Some(old) => {
            new.keep_transition(old);
            *old = new;
            true
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

/// Removes one condition; says whether it was there.
pub fn remove<C: Condition>(conditions: &mut Vec<C>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.kind() != kind);
    conditions.len() != before
}

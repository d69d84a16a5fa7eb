//! Conditions of CustomResourceDefinitions.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};

use crate::{
    given::{Items, Text},
    meta,
};

pub const ESTABLISHED: &str = "Established";
pub const NAMES_ACCEPTED: &str = "NamesAccepted";
pub const NON_STRUCTURAL: &str = "NonStructuralSchema";
pub const TERMINATING: &str = "Terminating";
pub const APPROVED: &str = "KubernetesAPIApprovalPolicyConformant";

/// A condition without a time.
pub fn condition(name: &str, status: &str, reason: &str, message: &str) -> CustomResourceDefinitionCondition {
    CustomResourceDefinitionCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    }
}

pub fn find<'a>(definition: &'a CustomResourceDefinition, name: &str) -> Option<&'a CustomResourceDefinitionCondition> {
    definition.status.as_ref()?.conditions.items().iter().find(|condition| condition.type_ == name)
}

pub fn is_true(definition: &CustomResourceDefinition, name: &str) -> bool {
    find(definition, name).is_some_and(|condition| condition.status == "True")
}

/// Whether two conditions say the same, at whatever time.
pub fn says_same(a: &CustomResourceDefinitionCondition, b: Option<&CustomResourceDefinitionCondition>) -> bool {
    b.is_some_and(|b| {
        (&a.type_, &a.status, a.reason.text(), a.message.text())
            == (&b.type_, &b.status, b.reason.text(), b.message.text())
    })
}

/// Sets a condition; its time moves only with its status.
pub fn set(definition: &mut CustomResourceDefinition, mut new: CustomResourceDefinitionCondition, now: Timestamp) {
    let status = definition.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let now = meta::whole_seconds(now);
    match conditions.iter_mut().find(|known| known.type_ == new.type_) {
        Some(known) => {
            let stays = known.status == new.status && known.last_transition_time.is_some();
            new.last_transition_time = if stays { known.last_transition_time.take() } else { Some(now) };
            *known = new;
        }
        None => {
            new.last_transition_time.get_or_insert(now);
            conditions.push(new);
        }
    }
}

/// Takes a condition away; whether it was there.
pub fn remove(definition: &mut CustomResourceDefinition, name: &str) -> bool {
    let conditions = definition.status.as_mut().and_then(|status| status.conditions.as_mut());
    conditions.is_some_and(|conditions| {
        let before = conditions.len();
        conditions.retain(|condition| condition.type_ != name);
        conditions.len() < before
    })
}

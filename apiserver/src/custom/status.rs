//! The next status of a definition, where it differs from what it has.

use std::sync::Arc;

use crds::kinds::{
    apiextensions::{
        approval,
        condition::{self, ESTABLISHED, condition as of},
        names, structural,
    },
    certificates::pem,
};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// The names that the definition gets in its group.
pub fn names(
    definition: &CustomResourceDefinition,
    group: &[Arc<CustomResourceDefinition>],
    now: Timestamp,
) -> Option<CustomResourceDefinition> {
    let before = definition.status.as_ref().and_then(|status| status.accepted_names.clone()).unwrap_or_default();
    if before == definition.spec.names {
        return None;
    }
    let found = names::decide(definition, group.iter().map(AsRef::as_ref));
    let known = condition::find(definition, condition::NAMES_ACCEPTED);
    if before == found.names && condition::says_same(&found.accepted, known) {
        return None;
    }
    let mut next = definition.clone();
    next.status.get_or_insert_default().accepted_names = Some(found.names);
    condition::set(&mut next, found.accepted, now);
    condition::set(&mut next, found.established, now);
    Some(next)
}

/// Names that are accepted establish a definition, if its conversion can be trusted.
pub fn established(definition: &CustomResourceDefinition, now: Timestamp) -> Option<CustomResourceDefinition> {
    let config = definition.spec.conversion.as_ref().and_then(|c| c.webhook.as_ref()?.client_config.as_ref());
    let bundle = config.and_then(|config| config.ca_bundle.as_ref());
    let new = match bundle {
        Some(bundle) if pem::certificates(&bundle.0).is_err() => {
            of(ESTABLISHED, "False", "InvalidCABundle", "The conversion webhook CABundle is invalid")
        }
        _ => of(ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted"),
    };
    changed(definition, new, now)
}

/// Whether all schemas are structural; nothing is said of those that are.
pub fn structural(definition: &CustomResourceDefinition, now: Timestamp) -> Option<CustomResourceDefinition> {
    match structural::violations(definition) {
        None => removed(definition, condition::NON_STRUCTURAL),
        Some(why) => changed(definition, of(condition::NON_STRUCTURAL, "True", "Violations", &why), now),
    }
}

/// Whether a group of the project itself has been approved; nothing is said of other groups.
pub fn approved(definition: &CustomResourceDefinition, now: Timestamp) -> Option<CustomResourceDefinition> {
    match approval::condition(definition) {
        None => removed(definition, condition::APPROVED),
        Some(new) => changed(definition, new, now),
    }
}

fn changed(
    definition: &CustomResourceDefinition,
    new: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition,
    now: Timestamp,
) -> Option<CustomResourceDefinition> {
    if condition::says_same(&new, condition::find(definition, &new.type_)) {
        return None;
    }
    let mut next = definition.clone();
    condition::set(&mut next, new, now);
    Some(next)
}

fn removed(definition: &CustomResourceDefinition, name: &str) -> Option<CustomResourceDefinition> {
    condition::find(definition, name)?;
    let mut next = definition.clone();
    condition::remove(&mut next, name).then_some(next)
}

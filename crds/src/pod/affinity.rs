//! Rules of affinity: which nodes and which other Pods a Pod wants beside it.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Items,
    meta, selector,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn validate(affinity: &Affinity, path: &Path, errors: &mut Errors) {
    if let Some(node) = &affinity.node_affinity {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    if let Some(pods) = &affinity.pod_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.items();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.items();
        pod_terms(required, preferred, &path.child("podAffinity"), errors);
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.items();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.items();
        pod_terms(required, preferred, &path.child("podAntiAffinity"), errors);
    }
}

fn node_affinity(affinity: &NodeAffinity, path: &Path, errors: &mut Errors) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let list = path.child(PREFERRED);
    for (i, term) in affinity.preferred_during_scheduling_ignored_during_execution.items().iter().enumerate() {
        let path = list.index(i);
        weight(term.weight, &path, errors);
        node_term(&term.preference, true, &path.child("preference"), errors);
    }
}

fn weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(path.child("weight"), weight, "must be in the range 1-100"));
    }
}

pub fn node_selector(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(Error::required(list, "must have at least one node selector term"));
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, false, &list.index(i), errors);
    }
}

/// The values of what is only preferred may be no label's.
fn node_term(term: &NodeSelectorTerm, any_value: bool, path: &Path, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, requirement) in term.match_expressions.items().iter().enumerate() {
        node_label(requirement, any_value, &list.index(i), errors);
    }
    let list = path.child("matchFields");
    for (i, requirement) in term.match_fields.items().iter().enumerate() {
        node_field(requirement, &list.index(i), errors);
    }
}

fn node_label(requirement: &NodeSelectorRequirement, any_value: bool, path: &Path, errors: &mut Errors) {
    let values = requirement.values.items();
    let list = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(list, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.push(Error::forbidden(list, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.push(Error::required(list, "must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(Error::invalid(path.child("operator"), other, "not a valid selector operator")),
    }
    meta::label_name(&requirement.key, path.child("key"), errors);
    for (i, value) in values.iter().enumerate().filter(|_| !any_value) {
        extend(errors, list.index(i), value, field::label_value(value));
    }
}

fn node_field(requirement: &NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = requirement.values.items();
    let list = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => errors.push(Error::required(
            list,
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )),
        "In" | "NotIn" => {}
        other => errors.push(Error::invalid(path.child("operator"), other, "not a valid selector operator")),
    }
    if requirement.key != "metadata.name" {
        let key = requirement.key.as_str();
        errors.push(Error::invalid(path.child("key"), key, "not a valid field selector key"));
        return;
    }
    for (i, value) in values.iter().enumerate() {
        extend(errors, list.index(i), value, field::dns_subdomain(value));
    }
}

fn pod_terms(required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm], path: &Path, errors: &mut Errors) {
    let list = path.child(REQUIRED);
    for (i, term) in required.iter().enumerate() {
        pod_term(term, &list.index(i), errors);
    }
    let list = path.child(PREFERRED);
    for (i, weighted) in preferred.iter().enumerate() {
        let path = list.index(i);
        weight(weighted.weight, &path, errors);
        pod_term(&weighted.pod_affinity_term, &path.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    selector::validate::label_selector(term.label_selector.as_ref(), &path.child("labelSelector"), errors);
    selector::validate::label_selector(term.namespace_selector.as_ref(), &path.child("namespaceSelector"), errors);
    for namespace in term.namespaces.items() {
        extend(errors, path.child("namespace"), namespace, field::dns_label(namespace));
    }
    let (same, other) = (term.match_label_keys.items(), term.mismatch_label_keys.items());
    label_keys(same, other, term.label_selector.as_ref(), path, errors);
    if term.topology_key.is_empty() {
        errors.push(Error::required(path.child("topologyKey"), "can not be empty"));
    }
    meta::label_name(&term.topology_key, path.child("topologyKey"), errors);
}

/// Keys whose value in the Pod's labels is added to its selector.
pub fn label_keys(
    same: &[String],
    other: &[String],
    selector: Option<&LabelSelector>,
    path: &Path,
    errors: &mut Errors,
) {
    for (name, keys) in [("matchLabelKeys", same), ("mismatchLabelKeys", other)] {
        let list = path.child(name);
        if !keys.is_empty() && selector.is_none() {
            errors.push(Error::forbidden(list, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            meta::label_name(key, list.index(i), errors);
        }
    }
    // A key in a selector that is also in the list has been added by an earlier write; twice is one too many.
    let mut seen: HashSet<&str> =
        selector.iter().flat_map(|s| s.match_labels.iter().flatten()).map(|(k, _)| &**k).collect();
    let places: HashMap<&str, usize> = same.iter().enumerate().map(|(i, key)| (key.as_str(), i)).collect();
    for expression in selector.iter().flat_map(|s| s.match_expressions.items()) {
        let is_repeated = !seen.insert(&expression.key);
        if let Some(i) = places.get(expression.key.as_str()).filter(|_| is_repeated) {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(path.index(*i), expression.key.as_str(), why));
        }
    }
    let list = path.child("matchLabelKeys");
    let other: HashSet<&String> = other.iter().collect();
    for (i, key) in same.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(Error::invalid(list.index(i), key.as_str(), why));
    }
}

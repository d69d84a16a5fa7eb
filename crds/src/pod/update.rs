//! What of a Pod may change after it was made: images, deadlines, tolerations, gates, and ephemeral containers.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Container, NodeAffinity, NodeSelectorTerm, Pod, PodSchedulingGate, PodSpec, Toleration,
};
use serde::Serialize;
use serde_json::Value;

use super::validate::{self, scheduling};
use crate::{
    diff, equal,
    field::{Error, Errors, Path, extend_number},
    given::{Items, Text},
    go, syntax,
};

const SPEC: Path = Path::new("spec");
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// One difference, in upstream's form.
pub fn difference<T: Serialize>(old: &T, new: &impl Serialize, type_name: &str) -> String {
    let old = go::as_sent(old, &Value::Null, type_name);
    diff::unified(&go::show_lines(&old, type_name), &go::show_lines(new, type_name))
}

/// Annotations that may not change, and the rules of all of them.
pub fn annotations(new: &Pod, old: &Pod, errors: &mut Errors) {
    let none = BTreeMap::new();
    let (now, before) =
        (new.metadata.annotations.as_ref().unwrap_or(&none), old.metadata.annotations.as_ref().unwrap_or(&none));
    let metadata = Path::new("metadata");
    let path = metadata.child("annotations");
    for key in before.iter().filter(|(key, value)| now.get(*key) != Some(*value)).map(|(key, _)| key) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(Error::forbidden(path.key(key), "may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(path.key(key), "may not remove or update mirror pod annotation"));
        }
    }
    for key in now.keys().filter(|key| !before.contains_key(*key)) {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(Error::forbidden(path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(path.key(key), "may not add mirror pod annotation"));
        }
    }
    if let Some(spec) = &new.spec {
        validate::annotations(Some(now), spec, &path, errors);
    }
}

/// An update of the Pod itself, as it was `sent`.
pub fn validate(new: &Pod, old: &Pod, sent: &Value, errors: &mut Errors) {
    validate::pod_and_annotations(new, errors);
    annotations(new, old, errors);
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else {
        return;
    };
    for (list, now, before) in [
        ("containers", &new.containers[..], &old.containers[..]),
        ("initContainers", new.init_containers.items(), old.init_containers.items()),
    ] {
        let path = SPEC.child(list);
        if now.len() != before.len() {
            errors.push(Error::forbidden(path, "pod updates may not add or remove containers"));
            return;
        }
        images(now, &path, errors);
    }
    if !deadline(new, old, errors) {
        return;
    }
    only_added_tolerations(new.tolerations.items(), old.tolerations.items(), errors);
    only_removed_gates(new.scheduling_gates.items(), old.scheduling_gates.items(), errors);
    if equal::same(new, old) {
        return;
    }
    let masked = masked(new, old, errors);
    if !equal::same(&masked, old) {
        let shown = difference(old, &go::as_sent(&masked, &sent["spec"], "PodSpec"), "PodSpec");
        let why = format!("pod updates may not change fields other than {CHANGEABLE}\n{shown}");
        errors.push(Error::forbidden(SPEC, why));
    }
}

fn images(containers: &[Container], path: &Path, errors: &mut Errors) {
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        let image = container.image.text();
        if image.is_empty() {
            errors.push(Error::required(path.child("image"), ""));
        }
        if image.trim() != image {
            errors.push(Error::invalid(path.child("image"), image, "must not have leading or trailing whitespace"));
        }
    }
}

/// Whether the rest is worth looking at.
fn deadline(new: &PodSpec, old: &PodSpec, errors: &mut Errors) -> bool {
    let path = SPEC.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(now), before) => {
            let wrong = syntax::in_range(now, 0, i32::MAX.into());
            if !wrong.is_empty() {
                extend_number(errors, path, now, wrong);
                return false;
            }
            if before.is_some_and(|before| before < now) {
                errors.push(Error::invalid(path, now, "must be less than or equal to previous value"));
                return false;
            }
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(path, serde_json::Value::Null, why));
        }
        (None, None) => {}
    }
    true
}

fn only_added_tolerations(new: &[Toleration], old: &[Toleration], errors: &mut Errors) {
    let path = SPEC.child("tolerations");
    let now: HashSet<_> = new.iter().map(scheduling::untimed).collect();
    if !old.iter().map(scheduling::untimed).all(|before| now.contains(&before)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, why));
        return;
    }
    validate::tolerations(new, &path, errors);
}

/// A gate that is there more than once is told once, where it is last.
fn only_removed_gates(new: &[PodSchedulingGate], old: &[PodSchedulingGate], errors: &mut Errors) {
    let list = SPEC.child("schedulingGates");
    let old: HashSet<&str> = old.iter().map(|gate| gate.name.as_str()).collect();
    let last: HashMap<&str, usize> = new.iter().enumerate().map(|(i, gate)| (gate.name.as_str(), i)).collect();
    let is_added = |(i, gate): &(usize, &PodSchedulingGate)| {
        !old.contains(gate.name.as_str()) && last.get(gate.name.as_str()) == Some(i)
    };
    for (i, gate) in new.iter().enumerate().filter(is_added) {
        let path = list.index(i);
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.push(Error::forbidden(path.child("name"), why));
    }
}

/// The new spec with all that may change put back.
fn masked(new: &PodSpec, old: &PodSpec, errors: &mut Errors) -> PodSpec {
    let mut masked = new.clone();
    let init = masked.init_containers.iter_mut().flatten();
    let before = old.containers.iter().chain(old.init_containers.items());
    for (container, before) in masked.containers.iter_mut().chain(init).zip(before) {
        container.image.clone_from(&before.image);
    }
    // Upstream puts the containers in a new list, which is none if there are none.
    masked.init_containers.take_if(|containers| containers.is_empty());
    masked.active_deadline_seconds = old.active_deadline_seconds;
    masked.scheduling_gates.clone_from(&old.scheduling_gates);
    masked.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0) && masked.termination_grace_period_seconds == Some(1)
    {
        masked.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !old.scheduling_gates.items().is_empty() {
        mask_gated(&mut masked, old, errors);
    }
    masked
}

/// While a Pod is gated, its choice of nodes may be narrowed.
fn mask_gated(masked: &mut PodSpec, old: &PodSpec, errors: &mut Errors) {
    if !equal::same(&masked.node_selector, &old.node_selector) {
        let none = BTreeMap::new();
        let now = masked.node_selector.as_ref().unwrap_or(&none);
        if old.node_selector.iter().flatten().any(|(key, value)| now.get(key) != Some(value)) {
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let shown = serde_json::to_string(&masked.node_selector).unwrap_or_default();
            errors.push(Error::invalid(SPEC.child("nodeSelector"), "", why).showing(shown));
        }
        masked.node_selector.clone_from(&old.node_selector);
    }
    let before = old.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    let now = masked.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    if equal::same(&before, &now) {
        return;
    }
    narrowed_affinity(now.as_ref(), before.as_ref(), errors);
    match &mut masked.affinity {
        Some(affinity)
            if old.affinity.is_none() && affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() =>
        {
            masked.affinity = None;
        }
        Some(affinity) => affinity.node_affinity = before,
        None => masked.affinity.clone_from(&old.affinity),
    }
}

fn terms(affinity: Option<&NodeAffinity>) -> &[NodeSelectorTerm] {
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.map_or(&[], |r| &r.node_selector_terms)
}

fn narrowed_affinity(new: Option<&NodeAffinity>, old: Option<&NodeAffinity>, errors: &mut Errors) {
    let (now, before) = (terms(new), terms(old));
    if before.is_empty() {
        return;
    }
    let path = SPEC.child("affinity");
    let path = path.child("nodeAffinity");
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    let list = path.child("nodeSelectorTerms");
    if now.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let shown = if now.is_empty() { "null".to_owned() } else { go::show(now, "[]NodeSelectorTerm") };
        errors.push(Error::invalid(list, "", why).showing(shown));
        return;
    }
    for (i, (now, before)) in now.iter().zip(before).enumerate() {
        let (a, b) = (now.match_expressions.items(), before.match_expressions.items());
        let (c, d) = (now.match_fields.items(), before.match_fields.items());
        let was_empty = b.is_empty() && d.is_empty();
        let grown = a.starts_with(b) && c.starts_with(d) && !(was_empty && (!a.is_empty() || !c.is_empty()));
        if !grown {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(Error::invalid(list.index(i), "", why).showing_struct(now, "NodeSelectorTerm"));
        }
    }
}

/// An update through `/ephemeralcontainers`.
pub fn validate_ephemeral(new: &Pod, old: &Pod, errors: &mut Errors) {
    if old.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)) {
        errors.clear();
        errors.push(Error::forbidden("[]", "static pods do not support ephemeral containers"));
        return;
    }
    validate::pod_and_annotations(new, errors);
    annotations(new, old, errors);
    let path = SPEC.child("ephemeralContainers");
    let now = new.spec.as_ref().map_or(&[][..], |s| s.ephemeral_containers.items());
    for before in old.spec.iter().flat_map(|s| s.ephemeral_containers.items()) {
        let name = &before.name;
        match now.iter().rfind(|c| c.name == *name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(Error::forbidden(path, why));
            }
            Some(changed) if !equal::same(changed, before) => {
                let shown = difference(before, changed, "EphemeralContainer");
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{shown}");
                errors.push(Error::forbidden(path, why));
            }
            Some(_) => {}
        }
    }
}

/// Restores all but the ephemeral containers.
pub fn keep_all_but_ephemeral(new: &mut Pod, old: &Pod) {
    let ephemeral = new.spec.as_mut().and_then(|s| s.ephemeral_containers.take());
    new.spec.clone_from(&old.spec);
    if let Some(spec) = &mut new.spec {
        spec.ephemeral_containers = ephemeral;
    }
    new.status.clone_from(&old.status);
    crate::meta::keep_for_status(&mut new.metadata, &old.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_gate_is_told_where_it_is_last() {
        let gates = |names: &[&str]| -> Vec<PodSchedulingGate> {
            names.iter().map(|name| PodSchedulingGate { name: (*name).to_owned() }).collect()
        };
        let mut errors = Errors::new();
        only_removed_gates(&gates(&["a", "b", "a"]), &gates(&["b"]), &mut errors);
        let told: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(told, ["spec.schedulingGates[2].name"]);
    }
}

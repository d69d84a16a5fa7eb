//! What of a Job may change after it was made: its size, and while it is suspended, where and with what its Pods run.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::{Affinity, Container, PodTemplateSpec},
};
use serde::Serialize;

use super::{SPEC, spec};
use crate::{
    condition, equal,
    field::{Error, Errors},
    given::{Items, Text},
    meta::IMMUTABLE,
    selector::validate as selectors,
};

pub fn validate(new: &Job, old: &Job, errors: &mut Errors) {
    let (Some(now), Some(before)) = (&new.spec, &old.spec) else {
        return;
    };
    spec::validate_with_selector(now, errors);
    completions(now, before, errors);
    kept(&now.selector, &before.selector, "selector", selectors::TYPE, errors);
    template(now, before, old, errors);
    kept(&now.completion_mode, &before.completion_mode, "completionMode", "", errors);
    let policy = "io.k8s.api.batch.v1.PodFailurePolicy";
    kept(&now.pod_failure_policy, &before.pod_failure_policy, "podFailurePolicy", policy, errors);
    kept(&now.backoff_limit_per_index, &before.backoff_limit_per_index, "backoffLimitPerIndex", "", errors);
    kept(&now.managed_by, &before.managed_by, "managedBy", "", errors);
    let policy = "io.k8s.api.batch.v1.SuccessPolicy";
    kept(&now.success_policy, &before.success_policy, "successPolicy", policy, errors);
}

fn kept<T: Serialize>(new: &Option<T>, old: &Option<T>, name: &str, type_name: &str, errors: &mut Errors) {
    if equal::same(new, old) {
        return;
    }
    let wrong = Error::invalid(SPEC.child(name), "", IMMUTABLE);
    errors.push(match new {
        None => wrong.showing("null"),
        Some(value) => wrong.showing_struct(value, type_name),
    });
}

fn completions(new: &JobSpec, old: &JobSpec, errors: &mut Errors) {
    if new.completion_mode.text() != "Indexed" {
        return kept(&new.completions, &old.completions, "completions", "", errors);
    }
    if let Some(wanted) = new.completions.filter(|_| new.completions != old.completions)
        && Some(wanted) != new.parallelism
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(SPEC.child("completions"), wanted, why));
    }
}

/// While a Job is suspended and none of its Pods runs, its Pods may be placed and sized anew.
fn template(new: &JobSpec, old: &JobSpec, job: &Job, errors: &mut Errors) {
    let none = JobStatus::default();
    let status = job.status.as_ref().unwrap_or(&none);
    let suspended = old.suspend == Some(true);
    let idle = status.start_time.is_none() || condition::is_true(status.conditions.as_ref(), "Suspended");
    let mutable = suspended && idle && status.active.unwrap_or(0) == 0;
    let mut expected = old.template.clone();
    if mutable {
        take_placement(&mut expected, &new.template);
    }
    if !suspended || !mutable {
        if !equal::same(&new.template, &expected) {
            let wrong = Error::invalid(SPEC.child("template"), "", IMMUTABLE);
            errors.push(wrong.showing_struct(&new.template, "PodTemplateSpec"));
        }
        return;
    }
    if let (Some(pod), Some(now)) = (&mut expected.spec, &new.template.spec) {
        take_resources(&mut pod.containers, &now.containers);
        if let Some(init) = &mut pod.init_containers {
            take_resources(init, now.init_containers.items());
        }
    }
    if !equal::same(&new.template.spec, &expected.spec) {
        let wrong = Error::invalid(SPEC.child("template.spec"), "", IMMUTABLE);
        errors.push(match &new.template.spec {
            None => wrong.showing("null"),
            Some(spec) => wrong.showing_struct(spec, "PodSpec"),
        });
    }
}

fn take_placement(to: &mut PodTemplateSpec, from: &PodTemplateSpec) {
    let metadata = from.metadata.clone().unwrap_or_default();
    let own = to.metadata.get_or_insert_default();
    own.labels = metadata.labels;
    own.annotations = metadata.annotations;
    if *own == Default::default() && from.metadata.is_none() {
        to.metadata = None;
    }
    let (Some(pod), Some(now)) = (&mut to.spec, &from.spec) else {
        return;
    };
    let node_affinity = now.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    match (&mut pod.affinity, &now.affinity) {
        (Some(affinity), _) => {
            affinity.node_affinity = node_affinity;
            if *affinity == Affinity::default() && now.affinity.is_none() {
                pod.affinity = None;
            }
        }
        (None, Some(_)) => pod.affinity = Some(Affinity { node_affinity, ..Affinity::default() }),
        (None, None) => {}
    }
    pod.node_selector.clone_from(&now.node_selector);
    pod.tolerations.clone_from(&now.tolerations);
    pod.scheduling_gates.clone_from(&now.scheduling_gates);
}

fn take_resources(to: &mut [Container], from: &[Container]) {
    if to.len() != from.len() {
        return;
    }
    for (container, now) in to.iter_mut().zip(from).filter(|(a, b)| a.name == b.name) {
        container.resources.clone_from(&now.resources);
    }
}

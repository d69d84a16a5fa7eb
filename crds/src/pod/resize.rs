//! A resize of a running Pod: only processor and memory, of containers and of the Pod as a whole.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use super::{container::is_sidecar, qos, validate};
use crate::{
    equal,
    field::{Error, Errors, Path},
    given::{Items, Text},
    meta,
    resource::{CPU, MEMORY, Written},
};

const SPEC: Path = Path::new("spec");

/// Restores all that a resize may not change.
pub fn keep_all_but_resources(new: &mut Pod, old: &Pod) {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else {
        return;
    };
    let same_count = spec.containers.len() == before.containers.len()
        && spec.init_containers.items().len() == before.init_containers.items().len();
    if !same_count {
        return;
    }
    let containers = merged(&spec.containers, &before.containers);
    let init = merged(spec.init_containers.items(), before.init_containers.items());
    let mut kept = before.clone();
    kept.resources.clone_from(&spec.resources);
    kept.containers = containers;
    kept.init_containers = (!init.is_empty()).then_some(init);
    new.spec = Some(kept);
    new.status.clone_from(&old.status);
    meta::keep_for_status(&mut new.metadata, &old.metadata);
}

/// The old containers with the new resources; the new ones if they are not the same containers.
fn merged(new: &[Container], old: &[Container]) -> Vec<Container> {
    if new.iter().zip(old).any(|(new, old)| new.name != old.name) {
        return new.to_vec();
    }
    let merge = |(new, old): (&Container, &Container)| Container {
        resources: new.resources.clone(),
        resize_policy: new.resize_policy.clone(),
        ..old.clone()
    };
    new.iter().zip(old).map(merge).collect()
}

pub fn validate(new: &Pod, old: &Pod, errors: &mut Errors) {
    let before = errors.len();
    validate::pod_and_annotations(new, errors);
    let (Some(spec), Some(old_spec)) = (&new.spec, &old.spec) else {
        return;
    };
    let only = |why: &str| Errors::from(Error::forbidden("[]", why));
    if old.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/config.mirror")) {
        *errors = only("static pods cannot be resized");
        return;
    }
    if old_spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        *errors = only("windows pods cannot be resized");
        return;
    }
    let class = new.status.as_ref().map_or("", |s| s.qos_class.text());
    if qos::class_of(old) != qos::class(spec) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(SPEC, class, why));
    }
    if !is_supported(old) {
        errors.push(Error::forbidden(SPEC, "Pod running on node without support for resize"));
    }
    let mut masked = spec.clone();
    whole(spec, old_spec, &mut masked, errors);
    if !same_containers(spec, old_spec, errors) {
        return;
    }
    removals(spec, old_spec, errors);
    mask_containers(&mut masked, old_spec, errors);
    if errors.len() == before && !equal::same(&masked, old_spec) {
        errors.push(Error::forbidden(SPEC, "only cpu and memory resources are mutable"));
    }
}

/// The node reports what containers have only if it can resize them.
fn is_supported(pod: &Pod) -> bool {
    let mut statuses = pod.status.iter().flat_map(|s| s.container_statuses.items());
    let running = statuses.find(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.is_none_or(|s| s.resources.is_some())
}

fn is_set(resources: Option<&ResourceRequirements>) -> bool {
    let filled = |list: &Option<Written>| list.as_ref().is_some_and(|l| !l.is_empty());
    resources.is_some_and(|r| filled(&r.requests) || filled(&r.limits))
}

fn whole(new: &PodSpec, old: &PodSpec, masked: &mut PodSpec, errors: &mut Errors) {
    if !is_set(new.resources.as_ref()) && !is_set(old.resources.as_ref()) {
        return;
    }
    let path = SPEC.child("resources");
    if let Some(before) = &old.resources {
        let Some(now) = &new.resources else {
            errors.push(Error::forbidden(path, "pod-level resources cannot be removed"));
            return;
        };
        if removed(now.requests.as_ref(), before.requests.as_ref()) {
            errors.push(Error::forbidden(path.child("requests"), "pod-level resource requests cannot be removed"));
        }
        if removed(now.limits.as_ref(), before.limits.as_ref()) {
            errors.push(Error::forbidden(path.child("limits"), "pod-level resource limits cannot be removed"));
        }
    }
    if let Some(now) = &mut masked.resources {
        let before = old.resources.as_ref();
        now.requests = mask(now.requests.take(), before.and_then(|r| r.requests.as_ref()));
        now.limits = mask(now.limits.take(), before.and_then(|r| r.limits.as_ref()));
        if before.is_none() && !is_set(Some(now)) && now.claims.items().is_empty() {
            masked.resources = None;
        }
    }
    if !same_resources(masked.resources.as_ref(), old.resources.as_ref()) {
        errors.push(Error::forbidden(SPEC, "only cpu and memory resources are mutable at pod-level"));
    }
}

/// An empty list is none.
fn same_resources(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let plain = |r: Option<&ResourceRequirements>| {
        let mut r = r.cloned().unwrap_or_default();
        r.limits = r.limits.filter(|l| !l.is_empty());
        r.requests = r.requests.filter(|l| !l.is_empty());
        r
    };
    equal::same(&plain(a), &plain(b))
}

/// The list with processor and memory as they were.
fn mask(list: Option<Written>, old: Option<&Written>) -> Option<Written> {
    let mut list = list.unwrap_or_default();
    for name in [CPU, MEMORY] {
        list.remove(name);
        if let Some(before) = old.and_then(|o| o.get(name)) {
            list.insert(name.to_owned(), before.clone());
        }
    }
    (!list.is_empty()).then_some(list)
}

fn removed(new: Option<&Written>, old: Option<&Written>) -> bool {
    old.into_iter().flatten().any(|(name, _)| new.is_none_or(|n| !n.contains_key(name)))
}

fn same_containers(new: &PodSpec, old: &PodSpec, errors: &mut Errors) -> bool {
    let before = errors.len();
    for (name, now, was) in [
        ("containers", &new.containers[..], &old.containers[..]),
        ("initContainers", new.init_containers.items(), old.init_containers.items()),
    ] {
        let list = SPEC.child(name);
        if now.len() != was.len() {
            errors.push(Error::forbidden(list, format!("{name} may not be added or removed on resize")));
            continue;
        }
        for (i, _) in now.iter().zip(was).enumerate().filter(|(_, (now, was))| now.name != was.name) {
            let path = list.index(i);
            let why = format!("{name} may not be renamed or reordered on resize");
            errors.push(Error::forbidden(path.child("name"), why));
        }
    }
    errors.len() == before
}

fn removals(new: &PodSpec, old: &PodSpec, errors: &mut Errors) {
    let none = ResourceRequirements::default();
    for (name, now, was) in [
        ("initContainers", new.init_containers.items(), old.init_containers.items()),
        ("containers", &new.containers[..], &old.containers[..]),
    ] {
        let list = SPEC.child(name);
        for (i, (now, was)) in now.iter().zip(was).enumerate() {
            let (now, was) = (now.resources.as_ref().unwrap_or(&none), was.resources.as_ref().unwrap_or(&none));
            let path = list.index(i);
            let path = path.child("resources");
            if removed(now.requests.as_ref(), was.requests.as_ref()) {
                errors.push(Error::forbidden(path.child("requests"), "resource requests cannot be removed"));
            }
            if removed(now.limits.as_ref(), was.limits.as_ref()) {
                errors.push(Error::forbidden(path.child("limits"), "resource limits cannot be removed"));
            }
        }
    }
}

/// Puts processor and memory of each container back, and tells what else differs.
fn mask_containers(masked: &mut PodSpec, old: &PodSpec, errors: &mut Errors) {
    for (container, before) in masked.containers.iter_mut().zip(&old.containers) {
        mask_container(container, before);
        if !equal::same(container, before) {
            errors.push(Error::forbidden(SPEC, "only cpu and memory resources are mutable"));
        }
    }
    let list = SPEC.child("initContainers");
    let init = masked.init_containers.iter_mut().flatten();
    for (i, (container, before)) in init.zip(old.init_containers.items()).enumerate() {
        let changed = !equal::same(container, before);
        mask_container(container, before);
        if !equal::same(container, before) {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(Error::forbidden(list.index(i), why));
        }
        if changed && !is_sidecar(container) {
            let restarts = container.resize_policy.items().iter().filter(|p| p.restart_policy == "RestartContainer");
            let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.extend(restarts.map(|_| Error::forbidden(list.index(i), why)));
        }
    }
}

fn mask_container(container: &mut Container, before: &Container) {
    let none = ResourceRequirements::default();
    let was = before.resources.as_ref().unwrap_or(&none);
    let now = container.resources.take().unwrap_or_default();
    let masked = ResourceRequirements {
        limits: mask(now.limits, was.limits.as_ref()),
        requests: mask(now.requests, was.requests.as_ref()),
        claims: None,
    };
    // Whether an empty struct is written down says nothing.
    container.resources =
        if masked == none && same_resources(Some(was), None) { before.resources.clone() } else { Some(masked) };
}

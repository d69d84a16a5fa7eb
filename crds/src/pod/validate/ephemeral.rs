//! Ephemeral containers: those that are added to a running Pod for a look at it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::{Surroundings, common, containers::of_ephemeral, trimmed_image};
use crate::{
    field::{Error, Errors, Path},
    given::{Items, Text},
};

const REFUSED: &str = "cannot be set for an Ephemeral Container";

pub fn validate(spec: &PodSpec, around: &Surroundings, path: &Path, errors: &mut Errors) {
    let others: BTreeSet<&str> =
        spec.containers.iter().chain(spec.init_containers.items()).map(|c| c.name.as_str()).collect();
    let mut names = others.clone();
    for (i, ephemeral) in spec.ephemeral_containers.items().iter().enumerate() {
        let path = path.index(i);
        let container = of_ephemeral(ephemeral);
        common(&container, around, &path, errors);
        trimmed_image(&container, &path, errors);
        if !names.insert(ephemeral.name.as_str()) {
            errors.push(Error::duplicate(path.child("name"), ephemeral.name.as_str()));
        }
        let target = ephemeral.target_container_name.text();
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(path.child("targetContainerName"), target));
        }
        refused_fields(&container, &path, errors);
    }
}

/// In the order of Go's declaration.
fn refused_fields(container: &Container, path: &Path, errors: &mut Errors) {
    let has_resources = container.resources.as_ref().is_some_and(|r| *r != ResourceRequirements::default());
    for (name, given) in [
        ("ports", container.ports.is_some()),
        ("resources", has_resources),
        ("resizePolicy", container.resize_policy.is_some()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", container.restart_policy_rules.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ] {
        if given {
            errors.push(Error::forbidden(path.child(name), REFUSED));
        }
    }
    let list = path.child("volumeMounts");
    for (i, mount) in container.volume_mounts.items().iter().enumerate() {
        let path = list.index(i);
        for (name, value) in [("subPath", mount.sub_path.text()), ("subPathExpr", mount.sub_path_expr.text())] {
            if !value.is_empty() {
                errors.push(Error::forbidden(path.child(name), REFUSED));
            }
        }
    }
}

//! Rules of a Pod's spec, alike in a Pod and in a template of one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Container, ObjectFieldSelector, Pod, PodSpec, PodTemplateSpec, ResourceFieldSelector, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{affinity, container as containers};
use crate::{
    field::{self, Error, Errors, Path, extend, extend_number},
    given::{Items, Text},
    meta,
    quantity::Quantity,
    resource, syntax, volume,
};

mod annotation;
mod env;
mod ephemeral;
mod handler;
mod host;
mod lifetime;
mod mount;
mod platform;
mod port;
pub mod scheduling;
mod security;
mod whole;

pub use annotation::validate as annotations;
pub use scheduling::{taint_effect, tolerations};

const SPEC: Path = Path::new("spec");

/// The parts of a spec that its containers are checked against.
struct Surroundings<'a> {
    volumes: BTreeMap<&'a str, &'a Volume>,
    claims: BTreeSet<&'a str>,
    grace: Option<i64>,
    restart_policy: &'a str,
    host_users: bool,
}

/// A new Pod, beside its metadata.
pub fn create(pod: &Pod, errors: &mut Errors) {
    pod_and_annotations(pod, errors);
    let Some(spec) = &pod.spec else {
        return;
    };
    if !spec.ephemeral_containers.items().is_empty() {
        errors.push(Error::forbidden(SPEC.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !spec.node_name.text().is_empty() && !spec.scheduling_gates.items().is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(SPEC.child("nodeName"), why));
    }
    annotation::match_fields(pod.metadata.annotations.as_ref(), spec, &SPEC, errors);
}

/// What holds for a Pod at all times, beside its metadata.
pub fn pod_and_annotations(pod: &Pod, errors: &mut Errors) {
    let Some(spec) = &pod.spec else {
        return;
    };
    let metadata = Path::new("metadata");
    annotation::validate(pod.metadata.annotations.as_ref(), spec, &metadata.child("annotations"), errors);
    self::spec(spec, Some(&pod.metadata), &SPEC, errors);
    if spec.service_account_name.text().is_empty() {
        tokens_without_account(spec, errors);
    }
    for (list, containers) in [("containers", &spec.containers[..]), ("initContainers", spec.init_containers.items())] {
        let list = SPEC.child(list);
        for (i, container) in containers.iter().enumerate() {
            trimmed_image(container, &list.index(i), errors);
        }
    }
}

fn tokens_without_account(spec: &PodSpec, errors: &mut Errors) {
    let volumes = SPEC.child("volumes");
    for (i, volume) in spec.volumes.items().iter().enumerate() {
        let path = volumes.index(i);
        let path = path.child("projected");
        let list = path.child("sources");
        let sources = volume.projected.iter().flat_map(|p| p.sources.items()).enumerate();
        for (i, _) in sources.filter(|(_, s)| s.service_account_token.is_some()) {
            let path = list.index(i);
            let why = "must not be specified when serviceAccountName is not set";
            errors.push(Error::forbidden(path.child("serviceAccountToken"), why));
        }
    }
}

fn trimmed_image(container: &Container, path: &Path, errors: &mut Errors) {
    let image = container.image.text();
    if image.trim() != image {
        errors.push(Error::invalid(path.child("image"), image, "must not have leading or trailing whitespace"));
    }
}

/// A template of Pods.
pub fn template(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let none = (ObjectMeta::default(), PodSpec::default());
    let metadata = template.metadata.as_ref().unwrap_or(&none.0);
    let spec = template.spec.as_ref().unwrap_or(&none.1);
    let spec_path = path.child("spec");
    meta::labels(metadata.labels.as_ref(), path.child("labels"), errors);
    meta::annotations(metadata.annotations.as_ref(), path.child("annotations"), errors);
    annotation::validate(metadata.annotations.as_ref(), spec, &path.child("annotations"), errors);
    self::spec(spec, None, &spec_path, errors);
    annotation::match_fields(metadata.annotations.as_ref(), spec, &spec_path, errors);
    if !spec.ephemeral_containers.items().is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(spec_path.child("ephemeralContainers"), why));
    }
}

/// `pod` is the Pod's metadata, and none for a template.
pub fn spec(spec: &PodSpec, pod: Option<&ObjectMeta>, path: &Path, errors: &mut Errors) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(Error::required(path.child("terminationGracePeriodSeconds"), ""));
    }
    let around = Surroundings {
        volumes: volume::validate(spec.volumes.items(), pod, &path.child("volumes"), errors),
        claims: spec.resource_claims.items().iter().map(|c| c.name.as_str()).filter(|n| !n.is_empty()).collect(),
        grace: spec.termination_grace_period_seconds,
        restart_policy: spec.restart_policy.text(),
        host_users: spec.host_users != Some(false),
    };
    resource_claims(spec, pod, &path.child("resourceClaims"), errors);
    regular_containers(spec, &around, &path.child("containers"), errors);
    init_containers(spec, &around, &path.child("initContainers"), errors);
    ephemeral::validate(spec, &around, &path.child("ephemeralContainers"), errors);
    whole::resources(spec, &around.claims, path, errors);
    host_network_ports(spec, pod.is_some(), &path.child("containers"), errors);
    one_of(spec.restart_policy.text(), &["Always", "OnFailure", "Never"], &path.child("restartPolicy"), errors);
    one_of(
        spec.dns_policy.text(),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &path.child("dnsPolicy"),
        errors,
    );
    meta::labels(spec.node_selector.as_ref(), path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), errors);
    if let Some(affinity) = &spec.affinity {
        affinity::validate(affinity, &path.child("affinity"), errors);
    }
    host::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(spec, path, errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    platform::host_process(spec, path, errors);
    host::users(spec, path, errors);
    host::name_override(spec, path, errors);
    names(spec, path, errors);
    platform::validate(spec, path, errors);
    mount::file_variables(spec, path, errors);
}

/// Required, and one of these.
pub fn one_of(value: &str, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(*path, ""));
    } else if !supported.contains(&value) {
        errors.push(Error::not_supported(*path, value, supported));
    }
}

pub fn pull_policy(policy: &str, path: &Path, errors: &mut Errors) {
    one_of(policy, &["Always", "IfNotPresent", "Never"], path, errors);
}

fn names(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (name, value) in [("serviceAccountName", spec.service_account_name.text()), ("nodeName", spec.node_name.text())]
    {
        if !value.is_empty() {
            extend(errors, path.child(name), value, field::dns_subdomain(value));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let wrong = syntax::in_range(seconds, 1, i32::MAX.into());
        extend_number(errors, path.child("activeDeadlineSeconds"), seconds, wrong);
    }
    for (name, value) in [("hostname", spec.hostname.text()), ("subdomain", spec.subdomain.text())] {
        if !value.is_empty() {
            extend(errors, path.child(name), value, field::dns_label(value));
        }
    }
    tolerations(spec.tolerations.items(), &path.child("tolerations"), errors);
    host::aliases(spec, &path.child("hostAliases"), errors);
    let class = spec.priority_class_name.text();
    if !class.is_empty() {
        extend(errors, path.child("priorityClassName"), class, field::dns_subdomain(class));
    }
    if let Some(class) = &spec.runtime_class_name {
        extend(errors, path.child("runtimeClassName"), class, field::dns_subdomain(class));
    }
    if let Some(policy) = &spec.preemption_policy {
        one_of(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy"), errors);
    }
    if spec.overhead.is_some() {
        let overhead =
            k8s_openapi::api::core::v1::ResourceRequirements { limits: spec.overhead.clone(), ..Default::default() };
        resource::validate_container(&overhead, &BTreeSet::new(), &path.child("overhead"), errors);
    }
}

fn resource_claims(spec: &PodSpec, pod: Option<&ObjectMeta>, path: &Path, errors: &mut Errors) {
    let mirror = pod.and_then(|m| m.annotations.as_ref()).is_some_and(|a| a.contains_key(annotation::MIRROR));
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.resource_claims.items().iter().enumerate() {
        if mirror {
            errors.push(Error::forbidden("[]", "static pods do not support resource claims"));
            continue;
        }
        let path = path.index(i);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.push(Error::required(path.child("name"), ""));
        } else if !seen.insert(name) {
            errors.push(Error::duplicate(path.child("name"), name));
        } else {
            extend(errors, path.child("name"), name, field::dns_label(name));
        }
        let why = match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            errors.push(Error::invalid(path, "", why).showing_struct(claim, "PodResourceClaim"));
        }
        for (field, value) in [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ] {
            if let Some(value) = value {
                extend(errors, path.child(field), value, field::dns_subdomain(value));
            }
        }
    }
}

fn regular_containers(spec: &PodSpec, around: &Surroundings, path: &Path, errors: &mut Errors) {
    if spec.containers.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let mut names = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = path.index(i);
        common(container, around, &path, errors);
        if !names.insert(container.name.as_str()) {
            errors.push(Error::duplicate(path.child("name"), container.name.as_str()));
        }
        if let Some(lifecycle) = &container.lifecycle {
            handler::lifecycle(lifecycle, around, &path.child("lifecycle"), errors);
        }
        handler::probes(container, around, &path, errors);
        lifetime::restart_policy(container, &path, errors);
    }
    port::host_conflicts(&spec.containers, path, errors);
}

fn init_containers(spec: &PodSpec, around: &Surroundings, path: &Path, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    for (i, container) in spec.init_containers.items().iter().enumerate() {
        let item = path.index(i);
        common(container, around, &item, errors);
        lifetime::init_restart_policy(container, &item, errors);
        if names.contains(container.name.as_str()) {
            errors.push(Error::duplicate(item.child("name"), container.name.as_str()));
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        port::host_conflicts(std::slice::from_ref(container), path, errors);
        if containers::is_sidecar(container) {
            if let Some(lifecycle) = &container.lifecycle {
                handler::lifecycle(lifecycle, around, &item.child("lifecycle"), errors);
            }
            handler::probes(container, around, &item, errors);
            continue;
        }
        for (name, given) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if given {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(Error::forbidden(item.child(name), why));
            }
        }
        let list = item.child("resizePolicy");
        for (i, policy) in container.resize_policy.items().iter().enumerate() {
            if policy.restart_policy == "RestartContainer" {
                let path = list.index(i);
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(Error::invalid(path.child("restartPolicy"), "RestartContainer", why));
            }
        }
    }
}

/// What holds for containers of every sort.
fn common(container: &Container, around: &Surroundings, path: &Path, errors: &mut Errors) {
    match container.name.as_str() {
        "" => errors.push(Error::required(path.child("name"), "")),
        name => extend(errors, path.child("name"), name, field::dns_label(name)),
    }
    if container.image.text().is_empty() {
        errors.push(Error::required(path.child("image"), ""));
    }
    one_of(
        container.termination_message_policy.text(),
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
        errors,
    );
    port::validate(container.ports.items(), &path.child("ports"), errors);
    env::variables(container.env.items(), &path.child("env"), errors);
    env::sources(container.env_from.items(), &path.child("envFrom"), errors);
    mount::mounts(container, &around.volumes, &path.child("volumeMounts"), errors);
    mount::devices(container, &around.volumes, &path.child("volumeDevices"), errors);
    pull_policy(container.image_pull_policy.text(), &path.child("imagePullPolicy"), errors);
    if let Some(own) = &container.resources {
        resource::validate_container(own, &around.claims, &path.child("resources"), errors);
    }
    lifetime::resize_policy(container, around.restart_policy, &path.child("resizePolicy"), errors);
    if let Some(context) = &container.security_context {
        security::container(context, around.host_users, &path.child("securityContext"), errors);
    }
}

fn host_network_ports(spec: &PodSpec, is_pod: bool, path: &Path, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let path = path.index(i);
        let list = path.child("ports");
        for (i, port) in container.ports.items().iter().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (is_pod || host != 0) && host != port.container_port {
                let path = list.index(i);
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(path.child("hostPort"), host, why));
            }
        }
    }
}

/// A field of the Pod itself, as a variable or a file.
pub fn field_ref(selector: &ObjectFieldSelector, supported: &[&str], path: &Path, errors: &mut Errors) {
    let at = path.child("fieldPath");
    if selector.api_version.text().is_empty() {
        errors.push(Error::required(path.child("apiVersion"), ""));
        return;
    }
    let label = selector.field_path.as_str();
    if label.is_empty() {
        errors.push(Error::required(at, ""));
        return;
    }
    if let Err(why) = known_field(selector.api_version.text(), label) {
        errors.push(Error::invalid(at, label, format!("error converting fieldPath: {why}")));
        return;
    }
    match split_subscript(label) {
        Some(("metadata.annotations", key)) => {
            extend(errors, *path, &key.to_lowercase(), field::qualified_name(&key.to_lowercase()));
        }
        Some((_, key)) => extend(errors, *path, key, field::qualified_name(key)),
        None => {
            let label = if label == "spec.host" { "spec.nodeName" } else { label };
            if !supported.contains(&label) {
                errors.push(Error::not_supported(at, label, supported));
            }
        }
    }
}

/// `metadata.labels['app']` is a path and a key.
pub fn split_subscript(label: &str) -> Option<(&str, &str)> {
    let (path, key) = label.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

fn known_field(version: &str, label: &str) -> Result<(), String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((path, _)) = split_subscript(label) {
        let subscripted = ["metadata.annotations", "metadata.labels"].contains(&path);
        return if subscripted { Ok(()) } else { Err(format!("field label does not support subscript: {label}")) };
    }
    let known = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
        "spec.host",
    ];
    if known.contains(&label) { Ok(()) } else { Err(format!("field label not supported: {label}")) }
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A resource of a container, as a variable or a file.
pub fn resource_ref(selector: &ResourceFieldSelector, in_volume: bool, path: &Path, errors: &mut Errors) {
    let name = selector.resource.as_str();
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_volume && selector.container_name.text().is_empty() {
        errors.push(Error::required(path.child("containerName"), ""));
    } else if name.is_empty() {
        errors.push(Error::required(path.child("resource"), ""));
    } else if !RESOURCE_FIELDS.contains(&name) && !huge {
        errors.push(Error::not_supported(path.child("resource"), name, RESOURCE_FIELDS));
    }
    let divisor = Quantity::of(selector.divisor.as_ref()).to_string();
    if divisor == "0" {
        return;
    }
    let sizes = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let (known, of) = match name {
        "limits.cpu" | "requests.cpu" => ("1m and 1", "cpu"),
        "limits.memory" | "requests.memory" => (sizes, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (sizes, "local ephemeral storage"),
        _ if huge => (sizes, "hugepages"),
        _ => return,
    };
    let supported = match of {
        "cpu" => ["1m", "1"].contains(&divisor.as_str()),
        _ => sizes.split(", ").any(|size| size == divisor),
    };
    if !supported {
        let why = format!("only divisor's values {known} are supported with the {of} resource");
        errors.push(Error::invalid(path.child("divisor"), name, why));
    }
}

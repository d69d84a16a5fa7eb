//! PodSecurity: pods are held to the level that their namespace's labels ask for; templates of pods are warned about.

use std::collections::BTreeMap;

use crds::field::Errors;
use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use self::{
    check::Verdict,
    level::{Level, LevelVersion, Policy},
};
use super::{Attributes, Operation, Plugin, edit};
use crate::{
    error::{ApiError, Result},
    world::World,
};

mod baseline;
mod check;
mod level;
mod restricted;

/// Pods that are looked at when the level of their namespace is raised.
const PODS_MAX: usize = 3000;
/// Subresources of pods that do not change what a pod may do.
const HARMLESS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

#[derive(Default)]
pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return false;
        }
        match (attributes.group(), attributes.resource()) {
            ("", "pods") => !HARMLESS.contains(&attributes.subresource.as_str()),
            ("", "namespaces") => attributes.subresource.is_empty(),
            (group, resource) => attributes.subresource.is_empty() && template_at(group, resource).is_some(),
        }
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match (attributes.group(), attributes.resource()) {
                ("", "namespaces") => validate_namespace(attributes, world),
                ("", "pods") => validate_pod(attributes, world).await,
                _ => validate_template(attributes, world).await,
            }
        })
    }
}

/// Where a kind has its template of pods.
fn template_at(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

type Labels = BTreeMap<String, String>;

fn labels(object: Option<&Value>) -> Result<Labels> {
    let labels = object.and_then(|object| object.pointer("/metadata/labels")).filter(|labels| !labels.is_null());
    labels.map_or_else(|| Ok(Labels::new()), edit::decode)
}

async fn policy(attributes: &mut Attributes, world: &World) -> Result<(Policy, Errors)> {
    let name = attributes.namespace.as_str();
    let namespace = match world.get::<Namespace>("", name)? {
        Some(namespace) => Some(namespace),
        None => world.get_live::<Namespace>("", name).await?,
    };
    let missing = || ApiError::internal(format!("failed to lookup namespace {}", crds::field::quote(name)));
    let namespace = namespace.ok_or_else(missing)?;
    Ok(Policy::of(&namespace.metadata.labels.unwrap_or_default()))
}

fn note(attributes: &mut Attributes, key: &str, text: impl Into<String>) {
    attributes.audit_annotations.insert(format!("pod-security.kubernetes.io/{key}"), text.into());
}

fn note_errors(attributes: &mut Attributes, errors: &Errors) {
    if !errors.is_empty() {
        let told = super::limit_ranger::aggregate(errors.iter().map(ToString::to_string).collect());
        note(attributes, "error", format!("Failed to parse policy: {told}"));
    }
}

async fn validate_pod(attributes: &mut Attributes, world: &World) -> Result<()> {
    let (policy, errors) = policy(attributes, world).await?;
    if errors.is_empty() && policy.is_privileged() {
        note(attributes, "enforce-policy", "privileged:latest");
        return Ok(());
    }
    let Some(object) = &attributes.object else { return Ok(()) };
    let pod: Pod = edit::decode(object)?;
    if let Some(old) = &attributes.old {
        let old: Pod = edit::decode(old)?;
        if !is_significant(&pod.spec.clone().unwrap_or_default(), &old.spec.unwrap_or_default()) {
            return Ok(());
        }
    }
    note_errors(attributes, &errors);
    evaluate(attributes, &policy, &pod.metadata, &pod.spec.unwrap_or_default(), true)
}

async fn validate_template(attributes: &mut Attributes, world: &World) -> Result<()> {
    let (policy, errors) = match policy(attributes, world).await {
        Ok(found) => found,
        Err(error) => {
            note(attributes, "error", error.message());
            return Ok(());
        }
    };
    if errors.is_empty() && policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged {
        return Ok(());
    }
    let at = template_at(attributes.group(), attributes.resource()).unwrap_or_default();
    let template =
        attributes.object.as_ref().and_then(|object| object.pointer(at)).filter(|template| !template.is_null());
    let Some(template) = template else { return Ok(()) };
    let part = |name: &str| template.get(name).filter(|part| !part.is_null());
    let metadata: ObjectMeta = part("metadata").map(edit::decode).transpose()?.unwrap_or_default();
    let spec: PodSpec = part("spec").map(edit::decode).transpose()?.unwrap_or_default();
    note_errors(attributes, &errors);
    evaluate(attributes, &policy, &metadata, &spec, false)
}

fn evaluate(
    attributes: &mut Attributes,
    policy: &Policy,
    metadata: &ObjectMeta,
    spec: &PodSpec,
    enforce: bool,
) -> Result<()> {
    let against = |level: LevelVersion| check::evaluate(level, metadata, spec);
    let refused = if enforce {
        note(attributes, "enforce-policy", policy.enforce.to_string());
        let verdict = against(policy.enforce);
        let level = policy.enforce;
        (!verdict.is_allowed()).then(|| format!("violates PodSecurity \"{level}\": {}", verdict.detail()))
    } else {
        None
    };
    let would =
        |level: LevelVersion, verdict: &Verdict| format!("would violate PodSecurity \"{level}\": {}", verdict.detail());
    let audit = against(policy.audit);
    if !audit.is_allowed() {
        note(attributes, "audit-violations", would(policy.audit, &audit));
    }
    if let Some(why) = refused {
        return Err(attributes.forbidden(why));
    }
    let warn = against(policy.warn);
    if !warn.is_allowed() {
        attributes.warnings.push(would(policy.warn, &warn));
    }
    Ok(())
}

fn validate_namespace(attributes: &mut Attributes, world: &World) -> Result<()> {
    let (new, errors) = Policy::of(&labels(attributes.object.as_ref())?);
    let (old, old_errors) = match &attributes.old {
        Some(old) => Policy::of(&labels(Some(old))?),
        None => (new, Errors::new()),
    };
    // Wrong labels that were there before may stay.
    if !errors.is_empty() && errors != old_errors {
        let name = attributes.object.as_ref().map_or("", |object| edit::text(object, "/metadata/name"));
        return Err(ApiError::invalid("", "Namespace", name, &errors));
    }
    let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    if new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let pods = world.list::<Pod>(&attributes.name)?;
    attributes.warnings.extend(warnings(&attributes.name, new.enforce, pods));
    Ok(())
}

/// What to tell of pods that would not be admitted any more.
fn warnings(namespace: &str, level: LevelVersion, pods: Vec<Pod>) -> Vec<String> {
    let total = pods.len();
    let mut warnings = Vec::new();
    // By the reason: the first pod by name, and how many there are.
    let mut seen: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in one_of_each_owner(pods).into_iter().take(PODS_MAX) {
        let verdict = check::evaluate(level, &pod.metadata, &pod.spec.unwrap_or_default());
        if verdict.is_allowed() {
            continue;
        }
        let name = pod.metadata.name.unwrap_or_default();
        let entry = seen.entry(verdict.reasons()).or_insert_with(|| (name.clone(), 0));
        entry.0 = name.min(std::mem::take(&mut entry.0));
        entry.1 += 1;
    }
    if total > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !seen.is_empty() {
        let namespace = crds::field::quote(namespace);
        warnings.push(format!(
            "existing pods in namespace {namespace} violate the new PodSecurity enforce level \"{level}\""
        ));
    }
    let mut told: Vec<_> = seen
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            0 | 1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            n => format!("{name} (and {} other pods): {reasons}", n - 1),
        })
        .collect();
    told.sort();
    warnings.extend(told);
    warnings
}

/// Pods of one controller are alike: the first of each come before the others.
fn one_of_each_owner(pods: Vec<Pod>) -> Vec<Pod> {
    let mut owners = std::collections::BTreeSet::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let mut references = pod.metadata.owner_references.iter().flatten();
        references.find(|owner| owner.controller == Some(true)).is_none_or(|owner| owners.insert(owner.uid.clone()))
    });
    first.extend(rest);
    first
}

/// Of a pod only images and ephemeral containers change in a way that matters here.
fn is_significant(new: &PodSpec, old: &PodSpec) -> bool {
    fn images<'a>(list: impl IntoIterator<Item = &'a k8s_openapi::api::core::v1::Container>) -> Vec<Option<&'a str>> {
        list.into_iter().map(|container| container.image.as_deref()).collect()
    }
    let ephemeral = |spec: &PodSpec| {
        let all = spec.ephemeral_containers.iter().flatten();
        all.map(|container| (container.name.clone(), container.image.clone())).collect::<BTreeMap<_, _>>()
    };
    let there = ephemeral(old);
    images(&new.containers) != images(&old.containers)
        || images(new.init_containers.iter().flatten()) != images(old.init_containers.iter().flatten())
        || ephemeral(new).iter().any(|(name, image)| there.get(name) != Some(image))
}

#[cfg(test)]
mod tests;

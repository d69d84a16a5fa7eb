//! RuntimeClass: a pod takes over the overhead, the node selector and the tolerations of its RuntimeClass.

use crds::resource;
use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{PodSpec, Toleration},
    node::v1,
};
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, edit};
use crate::{
    error::{ApiError, Result},
    metadata::client_name,
    world::World,
};

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

#[derive(Default)]
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods", "")
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(class) = class_of(attributes, world).await? else { return Ok(()) };
            let Some(mut pod) = attributes.object.take() else { return Ok(()) };
            let merged = merge(&mut pod, &class);
            attributes.object = Some(pod);
            merged?.map_err(|why| attributes.forbidden(why))
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let overhead = attributes.object.as_ref().and_then(|pod| pod.pointer("/spec/overhead"));
            let overhead = overhead.filter(|overhead| !overhead.is_null());
            let class = class_of(attributes, world).await?;
            let Some(fixed) = class.as_ref().and_then(|class| class.overhead.as_ref()) else {
                if overhead.is_some() || attributes.sent.is_empty_at(&["spec", "overhead"]) {
                    let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                    return Err(attributes.forbidden(why));
                }
                return Ok(());
            };
            let overhead: Option<resource::Written> = overhead.map(edit::decode).transpose()?;
            if resource::same(overhead.as_ref(), fixed.pod_fixed.as_ref()) {
                return Ok(());
            }
            Err(attributes.forbidden(OTHER_OVERHEAD))
        })
    }
}

async fn class_of(attributes: &Attributes, world: &World) -> Result<Option<v1::RuntimeClass>> {
    let pod = attributes.object.as_ref();
    let Some(name) = pod.and_then(|pod| pod.pointer("/spec/runtimeClassName")).and_then(Value::as_str) else {
        return Ok(None);
    };
    if let Some(class) = world.get::<v1::RuntimeClass>("", name)? {
        return Ok(Some(class));
    }
    client_name(name).map_err(ApiError::unknown)?;
    // The cache may lag behind a class that was just made.
    let class = world.get_live::<v1::RuntimeClass>("", name).await?;
    let missing = || {
        let name = crds::field::quote(name);
        attributes.forbidden(format!("pod rejected: RuntimeClass {name} not found"))
    };
    class.map(Some).ok_or_else(missing)
}

/// The inner error is why the pod is refused.
fn merge(pod: &mut Value, class: &v1::RuntimeClass) -> Result<std::result::Result<(), String>> {
    let spec: PodSpec = edit::decode(pod.get("spec").unwrap_or(&Value::Null))?;
    if let Some(overhead) = &class.overhead {
        let own = spec.overhead.as_ref().filter(|own| !own.is_empty());
        if own.is_some() && !resource::same(own, overhead.pod_fixed.as_ref()) {
            return Ok(Err(OTHER_OVERHEAD.to_owned()));
        }
        edit::set(pod, &["spec", "overhead"], json!(overhead.pod_fixed));
    }
    let Some(scheduling) = &class.scheduling else { return Ok(Ok(())) };
    let mut selector = spec.node_selector.unwrap_or_default();
    for (key, value) in scheduling.node_selector.iter().flatten() {
        if let Some(own) = selector.get(key).filter(|own| *own != value) {
            return Ok(Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            )));
        }
        selector.insert(key.clone(), value.clone());
    }
    if !selector.is_empty() {
        edit::set(pod, &["spec", "nodeSelector"], json!(selector));
    }
    let mut all = spec.tolerations.unwrap_or_default();
    all.extend(scheduling.tolerations.iter().flatten().cloned());
    if !all.is_empty() {
        edit::set(pod, &["spec", "tolerations"], json!(without_redundant(&all)));
    }
    Ok(Ok(()))
}

/// Tolerations that another one includes are left out; of equal ones the first stays.
fn without_redundant(all: &[Toleration]) -> Vec<&Toleration> {
    let mut kept: Vec<&Toleration> = Vec::with_capacity(all.len());
    for (i, toleration) in all.iter().enumerate() {
        let later = all.iter().skip(i + 1).any(|other| other != toleration && includes(other, toleration));
        if !later && !kept.iter().any(|other| includes(other, toleration)) {
            kept.push(toleration);
        }
    }
    kept
}

fn includes(wide: &Toleration, narrow: &Toleration) -> bool {
    fn given(text: &Option<String>) -> &str {
        text.as_deref().unwrap_or_default()
    }
    if wide == narrow {
        return true;
    }
    let any_key = given(&wide.key).is_empty() && given(&wide.operator) == "Exists";
    if given(&wide.key) != given(&narrow.key) && !any_key {
        return false;
    }
    if !given(&wide.effect).is_empty() && given(&wide.effect) != given(&narrow.effect) {
        return false;
    }
    if given(&wide.effect) == "NoExecute"
        && let Some(seconds) = wide.toleration_seconds
        && narrow.toleration_seconds.is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match given(&wide.operator) {
        "Equal" | "" => given(&narrow.operator) == "Equal" && given(&narrow.value) == given(&wide.value),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(value: Value) -> v1::RuntimeClass {
        edit::decode(&value).unwrap()
    }

    #[test]
    fn merging() {
        let class = class(json!({"metadata": {"name": "r"}, "handler": "h", "overhead": {"podFixed": {"cpu": "100m"}},
            "scheduling": {"nodeSelector": {"a": "1"}, "tolerations": [{"key": "k", "operator": "Exists"}]}}));
        let mut pod = json!({"spec": {"containers": [], "nodeSelector": {"b": "2"},
            "tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, {"key": "x", "operator": "Exists"}]}});
        assert_eq!(merge(&mut pod, &class).unwrap(), Ok(()));
        assert_eq!(pod["spec"]["overhead"], json!({"cpu": "100m"}));
        assert_eq!(pod["spec"]["nodeSelector"], json!({"a": "1", "b": "2"}));
        assert_eq!(
            pod["spec"]["tolerations"],
            json!([{"key": "x", "operator": "Exists"}, {"key": "k", "operator": "Exists"}])
        );
        let mut other = json!({"spec": {"containers": [], "nodeSelector": {"a": "2"}}});
        assert_eq!(
            merge(&mut other, &class).unwrap().unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[a] = 1; pod.spec.nodeSelector[a] = 2"
        );
        let mut other = json!({"spec": {"containers": [], "overhead": {"cpu": "1"}}});
        assert_eq!(merge(&mut other, &class).unwrap().unwrap_err(), OTHER_OVERHEAD);
    }
}

//! NodeDeclaredFeatureValidator: a pod on a node is only changed in a way that its node says it can follow.

use crds::equal;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

/// Resources of a whole pod, and of an init container that ends, change in place.
const POD_RESOURCES: &str = "InPlacePodLevelResourcesVerticalScaling";
const INIT_CONTAINERS: &str = "InPlacePodVerticalScalingInitContainers";

#[derive(Default)]
pub struct NodeDeclaredFeatureValidator;

impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update
            && (attributes.is("", "pods", "") || attributes.is("", "pods", "resize"))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else { return Ok(()) };
            let generation = |pod: &serde_json::Value| pod.pointer("/metadata/generation").cloned();
            let name = edit::text(new, "/spec/nodeName").to_owned();
            if name.is_empty() || generation(new) == generation(old) {
                return Ok(());
            }
            let required = required(&edit::decode(old)?, &edit::decode(new)?);
            if required.is_empty() {
                return Ok(());
            }
            let Some(node) = world.get::<Node>("", &name)? else {
                return Err(attributes.forbidden(format!("node {name:?} not found")));
            };
            let declared = node.status.and_then(|status| status.declared_features).unwrap_or_default();
            let missing: Vec<&str> = required.into_iter().filter(|name| !declared.iter().any(|d| d == name)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let missing = missing.join(", ");
            let why = format!("pod update requires features {missing} which are not available on node {name:?}");
            Err(attributes.forbidden(why))
        })
    }
}

/// The features that a change needs, by name.
fn required(old: &Pod, new: &Pod) -> Vec<&'static str> {
    let (old, new) = (old.spec.as_ref(), new.spec.as_ref());
    let resources = |spec: Option<&k8s_openapi::api::core::v1::PodSpec>| spec.and_then(|spec| spec.resources.clone());
    let of_pod = !equal::same(&resources(old), &resources(new));
    let init = |spec: Option<&k8s_openapi::api::core::v1::PodSpec>| {
        spec.and_then(|spec| spec.init_containers.clone()).unwrap_or_default()
    };
    let (old, new) = (init(old), init(new));
    let of_init = old.iter().zip(&new).any(|(old, new)| {
        old.restart_policy.as_deref() != Some("Always") && !equal::same(&old.resources, &new.resources)
    });
    [(of_pod, POD_RESOURCES), (of_init, INIT_CONTAINERS)]
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_change_needs() {
        let pod = |spec: Value| -> Pod { serde_json::from_value(json!({ "spec": spec })).unwrap() };
        let init = |cpu: &str, policy: Value| {
            let resources = json!({"requests": {"cpu": cpu}});
            let init = json!([{"name": "i", "restartPolicy": policy, "resources": resources}]);
            pod(json!({"containers": [], "initContainers": init}))
        };
        let plain = pod(json!({"containers": []}));
        let whole = pod(json!({"containers": [], "resources": {"requests": {"cpu": "1"}}}));
        assert_eq!(required(&plain, &whole), [POD_RESOURCES]);
        assert!(required(&plain, &plain).is_empty());
        assert_eq!(required(&init("1", Value::Null), &init("2", Value::Null)), [INIT_CONTAINERS]);
        assert!(required(&init("1", json!("Always")), &init("2", json!("Always"))).is_empty());
    }
}

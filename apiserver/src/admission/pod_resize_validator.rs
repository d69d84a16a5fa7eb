//! PodResizeValidator: a pod does not grow beyond its node.

use crds::pod::resources::{self, Count};
use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::StatusCause,
};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

#[derive(Default)]
pub struct PodResizeValidator;

impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "pods", "resize")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(object), Some(old)) = (&attributes.object, &attributes.old) else { return Ok(()) };
            let name = edit::text(object, "/spec/nodeName");
            // The generation counts changes of the spec.
            if name.is_empty() || object.pointer("/metadata/generation") == old.pointer("/metadata/generation") {
                return Ok(());
            }
            let quoted = crds::field::quote(name);
            let Some(node) = world.get::<Node>("", name)? else {
                return Err(attributes.forbidden(format!("node {quoted} not found")));
            };
            check(&edit::decode(object)?, &node).map_err(|(reason, why)| {
                let cause = StatusCause { reason: Some(reason.to_owned()), ..Default::default() };
                attributes.forbidden(why).with_cause(cause)
            })
        })
    }
}

fn check(pod: &Pod, node: &Node) -> std::result::Result<(), (&'static str, String)> {
    let name = crds::field::quote(node.metadata.name.as_deref().unwrap_or_default());
    let os = node.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if let Some(os) = os.filter(|os| *os != "linux") {
        let os = crds::field::quote(os);
        let why = format!("pod resize is only supported on linux nodes, node {name} is {os}");
        return Err(("UnsupportedPlatform", why));
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let (allocatable, requests) = (crds::resource::amounts(allocatable), resources::requests(pod, Count::Spec));
    let zero = crds::quantity::Quantity::ZERO;
    let of = |amounts: &crds::resource::Amounts, name: &str| amounts.get(name).copied().unwrap_or(zero);
    let (cpu, memory) =
        ((of(&requests, "cpu"), of(&allocatable, "cpu")), (of(&requests, "memory"), of(&allocatable, "memory")));
    let cpu_told = format!("cpu, requested: {}, allocatable: {}", cpu.0.millis(), cpu.1.millis());
    let memory_told = format!("memory, requested: {}, allocatable: {}", memory.0.units(), memory.1.units());
    let lacking = [(cpu, cpu_told), (memory, memory_told)].into_iter().filter(|((asked, there), _)| asked > there);
    let lacking: Vec<_> = lacking.map(|(_, told)| told).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", lacking.join("; "));
    Err(("NodeCapacity", why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_node_is_the_limit() {
        let pod: Pod = edit::decode(&json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}]}})).unwrap();
        let node = |os: &str, cpu: &str| -> Node {
            edit::decode(&json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": os}}, "status": {"allocatable": {"cpu": cpu, "memory": "1Gi"}}})).unwrap()
        };
        assert_eq!(check(&pod, &node("linux", "2")), Ok(()));
        let (reason, why) = check(&pod, &node("linux", "1")).unwrap_err();
        assert_eq!(reason, "NodeCapacity");
        assert_eq!(why, "node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000");
        assert_eq!(check(&pod, &node("windows", "2")).unwrap_err().0, "UnsupportedPlatform");
    }
}

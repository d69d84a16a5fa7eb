//! PodTopologyLabels: a pod that is bound carries its node's zone and region as labels.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

#[derive(Default)]
pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create
            && (attributes.is("", "pods", "") || attributes.is("", "pods", "binding"))
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(object) = &mut attributes.object else { return Ok(()) };
            let node = if attributes.kind.kind == "Pod" {
                edit::text(object, "/spec/nodeName")
            } else if edit::text(object, "/target/kind") == "Node" {
                edit::text(object, "/target/name")
            } else {
                ""
            };
            if node.is_empty() {
                return Ok(());
            }
            if let Some(node) = world.get::<Node>("", node)? {
                label(object, &node);
            }
            Ok(())
        })
    }
}

/// What the object says itself is overwritten.
fn label(object: &mut Value, node: &Node) {
    let labels = node.metadata.labels.iter().flatten().filter(|(name, _)| LABELS.contains(&name.as_str()));
    for (name, value) in labels {
        edit::set(object, &["metadata", "labels", name], value.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zone_and_region_alone() {
        let node = edit::decode(
            &json!({"metadata": {"labels": {LABELS[0]: "z", LABELS[1]: "r", "topology.kubernetes.io/other": "o"}}}),
        );
        let mut pod = json!({"metadata": {"labels": {"a": "b", LABELS[0]: "mine"}}});
        label(&mut pod, &node.unwrap());
        assert_eq!(pod["metadata"]["labels"], json!({"a": "b", LABELS[0]: "z", LABELS[1]: "r"}));
    }
}

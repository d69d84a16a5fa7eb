//! NodeName: a pod that names its node goes nowhere else.

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal},
    snapshot::{Pod, Snapshot},
};

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        if pod.node_name().is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(|node| match node.name == pod.node_name() {
            true => Ok(()),
            false => Err(Refusal::for_good(self.name(), "node(s) didn't match the requested node name")),
        })))
    }

    fn may_help(&self, _: &Pod, event: &ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded(_))
    }
}

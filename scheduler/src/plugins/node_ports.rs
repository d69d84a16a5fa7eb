//! NodePorts: two pods on one node cannot share a host port.

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal},
    snapshot::{Node, Pod, Snapshot},
};

pub struct NodePorts;

fn are_free(node: &Node, pod: &Pod) -> bool {
    pod.host_ports.iter().all(|wanted| !node.host_ports.iter().any(|used| used.conflicts(wanted)))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        if pod.host_ports.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(|node| match are_free(node, pod) {
            true => Ok(()),
            false => Err(Refusal::new(self.name(), "node(s) didn't have free ports for the requested pod ports")),
        })))
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::NodeChanged(..) => true,
            ClusterEvent::PodGone(gone) => {
                gone.host_ports.iter().any(|used| pod.host_ports.iter().any(|p| p.conflicts(used)))
            }
            _ => false,
        }
    }
}

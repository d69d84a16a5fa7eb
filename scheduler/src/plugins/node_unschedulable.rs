//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use crds::taint;
use k8s_openapi::api::core::v1::Taint;

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal},
    snapshot::{Pod, Snapshot},
};

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        let cordoned =
            Taint { key: taint::UNSCHEDULABLE.into(), effect: taint::NO_SCHEDULE.into(), ..Taint::default() };
        let tolerations = pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        if taint::tolerated(tolerations, &cordoned) {
            return Ok(None);
        }
        Ok(Some(Box::new(|node| match node.unschedulable {
            true => Err(Refusal::for_good(self.name(), "node(s) were unschedulable")),
            false => Ok(()),
        })))
    }

    fn may_help(&self, _: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => !node.unschedulable,
            ClusterEvent::NodeChanged(old, new) => old.unschedulable && !new.unschedulable,
            _ => false,
        }
    }
}

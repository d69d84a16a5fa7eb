//! TaintToleration: a node's hard taints repel pods, its soft ones make it less wanted.

use crds::taint::{self, NO_EXECUTE, NO_SCHEDULE, PREFER_NO_SCHEDULE};
use k8s_openapi::api::core::v1::Toleration;

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal, normalize},
    snapshot::{Node, Pod, Snapshot},
};

pub struct TaintToleration;

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

fn repels(node: &Node, pod: &Pod) -> bool {
    taint::untolerated(&node.taints, tolerations(pod), &[NO_SCHEDULE, NO_EXECUTE]).is_some()
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        Ok(Some(Box::new(|node| {
            match taint::untolerated(&node.taints, tolerations(pod), &[NO_SCHEDULE, NO_EXECUTE]) {
                Some(taint) => {
                    let value = taint.value.as_deref().unwrap_or("");
                    let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
                    Err(Refusal::for_good(self.name(), reason))
                }
                None => Ok(()),
            }
        })))
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let soft = |t: &&Toleration| matches!(t.effect.as_deref(), None | Some("" | PREFER_NO_SCHEDULE));
        let tolerations: Vec<Toleration> = tolerations(pod).iter().filter(soft).cloned().collect();
        let disliked = |node: &&Node| {
            node.taints.iter().filter(|t| t.effect == PREFER_NO_SCHEDULE && !taint::tolerated(&tolerations, t)).count()
                as i64
        };
        let mut scores: Vec<i64> = nodes.iter().map(disliked).collect();
        normalize(&mut scores, true);
        Some(scores)
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => !repels(node, pod),
            ClusterEvent::NodeChanged(old, new) => repels(old, pod) && !repels(new, pod),
            _ => false,
        }
    }
}

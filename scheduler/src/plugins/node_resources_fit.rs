//! NodeResourcesFit: a node must have what a pod asks for; the one with most left is liked best.

use crate::{
    framework::{Check, ClusterEvent, Plugin, Refusal, SCORE_MAX},
    snapshot::{Node, Pod, Snapshot},
};

pub struct NodeResourcesFit;

const NAME: &str = "NodeResourcesFit";

/// What the node lacks.
pub fn lacks(node: &Node, pod: &Pod) -> Option<Refusal> {
    let (mut reasons, mut resolvable) = (Vec::new(), true);
    if node.pods.len() as i64 + 1 > node.allocatable.pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut need = |name: &str, wanted: i64, has: i64, taken: i64| {
        if wanted > 0 && wanted > has - taken {
            reasons.push(format!("Insufficient {name}"));
            // More than the whole node has: nobody's leaving helps.
            resolvable &= wanted <= has;
        }
    };
    let (wanted, has, taken) = (&pod.requests, &node.allocatable, &node.requested);
    need("cpu", wanted.milli_cpu, has.milli_cpu, taken.milli_cpu);
    need("memory", wanted.memory, has.memory, taken.memory);
    need("ephemeral-storage", wanted.ephemeral_storage, has.ephemeral_storage, taken.ephemeral_storage);
    for (name, amount) in &wanted.scalars {
        need(name, *amount, has.scalar(name), taken.scalar(name));
    }
    (!reasons.is_empty()).then_some(Refusal { plugin: NAME, reasons, resolvable })
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        Ok(Some(Box::new(|node| lacks(node, pod).map_or(Ok(()), Err))))
    }

    /// The share of processor and memory that stays free, both counted alike.
    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let score = |node: &&Node| {
            let parts = [
                (node.allocatable.milli_cpu, node.nonzero.0.saturating_add(pod.nonzero.0)),
                (node.allocatable.memory, node.nonzero.1.saturating_add(pod.nonzero.1)),
            ];
            let counted: Vec<_> = parts.into_iter().filter(|(has, _)| *has > 0).collect();
            let sum: i64 = counted.iter().map(|(has, taken)| free_share(*has, *taken)).sum();
            sum.checked_div(counted.len() as i64).unwrap_or(0)
        };
        Some(nodes.iter().map(score).collect())
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => lacks(node, pod).is_none_or(|r| r.resolvable),
            ClusterEvent::NodeChanged(old, new) => {
                old.allocatable != new.allocatable && lacks(new, pod).is_none_or(|r| r.resolvable)
            }
            ClusterEvent::PodGone(_) => true,
            _ => false,
        }
    }
}

fn free_share(has: i64, taken: i64) -> i64 {
    if taken > has { 0 } else { ((i128::from(has - taken) * i128::from(SCORE_MAX)) / i128::from(has)) as i64 }
}

//! NodeResourcesBalancedAllocation: likes nodes whose processor and memory a pod brings closer together in use.

use crate::{
    framework::{Plugin, SCORE_MAX},
    snapshot::{Node, Pod, Snapshot},
};

pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &Pod, _: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        // A pod that asks for nothing changes no balance.
        if pod.requests.milli_cpu == 0 && pod.requests.memory == 0 {
            return None;
        }
        let score = |node: &&Node| {
            let (has, taken) = (&node.allocatable, &node.requested);
            let without = [(taken.milli_cpu, has.milli_cpu), (taken.memory, has.memory)];
            let with = [
                (taken.milli_cpu.saturating_add(pod.requests.milli_cpu), has.milli_cpu),
                (taken.memory.saturating_add(pod.requests.memory), has.memory),
            ];
            SCORE_MAX / 2 + (SCORE_MAX / 2 + balance(with) - balance(without)) / 2
        };
        Some(nodes.iter().map(score).collect())
    }
}

/// 100 for equal shares in use, 50 for the greatest difference.
fn balance(parts: [(i64, i64); 2]) -> i64 {
    let shares: Vec<f64> = parts
        .into_iter()
        .filter(|(_, has)| *has > 0)
        .map(|(taken, has)| (taken as f64 / has as f64).min(1.0))
        .collect();
    let deviation = if let [a, b] = shares.as_slice() { ((a - b) / 2.0).abs() } else { 0.0 };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

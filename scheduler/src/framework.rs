//! What a plugin is: pure functions of a pod and a snapshot, called at fixed points of a decision.

use std::fmt;

use crate::snapshot::{Node, Pod, Snapshot};

/// The best score that a plugin gives a node; the worst is 0.
pub const SCORE_MAX: i64 = 100;

/// Why a pod cannot go to a node, or nowhere at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub plugin: &'static str,
    /// In upstream's words, as they are counted in `FailedScheduling` events.
    pub reasons: Vec<String>,
    /// Whether it may help that other pods leave the node.
    pub resolvable: bool,
}

impl Refusal {
    pub fn new(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], resolvable: true }
    }

    /// A refusal that no preemption can lift.
    pub fn for_good(plugin: &'static str, reason: impl Into<String>) -> Self {
        Self { resolvable: false, ..Self::new(plugin, reason) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join(", "))
    }
}

/// A filter that has looked at pod and snapshot once, and is then asked for each node.
pub type Check<'a> = Box<dyn Fn(&Node) -> Result<(), Refusal> + 'a>;

/// Something that happened in the cluster, after which refused pods may fit.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    NodeAdded(std::sync::Arc<Node>),
    /// Before and after.
    NodeChanged(std::sync::Arc<Node>, std::sync::Arc<Node>),
    /// A pod is now on a node, or its labels have changed there.
    PodPlaced(std::sync::Arc<Pod>),
    /// A pod has left its node, or needs less of it.
    PodGone(std::sync::Arc<Pod>),
    /// A namespace's labels, or anything else that plugins look at beside nodes and pods.
    Other,
}

/// One scheduling plugin. What is not implemented has no effect.
///
/// Plugins see a pod, a snapshot and their own configuration; no clock, no randomness, no IO.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Before a pod is queued: whether it may be scheduled at all yet.
    fn admit(&self, _pod: &Pod) -> Result<(), Refusal> {
        Ok(())
    }

    /// Once a decision: a check to ask for each node, nothing if all nodes pass, or a refusal of all of them.
    fn filter<'a>(&'a self, _pod: &'a Pod, _snapshot: &'a Snapshot) -> Result<Option<Check<'a>>, Refusal> {
        Ok(None)
    }

    /// A score between 0 and [`SCORE_MAX`] for each of the `nodes` that passed, or nothing if all are alike.
    fn score(&self, _pod: &Pod, _snapshot: &Snapshot, _nodes: &[&Node]) -> Option<Vec<i64>> {
        None
    }

    /// Whether a pod that this plugin refused may pass after the event: a hint, that saves useless attempts.
    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent) -> bool {
        true
    }
}

/// Scales scores so that the highest becomes [`SCORE_MAX`]; reversed, the highest becomes the lowest.
pub fn normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = match (highest, reverse) {
            (0, true) => SCORE_MAX,
            (0, false) => *score,
            (_, true) => SCORE_MAX - SCORE_MAX * *score / highest,
            (_, false) => SCORE_MAX * *score / highest,
        };
    }
}

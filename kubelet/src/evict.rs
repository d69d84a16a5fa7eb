//! What the node does when it runs out: it says so, takes no more pods, and ends those that can best be missed.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use crds::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::{
    agent::Agent,
    config::Eviction,
    event::Severity,
    pod::{
        PodExt,
        observed::{Cause, State, Termination},
        qos, resource,
        table::Entry,
    },
    server::usages,
    system::{Memory, Space},
};

const PERIOD: Duration = Duration::from_secs(10);
/// How long pressure is still told after it is over.
const TRANSITION: SignedDuration = SignedDuration::from_secs(300);

/// A shortage, and what it is of.
#[derive(Clone, Debug, PartialEq)]
struct Shortage {
    /// `memory`, `disk`
    pressure: &'static str,
    /// As pods ask for it.
    resource: &'static str,
    threshold: String,
    available: String,
}

/// What is short now.
fn shortages(limits: &Eviction, memory: Option<Memory>, space: Option<Space>) -> Vec<Shortage> {
    let bytes = |n: u64| Quantity::from_bytes(i64::try_from(n / 1024 * 1024).unwrap_or(i64::MAX)).to_string();
    let mut all = Vec::new();
    if let Some(m) = memory.filter(|m| m.available_bytes < limits.memory_available_bytes) {
        all.push(Shortage {
            pressure: "memory",
            resource: "memory",
            threshold: bytes(limits.memory_available_bytes),
            available: bytes(m.available_bytes),
        });
    }
    let part = |whole: u64, percent: f64| (whole as f64 * percent / 100.0) as u64;
    let disk = limits.nodefs_available_percent.min(limits.imagefs_available_percent);
    if let Some(s) = space.filter(|s| s.available_bytes < part(s.capacity_bytes, disk)) {
        all.push(Shortage {
            pressure: "disk",
            resource: "ephemeral-storage",
            threshold: bytes(part(s.capacity_bytes, disk)),
            available: bytes(s.available_bytes),
        });
    } else if space.is_some_and(|s| s.inodes_free < part(s.inodes, limits.nodefs_inodes_free_percent)) {
        let (threshold, available) = (limits.nodefs_inodes_free_percent.to_string(), String::new());
        all.push(Shortage { pressure: "disk", resource: "inodes", threshold: format!("{threshold}%"), available });
    }
    all
}

/// A pod that might go: whether it uses more than it asked for, its priority, and by how much it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    uid: String,
    exceeds: bool,
    priority: i32,
    over_bytes: i64,
    usage_bytes: i64,
    request_bytes: i64,
}

/// Those that exceed their requests go first, then the least important, then the greediest.
fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|c| (Reverse(c.exceeds), c.priority, Reverse(c.over_bytes), c.uid.clone()));
    candidates
}

fn candidates(entries: &[Arc<Entry>], usage: &BTreeMap<String, u64>) -> Vec<Candidate> {
    let may_go = |e: &&Arc<Entry>| !e.terminating && !e.pod.is_terminal() && !qos::is_critical(&e.pod);
    let running = |e: &&Arc<Entry>| e.containers.iter().any(|c| c.state == State::Running);
    let candidate = |e: &Arc<Entry>| {
        let usage = usage.get(e.pod.uid()).map_or(0, |u| i64::try_from(*u).unwrap_or(i64::MAX));
        let request = resource::total(&e.pod, false).get("memory").map_or(0, Quantity::units);
        Candidate {
            uid: e.pod.uid().into(),
            exceeds: usage > request,
            priority: e.pod.spec().priority.unwrap_or(0),
            over_bytes: usage.saturating_sub(request),
            usage_bytes: usage,
            request_bytes: request,
        }
    };
    entries.iter().filter(may_go).filter(running).map(candidate).collect()
}

/// Never returns.
pub async fn run(agent: Arc<Agent>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: BTreeMap<&'static str, Timestamp> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let now = agent.clock.now();
        let short = shortages(
            &agent.config.eviction_hard,
            agent.system.memory().ok(),
            agent.system.space(&agent.config.root_dir).ok(),
        );
        for shortage in &short {
            last.insert(shortage.pressure, now);
        }
        last.retain(|_, at| now.duration_since(*at) < TRANSITION);
        *agent.pressures.lock() = last.keys().copied().collect();
        if let Some(shortage) = short.first() {
            evict(&agent, shortage).await;
        }
    }
}

/// Ends one pod; whether that was enough shows at the next look.
async fn evict(agent: &Agent, short: &Shortage) {
    warn!(resource = short.resource, available = short.available, threshold = short.threshold, "the node runs out");
    let mut usage: BTreeMap<String, u64> = BTreeMap::new();
    for u in usages(agent).await {
        *usage.entry(u.entry.pod.uid().to_owned()).or_default() += u.working_set_bytes;
    }
    let entries = agent.pods.all();
    let Some(chosen) = rank(candidates(&entries, &usage)).into_iter().next() else { return };
    let Some(entry) = entries.iter().find(|e| e.pod.uid() == chosen.uid) else { return };
    let mut message = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        short.resource, short.threshold, short.available
    );
    if short.pressure == "memory" {
        for c in entry.pod.spec().containers.iter() {
            let bytes = |n: i64| Quantity::from_bytes(n / 1024 * 1024).to_string();
            message += &format!(
                "Container {} was using {}, request is {}, has larger consumption of memory. ",
                c.name,
                bytes(chosen.usage_bytes),
                bytes(chosen.request_bytes)
            );
        }
    }
    info!(pod = entry.pod.title(), "evicting a pod");
    agent.events.pod(&entry.pod, Severity::Warning, "Evicted", message.clone());
    let cause = Cause::Failed { reason: "Evicted".into(), message };
    agent.pods.end(&chosen.uid, Termination { cause, grace_seconds: 1 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short() {
        let limits = Eviction::default();
        let memory = |available_bytes| Some(Memory { available_bytes, ..Default::default() });
        let space =
            |available_bytes| Some(Space { capacity_bytes: 1000, available_bytes, inodes: 100, inodes_free: 50 });
        let names = |m, s| shortages(&limits, m, s).into_iter().map(|s| s.pressure).collect::<Vec<_>>();
        assert!(names(memory(1 << 30), space(500)).is_empty());
        assert_eq!(names(memory(1 << 20), space(50)), ["memory", "disk"]);
        assert_eq!(shortages(&limits, memory(1 << 20), None)[0].threshold, "100Mi");

        let full = Some(Space { capacity_bytes: 1000, inodes: 100, ..Default::default() });
        let unjudged = Eviction {
            nodefs_available_percent: 0.0,
            nodefs_inodes_free_percent: 0.0,
            imagefs_available_percent: 0.0,
            ..limits
        };
        assert!(shortages(&unjudged, None, full).is_empty());
    }

    #[test]
    fn who_goes_first() {
        let candidate = |uid: &str, exceeds, priority, over_bytes| Candidate {
            uid: uid.into(),
            exceeds,
            priority,
            over_bytes,
            usage_bytes: 0,
            request_bytes: 0,
        };
        let all = vec![
            candidate("modest", false, 0, -5),
            candidate("important", true, 9, 50),
            candidate("small", true, 0, 1),
            candidate("greedy", true, 0, 9),
        ];
        let order: Vec<_> = rank(all).into_iter().map(|c| c.uid).collect();
        assert_eq!(order, ["greedy", "small", "important", "modest"]);
    }
}

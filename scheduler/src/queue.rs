//! The queue: which pod is tried next, and when one that fits nowhere is tried again. Pure: time comes in.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{framework::ClusterEvent, snapshot::Pod};

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// After this a refused pod is tried again even if nothing seems to have changed.
const REFUSED_MAX: Duration = Duration::from_secs(300);
/// How many events are kept for a pod that is being tried; beyond, it is simply tried again.
const MISSED_MAX: usize = 1024;

/// The time since some fixed moment.
pub type Time = Duration;

/// Who refused a pod, so that only events that may change their mind bring it back.
pub type Refusers = BTreeSet<&'static str>;

/// The order of the active pods: the most important first, then who has waited longest.
type Rank = (Reverse<i32>, Time, u64, String);

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    place: Place,
    /// When it first came; kept over all attempts.
    since: Time,
    number: u64,
    attempts: u32,
    refusers: Refusers,
}

#[derive(Debug)]
enum Place {
    /// Held back until its gates are gone.
    Gated,
    Active,
    Backoff(Time),
    /// Refused at this time.
    Refused(Time),
    /// Taken by `pop`; what has happened since.
    InFlight(Vec<ClusterEvent>),
}

#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<Rank>,
    backoff: BTreeSet<(Time, String)>,
    counter: u64,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// Takes in a pod that has no node, or what has changed about it.
    pub fn set(&mut self, pod: Arc<Pod>, gated: bool, now: Time) {
        let uid = pod.uid.clone();
        let Some(old) = self.entries.get_mut(&uid) else {
            self.counter += 1;
            let entry = Entry {
                pod,
                place: Place::Gated,
                since: now,
                number: self.counter,
                attempts: 0,
                refusers: Refusers::new(),
            };
            self.entries.insert(uid.clone(), entry);
            if !gated {
                self.put(&uid, Place::Active);
            }
            return;
        };
        let changed = old.pod.object.spec != pod.object.spec || old.pod.labels != pod.labels;
        if old.pod.priority != pod.priority && matches!(old.place, Place::Active) {
            self.active.remove(&rank(old));
            old.pod = pod;
            self.active.insert(rank(old));
            return;
        }
        old.pod = pod;
        match &mut old.place {
            Place::Gated if !gated => self.put(&uid, Place::Active),
            Place::Refused(_) if changed => self.retry(&uid, now),
            Place::InFlight(missed) if changed => missed.push(ClusterEvent::Other),
            _ => {}
        }
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.active.remove(&rank(&entry));
            if let Place::Backoff(until) = entry.place {
                self.backoff.remove(&(until, uid.to_owned()));
            }
        }
    }

    /// The next pod to try, if one is due.
    pub fn pop(&mut self, now: Time) -> Option<Arc<Pod>> {
        self.wake(now);
        let (.., uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight(Vec::new());
        entry.attempts += 1;
        Some(entry.pod.clone())
    }

    /// When `pop` should be asked again although nothing has happened.
    pub fn next_wake(&self) -> Option<Time> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let refused = self.entries.values().filter_map(|e| match e.place {
            Place::Refused(at) => Some(at + REFUSED_MAX),
            _ => None,
        });
        refused.chain(backoff).min()
    }

    /// Puts back a pod that was refused. `helps` says whether an event may change a refuser's mind.
    pub fn refused(
        &mut self,
        uid: &str,
        refusers: Refusers,
        now: Time,
        helps: impl Fn(&Pod, &Refusers, &ClusterEvent) -> bool,
    ) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let Place::InFlight(missed) = std::mem::replace(&mut entry.place, Place::Refused(now)) else { return };
        entry.refusers = refusers;
        // Something may have changed while the decision was made.
        let hopeful =
            missed.len() >= MISSED_MAX || missed.iter().any(|event| helps(&entry.pod, &entry.refusers, event));
        if hopeful || entry.refusers.is_empty() {
            self.retry(uid, now);
        }
    }

    /// Something has happened: brings back those whom it may help.
    pub fn happened(
        &mut self,
        event: &ClusterEvent,
        now: Time,
        helps: impl Fn(&Pod, &Refusers, &ClusterEvent) -> bool,
    ) {
        let mut hopeful = Vec::new();
        for (uid, entry) in &mut self.entries {
            match &mut entry.place {
                Place::Refused(_) if helps(&entry.pod, &entry.refusers, event) => {
                    hopeful.push((entry.number, uid.clone()))
                }
                Place::InFlight(missed) if missed.len() < MISSED_MAX => missed.push(event.clone()),
                _ => {}
            }
        }
        hopeful.sort();
        for (_, uid) in hopeful {
            self.retry(&uid, now);
        }
    }

    /// Moves what has waited long enough to the active pods.
    fn wake(&mut self, now: Time) {
        while let Some((until, uid)) = self.backoff.first().cloned().filter(|(until, _)| *until <= now) {
            self.backoff.remove(&(until, uid.clone()));
            self.put(&uid, Place::Active);
        }
        let stale = |e: &&Entry| matches!(e.place, Place::Refused(at) if at + REFUSED_MAX <= now);
        let mut stale: Vec<(u64, String)> =
            self.entries.values().filter(stale).map(|e| (e.number, e.pod.uid.clone())).collect();
        stale.sort();
        for (_, uid) in stale {
            self.put(&uid, Place::Active);
        }
    }

    /// Back to work, but not before the pod's backoff has passed.
    fn retry(&mut self, uid: &str, now: Time) {
        let Some(entry) = self.entries.get(uid) else { return };
        let refused = if let Place::Refused(at) = entry.place { at } else { now };
        let until = refused + backoff(entry.attempts);
        self.put(uid, if until > now { Place::Backoff(until) } else { Place::Active });
    }

    fn put(&mut self, uid: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.place = place;
        match entry.place {
            Place::Active => {
                self.active.insert(rank(entry));
            }
            Place::Backoff(until) => {
                self.backoff.insert((until, uid.to_owned()));
            }
            _ => {}
        }
    }
}

fn rank(entry: &Entry) -> Rank {
    (Reverse(entry.pod.priority), entry.since, entry.number, entry.pod.uid.clone())
}

/// 1 s after the first attempt, then twice as long each time, up to 10 s.
fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, priority: i32) -> Arc<Pod> {
        let object = json!({"metadata": {"name": uid, "uid": uid}, "spec": {"priority": priority, "containers": []}});
        Arc::new(Pod::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    const fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn next(queue: &mut Queue, seconds: u64) -> Option<String> {
        queue.pop(at(seconds)).map(|p| p.uid.clone())
    }

    #[test]
    fn important_first_then_in_order() {
        let mut queue = Queue::default();
        for (uid, priority, time) in [("a", 0, 0), ("b", 10, 1), ("c", 0, 1)] {
            queue.set(pod(uid, priority), false, at(time));
        }
        assert_eq!(
            [next(&mut queue, 2), next(&mut queue, 2), next(&mut queue, 2)],
            [Some("b".into()), Some("a".into()), Some("c".into())]
        );
    }

    #[test]
    fn gated_waits() {
        let mut queue = Queue::default();
        queue.set(pod("a", 0), true, at(0));
        assert_eq!(next(&mut queue, 1), None);
        queue.set(pod("a", 0), false, at(2));
        assert_eq!(next(&mut queue, 2), Some("a".into()));
    }

    #[test]
    fn refused_comes_back_when_it_may_help() {
        let mut queue = Queue::default();
        queue.set(pod("a", 0), false, at(0));
        next(&mut queue, 0);
        queue.refused("a", Refusers::from(["NodePorts"]), at(0), |_, _, _| false);
        queue.happened(&ClusterEvent::Other, at(5), |_, _, _| false);
        assert_eq!(next(&mut queue, 5), None);
        queue.happened(&ClusterEvent::Other, at(5), |_, refusers, _| refusers.contains("NodePorts"));
        assert_eq!(next(&mut queue, 5), Some("a".into()));
        // The second failure backs off for 2 s.
        queue.refused("a", Refusers::from(["NodePorts"]), at(5), |_, _, _| false);
        queue.happened(&ClusterEvent::Other, at(5), |_, _, _| true);
        assert_eq!(queue.next_wake(), Some(at(7)));
        assert_eq!(next(&mut queue, 6), None);
        assert_eq!(next(&mut queue, 7), Some("a".into()));
    }

    #[test]
    fn what_happens_during_an_attempt_is_not_missed() {
        let mut queue = Queue::default();
        queue.set(pod("a", 0), false, at(0));
        next(&mut queue, 0);
        queue.happened(&ClusterEvent::Other, at(0), |_, _, _| true);
        queue.refused("a", Refusers::from(["NodePorts"]), at(0), |_, _, _| true);
        assert_eq!(next(&mut queue, 1), Some("a".into()));
    }

    #[test]
    fn refused_is_tried_again_in_the_end() {
        let mut queue = Queue::default();
        queue.set(pod("a", 0), false, at(0));
        next(&mut queue, 0);
        queue.refused("a", Refusers::from(["NodePorts"]), at(0), |_, _, _| false);
        assert_eq!(queue.next_wake(), Some(at(300)));
        assert_eq!(next(&mut queue, 300), Some("a".into()));
    }
}

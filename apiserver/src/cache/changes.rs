//! What watchers who watch the same are still to be told: one log for all of them, in which each has a place of its own.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use parking_lot::Mutex;
use store::Revision;

use super::kind::Delivery;

/// Changes that wait for one watcher before it is dropped.
pub const BACKLOG_EVENTS_MAX: u64 = 4096;

/// Tells watchers who watch the same.
#[derive(Default)]
pub struct Teller {
    log: Arc<Log>,
    places: Vec<Arc<Place>>,
}

/// Changes are numbered in the order in which they were told.
#[derive(Default)]
struct Log {
    kept: Mutex<Kept>,
    /// The number of the next change.
    end: AtomicU64,
}

#[derive(Default)]
struct Kept {
    /// The number of the first one.
    first: u64,
    changes: VecDeque<Delivery>,
}

/// How far a watcher has come.
struct Place {
    /// The number of the change that it has not seen yet.
    next: AtomicU64,
    is_over: AtomicBool,
    waker: AtomicWaker,
}

impl Place {
    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Teller {
    /// A new watcher, who is told of what changes from now on, and after a revision.
    pub fn add(&mut self, after: Revision) -> Changes {
        let next = AtomicU64::new(self.log.end.load(Ordering::Acquire));
        let place = Arc::new(Place { next, is_over: AtomicBool::new(false), waker: AtomicWaker::new() });
        self.places.push(place.clone());
        Changes { log: self.log.clone(), place, after }
    }

    pub fn tell(&mut self, changes: Vec<Delivery>) {
        let end = self.log.add(changes);
        let mut slowest = end;
        self.places.retain(|place| {
            let next = place.next.load(Ordering::Acquire);
            if is_left(place) {
                return false;
            }
            if end - next > BACKLOG_EVENTS_MAX {
                place.end();
                return false;
            }
            slowest = slowest.min(next);
            place.waker.wake();
            true
        });
        self.log.forget(slowest);
    }

    /// Forgets who has left.
    pub fn search(&mut self) {
        self.places.retain(|place| !is_left(place));
    }

    /// How many there are; some may have left.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| place.end());
    }
}

fn is_left(place: &Arc<Place>) -> bool {
    Arc::strong_count(place) == 1
}

impl Log {
    /// The number of the change that will follow these.
    fn add(&self, changes: Vec<Delivery>) -> u64 {
        let mut kept = self.kept.lock();
        kept.changes.extend(changes);
        let end = kept.first + kept.changes.len() as u64;
        self.end.store(end, Ordering::Release);
        end
    }

    /// Forgets the changes before this number.
    fn forget(&self, number: u64) {
        let mut kept = self.kept.lock();
        while kept.first < number && kept.changes.pop_front().is_some() {
            kept.first += 1;
        }
    }

    /// None: it is forgotten, or yet to come.
    fn get(&self, number: u64) -> Option<Delivery> {
        let kept = self.kept.lock();
        let at = number.checked_sub(kept.first)?;
        kept.changes.get(usize::try_from(at).ok()?).cloned()
    }
}

/// What one watcher is told. Ends when the watcher is too slow, or the cache had to start over.
pub struct Changes {
    log: Arc<Log>,
    place: Arc<Place>,
    /// The watcher has seen everything up to this revision.
    after: Revision,
}

impl Changes {
    /// The next change, if there is one.
    fn take(&self) -> Option<Delivery> {
        loop {
            let number = self.place.next.load(Ordering::Relaxed);
            if number == self.log.end.load(Ordering::Acquire) {
                return None;
            }
            let change = self.log.get(number)?;
            self.place.next.store(number + 1, Ordering::Release);
            if change.1.revision > self.after {
                return Some(change);
            }
        }
    }

    /// The next change, none if there are no more; pending if there may be.
    fn look(&self) -> Poll<Option<Delivery>> {
        // Read before the log: what was told before the end is told.
        let is_over = self.place.is_over.load(Ordering::Acquire);
        match self.take() {
            None if !is_over => Poll::Pending,
            change => Poll::Ready(change),
        }
    }
}

impl Stream for Changes {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let looked = self.look();
        if looked.is_ready() {
            return looked;
        }
        self.place.waker.register(context.waker());
        // Once more: it may have come before there was anybody to wake.
        self.look()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use serde_json::json;

    use super::*;
    use crate::cache::{Change, Object, event::Event};

    fn change(revision: Revision) -> Delivery {
        let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b"}});
        let object = Arc::new(Object::of(&value, revision).unwrap());
        (Change::Added, Arc::new(Event::new(revision, Some(object), None)))
    }

    /// The revisions that are there, and whether the end is.
    fn told(changes: &mut Changes) -> (Vec<Revision>, bool) {
        let mut revisions = Vec::new();
        loop {
            match changes.next().now_or_never() {
                Some(Some((_, event))) => revisions.push(event.revision),
                end => return (revisions, end.is_some()),
            }
        }
    }

    #[test]
    fn each_watcher_is_told_from_its_place_on() {
        let mut teller = Teller::default();
        let (mut early, mut later) = (teller.add(0), teller.add(2));
        teller.tell(vec![change(1), change(2)]);
        assert_eq!(told(&mut early), (vec![1, 2], false));
        let mut last = teller.add(2);
        teller.tell(vec![change(3)]);
        for changes in [&mut early, &mut later, &mut last] {
            assert_eq!(told(changes), (vec![3], false));
        }
    }

    #[test]
    fn a_log_keeps_what_somebody_is_still_to_be_told() {
        let mut teller = Teller::default();
        let (mut slow, mut quick) = (teller.add(0), teller.add(0));
        for revision in 1..=10 {
            teller.tell(vec![change(revision)]);
            assert_eq!(told(&mut quick).0, [revision]);
        }
        assert_eq!(told(&mut slow).0.len(), 10);
        teller.tell(vec![change(11)]);
        told(&mut slow);
        told(&mut quick);
        teller.tell(vec![change(12)]);
        assert_eq!(teller.log.kept.lock().changes.len(), 1);
    }

    #[test]
    fn the_slow_are_dropped_and_the_end_comes_after_what_was_told() {
        let mut teller = Teller::default();
        let (mut slow, mut quick) = (teller.add(0), teller.add(0));
        for revision in 1..=BACKLOG_EVENTS_MAX + 1 {
            teller.tell(vec![change(revision)]);
            assert_eq!(told(&mut quick).0, [revision]);
        }
        assert_eq!(told(&mut slow), (Vec::new(), true));
        teller.tell(vec![change(9000)]);
        drop(teller);
        assert_eq!(told(&mut quick), (vec![9000], true));
    }
}

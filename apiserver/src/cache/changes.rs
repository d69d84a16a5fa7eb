//! What watchers who watch the same are still to be told: one log for all of them, in which each has a place of its own.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, task::AtomicWaker};
use parking_lot::Mutex;
use store::Revision;
use tokio::time::Instant;

use super::kind::Delivery;
use crate::codec::Form;

/// Changes that wait for one watcher before it is dropped.
pub const BACKLOG_EVENTS_MAX: u64 = 4096;

/// Watchers who were woken together are then left alone for so long for each of them: what changes meanwhile they are told
/// at one time. To wake a thousand takes milliseconds, however little there is to say; at most, they wait about as long as
/// a kube-apiserver that tells them of every change by itself needs to do so.
const REST_EACH: Duration = Duration::from_micros(150);
const REST_MAX: Duration = Duration::from_millis(150);
/// So few watchers that a timer is not worth it are always woken at once.
const REST_MIN: Duration = Duration::from_millis(4);
/// So many changes do not wait.
const POSTPONED_MAX: u64 = 64;
/// Runs that are kept for others: of a few forms, and of those who lag behind a little.
const RUNS_MAX: usize = 8;

/// Tells watchers who watch the same.
#[derive(Default)]
pub struct Teller {
    log: Arc<Log>,
    places: Vec<Arc<Place>>,
    /// Until when nobody is woken.
    rest: Option<Instant>,
    /// The number of the first change of which nobody was woken.
    postponed: u64,
}

fn rest(watchers: usize) -> Duration {
    let rest = u32::try_from(watchers).map_or(REST_MAX, |watchers| (REST_EACH * watchers).min(REST_MAX));
    if rest < REST_MIN { Duration::ZERO } else { rest }
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
    /// The latest, of changes that are kept.
    runs: VecDeque<Shared>,
}

/// A run that others may want as well.
struct Shared {
    /// The number of its first change.
    first: u64,
    form: Form,
    /// What it was not to be longer than.
    max: usize,
    run: Run,
}

/// Changes in a row, encoded, in one piece.
#[derive(Clone)]
pub struct Run {
    pub bytes: Bytes,
    /// Of each change.
    pub lengths: Arc<[usize]>,
}

impl Run {
    /// As many pieces as `max` bytes hold, but one at least, and the piece that did not fit in with them. None if there is
    /// no piece at all.
    pub fn gather(max: usize, mut next: impl FnMut() -> Option<Bytes>) -> Option<(Self, Option<Bytes>)> {
        let first = next()?;
        let (mut length, mut pieces, mut left) = (first.len(), vec![first], None);
        while length < max
            && let Some(piece) = next()
        {
            if length + piece.len() > max {
                left = Some(piece);
                break;
            }
            length += piece.len();
            pieces.push(piece);
        }
        let lengths = pieces.iter().map(Bytes::len).collect();
        let bytes = match &mut pieces[..] {
            [one] => std::mem::take(one),
            several => several.concat().into(),
        };
        Some((Self { bytes, lengths }, left))
    }
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
        Changes { log: self.log.clone(), place, after: Some(after) }
    }

    /// Tells everybody; gives the time at which they are to be [woken](Self::wake_due), if that is not now.
    pub fn tell(&mut self, changes: Vec<Delivery>, now: Instant) -> Option<Instant> {
        let end = self.log.add(changes);
        if end - self.postponed >= POSTPONED_MAX {
            self.rest = None;
        }
        self.wake_due(now)
    }

    /// Wakes those who are yet to be woken, if it is time; gives the time if not.
    pub fn wake_due(&mut self, now: Instant) -> Option<Instant> {
        let end = self.log.end.load(Ordering::Acquire);
        if end == self.postponed {
            return None;
        }
        if let Some(rest) = self.rest
            && rest > now
        {
            return Some(rest);
        }
        self.postponed = end;
        self.wake(end);
        self.rest = Some(now + rest(self.places.len()));
        None
    }

    fn wake(&mut self, end: u64) {
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
        kept.runs.retain(|shared| shared.first >= number);
    }

    /// None: it is forgotten, or yet to come.
    fn get(&self, number: u64) -> Option<Delivery> {
        let kept = self.kept.lock();
        let at = number.checked_sub(kept.first)?;
        kept.changes.get(usize::try_from(at).ok()?).cloned()
    }

    /// A run that somebody else at the same place was told.
    fn shared(&self, first: u64, form: Form, max: usize) -> Option<Run> {
        let kept = self.kept.lock();
        let is_wanted = |shared: &&Shared| shared.first == first && shared.form == form && shared.max == max;
        kept.runs.iter().find(is_wanted).map(|shared| shared.run.clone())
    }

    fn share(&self, shared: Shared) {
        let mut kept = self.kept.lock();
        if kept.runs.len() == RUNS_MAX {
            kept.runs.pop_front();
        }
        kept.runs.push_back(shared);
    }
}

/// What one watcher is told. Ends when the watcher is too slow, or the cache had to start over.
pub struct Changes {
    log: Arc<Log>,
    place: Arc<Place>,
    /// The watcher has seen everything up to this revision; none once it is told of what came later.
    after: Option<Revision>,
}

impl Changes {
    /// All changes that are there, as many as `max` bytes hold, but one at least. Those in a form that is the same for
    /// all are encoded once for all who are at the same place.
    pub fn poll_run(
        &mut self,
        context: &mut Context<'_>,
        form: Option<Form>,
        max: usize,
        mut encode: impl FnMut(&Delivery) -> Bytes,
    ) -> Poll<Option<Run>> {
        self.poll(context, |changes| changes.run(form, max, &mut encode))
    }

    fn run(&mut self, form: Option<Form>, max: usize, mut encode: impl FnMut(&Delivery) -> Bytes) -> Option<Run> {
        let first = self.unseen()?;
        let run = match form.and_then(|form| self.log.shared(first, form, max)) {
            Some(run) => run,
            None => {
                let mut changes = (first..).map_while(|number| self.log.get(number));
                // What does not fit in is there when the next run is made.
                let (run, _) = Run::gather(max, || changes.next().map(|change| encode(&change)))?;
                if let Some(form) = form {
                    self.log.share(Shared { first, form, max, run: run.clone() });
                }
                run
            }
        };
        self.place.next.store(first + run.lengths.len() as u64, Ordering::Release);
        Some(run)
    }

    /// The next change, if there is one.
    fn take(&mut self) -> Option<Delivery> {
        let number = self.unseen()?;
        let change = self.log.get(number)?;
        self.place.next.store(number + 1, Ordering::Release);
        Some(change)
    }

    /// The number of the next change that the watcher has not seen, if there is one.
    fn unseen(&mut self) -> Option<u64> {
        loop {
            let number = self.place.next.load(Ordering::Relaxed);
            if number == self.log.end.load(Ordering::Acquire) {
                return None;
            }
            let Some(after) = self.after else { return Some(number) };
            if self.log.get(number)?.1.revision > after {
                self.after = None;
                return Some(number);
            }
            self.place.next.store(number + 1, Ordering::Release);
        }
    }

    /// What there is; none if there is no more, pending if there may be.
    fn poll<T>(&mut self, context: &mut Context<'_>, mut take: impl FnMut(&mut Self) -> Option<T>) -> Poll<Option<T>> {
        let mut look = |changes: &mut Self| {
            // Read before the log: what was told before the end is told.
            let is_over = changes.place.is_over.load(Ordering::Acquire);
            match take(changes) {
                None if !is_over => Poll::Pending,
                taken => Poll::Ready(taken),
            }
        };
        let looked = look(self);
        if looked.is_ready() {
            return looked;
        }
        self.place.waker.register(context.waker());
        // Once more: it may have come before there was anybody to wake.
        look(self)
    }
}

impl Stream for Changes {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll(context, Self::take)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, task::noop_waker_ref};
    use serde_json::json;

    use super::*;
    use crate::{
        cache::{Change, Object, event::Event},
        codec::Media,
    };

    fn change(revision: Revision) -> Delivery {
        let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b"}});
        let object = Arc::new(Object::of(&value, revision).unwrap());
        (Change::Added, Arc::new(Event::new(revision, Some(object), None)))
    }

    /// Long after whatever was told before.
    fn tell(teller: &mut Teller, changes: Vec<Delivery>) {
        teller.rest = None;
        assert_eq!(teller.tell(changes, Instant::now()), None);
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

    /// A run of at most five bytes, in which each change takes two, and how many were encoded for it.
    fn run(changes: &mut Changes, form: Option<Form>) -> (Option<String>, usize) {
        let mut count = 0;
        let encode = |(_, event): &Delivery| {
            count += 1;
            format!("{:02}", event.revision).into()
        };
        match changes.poll_run(&mut Context::from_waker(noop_waker_ref()), form, 5, encode) {
            Poll::Ready(run) => (run.map(|run| String::from_utf8(run.bytes.to_vec()).unwrap()), count),
            Poll::Pending => (Some(String::new()), count),
        }
    }

    #[test]
    fn who_is_at_the_same_place_is_told_the_same_bytes() {
        let mut teller = Teller::default();
        let [mut first, mut second, mut other, mut alone] = [(); 4].map(|()| teller.add(0));
        let mut later = teller.add(1);
        tell(&mut teller, (1..=5).map(change).collect());
        let (json, yaml) = (Some(Form::JSON), Some(Form { media: Media::Yaml, ..Form::JSON }));
        let told = |text: &str, count| (Some(text.to_owned()), count);
        assert_eq!(run(&mut first, json), told("0102", 3));
        assert_eq!(run(&mut second, json), told("0102", 0));
        assert_eq!(run(&mut other, yaml), told("0102", 3));
        assert_eq!(run(&mut alone, None), told("0102", 3));
        assert_eq!(run(&mut later, json), told("0203", 3));
        assert_eq!(run(&mut first, json), told("0304", 3));
        tell(&mut teller, vec![change(6)]);
        assert_eq!(run(&mut second, json), told("0304", 0));
        assert_eq!(run(&mut first, json), told("0506", 2));
        assert_eq!(run(&mut first, json), told("", 0));
        drop(teller);
        assert_eq!(run(&mut first, json), (None, 0));
    }

    #[test]
    fn runs_are_forgotten_with_what_they_show() {
        let mut teller = Teller::default();
        let [mut first, mut second] = [(); 2].map(|()| teller.add(0));
        for revision in (1..100).step_by(2) {
            tell(&mut teller, vec![change(revision), change(revision + 1)]);
            run(&mut first, Some(Form::JSON));
        }
        assert_eq!(teller.log.kept.lock().runs.len(), RUNS_MAX);
        while !matches!(run(&mut second, None), (Some(text), _) if text.is_empty()) {}
        tell(&mut teller, vec![change(101)]);
        assert!(teller.log.kept.lock().runs.is_empty());
    }

    #[test]
    fn each_watcher_is_told_from_its_place_on() {
        let mut teller = Teller::default();
        let (mut early, mut later) = (teller.add(0), teller.add(2));
        tell(&mut teller, vec![change(1), change(2)]);
        assert_eq!(told(&mut early), (vec![1, 2], false));
        let mut last = teller.add(2);
        tell(&mut teller, vec![change(3)]);
        for changes in [&mut early, &mut later, &mut last] {
            assert_eq!(told(changes), (vec![3], false));
        }
    }

    #[test]
    fn a_log_keeps_what_somebody_is_still_to_be_told() {
        let mut teller = Teller::default();
        let (mut slow, mut quick) = (teller.add(0), teller.add(0));
        for revision in 1..=10 {
            tell(&mut teller, vec![change(revision)]);
            assert_eq!(told(&mut quick).0, [revision]);
        }
        assert_eq!(told(&mut slow).0.len(), 10);
        tell(&mut teller, vec![change(11)]);
        told(&mut slow);
        told(&mut quick);
        tell(&mut teller, vec![change(12)]);
        assert_eq!(teller.log.kept.lock().changes.len(), 1);
    }

    #[test]
    fn the_slow_are_dropped_and_the_end_comes_after_what_was_told() {
        let mut teller = Teller::default();
        let (mut slow, mut quick) = (teller.add(0), teller.add(0));
        for revision in 1..=BACKLOG_EVENTS_MAX + 1 {
            tell(&mut teller, vec![change(revision)]);
            assert_eq!(told(&mut quick).0, [revision]);
        }
        assert_eq!(told(&mut slow), (Vec::new(), true));
        tell(&mut teller, vec![change(9000)]);
        drop(teller);
        assert_eq!(told(&mut quick), (vec![9000], true));
    }

    #[test]
    fn many_who_were_just_woken_are_left_alone() {
        let mut teller = Teller::default();
        let mut watchers: Vec<_> = (0..1000).map(|_| teller.add(0)).collect();
        let start = Instant::now();
        assert_eq!(teller.tell(vec![change(1)], start), None);
        let due = start + REST_MAX;
        assert_eq!(teller.tell(vec![change(2)], start), Some(due));
        assert_eq!(teller.tell(vec![change(3)], due - REST_MIN), Some(due));
        assert_eq!(teller.wake_due(due - REST_MIN), Some(due));
        // Who looks without having been woken is told everything.
        assert_eq!(told(&mut watchers[0]), (vec![1, 2, 3], false));
        assert_eq!(teller.wake_due(due), None);
        assert_eq!(teller.tell(vec![change(4)], due), Some(due + REST_MAX));
        let many = (5..5 + POSTPONED_MAX).map(change).collect();
        assert_eq!(teller.tell(many, due), None);
    }

    #[test]
    fn few_are_always_woken_at_once() {
        let mut teller = Teller::default();
        let _watchers: Vec<_> = (0..20).map(|_| teller.add(0)).collect();
        let now = Instant::now();
        (1..10).for_each(|revision| assert_eq!(teller.tell(vec![change(revision)], now), None));
    }
}

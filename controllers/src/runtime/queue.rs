//! A controller's work: keys to look at, each once, never two workers on one key, failures later and later.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, time::Instant};

const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1000);

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Asked for again while running.
    again: HashSet<K>,
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<K, u32>,
    order: Option<StdRng>,
    closed: bool,
}

pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// First come, first served; with a seed, in an order of the seed's choice (for simulations).
    pub fn new(seed: Option<u64>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            order: seed.map(StdRng::seed_from_u64),
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    pub fn add(&self, key: K) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// Looks at the key after a while, or sooner if that was asked for already.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        {
            let mut state = self.state.lock();
            let at = Instant::now() + delay;
            match state.due.get(&key).copied() {
                Some((due, _)) if due <= at => return,
                Some(due) => {
                    state.later.remove(&due);
                }
                None => {}
            }
            state.sequence += 1;
            let slot = (at, state.sequence);
            state.later.insert(slot, key.clone());
            state.due.insert(key, slot);
        }
        self.wake.notify_one();
    }

    /// Looks at the key again after a failure: 5 ms, 10 ms, … 1000 s.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count += 1;
            *count - 1
        };
        let delay = RETRY_FIRST.saturating_mul(1 << failures.min(20)).min(RETRY_MAX);
        self.add_after(key, delay);
    }

    /// The key went well: its next failure counts as the first.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// The worker that got the key from `next` is through with it.
    pub fn done(&self, key: &K) {
        {
            let mut state = self.state.lock();
            state.running.remove(key);
            if state.again.remove(key) {
                state.add(key.clone());
            }
        }
        self.wake.notify_one();
    }

    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// The next key to look at; none once the queue is closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let wake = self.wake.notified();
            let (key, due, more) = {
                let mut state = self.state.lock();
                if state.closed {
                    drop(state);
                    self.wake.notify_one();
                    return None;
                }
                state.promote(Instant::now());
                let key = state.take();
                (key, state.later.keys().next().map(|(at, _)| *at), !state.ready.is_empty())
            };
            if let Some(key) = key {
                // One permit may stand for several keys: pass it on.
                if more || due.is_some() {
                    self.wake.notify_one();
                }
                return Some(key);
            }
            match due {
                Some(at) => tokio::select! { biased; () = wake => {}, () = tokio::time::sleep_until(at) => {} },
                None => wake.await,
            }
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        if let Some(order) = self.order.as_mut()
            && self.ready.len() > 1
        {
            let chosen = order.random_range(0..self.ready.len());
            self.ready.swap(0, chosen);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_worker_a_key() {
        let queue = Queue::new(None);
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn later_and_sooner() {
        let (queue, began) = (Queue::new(None), Instant::now());
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(began.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(queue.state.lock().later.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off() {
        let queue = Queue::new(None);
        let mut waits = Vec::new();
        for _ in 0..4 {
            let began = Instant::now();
            queue.retry("a");
            let key = queue.next().await.unwrap();
            waits.push(began.elapsed().as_millis());
            queue.done(&key);
        }
        assert_eq!(waits, [5, 10, 20, 40]);
    }
}

//! The queues of one priority level: which request runs now, which waits, which is sent away; fair between queues.
//!
//! Pure: time comes in as nanoseconds. Virtual time and work are in seats times nanoseconds, as whole numbers.

use std::collections::VecDeque;

use super::{demand::Demand, estimate::Work, shuffle};

/// What a request is taken to need before it has run.
const SERVICE_NANOS: i128 = 3_000_000;

pub type Nanos = u64;

/// How a level queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queuing {
    /// Everything runs at once.
    Unlimited,
    /// What finds no seat is sent away.
    Reject,
    Queues {
        queues: usize,
        hand: usize,
        /// Of each queue.
        length: usize,
    },
}

/// The right to run; must be given back with [`QueueSet::finish`].
#[derive(Debug)]
#[must_use]
pub struct Seat {
    queue: Option<usize>,
    started: Nanos,
    work: Work,
}

impl Seat {
    pub fn work(&self) -> Work {
        self.work
    }

    /// The seat of a request that has not been carried out: nobody is kept busy by it afterwards.
    pub fn unused(mut self) -> Self {
        self.work.additional_latency = std::time::Duration::ZERO;
        self
    }
}

/// Seats that are still taken after a request was answered; must be given back with [`QueueSet::release`].
#[derive(Debug)]
#[must_use]
pub struct Lingering {
    queue: Option<usize>,
    seats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ConcurrencyLimit,
    QueueFull,
}

#[derive(Debug)]
pub enum Arrival {
    Run(Seat),
    Refused(Refusal),
    /// Its waiter will be given back by one of the methods that make room; until then it can be cancelled.
    Waits(Ticket),
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    queue: usize,
    number: u64,
}

struct Waiting<W> {
    number: u64,
    arrived: i128,
    work: Work,
    waiter: W,
}

struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    /// The work of all that wait here.
    waiting_work: i128,
    executing: u32,
    /// Taken by what runs and what lingers.
    seats: u32,
    /// The virtual time at which the next request of this queue begins.
    next_start: i128,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), waiting_work: 0, executing: 0, seats: 0, next_start: 0 }
    }
}

impl<W> Queue<W> {
    fn is_active(&self) -> bool {
        self.executing > 0 || !self.waiting.is_empty()
    }

    /// Nothing waits here, runs or lingers.
    fn is_unused(&self) -> bool {
        !self.is_active() && self.seats == 0
    }

    /// A queue must not save up what it did not use before its oldest request came.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next_start = self.next_start.max(oldest.arrived);
        }
    }
}

fn total(work: &Work) -> i128 {
    let lingering =
        i128::from(work.final_seats) * i128::try_from(work.additional_latency.as_nanos()).unwrap_or(i128::MAX);
    i128::from(work.initial_seats) * SERVICE_NANOS + lingering
}

/// What a queue looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub waiting: usize,
    pub executing: u32,
    pub seats: u32,
    /// In virtual time, of seats times nanoseconds, as is the work.
    pub next_start: i128,
    /// Of those that wait: the seats they begin with, those they need at most, and their work.
    pub initial_seats: u32,
    pub max_seats: u32,
    pub work: i128,
}

pub struct QueueSet<W> {
    queuing: Queuing,
    limit: u32,
    queues: Vec<Queue<W>>,
    /// Virtual time, and the real time that it stands for.
    virtual_now: i128,
    now: Nanos,
    active: u32,
    next_number: u64,
    robin: usize,
    enqueued: usize,
    waiting: u32,
    waiting_seats: u32,
    executing: u32,
    seats: u32,
    demand: Demand,
}

/// Those that may run now.
pub type Dispatched<W> = Vec<(W, Seat)>;

impl<W> QueueSet<W> {
    pub fn new(queuing: Queuing, limit: u32) -> Self {
        let mut this = Self {
            queuing,
            limit,
            queues: Vec::new(),
            virtual_now: 0,
            now: 0,
            active: 0,
            next_number: 0,
            robin: 0,
            enqueued: 0,
            waiting: 0,
            waiting_seats: 0,
            executing: 0,
            seats: 0,
            demand: Demand::default(),
        };
        this.grow();
        this
    }

    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    pub fn executing(&self) -> u32 {
        self.executing
    }

    pub fn seats(&self) -> u32 {
        self.seats
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn digests(&self) -> Vec<Digest> {
        let digest = |queue: &Queue<W>| Digest {
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats: queue.seats,
            next_start: queue.next_start,
            initial_seats: queue.waiting.iter().map(|waiting| waiting.work.initial_seats).sum(),
            max_seats: queue.waiting.iter().map(|waiting| waiting.work.max_seats()).sum(),
            work: queue.waiting_work,
        };
        self.queues.iter().map(digest).collect()
    }

    /// The seats that are asked for.
    pub fn demand(&mut self) -> &mut Demand {
        &mut self.demand
    }

    /// Takes over another configuration; what waits in queues that are no longer wanted still gets its turn.
    pub fn configure(&mut self, queuing: Queuing, limit: u32, now: Nanos) -> Dispatched<W> {
        self.pass(now);
        (self.queuing, self.limit) = (queuing, limit);
        self.grow();
        self.dispatch()
    }

    pub fn set_limit(&mut self, limit: u32, now: Nanos) -> Dispatched<W> {
        self.configure(self.queuing, limit, now)
    }

    fn grow(&mut self) {
        let wanted = self.queue_count();
        while self.queues.len() < wanted {
            self.queues.push(Queue::default());
        }
        while self.queues.len() > wanted && self.queues.last().is_some_and(Queue::is_unused) {
            self.queues.pop();
        }
    }

    fn queue_count(&self) -> usize {
        match self.queuing {
            Queuing::Queues { queues, .. } => queues.max(1),
            _ => 0,
        }
    }

    /// Moves virtual time on: the more queues are active, the slower it goes for each.
    fn pass(&mut self, now: Nanos) {
        let took = i128::from(now.saturating_sub(self.now));
        self.now = self.now.max(now);
        if self.active > 0 {
            let wanted = (self.seats + self.waiting_seats).min(self.limit);
            self.virtual_now += took * i128::from(wanted) / i128::from(self.active);
        }
    }

    fn note_demand(&mut self) {
        self.demand.set(self.seats + self.waiting_seats, self.now);
    }

    /// A request comes; `hash` tells its flow. The waiter is asked for only if it has to wait.
    pub fn arrive(&mut self, work: Work, hash: u64, now: Nanos, waiter: impl FnOnce() -> W) -> Arrival {
        self.pass(now);
        let Queuing::Queues { hand, length, .. } = self.queuing else {
            if self.queuing == Queuing::Reject && !self.has_room(work.max_seats()) {
                return Arrival::Refused(Refusal::ConcurrencyLimit);
            }
            return Arrival::Run(self.start(None, work));
        };
        let chosen = self.choose(hash, hand);
        let virtual_now = self.virtual_now;
        let has_room = self.waiting == 0 && self.has_room(work.max_seats());
        let full = self.seats >= self.limit && self.queues[chosen].waiting.len() >= length;
        let queue = &mut self.queues[chosen];
        if !queue.is_active() {
            queue.next_start = virtual_now;
        }
        if has_room {
            queue.next_start = queue.next_start.max(virtual_now);
            return Arrival::Run(self.start(Some(chosen), work));
        }
        if full {
            return Arrival::Refused(Refusal::QueueFull);
        }
        self.active += u32::from(!queue.is_active());
        let number = self.next_number;
        self.next_number += 1;
        queue.waiting.push_back(Waiting { number, arrived: virtual_now, work, waiter: waiter() });
        queue.waiting_work += total(&work);
        queue.bound();
        self.waiting += 1;
        self.waiting_seats += work.max_seats();
        self.note_demand();
        Arrival::Waits(Ticket { queue: chosen, number })
    }

    /// The queue of the flow's hand with the least work; turns are taken between those with the same.
    fn choose(&mut self, hash: u64, hand: usize) -> usize {
        let deck = self.queue_count();
        let mut cards = [0; 10];
        let mut count = 0;
        shuffle::deal(hash, deck, hand, |card| {
            if let Some(place) = cards.get_mut(count) {
                *place = card;
                count += 1;
            }
        });
        let offset = self.enqueued % count.max(1);
        self.enqueued = self.enqueued.wrapping_add(1);
        let hand = (0..count).map(|i| cards[(offset + i) % count]);
        hand.min_by_key(|card| self.queues[*card].waiting_work).unwrap_or_default()
    }

    /// Whether so many seats are free. What is wider than the whole level runs alone.
    fn has_room(&self, seats: u32) -> bool {
        if seats > self.limit { self.executing == 0 && self.limit > 0 } else { self.seats + seats <= self.limit }
    }

    fn start(&mut self, queue: Option<usize>, work: Work) -> Seat {
        self.executing += 1;
        self.seats += work.max_seats();
        if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(queue)) {
            self.active += u32::from(!queue.is_active());
            queue.executing += 1;
            queue.seats += work.max_seats();
            queue.next_start += total(&work);
        }
        self.note_demand();
        Seat { queue, started: self.now, work }
    }

    /// Lets run whatever has room.
    fn dispatch(&mut self) -> Dispatched<W> {
        let mut dispatched = Vec::new();
        while self.waiting > 0 && self.seats < self.limit {
            let Some(at) = self.next_queue() else { break };
            let Some(next) = self.take(at) else { break };
            let work = self.narrowed(next.work);
            let seat = self.start(Some(at), work);
            self.queues[at].bound();
            dispatched.push((next.waiter, seat));
        }
        dispatched
    }

    /// The queue whose oldest request would be done first, if that one has room.
    fn next_queue(&mut self) -> Option<usize> {
        let count = self.queues.len();
        let mut best: Option<(i128, usize)> = None;
        for step in 1..=count {
            let at = (self.robin + step) % count;
            let queue = &self.queues[at];
            let Some(oldest) = queue.waiting.front() else { continue };
            let finish = queue.next_start + total(&oldest.work);
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, at));
            }
        }
        let (_, at) = best?;
        let seats = self.queues[at].waiting.front()?.work.max_seats();
        if !self.has_room(seats) {
            return None;
        }
        self.robin = at;
        Some(at)
    }

    /// Takes the oldest request out of its queue.
    fn take(&mut self, at: usize) -> Option<Waiting<W>> {
        let queue = &mut self.queues[at];
        let next = queue.waiting.pop_front()?;
        queue.waiting_work -= total(&next.work);
        // Counted as active again when it starts.
        self.active -= u32::from(!queue.is_active());
        self.waiting -= 1;
        self.waiting_seats -= next.work.max_seats();
        Some(next)
    }

    /// Lingering on fewer seats takes longer.
    fn narrowed(&self, work: Work) -> Work {
        if work.final_seats <= self.limit || self.limit == 0 {
            return work;
        }
        let additional_latency = work.additional_latency * work.final_seats / self.limit;
        Work { final_seats: self.limit, additional_latency, ..work }
    }

    /// A request that waits is no longer wanted. False: it has been given its seat already.
    pub fn cancel(&mut self, ticket: Ticket, now: Nanos) -> bool {
        self.pass(now);
        let Some(queue) = self.queues.get_mut(ticket.queue) else { return false };
        let Some(at) = queue.waiting.iter().position(|waiting| waiting.number == ticket.number) else { return false };
        let Some(gone) = queue.waiting.remove(at) else { return false };
        queue.waiting_work -= total(&gone.work);
        queue.bound();
        self.active -= u32::from(!queue.is_active());
        self.waiting -= 1;
        self.waiting_seats -= gone.work.max_seats();
        self.note_demand();
        true
    }

    /// A request has been answered. Its seats may be kept for a while: give them back after the latency of its work.
    pub fn finish(&mut self, seat: Seat, now: Nanos) -> (Option<Lingering>, Dispatched<W>) {
        self.pass(now);
        let Seat { queue, started, work } = seat;
        self.executing -= 1;
        if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(queue)) {
            queue.executing -= 1;
            self.active -= u32::from(!queue.is_active());
            let took = i128::from(now.saturating_sub(started));
            queue.next_start -= i128::from(work.initial_seats) * (SERVICE_NANOS - took);
            queue.bound();
        }
        let lingering = Lingering { queue, seats: work.max_seats() };
        if !work.additional_latency.is_zero() {
            return (Some(lingering), self.dispatch());
        }
        (None, self.release(lingering, now))
    }

    pub fn release(&mut self, lingering: Lingering, now: Nanos) -> Dispatched<W> {
        self.pass(now);
        self.seats -= lingering.seats;
        if let Some(queue) = lingering.queue.and_then(|queue| self.queues.get_mut(queue)) {
            queue.seats -= lingering.seats;
        }
        self.note_demand();
        let dispatched = self.dispatch();
        if self.queues.len() > self.queue_count() {
            self.grow();
        }
        dispatched
    }
}

#[cfg(test)]
mod tests;

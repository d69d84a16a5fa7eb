//! A priority level while the server runs: its queues, and who is let in, waits or leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    demand::Seen,
    estimate::Work,
    queue::{Arrival, Digest, Dispatched, Lingering, Nanos, QueueSet, Queuing, Refusal, Seat, Ticket},
    retry::Retry,
    share::{Claim, Limits, Shares},
};
use crate::metrics::{buckets::Buckets, elsewhere};

/// Of a level's seats, one request may take so much.
const SEATS_PERCENT_MAX: f64 = 0.15;

/// What a PriorityLevelConfiguration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub uid: String,
    pub exempt: bool,
    pub shares: Shares,
    pub queuing: Queuing,
}

impl Configuration {
    pub fn new(object: &PriorityLevelConfiguration) -> Self {
        let spec = object.spec.clone().unwrap_or_default();
        let number =
            |value: Option<i32>, default: u32| value.map_or(default, |value| u32::try_from(value).unwrap_or(0));
        let size = |value: Option<i32>, default: u32| number(value, default) as usize;
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let Some(limited) = spec.limited else {
            let exempt = spec.exempt.unwrap_or_default();
            let shares = Shares {
                shares: number(exempt.nominal_concurrency_shares, 0),
                lendable_percent: number(exempt.lendable_percent, 0),
                borrowing_percent: None,
            };
            return Self { uid, exempt: true, shares, queuing: Queuing::Unlimited };
        };
        let queuing = limited.limit_response.and_then(|response| response.queuing);
        let queuing = queuing.map_or(Queuing::Reject, |queuing| Queuing::Queues {
            queues: size(queuing.queues, 64),
            hand: size(queuing.hand_size, 8),
            length: size(queuing.queue_length_limit, 50),
        });
        let shares = Shares {
            shares: number(limited.nominal_concurrency_shares, 30),
            lendable_percent: number(limited.lendable_percent, 0),
            borrowing_percent: limited.borrowing_limit_percent.map(|percent| number(Some(percent), 0)),
        };
        Self { uid, exempt: false, shares, queuing }
    }

    /// How many seats one request may take; 0: as many as it likes.
    fn seats_max(&self, limits: Limits) -> u32 {
        let Queuing::Queues { hand, .. } = self.queuing else { return 0 };
        let part = (f64::from(limits.nominal) * SEATS_PERCENT_MAX).ceil() as u32;
        part.min(limits.nominal / u32::try_from(hand.max(1)).unwrap_or(1)).max(1)
    }
}

type Queues = QueueSet<oneshot::Sender<Seat>>;

pub struct Level {
    pub name: String,
    pub exempt: bool,
    /// Zero of the times that the queues are told.
    begun: Instant,
    queues: Mutex<Queues>,
    retry: Mutex<Retry>,
    seats_max: AtomicU32,
    limits: Mutex<Limits>,
    seen: Mutex<Option<Seen>>,
}

/// What has become of the requests of a schema.
#[derive(Debug)]
pub struct Counts {
    pub dispatched: AtomicU64,
    pub concurrency_limit: AtomicU64,
    pub queue_full: AtomicU64,
    pub timed_out: AtomicU64,
    /// The client went away while they waited.
    pub cancelled: AtomicU64,
    pub executing: AtomicU32,
    pub waiting: AtomicU32,
    /// In nanoseconds, of those that waited in a queue, or could have.
    pub waited: Buckets<13>,
}

/// Upstream's buckets, in nanoseconds.
static WAITED_NANOS: [u64; 13] = [
    0,
    5_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    15_000_000_000,
    30_000_000_000,
];

impl Default for Counts {
    fn default() -> Self {
        Self {
            dispatched: AtomicU64::new(0),
            concurrency_limit: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            executing: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            waited: Buckets::new(&WAITED_NANOS),
        }
    }
}

/// What a level looks like now.
pub struct Usage {
    pub limits: Limits,
    pub current: u32,
    pub waiting: u32,
    pub executing: u32,
    pub seats: u32,
    pub seen: Option<Seen>,
}

impl Level {
    pub fn new(name: &str, configuration: &Configuration, limits: Limits, begun: Instant) -> Self {
        Self {
            name: name.to_owned(),
            exempt: configuration.exempt,
            begun,
            queues: Mutex::new(QueueSet::new(configuration.queuing, limits.initial())),
            retry: Mutex::default(),
            seats_max: AtomicU32::new(configuration.seats_max(limits)),
            limits: Mutex::new(limits),
            seen: Mutex::default(),
        }
    }

    /// Takes over another configuration; the seats for now are left to the next adjustment.
    pub fn configure(&self, configuration: &Configuration, limits: Limits) {
        *self.limits.lock() = limits;
        self.seats_max.store(configuration.seats_max(limits), Ordering::Relaxed);
        let mut queues = self.queues.lock();
        let limit = queues.limit();
        let dispatched = queues.configure(configuration.queuing, limit, self.now());
        drop(queues);
        self.tell(dispatched);
    }

    /// What the level has asked for since the last time.
    pub fn claim(&self) -> Claim {
        let mut queues = self.queues.lock();
        let current = queues.limit();
        let seen = queues.demand().reset(self.now());
        drop(queues);
        *self.seen.lock() = Some(seen);
        let limits = *self.limits.lock();
        Claim { limits, exempt: self.exempt, high_watermark: seen.max, smoothed: seen.smoothed, current }
    }

    pub fn set_limit(&self, limit: u32) {
        let dispatched = self.queues.lock().set_limit(limit, self.now());
        self.tell(dispatched);
    }

    pub fn usage(&self) -> Usage {
        let (limits, seen) = (*self.limits.lock(), *self.seen.lock());
        let queues = self.queues.lock();
        Usage {
            limits,
            current: queues.limit(),
            waiting: queues.waiting(),
            executing: queues.executing(),
            seats: queues.seats(),
            seen,
        }
    }

    pub fn queues(&self) -> Vec<Digest> {
        self.queues.lock().digests()
    }

    pub fn seats_max(&self) -> u32 {
        self.seats_max.load(Ordering::Relaxed)
    }

    /// Seconds after which a client that is sent away may come again.
    pub fn retry_after(&self, now: i64) -> i64 {
        self.retry.lock().sent_away(now)
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits for a seat, but no longer than `patience`.
    pub async fn enter(
        self: &Arc<Self>,
        counts: &Arc<Counts>,
        work: Work,
        hash: u64,
        patience: Duration,
    ) -> Result<Seated, ()> {
        let mut receiver = None;
        let arrival = self.queues.lock().arrive(work, hash, self.now(), || {
            let (sender, waiting) = oneshot::channel();
            receiver = Some(waiting);
            sender
        });
        let refused = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
            Err(())
        };
        let ticket = match arrival {
            Arrival::Run(seat) => {
                if !self.exempt {
                    counts.waited.observe(0);
                }
                return Ok(self.seated(counts, seat));
            }
            Arrival::Refused(Refusal::ConcurrencyLimit) => return refused(&counts.concurrency_limit),
            Arrival::Refused(Refusal::QueueFull) => return refused(&counts.queue_full),
            Arrival::Waits(ticket) => ticket,
        };
        let Some(receiver) = receiver else { return Err(()) };
        let since = Instant::now();
        counts.waiting.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Waiting { level: self, counts, ticket, receiver, is_over: false };
        let given = elsewhere::wait(tokio::time::timeout(patience, &mut waiting.receiver)).await;
        waiting.is_over = true;
        let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counts.waited.observe(waited);
        match given {
            Ok(Ok(seat)) => Ok(self.seated(counts, seat)),
            _ => refused(&counts.timed_out),
        }
    }

    fn seated(self: &Arc<Self>, counts: &Arc<Counts>, seat: Seat) -> Seated {
        counts.dispatched.fetch_add(1, Ordering::Relaxed);
        counts.executing.fetch_add(1, Ordering::Relaxed);
        Seated { level: self.clone(), counts: counts.clone(), seat: Some(seat) }
    }

    /// Gives seats to those that waited; whoever has gone meanwhile leaves at once.
    fn tell(&self, dispatched: Dispatched<oneshot::Sender<Seat>>) {
        let mut dispatched = dispatched;
        while let Some((waiter, seat)) = dispatched.pop() {
            let Err(seat) = waiter.send(seat) else { continue };
            let unused = Seat::unused(seat);
            let (lingering, more) = self.queues.lock().finish(unused, self.now());
            debug_assert!(lingering.is_none(), "work that was not done has no consequences");
            dispatched.extend(more);
        }
    }

    fn leave(self: &Arc<Self>, seat: Seat) {
        let latency = seat.work().additional_latency;
        let (lingering, dispatched) = self.queues.lock().finish(seat, self.now());
        self.tell(dispatched);
        let Some(lingering) = lingering else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let level = self.clone();
                drop(runtime.spawn(async move {
                    tokio::time::sleep(latency).await;
                    level.release(lingering);
                }));
            }
            Err(_) => self.release(lingering),
        }
    }

    fn release(&self, lingering: Lingering) {
        let dispatched = self.queues.lock().release(lingering, self.now());
        self.tell(dispatched);
    }
}

/// A request that waits; whoever goes away gives up its place, or the seat that it was just given.
struct Waiting<'a> {
    level: &'a Arc<Level>,
    counts: &'a Arc<Counts>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Seat>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        self.counts.cancelled.fetch_add((!self.is_over).into(), Ordering::Relaxed);
        let cancelled = self.level.queues.lock().cancel(self.ticket, self.level.now());
        if !cancelled && let Ok(seat) = self.receiver.try_recv() {
            self.level.leave(seat.unused());
        }
    }
}

/// A request that runs, until this is dropped.
pub struct Seated {
    level: Arc<Level>,
    counts: Arc<Counts>,
    seat: Option<Seat>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.counts.executing.fetch_sub(1, Ordering::Relaxed);
        if let Some(seat) = self.seat.take() {
            self.level.leave(seat);
        }
    }
}

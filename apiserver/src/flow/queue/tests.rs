//! Fairness and limits, step by step under a clock that the test turns.

use std::{collections::BTreeMap, time::Duration};

use super::*;

const QUEUES: Queuing = Queuing::Queues { queues: 8, hand: 1, length: 50 };
const MILLI: Nanos = 1_000_000;

/// Flows that each keep a number of requests going, each of which takes so long and so many seats.
struct Flow {
    hash: u64,
    at_once: u32,
    millis: u64,
    work: Work,
}

fn flow(hash: u64, at_once: u32, millis: u64) -> Flow {
    Flow { hash, at_once, millis, work: Work::ONE }
}

/// Runs the flows for some time; gives the seat-milliseconds that each of them got.
fn run(flows: &[Flow], limit: u32, millis: u64) -> Vec<u64> {
    let mut set: QueueSet<usize> = QueueSet::new(QUEUES, limit);
    let mut running: Vec<(Nanos, usize, Seat)> = Vec::new();
    let mut got = vec![0; flows.len()];
    let begin = |set: &mut QueueSet<usize>, running: &mut Vec<_>, of: usize, now| match set.arrive(
        flows[of].work,
        flows[of].hash,
        now,
        || of,
    ) {
        Arrival::Run(seat) => running.push((now + flows[of].millis * MILLI, of, seat)),
        Arrival::Waits(_) => {}
        Arrival::Refused(why) => unreachable!("{why:?}"),
    };
    for (of, flow) in flows.iter().enumerate() {
        (0..flow.at_once).for_each(|_| begin(&mut set, &mut running, of, 0));
    }
    while let Some(at) = (0..running.len()).min_by_key(|i| running[*i].0) {
        let (now, of, seat) = running.swap_remove(at);
        if now > millis * MILLI {
            break;
        }
        got[of] += flows[of].millis * u64::from(flows[of].work.initial_seats);
        let (_, dispatched) = set.finish(seat, now);
        running.extend(dispatched.into_iter().map(|(of, seat)| (now + flows[of].millis * MILLI, of, seat)));
        assert!(set.seats() <= limit);
        begin(&mut set, &mut running, of, now);
    }
    got
}

fn is_fair(got: &[u64]) -> bool {
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    *most as f64 <= *least as f64 * 1.1
}

#[test]
fn flows_get_the_same_however_many_or_long_their_requests_are() {
    assert!(is_fair(&run(&[flow(0, 10, 10), flow(1, 10, 10)], 4, 10_000)));
    assert!(is_fair(&run(&[flow(0, 40, 10), flow(1, 8, 10)], 4, 10_000)), "more requests");
    assert!(is_fair(&run(&[flow(0, 10, 50), flow(1, 10, 10)], 4, 10_000)), "longer requests");
    let wide = Flow { work: Work { initial_seats: 2, ..Work::ONE }, ..flow(1, 10, 10) };
    assert!(is_fair(&run(&[flow(0, 20, 10), wide], 4, 10_000)), "wider requests");
    let got = run(&[flow(0, 1, 10), flow(1, 30, 10)], 4, 10_000);
    // For the next of four seats to be free, a quarter of a request's time each time.
    assert!(got[0] >= 8_000, "who asks for little is never kept waiting long: {got:?}");
}

#[test]
fn a_full_queue_and_a_full_level_send_away() {
    let small = Queuing::Queues { queues: 1, hand: 1, length: 2 };
    let mut set: QueueSet<u32> = QueueSet::new(small, 1);
    let Arrival::Run(seat) = set.arrive(Work::ONE, 0, 0, || 0) else { unreachable!() };
    let Arrival::Waits(first) = set.arrive(Work::ONE, 0, 0, || 1) else { unreachable!() };
    assert!(matches!(set.arrive(Work::ONE, 0, 0, || 2), Arrival::Waits(_)));
    assert!(matches!(set.arrive(Work::ONE, 0, 0, || 3), Arrival::Refused(Refusal::QueueFull)));
    assert!(set.cancel(first, 5) && !set.cancel(first, 5));
    let (lingering, dispatched) = set.finish(seat, 10);
    assert!(lingering.is_none());
    let [(2, next)] = <[_; 1]>::try_from(dispatched).unwrap() else { unreachable!() };
    drop(set.finish(next, 20));
    assert_eq!((set.waiting(), set.executing(), set.seats()), (0, 0, 0));

    let mut set: QueueSet<u32> = QueueSet::new(Queuing::Reject, 1);
    let Arrival::Run(_seat) = set.arrive(Work::ONE, 0, 0, || 0) else { unreachable!() };
    assert!(matches!(set.arrive(Work::ONE, 0, 0, || 1), Arrival::Refused(Refusal::ConcurrencyLimit)));
    let mut set: QueueSet<u32> = QueueSet::new(Queuing::Unlimited, 0);
    assert!((0..9).all(|i| matches!(set.arrive(Work::ONE, 0, 0, || i), Arrival::Run(_))));
}

#[test]
fn what_lingers_keeps_its_seats_and_what_is_too_wide_runs_alone() {
    let mut set: QueueSet<u32> = QueueSet::new(QUEUES, 4);
    let writes = Work { initial_seats: 1, final_seats: 4, additional_latency: Duration::from_millis(5) };
    let Arrival::Run(write) = set.arrive(writes, 0, 0, || 0) else { unreachable!() };
    assert!(matches!(set.arrive(Work::ONE, 1, 0, || 1), Arrival::Waits(_)));
    let (lingering, dispatched) = set.finish(write, MILLI);
    assert!(dispatched.is_empty(), "the watchers are still being told");
    let mut dispatched = set.release(lingering.unwrap(), 6 * MILLI);
    let (_, read) = dispatched.pop().unwrap();
    let wide = Work { initial_seats: 9, ..Work::ONE };
    assert!(matches!(set.arrive(wide, 2, 7 * MILLI, || 2), Arrival::Waits(_)));
    let (_, mut dispatched) = set.finish(read, 8 * MILLI);
    let (who, wide) = dispatched.pop().unwrap();
    assert_eq!((who, wide.work().initial_seats), (2, 9));
    drop(set.finish(wide, 9 * MILLI));
    let seen = set.demand().reset(10 * MILLI);
    assert_eq!(seen.max, 10);
}

#[test]
fn nothing_is_lost_when_the_configuration_changes() {
    let mut set: QueueSet<u64> = QueueSet::new(QUEUES, 1);
    let Arrival::Run(seat) = set.arrive(Work::ONE, 0, 0, || 0) else { unreachable!() };
    for hash in 1..8 {
        assert!(matches!(set.arrive(Work::ONE, hash, 0, || hash), Arrival::Waits(_)));
    }
    let mut served = BTreeMap::new();
    let mut running: VecDeque<(u64, Seat)> = [(0, seat)].into();
    running.extend(set.configure(Queuing::Queues { queues: 2, hand: 1, length: 1 }, 3, 1));
    assert_eq!(running.len(), 3);
    while let Some((who, seat)) = running.pop_front() {
        *served.entry(who).or_insert(0) += 1;
        running.extend(set.finish(seat, 2).1);
    }
    assert_eq!(served.len(), 8);
    assert_eq!((set.queues.len(), set.seats(), set.active), (2, 0, 0));
}

//! What flow control is doing: `apiserver_flowcontrol_*`.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::text::{Kind, Text};
use crate::flow::{
    Flow, Row,
    level::{Counts, Usage},
};

const PREFIX: &str = "apiserver_flowcontrol_";

/// Why requests were sent away, and their number.
type Reason = (&'static str, fn(&Counts) -> &AtomicU64);

pub fn write(flow: &Flow, text: &mut Text) {
    let rows = flow.rows();
    let levels = flow.levels_now();
    let usages: Vec<(&str, Usage)> = levels.iter().map(|level| (level.name.as_str(), level.usage())).collect();
    of_levels(&usages, text);
    of_schemas(&rows, text);
    let reasons: [Reason; 3] = [
        ("concurrency-limit", |counts| &counts.concurrency_limit),
        ("queue-full", |counts| &counts.queue_full),
        ("time-out", |counts| &counts.timed_out),
    ];
    let name = format!("{PREFIX}rejected_requests_total");
    let mut family =
        text.family(&name, Kind::Counter, "Number of requests rejected by API Priority and Fairness subsystem");
    for row in &rows {
        for (reason, count) in reasons {
            let count = count(&row.counts).load(Ordering::Relaxed);
            if count > 0 {
                let labels = [
                    ("flow_schema", row.schema.name.as_str()),
                    ("priority_level", &row.level.name),
                    ("reason", reason),
                ];
                family.sample(&labels, count);
            }
        }
    }
}

type OfLevel = (&'static str, &'static str, fn(&Usage) -> f64);

const LEVELS: [OfLevel; 11] = [
    ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level", |u| {
        f64::from(u.limits.nominal)
    }),
    (
        "lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level",
        |u| f64::from(u.limits.min),
    ),
    (
        "upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level",
        |u| f64::from(u.limits.max),
    ),
    ("current_limit_seats", "current derived number of execution seats available to each priority level", |u| {
        f64::from(u.current)
    }),
    ("request_concurrency_limit", "Nominal number of execution seats configured for each priority level", |u| {
        f64::from(u.limits.nominal)
    }),
    (
        "current_executing_seats",
        "Concurrency (number of seats) occupied by the currently executing requests in the API Priority and Fairness subsystem",
        |u| f64::from(u.seats),
    ),
    (
        "request_concurrency_in_use",
        "Concurrency (number of seats) occupied by the currently executing requests in the API Priority and Fairness subsystem",
        |u| f64::from(u.seats),
    ),
    ("demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats", |u| {
        u.seen.map_or(0.0, |seen| f64::from(seen.max))
    }),
    ("demand_seats_average", "Time-weighted average, over last adjustment period, of demand_seats", |u| {
        u.seen.map_or(0.0, |seen| seen.average)
    }),
    ("demand_seats_stdev", "Time-weighted standard deviation, over last adjustment period, of demand_seats", |u| {
        u.seen.map_or(0.0, |seen| seen.deviation)
    }),
    ("demand_seats_smoothed", "Smoothed seat demands", |u| u.seen.map_or(0.0, |seen| seen.smoothed)),
];

fn of_levels(usages: &[(&str, Usage)], text: &mut Text) {
    for (name, help, value) in LEVELS {
        let name = format!("{PREFIX}{name}");
        let mut family = text.family(&name, Kind::Gauge, help);
        usages.iter().for_each(|(level, usage)| family.sample(&[("priority_level", level)], value(usage)));
    }
}

fn of_schemas(rows: &[Arc<Row>], text: &mut Text) {
    type OfSchema = (&'static str, Kind, &'static str, fn(&Counts) -> f64);
    let small = |count: &AtomicU32| f64::from(count.load(Ordering::Relaxed));
    let schemas: [OfSchema; 3] = [
        (
            "dispatched_requests_total",
            Kind::Counter,
            "Number of requests executed by API Priority and Fairness subsystem",
            |c| c.dispatched.load(Ordering::Relaxed) as f64,
        ),
        (
            "current_executing_requests",
            Kind::Gauge,
            "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
            |c| f64::from(c.executing.load(Ordering::Relaxed)),
        ),
        (
            "current_inqueue_requests",
            Kind::Gauge,
            "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
            |c| f64::from(c.waiting.load(Ordering::Relaxed)),
        ),
    ];
    for (name, kind, help, value) in schemas {
        let name = format!("{PREFIX}{name}");
        let mut family = text.family(&name, kind, help);
        let used =
            |row: &&Arc<Row>| row.counts.dispatched.load(Ordering::Relaxed) > 0 || small(&row.counts.waiting) > 0.0;
        for row in rows.iter().filter(used) {
            let labels = [("flow_schema", row.schema.name.as_str()), ("priority_level", &row.level.name)];
            family.sample(&labels, value(&row.counts));
        }
    }
    let name = format!("{PREFIX}request_wait_duration_seconds");
    let mut family = text.family(&name, Kind::Histogram, "Length of time a request spent waiting in its queue");
    for row in rows.iter().filter(|row| row.counts.waited.count() > 0) {
        let (schema, level) = (row.schema.name.as_str(), row.level.name.as_str());
        let labels = [("execute", "true"), ("flow_schema", schema), ("priority_level", level)];
        row.counts.waited.write(&mut family, &labels, 1e9);
    }
}

//! Counters of every controller's work, under the names that upstream's dashboards know.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;
use std::sync::Arc;

#[derive(Default)]
pub struct Counters {
    pub reconciles: AtomicU64,
    pub retries: AtomicU64,
    pub micros: AtomicU64,
    pub depth: AtomicU64,
}

/// Name, type, and how it is read.
type Series = (&'static str, &'static str, fn(&Counters) -> f64);

#[derive(Clone, Default)]
pub struct Metrics {
    controllers: Arc<RwLock<BTreeMap<&'static str, Arc<Counters>>>>,
}

impl Metrics {
    pub fn of(&self, controller: &'static str) -> Arc<Counters> {
        self.controllers.write().entry(controller).or_default().clone()
    }

    /// The Prometheus text form.
    pub fn text(&self) -> String {
        let series: [Series; 4] = [
            ("workqueue_depth", "gauge", |c| c.depth.load(Ordering::Relaxed) as f64),
            ("workqueue_adds_total", "counter", |c| c.reconciles.load(Ordering::Relaxed) as f64),
            ("workqueue_retries_total", "counter", |c| c.retries.load(Ordering::Relaxed) as f64),
            ("workqueue_work_duration_seconds_sum", "counter", |c| c.micros.load(Ordering::Relaxed) as f64 / 1e6),
        ];
        let (mut text, controllers) = (String::new(), self.controllers.read());
        for (name, kind, value) in series {
            // Writing to a String cannot fail.
            writeln!(text, "# TYPE {name} {kind}").unwrap_or_default();
            for (controller, counters) in controllers.iter() {
                writeln!(text, "{name}{{name=\"{controller}\"}} {}", value(counters)).unwrap_or_default();
            }
        }
        text
    }
}

//! Flow control: which requests run now, which wait and which are sent away, so that no client starves the others.
//!
//! FlowSchemas and PriorityLevelConfigurations are compiled when they change; a request costs one look through the
//! compiled schemas and one short lock of its level, unless the level is busy.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use crds::user::User;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use crate::{
    bootstrap::flow::{self, Objects},
    cache::Observer,
    call::Call,
    codec::{
        answer::{self, Answer},
        body::Body,
    },
    request::RequestInfo,
    world::World,
};

pub mod dangling;
pub mod demand;
pub mod dump;
pub mod estimate;
pub mod level;
pub mod queue;
pub mod retry;
pub mod schema;
pub mod share;
pub mod shuffle;

use level::{Configuration, Counts, Level, Seated};
use schema::Schema;

/// How long a request may wait: a quarter of the time that it has.
const WAIT_MAX: Duration = Duration::from_secs(15);
const ADJUSTMENT_PERIOD: Duration = Duration::from_secs(10);
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Flags of flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub max_requests_inflight: u32,
    pub max_mutating_requests_inflight: u32,
    /// Without, the two numbers above are limits of their own; with, their sum is shared by the priority levels.
    pub enable_priority_and_fairness: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_requests_inflight: 400, max_mutating_requests_inflight: 200, enable_priority_and_fairness: true }
    }
}

/// A schema, its level, and what has become of its requests.
pub struct Row {
    pub schema: Schema,
    pub level: Arc<Level>,
    pub counts: Arc<Counts>,
    schema_uid: Option<HeaderValue>,
    level_uid: Option<HeaderValue>,
}

impl Row {
    /// Tells the client by which objects it was judged.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, uid) in [(SCHEMA_UID, &self.schema_uid), (LEVEL_UID, &self.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(name, uid.clone());
            }
        }
    }
}

#[derive(Default)]
struct Compiled {
    /// In the order of their precedence; the last takes whatever no other has taken.
    rows: Vec<Arc<Row>>,
    levels: Vec<Arc<Level>>,
}

/// How many requests run.
#[derive(Default)]
struct InFlight {
    read_only: AtomicU32,
    mutating: AtomicU32,
}

pub struct Flow {
    options: Options,
    begun: Instant,
    objects: Mutex<Objects>,
    mandatory: Objects,
    compiled: ArcSwap<Compiled>,
    in_flight: Arc<InFlight>,
    /// Told when an object has changed.
    changed: Notify,
}

/// What must be kept while a request runs; nothing if it does not count.
#[derive(Default)]
pub struct Held {
    _seated: Option<Seated>,
    _running: Option<Running>,
}

struct Running {
    in_flight: Arc<InFlight>,
    mutates: bool,
}

impl Running {
    /// And how many there are now, this one counted.
    fn new(in_flight: &Arc<InFlight>, mutates: bool) -> (Self, u32) {
        let this = Self { in_flight: in_flight.clone(), mutates };
        let count = this.count().fetch_add(1, Ordering::Relaxed) + 1;
        (this, count)
    }

    fn count(&self) -> &AtomicU32 {
        if self.mutates { &self.in_flight.mutating } else { &self.in_flight.read_only }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Held {
    /// Kept on until the answer is out; of a watch, what it begins with.
    pub fn follow(self, answer: Answer, info: &RequestInfo) -> Answer {
        let is_watch = info.verb == "watch";
        answer.map(|body: Body| if is_watch { body.holding_until_idle(self) } else { body.holding(self) })
    }
}

impl Flow {
    pub fn new(options: Options) -> Result<Arc<Self>, serde_json::Error> {
        let this = Arc::new(Self {
            options,
            begun: Instant::now(),
            objects: Mutex::default(),
            mandatory: flow::mandatory()?,
            compiled: ArcSwap::default(),
            in_flight: Arc::default(),
            changed: Notify::new(),
        });
        this.compile();
        Ok(this)
    }

    /// Moves seats between the levels now and then, as long as the server lives.
    pub fn start(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        drop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(ADJUSTMENT_PERIOD).await;
                let Some(this) = this.upgrade() else { return };
                adjust(&this.compiled.load().levels);
            }
        }));
    }

    /// What keeps this up to date with the objects that it decides by.
    pub fn observer(self: &Arc<Self>) -> Observer {
        let this = self.clone();
        Box::new(move |prefix, name, object| {
            if prefix != SCHEMAS && prefix != LEVELS {
                return;
            }
            let value = object.and_then(|object| object.value().ok());
            if let Err(error) = this.observe(prefix, name, value) {
                tracing::error!(%error, prefix, name, "an object that flow control goes by cannot be read");
            }
        })
    }

    fn observe(&self, prefix: &str, name: &str, value: Option<Value>) -> Result<(), serde_json::Error> {
        let mut objects = self.objects.lock();
        match (prefix, value) {
            (SCHEMAS, Some(value)) => drop(objects.schemas.insert(name.to_owned(), serde_json::from_value(value)?)),
            (SCHEMAS, None) => drop(objects.schemas.remove(name)),
            (_, Some(value)) => drop(objects.levels.insert(name.to_owned(), serde_json::from_value(value)?)),
            (_, None) => drop(objects.levels.remove(name)),
        }
        drop(objects);
        self.compile();
        self.changed.notify_one();
        Ok(())
    }

    fn compile(&self) {
        let objects = self.objects.lock();
        let mut configurations: BTreeMap<&str, Configuration> = BTreeMap::new();
        let levels = self.mandatory.levels.iter().chain(&objects.levels);
        for (name, level) in levels {
            // Those without which no request could be told cannot be taken away, nor made into something else.
            let configuration = Configuration::new(level);
            if configuration.exempt == (name == EXEMPT) {
                configurations.insert(name, configuration);
            }
        }
        let before = self.compiled.load();
        let levels = self.levels(&configurations, &before);
        let mut counts: HashMap<&str, &Arc<Counts>> =
            before.rows.iter().map(|row| (row.schema.name.as_str(), &row.counts)).collect();
        let schemas: BTreeMap<&String, &FlowSchema> = self.mandatory.schemas.iter().chain(&objects.schemas).collect();
        let mut rows: Vec<Row> = schemas
            .values()
            .map(|schema| Schema::new(schema))
            .filter_map(|schema| {
                let level = levels.iter().find(|level| level.name == schema.level)?.clone();
                let level_uid = configurations.get(level.name.as_str()).and_then(|level| header_value(&level.uid));
                let counts = counts.remove(schema.name.as_str()).cloned().unwrap_or_default();
                Some(Row { schema_uid: header_value(&schema.uid), level_uid, level, counts, schema })
            })
            .collect();
        rows.sort_by(|a, b| {
            let last = |row: &Row| row.schema.name == CATCH_ALL;
            last(a).cmp(&last(b)).then_with(|| a.schema.order().cmp(&b.schema.order()))
        });
        let rows = rows.into_iter().map(Arc::new).collect();
        adjust(&levels);
        self.compiled.store(Arc::new(Compiled { rows, levels }));
    }

    /// The levels under these configurations; those that were there keep their requests.
    fn levels(&self, configurations: &BTreeMap<&str, Configuration>, before: &Compiled) -> Vec<Arc<Level>> {
        let total = self.options.max_requests_inflight + self.options.max_mutating_requests_inflight;
        let sum = configurations.values().map(|level| level.shares.shares).sum();
        let level = |(name, configuration): (&&str, &Configuration)| {
            let limits = configuration.shares.limits(total, sum);
            match before.levels.iter().find(|level| level.name == **name && level.exempt == configuration.exempt) {
                Some(level) => {
                    level.configure(configuration, limits);
                    level.clone()
                }
                None => Arc::new(Level::new(name, configuration, limits, self.begun)),
            }
        };
        configurations.iter().map(level).collect()
    }

    /// The schema that a request belongs to.
    pub fn classify(&self, user: &User, info: &RequestInfo) -> Option<Arc<Row>> {
        let compiled = self.compiled.load();
        let found = compiled.rows.iter().find(|row| row.schema.matches(user, info));
        found.or(compiled.rows.last()).cloned()
    }

    /// Lets a request in, perhaps after a while.
    pub async fn admit(&self, call: &mut Call, world: &World) -> Result<Held, SentAway> {
        let info = &call.info;
        if info.is_long_running() && (info.verb != "watch" || !self.options.enable_priority_and_fairness) {
            return Ok(Held::default());
        }
        let mutates = !matches!(info.verb.as_str(), "get" | "list" | "watch");
        if !self.options.enable_priority_and_fairness {
            return self.count(&call.user, mutates);
        }
        let Some(row) = self.classify(&call.user, info) else { return Ok(Held::default()) };
        let (level, counts) = (row.level.clone(), row.counts.clone());
        let work = estimate::work(info, &call.query, level.seats_max(), || estimate::load(call, world));
        let hash = if level.exempt { 0 } else { row.schema.flow(&call.user, info) };
        call.flow = Some(row);
        match level.enter(&counts, work, hash, WAIT_MAX).await {
            Ok(seated) => {
                let (running, _) = Running::new(&self.in_flight, mutates);
                Ok(Held { _seated: Some(seated), _running: Some(running) })
            }
            Err(()) => Err(SentAway { retry_after_seconds: level.retry_after(world.now().as_second()) }),
        }
    }

    /// Without priorities and fairness: two plain limits, which the masters need not keep.
    fn count(&self, user: &User, mutates: bool) -> Result<Held, SentAway> {
        let (running, count) = Running::new(&self.in_flight, mutates);
        let Options { max_requests_inflight: reads, max_mutating_requests_inflight: writes, .. } = self.options;
        let limit = if mutates { writes } else { reads };
        if limit > 0 && count > limit && !user.is_in(User::MASTERS) {
            return Err(SentAway { retry_after_seconds: 1 });
        }
        Ok(Held { _seated: None, _running: Some(running) })
    }

    /// How many requests run that change nothing, and that change something.
    pub fn in_flight(&self) -> (u32, u32) {
        let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
        (count(&self.in_flight.read_only), count(&self.in_flight.mutating))
    }

    /// Whether there are priorities and fairness.
    pub fn is_fair(&self) -> bool {
        self.options.enable_priority_and_fairness
    }

    pub fn rows(&self) -> Vec<Arc<Row>> {
        self.compiled.load().rows.clone()
    }

    pub fn levels_now(&self) -> Vec<Arc<Level>> {
        self.compiled.load().levels.clone()
    }
}

/// Gives the levels the seats that they have asked for of late, as far as there are any.
fn adjust(levels: &[Arc<Level>]) {
    let claims: Vec<_> = levels.iter().map(|level| level.claim()).collect();
    for (level, limit) in levels.iter().zip(share::adjust(&claims)) {
        level.set_limit(limit);
    }
}

fn header_value(uid: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(uid).ok().filter(|uid| !uid.is_empty())
}

/// There are too many requests; this one may come again.
#[derive(Debug)]
pub struct SentAway {
    retry_after_seconds: i64,
}

impl SentAway {
    pub fn answer(&self) -> Answer {
        let mut answer = answer::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        answer
    }
}

#[cfg(test)]
mod tests;

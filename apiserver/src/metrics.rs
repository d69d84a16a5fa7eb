//! `/metrics`: requests, watches and stored objects, under upstream's names.

use std::{fmt::Write, sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{request::RequestInfo, world::World};

/// Upstream's buckets of request durations, in seconds.
const SECONDS: [f64; 22] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    60.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Counted, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register("apiserver_request", "Counter of apiserver requests", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds",
            durations.clone(),
        );
        Self { registry: Mutex::new(registry), requests, durations }
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.as_str(), info.namespace.as_str()) {
        (false, ..) => "",
        (true, "", "") => "cluster",
        (true, "", _) => "namespace",
        _ => "resource",
    }
}

/// As upstream writes verbs. Other paths are counted together, lest clients could make up series without end.
fn verb(info: &RequestInfo) -> String {
    match (info.is_resource, info.verb.as_str()) {
        (true, "create") => "POST".into(),
        (true, "update") => "PUT".into(),
        (true, verb) => verb.to_uppercase(),
        (false, _) => "GET".into(),
    }
}

impl Metrics {
    /// Counts an answered request. `known`: its resource is served; of others nothing but the code is kept.
    pub fn record(&self, info: &RequestInfo, known: bool, code: u16, took: Duration) {
        let text = |text: &str| if known { text.to_owned() } else { String::new() };
        let labels = Labels {
            verb: verb(info),
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
            scope: if known { scope(info) } else { "" },
            component: "apiserver",
        };
        if info.verb != "watch" {
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let Labels { verb, group, version, resource, subresource, scope, component } = labels;
        let counted = Counted { verb, group, version, resource, subresource, scope, component, code };
        self.requests.get_or_create(&counted).inc();
    }

    /// The text that is scraped.
    pub fn text(&self, world: &World) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        text::encode_registry(&mut out, &registry)?;
        drop(registry);
        let table = world.registry.table();
        writeln!(out, "# TYPE apiserver_resource_objects gauge\n# TYPE apiserver_longrunning_requests gauge")?;
        for definition in table.all() {
            let kind = world.cache.kind(definition);
            let (group, resource) = (&definition.gvk.group, &definition.plural);
            writeln!(out, "apiserver_resource_objects{{group=\"{group}\",resource=\"{resource}\"}} {}", kind.len())?;
            let watchers = kind.watcher_count();
            if watchers > 0 {
                writeln!(
                    out,
                    "apiserver_longrunning_requests{{verb=\"WATCH\",group=\"{group}\",resource=\"{resource}\"}} {watchers}"
                )?;
            }
        }
        Ok(out)
    }
}

//! `/metrics`: requests, watches and stored objects, under upstream's names.

use std::{sync::Mutex, time::Duration};

use crds::kind::Definition;
use prometheus_client::{
    encoding::{EncodeLabelSet, text as encoding},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use self::text::{Kind, Text};
use crate::{path, pipeline::Apiserver, request::RequestInfo, world::World};

pub mod admission;
mod flow;
mod process;
pub mod text;

/// Upstream's buckets of request durations, in seconds.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
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
    /// Forgets the requests that it has counted.
    pub fn reset(&self) {
        self.requests.clear();
        self.durations.clear();
    }

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
    pub fn text(&self, server: &Apiserver) -> Result<String, std::fmt::Error> {
        let mut text = Text::default();
        let mut counted = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encoding::encode_registry(&mut counted, &registry)?;
        drop(registry);
        text.append(&counted);
        text.append(&server.admission.durations().text()?);
        of_kinds(&server.world, &mut text);
        let (read_only, mutating) = server.flow.in_flight();
        let help = "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.";
        let mut family = text.family("apiserver_current_inflight_requests", Kind::Gauge, help);
        family.sample(&[("request_kind", "readOnly")], read_only);
        family.sample(&[("request_kind", "mutating")], mutating);
        flow::write(&server.flow, &mut text);
        if let Some(audit) = &server.audit {
            let (written, lost) = audit.counts();
            let help = "Counter of audit events generated and sent to the audit backend.";
            text.family("apiserver_audit_event_total", Kind::Counter, help).sample(&[], written);
            let help = "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.";
            text.family("apiserver_audit_error_total", Kind::Counter, help).sample(&[("plugin", "log")], lost);
        }
        process::write(&mut text);
        let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
        let mut family = text.family("kubernetes_build_info", Kind::Gauge, help);
        family.sample(&[("git_version", path::VERSION), ("major", "1"), ("minor", "36"), ("compiler", "rustc")], 1);
        Ok(text.into_string())
    }
}

/// What is stored of each kind, and who watches it.
fn of_kinds(world: &World, text: &mut Text) {
    let table = world.registry.table();
    let kinds: Vec<_> = table.all().iter().map(|definition| (definition, world.cache.kind(definition))).collect();
    let mut seen = std::collections::BTreeSet::new();
    let help = "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    let mut family = text.family("apiserver_storage_objects", Kind::Gauge, help);
    for (definition, kind) in &kinds {
        let name = match &*definition.gvk.group {
            "" => definition.plural.to_string(),
            group => format!("{}.{group}", definition.plural),
        };
        if seen.insert(name.clone()) {
            family.sample(&[("resource", &name)], kind.len());
        }
    }
    seen.clear();
    let help = "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    let mut family = text.family("apiserver_resource_objects", Kind::Gauge, help);
    for (definition, kind) in &kinds {
        let (group, resource) = (&*definition.gvk.group, &*definition.plural);
        if seen.insert(format!("{resource}.{group}")) {
            family.sample(&[("group", group), ("resource", resource)], kind.len());
        }
    }
    let help = "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.";
    let mut family = text.family("apiserver_longrunning_requests", Kind::Gauge, help);
    for (definition, kind) in kinds.iter().filter(|(_, kind)| kind.watcher_count() > 0) {
        let labels = [("verb", "WATCH"), ("component", "apiserver"), ("subresource", "")];
        family.sample(&[&labels[..], &of(definition)].concat(), kind.watcher_count());
    }
    let mut family =
        text.family("apiserver_watch_events_total", Kind::Counter, "Number of events sent in watch clients");
    for (definition, kind) in kinds.iter().filter(|(_, kind)| kind.told() > 0) {
        family.sample(&of(definition), kind.told());
    }
}

fn of(definition: &Definition) -> [(&str, &str); 3] {
    let gvk = &definition.gvk;
    [("group", &gvk.group), ("version", &gvk.version), ("resource", &definition.plural)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_reads_has_no_end_in_the_middle() {
        let metrics = Metrics::default();
        let info =
            RequestInfo { is_resource: true, verb: "list".into(), resource: "pods".into(), ..RequestInfo::default() };
        metrics.record(&info, true, 200, Duration::from_millis(3));
        let mut text = Text::default();
        let registry = metrics.registry.lock().unwrap();
        let mut counted = String::new();
        encoding::encode_registry(&mut counted, &registry).unwrap();
        text.append(&counted);
        text.append(&admission::Durations::default().text().unwrap());
        let text = text.into_string();
        assert!(text.contains("apiserver_request_total{verb=\"LIST\""), "{text}");
        assert!(!text.contains("# EOF"), "{text}");
    }
}

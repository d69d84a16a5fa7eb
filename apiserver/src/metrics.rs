//! `/metrics`: requests, watches and stored objects, under upstream's names.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crds::kind::Definition;
use prometheus_client::{
    encoding::{EncodeLabelSet, text as encoding},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use self::text::{Kind, Text};
use crate::{
    aggregate,
    cache::KindCache,
    codec::{answer::Answer, body::Body},
    path,
    pipeline::Apiserver,
    request::RequestInfo,
    world::World,
};

pub mod admission;
pub mod buckets;
pub mod elsewhere;
mod flow;
mod process;
pub mod store;
pub mod text;

/// Upstream's buckets of request durations, in seconds.
const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// The same for what the server itself takes.
const SLI_SECONDS: [f64; 21] =
    [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const ANSWER_BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Upstream's buckets of how long certificates are still good, in seconds.
const CERTIFICATE_SECONDS: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    86400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    #[prometheus(flatten)]
    labels: Labels,
    /// `All`, or nothing.
    dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    #[prometheus(flatten)]
    run: Run,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Deprecated {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    /// No version of Kubernetes is known in which it will be gone.
    removed_release: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histograms<L: Clone + Eq + Hash>(make: fn() -> Histogram) -> Histograms<L> {
    Family::new_with_constructor(make)
}

pub struct Metrics {
    requests: Family<Counted, Counter>,
    durations: Histograms<Run>,
    /// Without what others took of them.
    own: Histograms<Labels>,
    sizes: Histograms<Labels>,
    deprecated: Family<Deprecated, Gauge>,
    /// Watches that are open.
    long_running: Family<Labels, Gauge>,
    /// How many failed, and how many did not.
    authentications: [AtomicU64; 2],
    /// The same of what users may do.
    authorizations: [AtomicU64; 2],
    certificates: Histogram,
    pub store: store::Requests,
}

/// A watch, as long as it is open.
pub struct LongRunning(Gauge);

impl LongRunning {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What an answered request was.
pub struct Answered<'a> {
    pub info: &'a RequestInfo,
    /// Its resource is served; of others nothing but the code is kept.
    pub known: bool,
    pub is_apply: bool,
    pub dry_run: bool,
    pub took: Duration,
    /// Of that, what others took.
    pub elsewhere: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: histograms(|| Histogram::new(SECONDS)),
            own: histograms(|| Histogram::new(SLI_SECONDS)),
            sizes: histograms(|| Histogram::new(ANSWER_BYTES)),
            deprecated: Family::default(),
            long_running: Family::default(),
            authentications: Default::default(),
            authorizations: Default::default(),
            certificates: Histogram::new(CERTIFICATE_SECONDS),
            store: store::Requests::default(),
        }
    }
}

impl Metrics {
    /// What the library counts, in its text.
    fn counted(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        // The library ends each of these texts with a full stop.
        registry.register(
            "apiserver_request",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            self.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component",
            self.durations.clone(),
        );
        registry.register(
            "apiserver_request_sli_duration_seconds",
            "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component",
            self.own.clone(),
        );
        registry.register(
            "apiserver_response_sizes",
            "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component",
            self.sizes.clone(),
        );
        registry.register(
            "apiserver_requested_deprecated_apis",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release",
            self.deprecated.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way",
            self.long_running.clone(),
        );
        registry.register(
            "apiserver_client_certificate_expiration_seconds",
            "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request",
            self.certificates.clone(),
        );
        self.store.register(&mut registry);
        let mut text = String::new();
        encoding::encode_registry(&mut text, &registry)?;
        Ok(text)
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.as_str(), info.namespace.as_str()) {
        (false, ..) => "",
        _ if info.verb == "create" => "resource",
        (true, "", "") => "cluster",
        (true, "", _) => "namespace",
        _ => "resource",
    }
}

fn labels(info: &RequestInfo, known: bool, is_apply: bool) -> Labels {
    let text = |text: &str| if known { text.to_owned() } else { String::new() };
    Labels {
        verb: verb(info, is_apply),
        group: text(&info.group),
        version: text(&info.version),
        resource: text(&info.resource),
        subresource: text(&info.subresource),
        scope: if known { scope(info) } else { "" },
        component: "apiserver",
    }
}

/// As upstream writes verbs. Other paths, and methods that are none, are counted together, lest clients could make up
/// series without end.
fn verb(info: &RequestInfo, is_apply: bool) -> &'static str {
    if !info.is_resource {
        return "GET";
    }
    match info.verb.as_str() {
        _ if matches!(info.subresource.as_str(), "attach" | "exec" | "portforward" | "proxy") => "CONNECT",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" if is_apply => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// Notes how long an answer is, once all of it is sent.
fn sized(answer: Answer, sizes: &Histogram) -> Answer {
    match answer.body() {
        Body::Empty => sizes.observe(0.0),
        Body::Full(bytes) => sizes.observe(bytes.len() as f64),
        Body::Chunks(_) => {
            let mut size = Size { bytes: 0, sizes: sizes.clone() };
            return answer.map(|body| body.inspected(move |chunk| size.add(chunk.len())));
        }
        Body::Relay(_) => {}
    }
    answer
}

struct Size {
    bytes: usize,
    sizes: Histogram,
}

impl Size {
    const fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        self.sizes.observe(self.bytes as f64);
    }
}

impl Metrics {
    /// Forgets the requests that it has counted.
    pub fn reset(&self) {
        self.requests.clear();
        self.durations.clear();
        self.own.clear();
        self.sizes.clear();
    }

    /// Somebody has said who they are, or tried to.
    pub fn authenticated(&self, success: bool) {
        self.authentications[usize::from(success)].fetch_add(1, Ordering::Relaxed);
    }

    /// So many seconds of the client's certificate are left.
    pub fn identified(&self, left: f64) {
        self.certificates.observe(left);
    }

    pub fn authorized(&self, allowed: bool) {
        self.authorizations[usize::from(allowed)].fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody uses what may not be there for ever.
    pub fn deprecated(&self, info: &RequestInfo) {
        let labels = Deprecated {
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            removed_release: "",
        };
        self.deprecated.get_or_create(&labels).set(1);
    }

    /// A watch begins.
    pub fn watched(&self, info: &RequestInfo) -> LongRunning {
        LongRunning::new(self.long_running.get_or_create(&labels(info, true, false)).clone())
    }

    /// Counts an answered request.
    pub fn record(&self, answered: &Answered<'_>, answer: Answer) -> Answer {
        let Answered { info, known, is_apply, dry_run, took, elsewhere } = *answered;
        let labels = labels(info, known, is_apply);
        let code = answer.status().as_u16();
        let is_read = info.is_resource && matches!(info.verb.as_str(), "get" | "list");
        let answer = if is_read { sized(answer, &self.sizes.get_or_create(&labels)) } else { answer };
        let is_watch = info.verb == "watch";
        if !is_watch {
            self.own.get_or_create(&labels).observe(took.saturating_sub(elsewhere).as_secs_f64());
        }
        let run = Run { labels, dry_run: if dry_run { "All" } else { "" } };
        if !is_watch {
            self.durations.get_or_create(&run).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&Counted { run, code }).inc();
        answer
    }

    /// The text that is scraped.
    pub fn text(&self, server: &Apiserver) -> Result<String, std::fmt::Error> {
        let mut text = Text::default();
        text.append(&self.counted()?);
        text.append(&server.admission.durations().text()?);
        let help = "[ALPHA] Counter of authenticated attempts.";
        of_attempts(
            text.family("authentication_attempts", Kind::Counter, help),
            ["failure", "success"],
            &self.authentications,
        );
        let help = "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.";
        of_attempts(
            text.family("authorization_attempts_total", Kind::Counter, help),
            ["denied", "allowed"],
            &self.authorizations,
        );
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
        if let Some(bytes) = server.world.store.size_bytes() {
            let help = "Size of the storage database file physically allocated in bytes.";
            let mut family = text.family("apiserver_storage_size_bytes", Kind::Gauge, help);
            family.sample(&[("storage_cluster_id", "etcd-0")], bytes);
        }
        let help = "Gauge of APIServices which are marked as unavailable broken down by APIService name.";
        let mut family = text.family("aggregator_unavailable_apiservice", Kind::Gauge, help);
        for (name, is_available) in aggregate::availability(&server.world) {
            family.sample(&[("name", &name)], u8::from(!is_available));
        }
        process::write(&mut text);
        let help = "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
        let build = path::build();
        let labels: Vec<_> = build.iter().map(|(name, value)| (*name, value.as_str())).collect();
        text.family("kubernetes_build_info", Kind::Gauge, help).sample(&labels, 1);
        Ok(text.into_string())
    }
}

fn of_attempts(mut family: text::Family<'_>, results: [&str; 2], counts: &[AtomicU64; 2]) {
    for (result, count) in results.iter().zip(counts) {
        family.sample(&[("result", result)], count.load(Ordering::Relaxed));
    }
}

/// What is stored of each kind, and who watches it.
fn of_kinds(world: &World, text: &mut Text) {
    let table = world.registry.table();
    let kinds: Vec<_> = table.all().iter().map(|definition| (definition, world.cache.kind(definition))).collect();
    let mut seen = std::collections::BTreeSet::new();
    let is_new = |(definition, _): &&(&Arc<Definition>, Arc<KindCache>)| {
        seen.insert((definition.gvk.group.clone(), definition.plural.clone()))
    };
    let resources: Vec<_> = kinds.iter().filter(is_new).collect();
    let help = "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    let mut family = text.family("apiserver_storage_objects", Kind::Gauge, help);
    for (definition, kind) in &resources {
        let name = match &*definition.gvk.group {
            "" => definition.plural.to_string(),
            group => format!("{}.{group}", definition.plural),
        };
        family.sample(&[("resource", &name)], kind.len());
    }
    let help = "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.";
    let mut family = text.family("apiserver_resource_objects", Kind::Gauge, help);
    for (definition, kind) in &resources {
        family.sample(&[("group", &definition.gvk.group), ("resource", &definition.plural)], kind.len());
    }
    let told = || kinds.iter().filter(|(_, kind)| kind.told().count() > 0);
    let mut family =
        text.family("apiserver_watch_events_total", Kind::Counter, "Number of events sent in watch clients");
    told().for_each(|(definition, kind)| family.sample(&of(definition), kind.told().count()));
    let mut family =
        text.family("apiserver_watch_events_sizes", Kind::Histogram, "Watch event size distribution in bytes");
    told().for_each(|(definition, kind)| kind.told().write(&mut family, &of(definition), 1.0));
    let help = "Counter of events received in watch cache broken by resource type.";
    let mut family = text.family("apiserver_watch_cache_events_received_total", Kind::Counter, help);
    for (definition, kind) in resources.iter().filter(|(_, kind)| kind.received() > 0) {
        family.sample(&[("group", &definition.gvk.group), ("resource", &definition.plural)], kind.received());
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
        let (took, elsewhere) = (Duration::from_millis(300), Duration::from_millis(280));
        let answered = Answered { info: &info, known: true, is_apply: false, dry_run: false, took, elsewhere };
        metrics.record(&answered, Answer::new(Body::Full("[]".into())));
        let mut text = Text::default();
        text.append(&metrics.counted().unwrap());
        text.append(&admission::Durations::default().text().unwrap());
        let text = text.into_string();
        let labels = "verb=\"LIST\",group=\"\",version=\"\",resource=\"pods\",subresource=\"\",scope=\"cluster\",component=\"apiserver\"";
        for line in [
            "# TYPE apiserver_request_total counter".to_owned(),
            format!("apiserver_request_total{{{labels},dry_run=\"\",code=\"200\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{le=\"0.2\",{labels},dry_run=\"\"}} 0"),
            format!("apiserver_request_sli_duration_seconds_bucket{{le=\"0.05\",{labels}}} 1"),
            format!("apiserver_response_sizes_sum{{{labels}}} 2.0"),
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("# EOF"), "{text}");
    }
}

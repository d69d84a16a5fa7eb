//! Service (core/v1).

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Service, ServiceSpec, ServiceStatus},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Prose, Request, Subresource, column},
    meta, syntax, table,
};

pub mod addresses;
pub mod validate;

const SPEC: Path = Path::new("spec");
const INGRESS: Path = Path::new("status.loadBalancer.ingress");
const LOAD_BALANCER: &str = "LoadBalancer";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const AFFINITY_SECONDS: i32 = 10800;

/// What follows from the type of a Service and some other fields.
#[derive(Clone, Copy)]
pub struct Look<'a>(pub &'a ServiceSpec);

impl Look<'_> {
    pub fn is(self, kind: &str) -> bool {
        self.0.type_.text() == kind
    }

    pub fn is_headless(self) -> bool {
        self.0.cluster_ips.items() == ["None"]
    }

    pub fn has_address(self) -> bool {
        !self.is("ExternalName")
    }

    pub fn has_node_ports(self) -> bool {
        self.is("NodePort") || self.is(LOAD_BALANCER)
    }

    /// Can be reached from outside the cluster.
    pub fn is_exposed(self) -> bool {
        self.has_node_ports() || (self.is("ClusterIP") && !self.0.external_ips.items().is_empty())
    }

    pub fn is_health_checked(self) -> bool {
        self.is(LOAD_BALANCER) && self.0.external_traffic_policy.text() == "Local"
    }
}

impl Kind for Service {
    const ABOUT: About = About {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[
            Subresource::Other {
                name: "proxy",
                kind: ("", "v1", "ServiceProxyOptions"),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Type", "string", "", 0, Prose::Field("io.k8s.api.core.v1.ServiceSpec", "type")),
            column("Cluster-IP", "string", "", 0, Prose::Field("io.k8s.api.core.v1.ServiceSpec", "clusterIP")),
            column("External-IP", "string", "", 0, Prose::Field("io.k8s.api.core.v1.ServiceSpec", "externalIPs")),
            column("Port(s)", "string", "", 0, Prose::Field("io.k8s.api.core.v1.ServiceSpec", "ports")),
            AGE,
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.core.v1.ServiceSpec", "selector")),
        ],
        create_on_update: true,
        delete_answer: DeleteAnswer::Object,
        storage_prefix: "services/specs",
        selectable: &["spec.clusterIP", "spec.type"],
        ..About::new("services", "service")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::dns_label(name)
    }

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default(spec);
        let is_balanced = Look(spec).is(LOAD_BALANCER);
        let balancer = self.status.as_mut().and_then(|s| s.load_balancer.as_mut()).filter(|_| is_balanced);
        for point in balancer.into_iter().flat_map(|b| b.ingress.iter_mut().flatten()) {
            if !point.ip.text().is_empty() {
                point.ip_mode.get_or_insert_with(|| "VIP".to_owned());
            }
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ServiceStatus { load_balancer: Some(Default::default()), ..ServiceStatus::default() });
        if let Some(spec) = &mut self.spec {
            addresses::normalize(spec, None);
            drop_inner_policy(spec);
        }
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        if let (Some(spec), Some(was)) = (&mut self.spec, &old.spec) {
            addresses::keep_allocated(spec, was);
            addresses::normalize(spec, Some(was));
            addresses::drop_dependent(self, was);
        }
        self.spec.iter_mut().for_each(drop_inner_policy);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate::validate(self, spec, errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let (Some(spec), Some(was)) = (&self.spec, &old.spec) else {
            return;
        };
        addresses::validate_change(spec, was, errors);
        let both = |holds: fn(Look) -> bool| holds(Look(spec)) && holds(Look(was));
        if both(|look| look.is(LOAD_BALANCER)) && spec.load_balancer_class != was.load_balancer_class {
            let path = SPEC.child("loadBalancerClass");
            errors.push(Error::invalid(path, json!(spec.load_balancer_class), "may not change once set"));
        }
        validate::class(spec, errors);
        if both(|look| look.is_health_checked()) && spec.health_check_node_port != was.health_check_node_port {
            errors.push(Error::forbidden(SPEC.child("healthCheckNodePort"), meta::IMMUTABLE));
        }
        validate::validate(self, spec, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate::status(self, spec, errors);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        self.spec.as_ref().map(|spec| warnings(self, spec)).unwrap_or_default()
    }

    fn selectable(&self, path: &str) -> String {
        let spec = self.spec.as_ref();
        match path {
            "spec.clusterIP" => spec.map(|s| s.cluster_ip.text().to_owned()),
            "spec.type" => spec.map(|s| s.type_.text().to_owned()),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = ServiceSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
            let (number, protocol) = (port.port, port.protocol.text());
            match port.node_port.filter(|p| *p > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        };
        let ports = spec.ports.items().iter().map(port).collect::<Vec<_>>().join(",");
        vec![
            json!(self.metadata.name),
            json!(spec.type_.text()),
            json!(spec.cluster_ips.items().first().map_or("<none>", String::as_str)),
            json!(external(self, spec)),
            json!(table::or_none(&ports)),
            json!(table::age(&self.metadata, now)),
            json!(table::labels(spec.selector.as_ref())),
        ]
    }
}

fn default(spec: &mut ServiceSpec) {
    spec.session_affinity.or_set("None");
    if spec.session_affinity.text() == "None" {
        spec.session_affinity_config = None;
    }
    if spec.session_affinity.text() == "ClientIP" {
        let client = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
        client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
    }
    spec.type_.or_set("ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.or_set("TCP");
        let is_given = match &port.target_port {
            None | Some(IntOrString::Int(0)) => false,
            Some(IntOrString::String(name)) => !name.is_empty(),
            Some(IntOrString::Int(_)) => true,
        };
        if !is_given {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if Look(spec).is_exposed() {
        spec.external_traffic_policy.or_set("Cluster");
    }
    if ["NodePort", LOAD_BALANCER, "ClusterIP"].contains(&spec.type_.text()) {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if Look(spec).is(LOAD_BALANCER) {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// A Service that only is a name has no traffic of its own.
fn drop_inner_policy(spec: &mut ServiceSpec) {
    if Look(spec).is("ExternalName") {
        spec.internal_traffic_policy = None;
    }
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let outer = spec.external_ips.items();
    match spec.type_.text() {
        "ClusterIP" | "NodePort" => table::or_none(&outer.join(",")).to_owned(),
        LOAD_BALANCER => {
            let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
            let points = balancer.map(|b| b.ingress.items()).unwrap_or_default().iter();
            let address = points.map(|p| if p.ip.text().is_empty() { p.hostname.text() } else { p.ip.text() });
            let inner: BTreeSet<&str> = address.filter(|text| !text.is_empty()).collect();
            let all: Vec<&str> = inner.into_iter().chain(outer.iter().map(String::as_str)).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.external_name.text().to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn warnings(service: &Service, spec: &ServiceSpec) -> Vec<String> {
    let mut words = Vec::new();
    if service.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(HINTS)) {
        words.push(format!("annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let ip = spec.cluster_ip.text();
    if !ip.is_empty() && ip != "None" {
        let path = SPEC.child("clusterIPs");
        let ips = spec.cluster_ips.items().iter().enumerate();
        words.extend(ips.filter_map(|(i, ip)| syntax::ip_warning(path.index(i), ip)));
    }
    let outer = spec.external_ips.items();
    let is_headless = Look(spec).is("ClusterIP") && ip == "None";
    if is_headless {
        for (ignored, given) in [
            ("spec.loadBalancerIP", !spec.load_balancer_ip.text().is_empty()),
            ("spec.externalIPs", !outer.is_empty()),
            ("spec.SessionAffinity", spec.session_affinity.text() != "None"),
        ] {
            words.extend(given.then(|| format!("{ignored} is ignored for headless services")));
        }
    }
    let path = SPEC.child("externalIPs");
    words.extend(outer.iter().enumerate().filter_map(|(i, ip)| syntax::ip_warning(path.index(i), ip)));
    let is_name = Look(spec).is("ExternalName");
    if !outer.is_empty() && !is_headless && !is_name {
        words.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    words.extend(syntax::ip_warning(SPEC.child("loadBalancerIP"), spec.load_balancer_ip.text()));
    let path = SPEC.child("loadBalancerSourceRanges");
    let ranges = spec.load_balancer_source_ranges.items().iter().enumerate();
    words.extend(ranges.filter_map(|(i, range)| syntax::cidr_warning(path.index(i), range)));
    if is_name && !outer.is_empty() {
        words.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_name && !spec.external_name.text().is_empty() {
        words.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.text() == "PreferClose" {
        words.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    words
}

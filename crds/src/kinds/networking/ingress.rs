//! Ingress (networking.k8s.io/v1).

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress, IngressRule, IngressStatus, IngressTLS};
use serde_json::{Value, json};

use super::backend;
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Request, Subresource, column, text},
    meta, syntax, table,
};

const SPEC: Path = Path::new("spec");
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const HOSTS_SHOWN_MAX: usize = 3;

impl Kind for Ingress {
    const ABOUT: About = About {
        short_names: &["ing"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Class",
                "string",
                "",
                0,
                text("The name of the IngressClass resource that should be used for additional configuration"),
            ),
            column(
                "Hosts",
                "string",
                "",
                0,
                text("Hosts that incoming requests are matched against before the ingress rule"),
            ),
            column(
                "Address",
                "string",
                "",
                0,
                text("Address is a list containing ingress points for the load-balancer"),
            ),
            column("Ports", "string", "", 0, text("Ports of TLS configurations that open")),
            AGE,
        ],
        generation: Generation::Spec,
        storage_prefix: "ingress",
        ..About::new("ingresses", "ingress")
    };

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(IngressStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        validate_spec(self, None, request.sent, errors);
        let class = self.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
        if let (Some(annotation), Some(class)) = (class_annotation(self), class)
            && annotation != class
        {
            let why = "must match `ingressClassName` when both are specified";
            let path = Path::new("annotations");
            errors.push(Error::invalid(path.child(CLASS_ANNOTATION), annotation, why));
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate_spec(self, Some(old), request.sent, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let path = Path::new("status");
        let path = path.child("loadBalancer");
        let list = path.child("ingress");
        let known: HashSet<_> = points(old).iter().map(|point| point.ip.text()).collect();
        for (i, point) in points(self).iter().enumerate() {
            validate_point(point, &known, &list.index(i), errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let has_class = self.spec.as_ref().is_some_and(|spec| spec.ingress_class_name.is_some());
        if old.is_some() || has_class || class_annotation(self).is_none() {
            return Vec::new();
        }
        vec![format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead")]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = Default::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let addresses: BTreeSet<_> = points(self)
            .iter()
            .filter_map(|point| [point.ip.text(), point.hostname.text()].into_iter().find(|text| !text.is_empty()))
            .collect();
        vec![
            json!(self.metadata.name),
            json!(spec.ingress_class_name.as_deref().unwrap_or("<none>")),
            json!(hosts(spec.rules.items())),
            json!(addresses.into_iter().collect::<Vec<_>>().join(",")),
            json!(if spec.tls.items().is_empty() { "80" } else { "80, 443" }),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn class_annotation(ingress: &Ingress) -> Option<&str> {
    ingress.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION)).map(String::as_str)
}

fn points(ingress: &Ingress) -> &[IngressLoadBalancerIngress] {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.map(|balancer| balancer.ingress.items()).unwrap_or_default()
}

fn hosts(rules: &[IngressRule]) -> String {
    let mut shown = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == HOSTS_SHOWN_MAX;
        if !more && !rule.host.text().is_empty() {
            shown.push(rule.host.text());
        }
    }
    match shown.join(",") {
        list if list.is_empty() => "*".to_owned(),
        list if more => format!("{list} + {} more...", rules.len() - HOSTS_SHOWN_MAX),
        list => list,
    }
}

fn validate_spec(ingress: &Ingress, old: Option<&Ingress>, sent: &Value, errors: &mut Errors) {
    let none = Default::default();
    let spec = ingress.spec.as_ref().unwrap_or(&none);
    let old = old.and_then(|old| old.spec.as_ref());
    let rules = spec.rules.items();
    if rules.is_empty() && spec.default_backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        let wrong = Error::invalid(SPEC, "", why);
        errors.push(wrong.showing_struct(&spec.rules, "[]io.k8s.api.networking.v1.IngressRule"));
    }
    if let Some(backend) = &spec.default_backend {
        backend::validate(backend, &SPEC.child("defaultBackend"), errors);
    }
    // What was stored with a wildcard before its rule was checked is let be.
    let lenient = old.is_some_and(|old| old.rules.items().iter().any(|r| r.host.text().contains('*') && !is_valid(r)));
    let list = SPEC.child("rules");
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, lenient, &sent["spec"]["rules"][i], &list.index(i), errors);
    }
    let list = SPEC.child("tls");
    let keeps_names = old.is_some_and(|old| old.tls.items().iter().any(|tls| !secret_wrong(tls).is_empty()));
    for (i, tls) in spec.tls.items().iter().enumerate() {
        validate_tls(tls, keeps_names, &list.index(i), errors);
    }
    if let Some(class) = &spec.ingress_class_name {
        extend(errors, SPEC.child("ingressClassName"), class, field::dns_subdomain(class));
    }
}

fn is_valid(rule: &IngressRule) -> bool {
    let mut errors = Errors::new();
    validate_paths(rule, &Value::Null, &SPEC, &mut errors);
    errors.is_empty()
}

fn validate_rule(rule: &IngressRule, lenient: bool, sent: &Value, path: &Path, errors: &mut Errors) {
    let (host, host_path) = (rule.host.text(), path.child("host"));
    if syntax::parse_ip(host).is_some() {
        errors.push(Error::invalid(host_path, host, "must be a DNS name, not an IP address"));
    }
    if !host.is_empty() {
        extend(errors, host_path, host, host_wrong(host));
    }
    if !(lenient && host.contains('*')) {
        validate_paths(rule, sent, path, errors);
    }
}

fn validate_paths(rule: &IngressRule, sent: &Value, path: &Path, errors: &mut Errors) {
    let Some(http) = &rule.http else { return };
    let path = path.child("http");
    let list = path.child("paths");
    if http.paths.is_empty() {
        errors.push(Error::required(list, ""));
    }
    for (i, path) in http.paths.iter().enumerate() {
        backend::validate_path(path, &sent["http"]["paths"][i], &list.index(i), errors);
    }
}

fn host_wrong(host: &str) -> Vec<String> {
    if host.contains('*') { syntax::wildcard_subdomain(host) } else { field::dns_subdomain(host) }
}

fn secret_wrong(tls: &IngressTLS) -> Vec<String> {
    match tls.secret_name.text() {
        "" => Vec::new(),
        name => field::dns_subdomain(name),
    }
}

fn validate_tls(tls: &IngressTLS, keeps_names: bool, path: &Path, errors: &mut Errors) {
    let list = path.child("hosts");
    for (i, host) in tls.hosts.items().iter().enumerate() {
        extend(errors, list.index(i), host, host_wrong(host));
    }
    if !keeps_names {
        extend(errors, path.child("secretName"), tls.secret_name.text(), secret_wrong(tls));
    }
}

fn validate_point(point: &IngressLoadBalancerIngress, known: &HashSet<&str>, path: &Path, errors: &mut Errors) {
    let (ip, hostname) = (point.ip.text(), point.hostname.text());
    if !ip.is_empty() && !known.contains(ip) {
        extend(errors, path.child("ip"), ip, syntax::ip(ip));
    }
    let path = path.child("hostname");
    if !hostname.is_empty() {
        extend(errors, path, hostname, field::dns_subdomain(hostname));
    }
    if syntax::parse_ip(hostname).is_some() {
        errors.push(Error::invalid(path, hostname, "must be a DNS name, not an IP address"));
    }
}

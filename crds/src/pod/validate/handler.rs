//! Probes and lifecycle hooks.

use k8s_openapi::{
    api::core::v1::{
        Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Surroundings, port};
use crate::{
    field::{Error, Errors, Path, extend},
    given::{Items, Text},
    meta::NOT_NEGATIVE,
    syntax,
};

/// What is done, of a probe or a hook.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    grpc: Option<i32>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> From<&'a Probe> for Handler<'a> {
    fn from(probe: &'a Probe) -> Self {
        Self {
            exec: probe.exec.as_ref(),
            http: probe.http_get.as_ref(),
            tcp: probe.tcp_socket.as_ref(),
            grpc: probe.grpc.as_ref().map(|g| g.port),
            sleep: None,
        }
    }
}

impl<'a> From<&'a LifecycleHandler> for Handler<'a> {
    fn from(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http: hook.http_get.as_ref(),
            tcp: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }
}

pub fn lifecycle(lifecycle: &Lifecycle, around: &Surroundings, path: &Path, errors: &mut Errors) {
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            handler(&hook.into(), around.grace, &path.child(name), errors);
        }
    }
}

/// The three probes of a container.
pub fn probes(container: &Container, around: &Surroundings, path: &Path, errors: &mut Errors) {
    if let Some(liveness) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        probe(liveness, around, &path, errors);
        only_one_success(liveness, &path, errors);
    }
    if let Some(readiness) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        probe(readiness, around, &path, errors);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            let why = "must not be set for readinessProbes";
            errors.push(Error::invalid(path.child("terminationGracePeriodSeconds"), seconds, why));
        }
    }
    if let Some(startup) = &container.startup_probe {
        let path = path.child("startupProbe");
        probe(startup, around, &path, errors);
        only_one_success(startup, &path, errors);
    }
}

fn only_one_success(probe: &Probe, path: &Path, errors: &mut Errors) {
    let threshold = probe.success_threshold.unwrap_or(0);
    if threshold != 1 {
        errors.push(Error::invalid(path.child("successThreshold"), threshold, "must be 1"));
    }
}

fn probe(probe: &Probe, around: &Surroundings, path: &Path, errors: &mut Errors) {
    handler(&probe.into(), around.grace, path, errors);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|v| *v < 0) {
            errors.push(Error::invalid(path.child(name), value, NOT_NEGATIVE));
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.push(Error::invalid(path.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0"));
    }
}

fn handler(handler: &Handler, grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    let mut first = |name: &str, given: bool, errors: &mut Errors| {
        if given && count > 0 {
            errors.push(Error::forbidden(path.child(name), "may not specify more than 1 handler type"));
            return false;
        }
        count += usize::from(given);
        given
    };
    if first("exec", handler.exec.is_some(), errors) && handler.exec.is_some_and(|exec| exec.command.items().is_empty())
    {
        let list = path.child("exec");
        errors.push(Error::required(list.child("command"), ""));
    }
    if first("httpGet", handler.http.is_some(), errors)
        && let Some(http) = handler.http
    {
        self::http(http, &path.child("httpGet"), errors);
    }
    if first("tcpSocket", handler.tcp.is_some(), errors)
        && let Some(tcp) = handler.tcp
    {
        let list = path.child("tcpSocket");
        port::number_or_name(&tcp.port, &list.child("port"), errors);
    }
    if first("grpc", handler.grpc.is_some(), errors)
        && let Some(n) = handler.grpc
    {
        let list = path.child("grpc");
        port::number_or_name(&IntOrString::Int(n), &list.child("port"), errors);
    }
    if first("sleep", handler.sleep.is_some(), errors)
        && let Some((sleep, grace)) = handler.sleep.zip(grace)
        && !(0..=grace).contains(&sleep.seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Error::invalid(path.child("sleep"), sleep.seconds, why));
    }
    if count == 0 {
        errors.push(Error::required(*path, "must specify a handler type"));
    }
}

fn http(http: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if http.path.text().is_empty() {
        errors.push(Error::required(path.child("path"), ""));
    }
    port::number_or_name(&http.port, &path.child("port"), errors);
    if !["HTTP", "HTTPS"].contains(&http.scheme.text()) {
        errors.push(Error::not_supported(path.child("scheme"), http.scheme.text(), &["HTTP", "HTTPS"]));
    }
    for header in http.http_headers.items() {
        extend(errors, path.child("httpHeaders"), &header.name, syntax::header_name(&header.name));
    }
}

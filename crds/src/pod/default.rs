//! What a Pod's author leaves out.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HTTPGetAction, LifecycleHandler, ObjectFieldSelector, Pod, PodSecurityContext, PodSpec,
    PodStatus, Probe,
};

use super::{container, image, resources};
use crate::{
    given::{Items, Number, Text},
    resource, volume,
};

/// Defaults that a Pod has beside those of its spec.
pub fn pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.iter_mut().flatten();
        spec.containers.iter_mut().chain(init).for_each(requests_from_limits);
        huge_pages_of_pod(spec);
        requests_of_pod(spec);
        spec.enable_service_links.get_or_insert(true);
        if spec.host_network == Some(true) {
            let init = spec.init_containers.iter_mut().flatten();
            spec.containers.iter_mut().chain(init).for_each(host_ports);
        }
    }
    let spec = pod.spec.get_or_insert_default();
    // A negative period counts as the shortest one.
    spec.termination_grace_period_seconds = spec.termination_grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
    self::spec(spec);
    if let Some(status) = &mut pod.status {
        self::status(status);
    }
}

/// Defaults of the spec of a Pod, or of a template of one.
pub fn spec(spec: &mut PodSpec) {
    spec.dns_policy.or_set("ClusterFirst");
    spec.restart_policy.or_set("Always");
    spec.security_context.get_or_insert_with(PodSecurityContext::default);
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.scheduler_name.or_set("default-scheduler");
    service_account(spec);
    spec.volumes.iter_mut().flatten().for_each(volume::default);
    container::change(spec, self::container);
    resource::default(&mut spec.overhead);
    resource::default_requirements(&mut spec.resources);
}

/// `serviceAccount` is the older name of `serviceAccountName`; both always agree.
fn service_account(spec: &mut PodSpec) {
    if spec.service_account_name.text().is_empty() {
        spec.service_account_name = spec.service_account.take();
    }
    spec.service_account.clone_from(&spec.service_account_name);
}

fn requests_from_limits(container: &mut Container) {
    let Some(own) = &mut container.resources else {
        return;
    };
    for (name, limit) in own.limits.iter().flatten() {
        own.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

fn huge_pages_of_pod(spec: &mut PodSpec) {
    let sum = resources::container_limits_of(spec);
    let Some(whole) = spec.resources.as_mut().filter(|r| {
        r.limits.as_ref().is_some_and(|l| !l.is_empty()) || r.requests.as_ref().is_some_and(|r| !r.is_empty())
    }) else {
        return;
    };
    for (name, amount) in sum.into_iter().filter(|(name, _)| resource::is_huge_pages(name)) {
        if whole.requests.as_ref().is_some_and(|r| r.contains_key(&name)) {
            continue;
        }
        whole.limits.get_or_insert_default().entry(name).or_insert_with(|| amount.into());
    }
}

fn requests_of_pod(spec: &mut PodSpec) {
    let sum = resources::container_requests_of(spec);
    let Some(whole) = &mut spec.resources else {
        return;
    };
    let Some(limits) = whole.limits.as_ref().filter(|l| !l.is_empty()) else {
        return;
    };
    let mut requests = whole.requests.take().unwrap_or_default();
    for (name, amount) in sum {
        if resource::is_pod_level(&name) && resource::is_overcommit_allowed(&name) {
            requests.entry(name).or_insert_with(|| amount.into());
        }
    }
    for (name, limit) in limits.iter().filter(|(name, _)| resource::is_pod_level(name)) {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    whole.requests = (!requests.is_empty()).then_some(requests);
}

fn host_ports(container: &mut Container) {
    for port in container.ports.iter_mut().flatten() {
        if port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

fn container(container: &mut Container) {
    if container.image_pull_policy.text().is_empty() {
        container.image_pull_policy = Some(image::default_pull_policy(container.image.text()).to_owned());
    }
    container.termination_message_path.or_set("/dev/termination-log");
    container.termination_message_policy.or_set("File");
    for port in container.ports.iter_mut().flatten() {
        port.protocol.or_set("TCP");
    }
    container.env.iter_mut().flatten().for_each(variable);
    resource::default_requirements(&mut container.resources);
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe]
        .into_iter()
        .flatten()
    {
        self::probe(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        for hook in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
            handler(hook);
        }
    }
}

fn variable(variable: &mut EnvVar) {
    let Some(from) = &mut variable.value_from else {
        return;
    };
    field_ref(&mut from.field_ref);
    if let Some(file) = &mut from.file_key_ref {
        file.optional.get_or_insert(false);
    }
    if let Some(divisor) = from.resource_field_ref.as_mut().and_then(|r| r.divisor.as_mut())
        && let Ok(quantity) = divisor.0.parse::<crate::quantity::Quantity>()
    {
        *divisor = quantity.into();
    }
}

/// A reference to a field is to one of `v1`.
pub fn field_ref(selector: &mut Option<ObjectFieldSelector>) {
    if let Some(selector) = selector {
        selector.api_version.or_set("v1");
    }
}

fn probe(probe: &mut Probe) {
    probe.timeout_seconds.or_set_nonzero(1);
    probe.period_seconds.or_set_nonzero(10);
    probe.success_threshold.or_set_nonzero(1);
    probe.failure_threshold.or_set_nonzero(3);
    if let Some(http) = &mut probe.http_get {
        self::http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn handler(handler: &mut LifecycleHandler) {
    if let Some(http) = &mut handler.http_get {
        self::http(http);
    }
}

fn http(http: &mut HTTPGetAction) {
    http.path.or_set("/");
    http.scheme.or_set("HTTP");
}

fn status(status: &mut PodStatus) {
    use k8s_openapi::api::core::v1::PodIP;

    // `podIP` is the older form of the first of `podIPs`, and wins where they differ.
    let single = status.pod_ip.text().to_owned();
    if !single.is_empty() && status.pod_ips.items().first().is_none_or(|first| first.ip != single) {
        status.pod_ips = Some(vec![PodIP { ip: single }]);
    } else if let Some(first) = status.pod_ips.items().first() {
        status.pod_ip = Some(first.ip.clone());
    }
    for container in
        [&mut status.container_statuses, &mut status.init_container_statuses, &mut status.ephemeral_container_statuses]
            .into_iter()
            .flat_map(|list| list.iter_mut().flatten())
    {
        resource::default(&mut container.allocated_resources);
        resource::default_requirements(&mut container.resources);
    }
    resource::default(&mut status.allocated_resources);
    resource::default_requirements(&mut status.resources);
}

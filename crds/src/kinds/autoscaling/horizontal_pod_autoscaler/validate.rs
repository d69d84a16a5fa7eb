//! What an autoscaler may say.

use k8s_openapi::{
    api::autoscaling::v2::{
        CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
        MetricIdentifier, MetricSpec, MetricTarget,
    },
    apimachinery::pkg::api::resource::Quantity as Wire,
};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    quantity::Quantity,
    resource,
};

const SPEC: Path = Path::new("spec");
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const WINDOW_MAX: i32 = 3600;
const PERIOD_MAX: i32 = 1800;
const MISSING_SOURCE: &str = "must populate information for the given metric source";

#[derive(Clone, Copy)]
enum Version {
    /// As it was before: anything goes.
    Any,
    /// A group need not be named.
    Core,
    Group,
}

pub fn validate(new: &HorizontalPodAutoscaler, old: Option<&HorizontalPodAutoscaler>, errors: &mut Errors) {
    let spec = &new.spec;
    let was = old.map(|old| &old.spec);
    let lowest = if was.is_some_and(|was| was.min_replicas == Some(0)) { 0 } else { 1 };
    if let Some(min) = spec.min_replicas.filter(|min| *min < lowest) {
        let why = format!("must be greater than or equal to {lowest}");
        errors.push(Error::invalid(SPEC.child("minReplicas"), min, why));
    }
    let (max, path) = (spec.max_replicas, SPEC.child("maxReplicas"));
    if max == 0 {
        errors.push(Error::required(path, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Error::invalid(path, max, "must be greater than or equal to 1"));
    }
    if spec.min_replicas.is_some_and(|min| max < min) {
        errors.push(Error::invalid(path, max, "must be greater than or equal to `minReplicas`"));
    }
    let target = &spec.scale_target_ref;
    let is_kept = was.is_some_and(|was| {
        let before = &was.scale_target_ref;
        before.api_version.text() == target.api_version.text() && before.kind == target.kind
    });
    let version = match () {
        () if is_kept => Version::Any,
        () if target.kind == "ReplicationController" => Version::Core,
        () => Version::Group,
    };
    reference(target, version, &SPEC.child("scaleTargetRef"), errors);
    metrics(spec, was, errors);
    if let Some(behavior) = &spec.behavior {
        let path = SPEC.child("behavior");
        for (direction, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                validate_rules(rules, &path.child(direction), errors);
            }
        }
    }
}

fn version_error(version: &str, rule: Version) -> Option<String> {
    let has_group = match version.split('/').count() {
        1 => false,
        2 => !version.starts_with('/'),
        _ => return Some(format!("unexpected GroupVersion string: {version}")),
    };
    (!has_group && matches!(rule, Version::Group)).then(|| "apiVersion must specify API group".to_owned())
}

fn reference(target: &CrossVersionObjectReference, version: Version, path: &Path, errors: &mut Errors) {
    for (name, value) in [("kind", &target.kind), ("name", &target.name)] {
        if value.is_empty() {
            errors.push(Error::required(path.child(name), ""));
        } else {
            extend(errors, path.child(name), value, field::path_segment(value));
        }
    }
    let given = target.api_version.text();
    if !matches!(version, Version::Any)
        && let Some(why) = version_error(given, version)
    {
        errors.push(Error::invalid(path.child("apiVersion"), given, why));
    }
}

fn metrics(spec: &HorizontalPodAutoscalerSpec, was: Option<&HorizontalPodAutoscalerSpec>, errors: &mut Errors) {
    let path = SPEC.child("metrics");
    let before = was.map(|was| was.metrics.items()).unwrap_or_default();
    let was_wrong = before
        .iter()
        .filter_map(|metric| metric.object.as_ref())
        .any(|object| version_error(object.described_object.api_version.text(), Version::Core).is_some());
    let version = if was_wrong { Version::Any } else { Version::Core };
    let list = spec.metrics.items();
    for (i, metric) in list.iter().enumerate() {
        validate_metric(metric, version, &path.index(i), errors);
    }
    if spec.min_replicas == Some(0) && !list.iter().any(|m| ["Object", "External"].contains(&m.type_.as_str())) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, why));
    }
}

fn validate_metric(metric: &MetricSpec, version: Version, path: &Path, errors: &mut Errors) {
    let kind = metric.type_.as_str();
    let unknown = || Error::not_supported(path.child("type"), kind, &TYPES);
    if kind.is_empty() {
        errors.push(Error::required(path.child("type"), "must specify a metric source type"));
    }
    if !TYPES.contains(&kind) {
        errors.push(unknown());
    }
    let mut present: Vec<&str> = [
        ("object", metric.object.is_some()),
        ("external", metric.external.is_some()),
        ("pods", metric.pods.is_some()),
        ("resource", metric.resource.is_some()),
        ("containerResource", metric.container_resource.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect();
    if let Some(first) = present.first() {
        source(metric, first, version, &path.child(first), errors);
    }
    let expected = match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if expected.is_empty() {
        errors.push(unknown());
    } else if !present.contains(&expected) {
        errors.push(Error::required(path.child(expected), MISSING_SOURCE));
    }
    if present.len() != 1 {
        present.retain(|name| *name != expected);
        present.sort_unstable();
        for name in present {
            errors.push(Error::forbidden(path.child(name), "must populate the given metric source only"));
        }
    }
}

fn source(metric: &MetricSpec, name: &str, version: Version, path: &Path, errors: &mut Errors) {
    let target_path = path.child("target");
    let missing = |field: &str, why: &str, errors: &mut Errors| {
        errors.push(Error::required(target_path.child(field), why));
    };
    let own = |id: Option<&MetricIdentifier>, target: &MetricTarget, errors: &mut Errors| {
        if let Some(id) = id {
            identifier(id, &path.child("metric"), errors);
        }
        validate_target(target, &target_path, errors);
        (target.value.is_some(), target.average_value.is_some())
    };
    if let Some(object) = metric.object.as_ref().filter(|_| name == "object") {
        reference(&object.described_object, version, &path.child("describedObject"), errors);
        if let (false, false) = own(Some(&object.metric), &object.target, errors) {
            missing("averageValue", "must set either a target value or averageValue", errors);
        }
    }
    if let Some(external) = metric.external.as_ref().filter(|_| name == "external") {
        match own(Some(&external.metric), &external.target, errors) {
            (false, false) => {
                missing("averageValue", "must set either a target value for metric or a per-pod target", errors);
            }
            (true, true) => {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.push(Error::forbidden(target_path.child("value"), why));
            }
            _ => {}
        }
    }
    if let Some(pods) = metric.pods.as_ref().filter(|_| name == "pods")
        && let (_, false) = own(Some(&pods.metric), &pods.target, errors)
    {
        missing("averageValue", "must specify a positive target averageValue", errors);
    }
    let of_resource = |resource: &str, target: &MetricTarget, container: Option<&str>, errors: &mut Errors| {
        if resource.is_empty() {
            errors.push(Error::required(path.child("name"), "must specify a resource name"));
        } else if container.is_some() {
            resource::validate_container_name(resource, &path.child("name"), errors);
        }
        match container {
            Some("") => errors.push(Error::required(path.child("container"), "must specify a container")),
            Some(name) => extend(errors, path.child("container"), name, field::dns_label(name)),
            None => {}
        }
        let (_, average) = own(None, target, errors);
        match (target.average_utilization.is_some(), average) {
            (false, false) => {
                let why = "must set either a target raw value or a target utilization";
                missing("averageUtilization", why, errors);
            }
            (true, true) => {
                let why = "may not set both a target raw value and a target utilization";
                errors.push(Error::forbidden(target_path.child("averageValue"), why));
            }
            _ => {}
        }
    };
    if let Some(resource) = metric.resource.as_ref().filter(|_| name == "resource") {
        of_resource(&resource.name, &resource.target, None, errors);
    }
    if let Some(resource) = metric.container_resource.as_ref().filter(|_| name == "containerResource") {
        of_resource(&resource.name, &resource.target, Some(&resource.container), errors);
    }
}

fn identifier(id: &MetricIdentifier, path: &Path, errors: &mut Errors) {
    if id.name.is_empty() {
        errors.push(Error::required(path.child("name"), "must specify a metric name"));
    } else {
        extend(errors, path.child("name"), &id.name, field::path_segment(&id.name));
    }
}

fn validate_target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    let kind = target.type_.as_str();
    if kind.is_empty() {
        errors.push(Error::required(path.child("type"), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(path.child("type"), kind, why));
    }
    let mut positive = |name: &str, amount: Option<&Wire>| {
        let amount = amount.map(|amount| Quantity::of(Some(amount)));
        if let Some(amount) = amount.filter(|amount| *amount <= Quantity::ZERO) {
            errors.push(Error::invalid(path.child(name), amount.to_string(), "must be positive"));
        }
    };
    positive("value", target.value.as_ref());
    positive("averageValue", target.average_value.as_ref());
    if let Some(share) = target.average_utilization.filter(|share| *share < 1) {
        errors.push(Error::invalid(path.child("averageUtilization"), share, "must be greater than 0"));
    }
}

fn validate_rules(rules: &HPAScalingRules, path: &Path, errors: &mut Errors) {
    let window = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(seconds) if seconds < 0 => {
            errors.push(Error::invalid(window, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > WINDOW_MAX => {
            errors.push(Error::invalid(window, seconds, format!("must be less than or equal to {WINDOW_MAX}")));
        }
        _ => {}
    }
    let ways = ["Disabled", "Max", "Min"];
    if let Some(way) = rules.select_policy.as_deref().filter(|way| !ways.contains(way)) {
        errors.push(Error::not_supported(path.child("selectPolicy"), way, &ways));
    }
    let policies = path.child("policies");
    if rules.policies.items().is_empty() {
        errors.push(Error::required(policies, "must specify at least one Policy"));
    }
    for (i, policy) in rules.policies.items().iter().enumerate() {
        let path = policies.index(i);
        let kinds = ["Percent", "Pods"];
        if !kinds.contains(&policy.type_.as_str()) {
            errors.push(Error::not_supported(path.child("type"), policy.type_.as_str(), &kinds));
        }
        for (name, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
            if value <= 0 {
                errors.push(Error::invalid(path.child(name), value, "must be greater than zero"));
            }
        }
        if policy.period_seconds > PERIOD_MAX {
            let why = format!("must be less than or equal to {PERIOD_MAX}");
            errors.push(Error::invalid(path.child("periodSeconds"), policy.period_seconds, why));
        }
    }
    if let Some(tolerance) = &rules.tolerance {
        resource::validate_not_negative(Quantity::of(Some(tolerance)), &path.child("tolerance"), errors);
    }
}

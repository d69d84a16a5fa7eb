//! HorizontalPodAutoscaler (autoscaling/v1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::{
    v1::{
        CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
        HorizontalPodAutoscalerStatus,
    },
    v2,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::horizontal_pod_autoscaler::cpu;
use crate::{
    field::Errors,
    given::Items,
    go,
    kind::{AGE, About, Conversion, Kind, NAME, Prose, Request, Subresource, column},
    resource,
};

mod metrics;

/// Autoscalers are kept as those of version 2.
pub const CONVERSION: Conversion = Conversion { stored: ("autoscaling", "v2"), to_stored, from_stored };
const BEHAVIOR_TYPE: &str = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
const UTILIZATION: i32 = 80;

impl Kind for HorizontalPodAutoscaler {
    const ABOUT: About = About {
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Reference",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "scaleTargetRef"),
            ),
            column(
                "Targets",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "metrics"),
            ),
            column(
                "MinPods",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas"),
            ),
            column(
                "MaxPods",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas"),
            ),
            column(
                "Replicas",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas"),
            ),
            AGE,
        ],
        ..About::new("horizontalpodautoscalers", "horizontalpodautoscaler")
    };

    const INNER_ANNOTATIONS: &'static [&'static str] = &[METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

    fn set_defaults(&mut self) {
        self.spec.min_replicas.get_or_insert(1);
    }

    fn prepare_create(&mut self, request: &Request) {
        let mut new = as_v2(self.clone());
        new.prepare_create(request);
        *self = as_v1(new);
    }

    fn prepare_update(&mut self, old: &Self, request: &Request) {
        let mut new = as_v2(self.clone());
        new.prepare_update(&as_v2(old.clone()), request);
        *self = as_v1(new);
    }

    fn prepare_subresource(&mut self, old: &Self, request: &Request) {
        let mut new = as_v2(self.clone());
        new.prepare_subresource(&as_v2(old.clone()), request);
        *self = as_v1(new);
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        as_v2(self.clone()).validate_create(request, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        as_v2(self.clone()).validate_update(&as_v2(old.clone()), request, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        as_v2(self.clone()).validate_subresource(&as_v2(old.clone()), request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        as_v2(self.clone()).row(now)
    }
}

const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";

/// From the one version to the other; what does not decode stays as it is.
fn converted<A: DeserializeOwned, B: Serialize>(mut object: Value, convert: fn(A) -> B, from: &str, to: &str) -> Value {
    object["apiVersion"] = from.into();
    let typed = A::deserialize(&object).map(convert).and_then(serde_json::to_value);
    let mut object = typed.unwrap_or(object);
    object["apiVersion"] = to.into();
    object
}

fn to_stored(object: Value) -> Value {
    converted(object, as_v2, V1, V2)
}

fn from_stored(object: Value) -> Value {
    converted(object, as_v1, V2, V1)
}

/// The one metric that version 1 has a field for.
fn cpu_share(metric: &v2::MetricSpec) -> Option<i32> {
    let own = metric.resource.as_ref().filter(|own| metric.type_ == "Resource" && own.name == resource::CPU)?;
    own.target.average_utilization
}

fn decoded<T: DeserializeOwned>(text: Option<&String>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

/// Drops what stood in annotations only because version 1 has no fields for it.
fn drop_annotations(annotations: &mut Option<BTreeMap<String, String>>) {
    if let Some(all) = annotations {
        all.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
        if all.is_empty() {
            *annotations = None;
        }
    }
}

fn as_v1(from: v2::HorizontalPodAutoscaler) -> HorizontalPodAutoscaler {
    let mut metadata = from.metadata;
    drop_annotations(&mut metadata.annotations);
    let mut note = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            metadata.annotations.get_or_insert_default().insert(key.to_owned(), value);
        }
    };
    let (spec, status) = (from.spec, from.status.unwrap_or_default());
    let others = spec.metrics.items().iter().filter(|metric| cpu_share(metric).is_none());
    note(METRICS, list(others.cloned().map(metrics::Metric::from)));
    let current = status.current_metrics.items();
    note(CURRENT_METRICS, list(current.iter().cloned().map(metrics::Metric::from)));
    note(CONDITIONS, list(status.conditions.items().iter().cloned().map(metrics::Condition::from)));
    let behavior = spec.behavior.as_ref().and_then(|behavior| serde_json::to_value(behavior).ok());
    note(BEHAVIOR, behavior.map(|behavior| go::show(&behavior, BEHAVIOR_TYPE)));
    let share = current
        .iter()
        .filter_map(|metric| metric.resource.as_ref().filter(|r| metric.type_ == "Resource" && r.name == resource::CPU))
        .filter_map(|own| own.current.average_utilization)
        .next_back();
    let target = spec.scale_target_ref;
    HorizontalPodAutoscaler {
        metadata,
        spec: HorizontalPodAutoscalerSpec {
            max_replicas: spec.max_replicas,
            min_replicas: spec.min_replicas,
            scale_target_ref: CrossVersionObjectReference {
                api_version: target.api_version,
                kind: target.kind,
                name: target.name,
            },
            target_cpu_utilization_percentage: spec.metrics.items().iter().find_map(cpu_share),
        },
        status: Some(HorizontalPodAutoscalerStatus {
            current_cpu_utilization_percentage: share,
            current_replicas: status.current_replicas.unwrap_or(0),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time,
            observed_generation: status.observed_generation,
        }),
    }
}

fn list<T: Serialize>(items: impl Iterator<Item = T>) -> Option<String> {
    let items: Vec<T> = items.collect();
    serde_json::to_string(&items).ok().filter(|_| !items.is_empty())
}

fn as_v2(from: HorizontalPodAutoscaler) -> v2::HorizontalPodAutoscaler {
    let mut metadata = from.metadata;
    let noted = metadata.annotations.clone().unwrap_or_default();
    drop_annotations(&mut metadata.annotations);
    let (spec, status) = (from.spec, from.status.unwrap_or_default());
    let others: Option<Vec<metrics::Metric>> = decoded(noted.get(METRICS));
    let own = spec.target_cpu_utilization_percentage.map(cpu);
    let mut all: Vec<_> = others.into_iter().flatten().map(v2::MetricSpec::from).chain(own).collect();
    if all.is_empty() {
        all.push(cpu(UTILIZATION));
    }
    let behavior = decoded(noted.get(BEHAVIOR)).and_then(|value| serde_json::from_value(plain_names(value)).ok());
    let current: Option<Vec<metrics::Metric>> = decoded(noted.get(CURRENT_METRICS));
    let share = |share| v2::MetricStatus {
        type_: "Resource".to_owned(),
        resource: Some(v2::ResourceMetricStatus {
            name: resource::CPU.to_owned(),
            current: v2::MetricValueStatus { average_utilization: Some(share), ..v2::MetricValueStatus::default() },
        }),
        ..v2::MetricStatus::default()
    };
    let current = current.map_or_else(
        || status.current_cpu_utilization_percentage.map(|now| vec![share(now)]),
        |current| Some(current.into_iter().map(v2::MetricStatus::from).collect()),
    );
    let conditions: Option<Vec<metrics::Condition>> = decoded(noted.get(CONDITIONS));
    let target = spec.scale_target_ref;
    v2::HorizontalPodAutoscaler {
        metadata,
        spec: v2::HorizontalPodAutoscalerSpec {
            behavior: behavior.filter(|behavior| *behavior != v2::HorizontalPodAutoscalerBehavior::default()),
            max_replicas: spec.max_replicas,
            metrics: Some(all),
            min_replicas: spec.min_replicas,
            scale_target_ref: v2::CrossVersionObjectReference {
                api_version: target.api_version,
                kind: target.kind,
                name: target.name,
            },
        },
        status: Some(v2::HorizontalPodAutoscalerStatus {
            conditions: conditions.map(|all| all.into_iter().map(v2::HorizontalPodAutoscalerCondition::from).collect()),
            current_metrics: current,
            current_replicas: Some(status.current_replicas),
            desired_replicas: status.desired_replicas,
            last_scale_time: status.last_scale_time,
            observed_generation: status.observed_generation,
        }),
    }
}

/// The behavior stands in its annotation with Go's names: `ScaleUp` for `scaleUp`.
fn plain_names(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let plain = |name: String| {
                let mut chars = name.chars();
                chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
            };
            Value::Object(
                fields.into_iter().map(|(name, value)| (plain(name), plain_names(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.into_iter().map(plain_names).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_metrics_go_to_annotations_and_come_back_before_cpu() {
        let stored = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 10,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                    {"type": "Object", "object": {
                        "metric": {"name": "q"},
                        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"},
                        "target": {"type": "Value", "value": "5"},
                    }},
                ],
                "behavior": {"scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}],
                }},
            },
        });
        let old = from_stored(stored.clone());
        assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 60);
        let note = |key: &str| old["metadata"]["annotations"][key].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            note(METRICS),
            r#"[{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"q","targetValue":"5"}}]"#
        );
        assert_eq!(
            note(BEHAVIOR),
            r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":2,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
        );
        let back = to_stored(old);
        assert_eq!(back["spec"]["behavior"], stored["spec"]["behavior"]);
        assert_eq!(back["spec"]["metrics"][0], stored["spec"]["metrics"][1]);
        assert_eq!(back["spec"]["metrics"][1], stored["spec"]["metrics"][0]);
        assert_eq!(back["metadata"]["annotations"], Value::Null);
    }
}

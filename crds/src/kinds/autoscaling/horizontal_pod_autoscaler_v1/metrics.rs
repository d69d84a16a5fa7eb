//! What version 1 has no fields for, as JSON in annotations: metrics, their values, conditions. Fields stand in Go's
//! order.

use k8s_openapi::{
    api::autoscaling::v2,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, Time},
    },
};
use serde::{Deserialize, Serialize};

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Target {
    kind: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
}

impl From<v2::CrossVersionObjectReference> for Target {
    fn from(target: v2::CrossVersionObjectReference) -> Self {
        Self { kind: target.kind, name: target.name, api_version: target.api_version }
    }
}

impl From<Target> for v2::CrossVersionObjectReference {
    fn from(target: Target) -> Self {
        Self { kind: target.kind, name: target.name, api_version: target.api_version }
    }
}

/// A metric, or its present value: only the names of the numbers differ.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metric {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<Pods>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_resource: Option<Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<External>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    target: Target,
    metric_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_value: Option<Quantity>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Pods {
    metric_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_average_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Resource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_utilization: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_average_utilization: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_average_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct External {
    metric_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_average_value: Option<Quantity>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl From<v2::HorizontalPodAutoscalerCondition> for Condition {
    fn from(from: v2::HorizontalPodAutoscalerCondition) -> Self {
        Self {
            kind: from.type_,
            status: from.status,
            last_transition_time: from.last_transition_time,
            reason: from.reason.filter(|text| !text.is_empty()),
            message: from.message.filter(|text| !text.is_empty()),
        }
    }
}

impl From<Condition> for v2::HorizontalPodAutoscalerCondition {
    fn from(from: Condition) -> Self {
        Self {
            type_: from.kind,
            status: from.status,
            last_transition_time: from.last_transition_time,
            reason: from.reason,
            message: from.message,
        }
    }
}

fn zero() -> Quantity {
    Quantity("0".to_owned())
}

impl From<v2::MetricSpec> for Metric {
    fn from(from: v2::MetricSpec) -> Self {
        let resource = |name, target: v2::MetricTarget, container| Resource {
            name,
            target_average_utilization: target.average_utilization,
            target_average_value: target.average_value,
            container,
            ..Resource::default()
        };
        Self {
            kind: from.type_,
            object: from.object.map(|object| Object {
                target: object.described_object.into(),
                metric_name: object.metric.name,
                target_value: Some(object.target.value.unwrap_or_else(zero)),
                selector: object.metric.selector,
                average_value: object.target.average_value,
                current_value: None,
            }),
            pods: from.pods.map(|pods| Pods {
                metric_name: pods.metric.name,
                target_average_value: Some(pods.target.average_value.unwrap_or_else(zero)),
                selector: pods.metric.selector,
                current_average_value: None,
            }),
            resource: from.resource.map(|own| resource(own.name, own.target, None)),
            container_resource: from.container_resource.map(|own| resource(own.name, own.target, Some(own.container))),
            external: from.external.map(|external| External {
                metric_name: external.metric.name,
                metric_selector: external.metric.selector,
                target_value: external.target.value,
                target_average_value: external.target.average_value,
                ..External::default()
            }),
        }
    }
}

impl From<Metric> for v2::MetricSpec {
    fn from(from: Metric) -> Self {
        let target = |kind: &str| v2::MetricTarget { type_: kind.to_owned(), ..v2::MetricTarget::default() };
        let resource = |own: &Resource| v2::MetricTarget {
            average_utilization: own.target_average_utilization,
            average_value: own.target_average_value.clone(),
            ..target(if own.target_average_utilization.is_none() { "AverageValue" } else { "Utilization" })
        };
        Self {
            type_: from.kind,
            object: from.object.map(|object| {
                let value = object.target_value.unwrap_or_else(zero);
                let is_zero = crate::quantity::Quantity::of(Some(&value)).is_zero();
                let by_value = object.average_value.is_none();
                v2::ObjectMetricSource {
                    described_object: object.target.into(),
                    metric: v2::MetricIdentifier { name: object.metric_name, selector: object.selector },
                    target: v2::MetricTarget {
                        value: (by_value || !is_zero).then_some(value),
                        average_value: object.average_value,
                        ..target(if by_value { "Value" } else { "AverageValue" })
                    },
                }
            }),
            pods: from.pods.map(|pods| v2::PodsMetricSource {
                metric: v2::MetricIdentifier { name: pods.metric_name, selector: pods.selector },
                target: v2::MetricTarget {
                    average_value: Some(pods.target_average_value.unwrap_or_else(zero)),
                    ..target("AverageValue")
                },
            }),
            resource: from.resource.map(|own| v2::ResourceMetricSource { target: resource(&own), name: own.name }),
            container_resource: from.container_resource.map(|own| v2::ContainerResourceMetricSource {
                target: resource(&own),
                container: own.container.unwrap_or_default(),
                name: own.name,
            }),
            external: from.external.map(|external| v2::ExternalMetricSource {
                metric: v2::MetricIdentifier { name: external.metric_name, selector: external.metric_selector },
                target: v2::MetricTarget {
                    average_value: external.target_average_value,
                    ..target(if external.target_value.is_none() { "AverageValue" } else { "Value" })
                }
                .with_value(external.target_value),
            }),
        }
    }
}

trait WithValue {
    fn with_value(self, value: Option<Quantity>) -> Self;
}

impl WithValue for v2::MetricTarget {
    fn with_value(mut self, value: Option<Quantity>) -> Self {
        self.value = value;
        self
    }
}

impl From<v2::MetricStatus> for Metric {
    fn from(from: v2::MetricStatus) -> Self {
        let resource = |name, current: v2::MetricValueStatus, container| Resource {
            name,
            current_average_utilization: current.average_utilization,
            current_average_value: Some(current.average_value.unwrap_or_else(zero)),
            container,
            ..Resource::default()
        };
        Self {
            kind: from.type_,
            object: from.object.map(|object| Object {
                target: object.described_object.into(),
                metric_name: object.metric.name,
                current_value: Some(object.current.value.unwrap_or_else(zero)),
                selector: object.metric.selector,
                average_value: object.current.average_value,
                target_value: None,
            }),
            pods: from.pods.map(|pods| Pods {
                metric_name: pods.metric.name,
                current_average_value: Some(pods.current.average_value.unwrap_or_else(zero)),
                selector: pods.metric.selector,
                target_average_value: None,
            }),
            resource: from.resource.map(|own| resource(own.name, own.current, None)),
            container_resource: from.container_resource.map(|own| resource(own.name, own.current, Some(own.container))),
            external: from.external.map(|external| External {
                metric_name: external.metric.name,
                metric_selector: external.metric.selector,
                current_value: Some(external.current.value.unwrap_or_else(zero)),
                current_average_value: external.current.average_value,
                ..External::default()
            }),
        }
    }
}

impl From<Metric> for v2::MetricStatus {
    fn from(from: Metric) -> Self {
        let resource = |own: &Resource| v2::MetricValueStatus {
            average_utilization: own.current_average_utilization,
            average_value: Some(own.current_average_value.clone().unwrap_or_else(zero)),
            value: None,
        };
        Self {
            type_: from.kind,
            object: from.object.map(|object| v2::ObjectMetricStatus {
                described_object: object.target.into(),
                metric: v2::MetricIdentifier { name: object.metric_name, selector: object.selector },
                current: v2::MetricValueStatus {
                    value: Some(object.current_value.unwrap_or_else(zero)),
                    average_value: object.average_value,
                    average_utilization: None,
                },
            }),
            pods: from.pods.map(|pods| v2::PodsMetricStatus {
                metric: v2::MetricIdentifier { name: pods.metric_name, selector: pods.selector },
                current: v2::MetricValueStatus {
                    average_value: Some(pods.current_average_value.unwrap_or_else(zero)),
                    ..v2::MetricValueStatus::default()
                },
            }),
            resource: from.resource.map(|own| v2::ResourceMetricStatus { current: resource(&own), name: own.name }),
            container_resource: from.container_resource.map(|own| v2::ContainerResourceMetricStatus {
                current: resource(&own),
                container: own.container.unwrap_or_default(),
                name: own.name,
            }),
            external: from.external.map(|external| v2::ExternalMetricStatus {
                metric: v2::MetricIdentifier { name: external.metric_name, selector: external.metric_selector },
                current: v2::MetricValueStatus {
                    value: Some(external.current_value.unwrap_or_else(zero)),
                    average_value: external.current_average_value,
                    average_utilization: None,
                },
            }),
        }
    }
}

//! HorizontalPodAutoscaler (autoscaling/v2).

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::v2::{
        HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricSpec,
        MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity as Wire,
};
use serde_json::{Value, json};

use crate::{
    field::{self, Errors, Path},
    given::Items,
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column},
    quantity::Quantity,
    resource, table,
};

pub mod validate;

const UTILIZATION: i32 = 80;
const PERIOD_SECONDS: i32 = 15;
const SHOWN: usize = 2;

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

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.items().is_empty() {
            spec.metrics = Some(vec![cpu(UTILIZATION)]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let policy =
                |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: PERIOD_SECONDS };
            let up = behavior.scale_up.get_or_insert_default();
            up.stabilization_window_seconds.get_or_insert(0);
            default_rules(up, || vec![policy("Pods", 4), policy("Percent", 100)]);
            default_rules(behavior.scale_down.get_or_insert_default(), || vec![policy("Percent", 100)]);
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate::validate(self, None, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate::validate(self, Some(old), errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        let Some(status) = &self.status else {
            return;
        };
        let path = Path::new("status");
        field::not_negative(status.current_replicas.unwrap_or(0), path.child("currentReplicas"), errors);
        field::not_negative(status.desired_replicas, path.child("desiredReplicas"), errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, self.status.clone().unwrap_or_default());
        let target = &spec.scale_target_ref;
        vec![
            json!(self.metadata.name),
            json!(format!("{}/{}", target.kind, target.name)),
            json!(targets(spec.metrics.items(), status.current_metrics.items())),
            json!(spec.min_replicas.map_or_else(|| "<unset>".to_owned(), |min| min.to_string())),
            json!(spec.max_replicas),
            json!(status.current_replicas.unwrap_or(0)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

/// The metric that an autoscaler without any has.
pub fn cpu(utilization: i32) -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(utilization),
        ..MetricTarget::default()
    };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: resource::CPU.to_owned(), target }),
        ..MetricSpec::default()
    }
}

fn default_rules(rules: &mut HPAScalingRules, policies: impl Fn() -> Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.policies.get_or_insert_with(policies);
}

fn targets(metrics: &[MetricSpec], statuses: &[MetricStatus]) -> String {
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let few: Vec<String> = metrics.iter().enumerate().take(SHOWN).map(|(i, m)| target(m, statuses.get(i))).collect();
    let few = few.join(", ");
    if metrics.len() > SHOWN { format!("{few} + {} more...", metrics.len() - SHOWN) } else { few }
}

fn target(metric: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let amount = |wire: Option<&Wire>| Quantity::of(wire).to_string();
    let unknown = || "<unknown>".to_owned();
    let of_object = |target: &MetricTarget, current: Option<&MetricValueStatus>| match &target.average_value {
        Some(average) => {
            let now = current.and_then(|c| c.average_value.as_ref());
            format!("{}/{} (avg)", now.map_or_else(unknown, |now| amount(Some(now))), amount(Some(average)))
        }
        None => {
            let now = current.map_or_else(unknown, |c| amount(c.value.as_ref()));
            format!("{now}/{}", amount(target.value.as_ref()))
        }
    };
    let of_resource = |name: &str, target: &MetricTarget, current: Option<&MetricValueStatus>| {
        if let Some(average) = &target.average_value {
            let now = current.map_or_else(unknown, |c| amount(c.average_value.as_ref()));
            return format!("{name}: {now}/{}", amount(Some(average)));
        }
        let percent = |share: i32| format!("{share}%");
        let now = current.and_then(|c| c.average_utilization).map_or_else(unknown, percent);
        let target = target.average_utilization.map_or_else(|| "<auto>".to_owned(), percent);
        format!("{name}: {now}/{target}")
    };
    match metric.type_.as_str() {
        "External" => {
            let current = status.and_then(|s| s.external.as_ref()).map(|s| &s.current);
            metric.external.as_ref().map(|own| of_object(&own.target, current))
        }
        "Object" => {
            let current = status.and_then(|s| s.object.as_ref()).map(|s| &s.current);
            metric.object.as_ref().map(|own| of_object(&own.target, current))
        }
        "Pods" => {
            let current = status.and_then(|s| s.pods.as_ref()).map(|s| &s.current);
            let now = current.map_or_else(unknown, |c| amount(c.average_value.as_ref()));
            metric.pods.as_ref().map(|own| format!("{now}/{}", amount(own.target.average_value.as_ref())))
        }
        "Resource" => {
            let current = status.and_then(|s| s.resource.as_ref()).map(|s| &s.current);
            metric.resource.as_ref().map(|own| of_resource(&own.name, &own.target, current))
        }
        "ContainerResource" => {
            let current = status.and_then(|s| s.container_resource.as_ref()).map(|s| &s.current);
            metric.container_resource.as_ref().map(|own| of_resource(&own.name, &own.target, current))
        }
        _ => None,
    }
    .unwrap_or_else(|| "<unknown type>".to_owned())
}

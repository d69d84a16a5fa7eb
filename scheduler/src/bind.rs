//! What is written: bindings, conditions, nominations, evictions and events.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self, Binding, ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};

use crate::{run::Clock, snapshot::Pod};

/// Writes for one scheduler.
#[derive(Clone)]
pub struct Binder {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

impl Binder {
    pub fn new(client: Client, scheduler_name: &str, clock: Clock) -> Self {
        let reporter = Reporter { controller: scheduler_name.to_owned(), instance: None };
        Self { recorder: Recorder::new(client.clone(), reporter), client, clock }
    }

    fn pods(&self, namespace: &str) -> Api<v1::Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Gives the pod its node. The uid keeps a later pod of the same name from being bound.
    pub async fn bind(&self, pod: &Pod, node: &str) -> kube::Result<()> {
        let mut binding = Binding {
            target: ObjectReference { kind: Some("Node".into()), name: Some(node.to_owned()), ..Default::default() },
            ..Default::default()
        };
        binding.metadata.name = Some(pod.name.clone());
        binding.metadata.namespace = Some(pod.namespace.clone());
        binding.metadata.uid = Some(pod.uid.clone());
        let _: Value = self
            .pods(&pod.namespace)
            .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
            .await?;
        let note = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
        self.tell(&pod.object, EventType::Normal, "Scheduled", "Binding", note, None).await;
        Ok(())
    }

    /// Tells why the pod has no node yet, in its status and as an event.
    pub async fn refuse(&self, pod: &Pod, message: &str, nominated: Option<&str>) {
        let mut status = json!({});
        if let Some(condition) = self.condition(pod, message) {
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominated {
            status["nominatedNodeName"] = json!(node);
        }
        if status.as_object().is_some_and(|s| !s.is_empty()) {
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": status}));
            if let Err(error) = self.pods(&pod.namespace).patch_status(&pod.name, &PatchParams::default(), &patch).await
            {
                tracing::debug!(%error, pod = pod.name, "the condition of a pod could not be written");
            }
        }
        self.tell(&pod.object, EventType::Warning, "FailedScheduling", "Scheduling", message.to_owned(), None).await;
    }

    /// Nothing if the pod tells just this already.
    fn condition(&self, pod: &Pod, message: &str) -> Option<Value> {
        let conditions = pod.object.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let old = conditions.iter().find(|c| c.type_ == "PodScheduled");
        let same = old.is_some_and(|c| {
            c.status == "False" && c.reason.as_deref() == Some("Unschedulable") && c.message.as_deref() == Some(message)
        });
        let since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
        let since = since.unwrap_or_else(|| (self.clock)());
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since);
        let generation = pod.object.metadata.generation;
        (!same).then(|| {
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                "lastProbeTime": null, "lastTransitionTime": since, "observedGeneration": generation})
        })
    }

    /// Makes a pod leave its node for a more important one.
    pub async fn evict(&self, victim: &Pod, preemptor: &Pod, node: &str) -> kube::Result<()> {
        let api = self.pods(&victim.namespace);
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time((self.clock)());
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
            "lastProbeTime": null, "lastTransitionTime": now, "observedGeneration": victim.object.metadata.generation});
        let patch = Patch::Strategic(json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}}));
        match api.patch_status(&victim.name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            result => result.map(drop)?,
        }
        let preconditions = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&victim.name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            result => result.map(drop)?,
        }
        let note = format!("Preempted by pod {} on node {node}", preemptor.uid);
        self.tell(&victim.object, EventType::Normal, "Preempted", "Preempting", note, Some(&preemptor.object)).await;
        Ok(())
    }

    async fn tell(
        &self,
        pod: &Arc<v1::Pod>,
        kind: EventType,
        reason: &str,
        action: &str,
        note: String,
        other: Option<&Arc<v1::Pod>>,
    ) {
        let secondary = other.map(|o| o.object_ref(&()));
        let event =
            Event { type_: kind, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary };
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            tracing::debug!(%error, pod = pod.name_any(), "an event could not be written");
        }
    }
}

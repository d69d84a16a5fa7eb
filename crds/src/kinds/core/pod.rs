//! Pod (core/v1).

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodAffinityTerm, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, Time},
};
use serde_json::Value;

use crate::{
    equal,
    field::{self, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Generation, Kind, NAME, Prose, Request, Subresource, column, text},
    meta,
    pod::{self, warn::APP_ARMOR_PREFIX},
    selector::Labels,
};

impl Kind for Pod {
    const ABOUT: About = About {
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource::Other { name: "attach", kind: ("", "v1", "PodAttachOptions"), verbs: &["create", "get"] },
            Subresource::Other { name: "binding", kind: ("", "v1", "Binding"), verbs: &["create"] },
            Subresource::Other {
                name: "ephemeralcontainers",
                kind: ("", "v1", "Pod"),
                verbs: &["get", "patch", "update"],
            },
            Subresource::Other { name: "eviction", kind: ("policy", "v1", "Eviction"), verbs: &["create"] },
            Subresource::Other { name: "exec", kind: ("", "v1", "PodExecOptions"), verbs: &["create", "get"] },
            Subresource::Other { name: "log", kind: ("", "v1", "Pod"), verbs: &["get"] },
            Subresource::Other {
                name: "portforward",
                kind: ("", "v1", "PodPortForwardOptions"),
                verbs: &["create", "get"],
            },
            Subresource::Other {
                name: "proxy",
                kind: ("", "v1", "PodProxyOptions"),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::Other { name: "resize", kind: ("", "v1", "Pod"), verbs: &["get", "patch", "update"] },
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Ready", "string", "", 0, text("The aggregate readiness state of this pod for accepting traffic.")),
            column("Status", "string", "", 0, text("The aggregate status of the containers in this pod.")),
            column(
                "Restarts",
                "string",
                "",
                0,
                text(
                    "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
                ),
            ),
            AGE,
            column("IP", "string", "", 1, Prose::Field("io.k8s.api.core.v1.PodStatus", "podIP")),
            column("Node", "string", "", 1, Prose::Field("io.k8s.api.core.v1.PodSpec", "nodeName")),
            column(
                "Nominated Node",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.PodStatus", "nominatedNodeName"),
            ),
            column("Readiness Gates", "string", "", 1, Prose::Field("io.k8s.api.core.v1.PodSpec", "readinessGates")),
        ],
        generation: Generation::Own,
        delete_answer: DeleteAnswer::Object,
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
            "spec.host",
        ],
        ..About::new("pods", "pod")
    };

    fn set_defaults(&mut self) {
        pod::default::pod(self);
    }

    fn prepare_create(&mut self, request: &Request) {
        self.metadata.generation = Some(1);
        let class = pod::qos::class_of(self).to_owned();
        let spec = self.spec.get_or_insert_default();
        pod::feature::drop_disabled(spec, None);
        let labels = self.metadata.labels.clone().unwrap_or_default();
        add_label_keys(spec, &labels);
        let conditions = (!spec.scheduling_gates.items().is_empty()).then(|| vec![gated(request.now)]);
        app_armor_fields(self);
        self.status = Some(PodStatus {
            conditions,
            phase: Some(pod::state::PENDING.to_owned()),
            qos_class: Some(class),
            ..PodStatus::default()
        });
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        drop_disabled(self, old);
        count_generation(self, old);
    }

    fn prepare_subresource(&mut self, old: &Self, request: &Request) {
        match request.subresource {
            "status" => {
                self.spec.clone_from(&old.spec);
                self.metadata.owner_references.clone_from(&old.metadata.owner_references);
                let (none, status) = (PodStatus::default(), self.status.get_or_insert_default());
                let before = old.status.as_ref().unwrap_or(&none);
                if status.qos_class.text().is_empty() {
                    status.qos_class.clone_from(&before.qos_class);
                }
                pod::status::keep_observed_generation(status, before);
                pod::feature::drop_disabled_status(status);
                return;
            }
            "ephemeralcontainers" => pod::update::keep_all_but_ephemeral(self, old),
            "resize" => pod::resize::keep_all_but_resources(self, old),
            _ => return,
        }
        drop_disabled(self, old);
        count_generation(self, old);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        pod::validate::create(self, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        pod::update::validate(self, old, request.sent, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        match request.subresource {
            "status" => pod::status::validate(self, old, errors),
            "ephemeralcontainers" => pod::update::validate_ephemeral(self, old, errors),
            "resize" => pod::resize::validate(self, old, errors),
            _ => {}
        }
    }

    fn sent_warnings(&self) -> Vec<String> {
        let annotations = self.metadata.annotations.iter().flatten();
        if !annotations.into_iter().any(|(name, _)| name.starts_with(APP_ARMOR_PREFIX)) {
            return Vec::new();
        }
        let metadata = Path::new("metadata");
        let annotations = metadata.child("annotations");
        let word = |key: &String| {
            let path = annotations.key(key);
            format!("{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead")
        };
        app_armor_fields(&mut self.clone()).iter().map(word).collect()
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let wrong = field::dns_label(self.metadata.name.text());
        let mut words = Vec::new();
        if !wrong.is_empty() {
            words.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                wrong.join(" ")
            ));
        }
        if let Some(spec) = &self.spec {
            words.append(&mut pod::warn::warnings(&self.metadata, spec, None));
        }
        words
    }

    fn selectable(&self, path: &str) -> String {
        let none = (PodSpec::default(), PodStatus::default());
        let (spec, status) = (self.spec.as_ref().unwrap_or(&none.0), self.status.as_ref().unwrap_or(&none.1));
        match path {
            "spec.nodeName" | "spec.host" => spec.node_name.text().to_owned(),
            "spec.restartPolicy" => spec.restart_policy.text().to_owned(),
            "spec.schedulerName" => spec.scheduler_name.text().to_owned(),
            "spec.serviceAccountName" => spec.service_account_name.text().to_owned(),
            "spec.hostNetwork" => spec.host_network.unwrap_or(false).to_string(),
            "status.phase" => status.phase.text().to_owned(),
            "status.podIP" => status.pod_ips.items().first().map_or_else(String::new, |ip| ip.ip.clone()),
            "status.nominatedNodeName" => status.nominated_node_name.text().to_owned(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        pod::print::row(self, now)
    }

    /// A pod on a node stays until its kubelet has ended it; one that no kubelet knows, or that has ended, goes at once.
    fn grace_seconds(&self, requested: Option<i64>) -> Option<i64> {
        let spec = self.spec.as_ref();
        let asked = requested.or(spec.and_then(|s| s.termination_grace_period_seconds)).unwrap_or(0);
        let scheduled = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        let phase = self.status.as_ref().and_then(|s| s.phase.as_deref());
        let ended = matches!(phase, Some("Failed" | "Succeeded"));
        Some(if !scheduled || ended {
            0
        } else if asked < 0 {
            1
        } else {
            asked
        })
    }
}

/// Drops what is switched off and was not there before.
fn drop_disabled(new: &mut Pod, old: &Pod) {
    if let Some(spec) = &mut new.spec {
        pod::feature::drop_disabled(spec, old.spec.as_ref());
    }
}

/// Counts up with every change of the spec, whichever way it comes.
fn count_generation(new: &mut Pod, old: &Pod) {
    let generation = old.metadata.generation.unwrap_or(0);
    let changed = !equal::same(&new.spec, &old.spec);
    new.metadata.generation = Some(generation + i64::from(changed)).filter(|g| *g > 0);
}

fn gated(now: Timestamp) -> PodCondition {
    PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}

/// `matchLabelKeys` become requirements with the Pod's own values.
fn add_label_keys(spec: &mut PodSpec, labels: &Labels) {
    let add = |selector: Option<&mut LabelSelector>, keys: &[String], operator: &str| {
        let Some(selector) = selector else {
            return;
        };
        for (key, value) in keys.iter().filter_map(|key| labels.get_key_value(key)) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    };
    let add_to_term = |term: &mut PodAffinityTerm| {
        add(term.label_selector.as_mut(), term.match_label_keys.items(), "In");
        add(term.label_selector.as_mut(), term.mismatch_label_keys.items(), "NotIn");
    };
    if let Some(affinity) = &mut spec.affinity {
        if let Some(a) = &mut affinity.pod_affinity {
            let preferred = a.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            preferred.for_each(|w| add_to_term(&mut w.pod_affinity_term));
            a.required_during_scheduling_ignored_during_execution.iter_mut().flatten().for_each(add_to_term);
        }
        if let Some(a) = &mut affinity.pod_anti_affinity {
            let preferred = a.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
            preferred.for_each(|w| add_to_term(&mut w.pod_affinity_term));
            a.required_during_scheduling_ignored_during_execution.iter_mut().flatten().for_each(add_to_term);
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        add(constraint.label_selector.as_mut(), constraint.match_label_keys.items(), "In");
    }
}

/// The annotation that came before the field becomes the field; gives the annotations that are worth a warning.
fn app_armor_fields(object: &mut Pod) -> Vec<String> {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let Some(spec) = object.spec.as_mut().filter(|s| s.os.as_ref().is_none_or(|os| os.name != "windows")) else {
        return Vec::new();
    };
    let of_pod = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.clone());
    let mut doubtful = Vec::new();
    pod::container::change(spec, |container| {
        let key = format!("{APP_ARMOR_PREFIX}{}", container.name);
        let given = container.security_context.as_ref().is_some_and(|c| c.app_armor_profile.is_some());
        let Some(text) = annotations.get(&key).filter(|_| !given) else { return };
        let profile = app_armor_profile(text);
        if profile.is_none() || profile != of_pod {
            doubtful.push(key);
        }
        if profile.is_some() && profile != of_pod {
            container.security_context.get_or_insert_default().app_armor_profile = profile;
        }
    });
    doubtful
}

fn app_armor_profile(annotation: &str) -> Option<k8s_openapi::api::core::v1::AppArmorProfile> {
    let (kind, local) = match annotation {
        "unconfined" => ("Unconfined", None),
        "runtime/default" => ("RuntimeDefault", None),
        other => ("Localhost", Some(other.strip_prefix("localhost/").filter(|name| !name.is_empty())?.to_owned())),
    };
    Some(k8s_openapi::api::core::v1::AppArmorProfile { type_: kind.to_owned(), localhost_profile: local })
}

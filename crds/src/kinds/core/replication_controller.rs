//! ReplicationController (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, not_negative},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, ScalePaths, Subresource, column, text},
    pod::{counts, template},
    selector::Selector,
    table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");

impl Kind for ReplicationController {
    const ABOUT: About = About {
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[
            Subresource::Scale(ScalePaths::new("spec.replicas", "status.replicas", "spec.selector")),
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column(
                "Desired",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.ReplicationControllerSpec", "replicas"),
            ),
            column(
                "Current",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.ReplicationControllerStatus", "replicas"),
            ),
            column(
                "Ready",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.core.v1.ReplicationControllerStatus", "readyReplicas"),
            ),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column(
                "Selector",
                "string",
                "",
                1,
                Prose::Field("io.k8s.api.core.v1.ReplicationControllerSpec", "selector"),
            ),
        ],
        generation: Generation::Spec,
        orphans_by_default: true,
        storage_prefix: "controllers",
        selectable: &["status.replicas"],
        checks_prefix: false,
        ..About::new("replicationcontrollers", "replicationcontroller")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::long_name(name)
    }

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let labels = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone());
        if let Some(labels) = labels {
            if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
                spec.selector = Some(labels.clone());
            }
            if self.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
                self.metadata.labels = Some(labels);
            }
        }
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(template::set_defaults);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ReplicationControllerStatus::default());
        self.spec.iter_mut().flat_map(|s| &mut s.template).for_each(|t| template::prepare(t, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        let before = old.spec.as_ref().and_then(|s| s.template.as_ref());
        self.spec.iter_mut().flat_map(|s| &mut s.template).for_each(|t| template::prepare(t, before));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, errors);
        }
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        if let Some(status) = &self.status {
            validate_status(status, errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.filter(|old| equal::same(&self.spec, &old.spec)).is_none();
        let name = template::name_warning(self.metadata.name.as_deref().unwrap_or("")).filter(|_| old.is_none());
        // Upstream looks at the old template here.
        let spec = old.map_or(self.spec.as_ref(), |old| old.spec.as_ref());
        let of = spec.and_then(|s| s.template.as_ref()).filter(|_| changed);
        name.into_iter().chain(template::warnings(of, &SPEC.child("template"))).collect()
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "status.replicas" => self.status.as_ref().map_or(0, |s| s.replicas).to_string(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = Default::default();
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref().unwrap_or(&none));
        let (names, images) = template::cells(spec.and_then(|s| s.template.as_ref()));
        vec![
            json!(self.metadata.name),
            json!(spec.and_then(|s| s.replicas).unwrap_or(0)),
            json!(status.replicas),
            json!(status.ready_replicas.unwrap_or(0)),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
            json!(table::labels(spec.and_then(|s| s.selector.as_ref()))),
        ]
    }
}

fn validate_spec(spec: &ReplicationControllerSpec, errors: &mut Errors) {
    not_negative(spec.min_ready_seconds.unwrap_or(0), SPEC.child("minReadySeconds"), errors);
    let none = Default::default();
    let selector = Selector::from_labels(spec.selector.as_ref().unwrap_or(&none));
    if selector.is_everything() {
        errors.push(Error::required(SPEC.child("selector"), ""));
    }
    match spec.replicas {
        None => errors.push(Error::required(SPEC.child("replicas"), "")),
        Some(replicas) => not_negative(replicas, SPEC.child("replicas"), errors),
    }
    let path = SPEC.child("template");
    let Some(template) = &spec.template else {
        errors.push(Error::required(path, ""));
        return;
    };
    if !selector.is_everything() {
        template::matches(&selector, template, &path, errors);
    }
    template::validate_running(template, "ReplicationController", &path, errors);
}

fn validate_status(status: &ReplicationControllerStatus, errors: &mut Errors) {
    let ready = status.ready_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let labeled = status.fully_labeled_replicas.unwrap_or(0);
    let counts = [("fullyLabeledReplicas", labeled), ("readyReplicas", ready), ("availableReplicas", available)];
    not_negative(status.replicas, STATUS.child("replicas"), errors);
    counts::are_not_negative(&counts, errors);
    not_negative(status.observed_generation.unwrap_or(0), STATUS.child("observedGeneration"), errors);
    counts::are_some_of(status.replicas, &counts, errors);
    counts::available_are_ready(available, ready, "readyReplicas", errors);
}

//! ReplicaSet (apps/v1).

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus},
    core::v1::PodTemplateSpec,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Errors, Path, not_negative},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, ScalePaths, Subresource, column, text},
    pod::{counts, template},
    table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");

impl Kind for ReplicaSet {
    const ABOUT: About = About {
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[
            Subresource::Scale(ScalePaths::new("spec.replicas", "status.replicas", "spec.selector")),
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Desired", "integer", "", 0, Prose::Field("io.k8s.api.apps.v1.ReplicaSetSpec", "replicas")),
            column("Current", "integer", "", 0, Prose::Field("io.k8s.api.apps.v1.ReplicaSetStatus", "replicas")),
            column("Ready", "integer", "", 0, Prose::Field("io.k8s.api.apps.v1.ReplicaSetStatus", "readyReplicas")),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.apps.v1.ReplicaSetSpec", "selector")),
        ],
        generation: Generation::Spec,
        ..About::new("replicasets", "replicaset")
    };
    const NEEDS_SELECTOR: bool = true;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        template::set_defaults(spec.template.get_or_insert_default());
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ReplicaSetStatus::default());
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

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            template::selector_is_kept(&new.selector, &old.selector, errors);
        }
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        if let Some(status) = &self.status {
            validate_status(status, errors);
        }
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.filter(|old| equal::same(&self.spec, &old.spec)).is_none();
        let name = template::name_warning(self.metadata.name.as_deref().unwrap_or("")).filter(|_| old.is_none());
        let of = self.spec.as_ref().and_then(|s| s.template.as_ref()).filter(|_| changed);
        name.into_iter().chain(template::warnings(of, &SPEC.child("template"))).collect()
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
            json!(table::selector(spec.map(|s| &s.selector))),
        ]
    }
}

fn validate_spec(spec: &ReplicaSetSpec, errors: &mut Errors) {
    not_negative(spec.replicas.unwrap_or(0), SPEC.child("replicas"), errors);
    not_negative(spec.min_ready_seconds.unwrap_or(0), SPEC.child("minReadySeconds"), errors);
    let none = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&none);
    // Upstream names the Deployment in this message.
    template::selected(&spec.selector, template, "deployment", "invalid label selector", &SPEC, errors, |errors| {
        template::validate_running(template, "ReplicaSet", &SPEC.child("template"), errors);
    });
}

fn validate_status(status: &ReplicaSetStatus, errors: &mut Errors) {
    let ready = status.ready_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let labeled = status.fully_labeled_replicas.unwrap_or(0);
    let counts = [("fullyLabeledReplicas", labeled), ("readyReplicas", ready), ("availableReplicas", available)];
    not_negative(status.replicas, STATUS.child("replicas"), errors);
    counts::are_not_negative(&counts, errors);
    not_negative(status.observed_generation.unwrap_or(0), STATUS.child("observedGeneration"), errors);
    not_negative(status.terminating_replicas.unwrap_or(0), STATUS.child("terminatingReplicas"), errors);
    counts::are_some_of(status.replicas, &counts, errors);
    counts::available_are_ready(available, ready, "readyReplicas", errors);
}

//! Deployment (apps/v1).

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Error, Errors, Path, not_negative},
    given::Text,
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, ScalePaths, Subresource, column, text},
    percent,
    pod::{counts, template},
    selector::Selector,
    table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");

impl Kind for Deployment {
    const ABOUT: About = About {
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[
            Subresource::Scale(ScalePaths::new("spec.replicas", "status.replicas", "spec.selector")),
            Subresource::Status,
        ],
        columns: &[
            NAME,
            column("Ready", "string", "", 0, text("Number of the pod with ready state")),
            column(
                "Up-to-date",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DeploymentStatus", "updatedReplicas"),
            ),
            column(
                "Available",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DeploymentStatus", "availableReplicas"),
            ),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.apps.v1.DeploymentSpec", "selector")),
        ],
        generation: Generation::Own,
        ..About::new("deployments", "deployment")
    };
    const NEEDS_SELECTOR: bool = true;

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        strategy.type_.or_set("RollingUpdate");
        if strategy.type_.text() == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        template::set_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.metadata.generation = Some(1);
        self.status = Some(DeploymentStatus::default());
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, None));
    }

    /// A change of annotations counts, too: revisions are kept there.
    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        let before = old.spec.as_ref().map(|s| &s.template);
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, before));
        let changed =
            !equal::same(&self.spec, &old.spec) || !equal::same(&self.metadata.annotations, &old.metadata.annotations);
        self.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + i64::from(changed));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        self.metadata.labels.clone_from(&old.metadata.labels);
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

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let none = DeploymentStatus::default();
        validate_status(self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.is_none_or(|old| {
            !equal::same(&self.spec, &old.spec) || !equal::same(&self.metadata.annotations, &old.metadata.annotations)
        });
        let name = template::name_warning(self.metadata.name.text()).filter(|_| old.is_none());
        let of = self.spec.as_ref().map(|s| &s.template).filter(|_| changed);
        name.into_iter().chain(template::warnings(of, &SPEC.child("template"))).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = Default::default();
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref().unwrap_or(&none));
        let (names, images) = template::cells(spec.map(|s| &s.template));
        let ready = status.ready_replicas.unwrap_or(0);
        vec![
            json!(self.metadata.name),
            json!(format!("{ready}/{}", spec.and_then(|s| s.replicas).unwrap_or(0))),
            json!(status.updated_replicas.unwrap_or(0)),
            json!(status.available_replicas.unwrap_or(0)),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
            json!(spec.map(|s| Selector::from_object(Some(&s.selector)).to_string())),
        ]
    }
}

fn validate_spec(spec: &DeploymentSpec, errors: &mut Errors) {
    not_negative(spec.replicas.unwrap_or(0), SPEC.child("replicas"), errors);
    let template = &spec.template;
    template::selected(&spec.selector, template, "deployment", "invalid label selector", &SPEC, errors, |errors| {
        template::validate_running(template, "ReplicaSet", &SPEC.child("template"), errors);
    });
    if let Some(strategy) = &spec.strategy {
        validate_strategy(strategy, &SPEC.child("strategy"), errors);
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    not_negative(min_ready, SPEC.child("minReadySeconds"), errors);
    not_negative(spec.revision_history_limit.unwrap_or(0), SPEC.child("revisionHistoryLimit"), errors);
    if let Some(deadline) = spec.progress_deadline_seconds {
        let path = SPEC.child("progressDeadlineSeconds");
        not_negative(deadline, path, errors);
        if deadline <= min_ready {
            errors.push(Error::invalid(path, deadline, "must be greater than minReadySeconds"));
        }
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &Path, errors: &mut Errors) {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(rolling_path, why));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(Error::required(rolling_path, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling, &rolling_path, errors),
        _ => {
            let wrong = Error::not_supported(*path, "", &["Recreate", "RollingUpdate"]);
            errors.push(wrong.showing_struct(strategy, "io.k8s.api.apps.v1.DeploymentStrategy"));
        }
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_path = path.child("maxUnavailable");
    percent::validate(unavailable, &unavailable_path, errors);
    percent::validate(surge, &path.child("maxSurge"), errors);
    if percent::number(unavailable) == 0 && percent::number(surge) == 0 {
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(Error::invalid(unavailable_path, percent::shown(unavailable), why));
    }
    percent::at_most_all(unavailable, &unavailable_path, errors);
}

fn validate_status(status: &DeploymentStatus, old: &DeploymentStatus, errors: &mut Errors) {
    let number = |count: Option<i32>| count.unwrap_or(0);
    let (replicas, ready) = (number(status.replicas), number(status.ready_replicas));
    let (updated, available) = (number(status.updated_replicas), number(status.available_replicas));
    not_negative(status.observed_generation.unwrap_or(0), STATUS.child("observedGeneration"), errors);
    let some = [("updatedReplicas", updated), ("readyReplicas", ready), ("availableReplicas", available)];
    not_negative(replicas, STATUS.child("replicas"), errors);
    counts::are_not_negative(&some, errors);
    let others = [
        ("unavailableReplicas", number(status.unavailable_replicas)),
        ("terminatingReplicas", number(status.terminating_replicas)),
        ("collisionCount", number(status.collision_count)),
    ];
    counts::are_not_negative(&others, errors);
    counts::are_some_of(replicas, &some, errors);
    counts::available_are_ready(available, ready, "readyReplicas", errors);
    counts::collisions_only_grow(status.collision_count, old.collision_count, errors);
}

//! DaemonSet (apps/v1).

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Error, Errors, Path, not_negative},
    given::Text,
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, Subresource, column, text},
    percent,
    pod::{counts, template, validate},
    selector::{Selector, validate as selectors},
    syntax, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
/// A field of earlier versions, kept as an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Kind for DaemonSet {
    const ABOUT: About = About {
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Desired",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DaemonSetStatus", "desiredNumberScheduled"),
            ),
            column(
                "Current",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DaemonSetStatus", "currentNumberScheduled"),
            ),
            column("Ready", "integer", "", 0, Prose::Field("io.k8s.api.apps.v1.DaemonSetStatus", "numberReady")),
            column(
                "Up-to-date",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DaemonSetStatus", "updatedNumberScheduled"),
            ),
            column(
                "Available",
                "integer",
                "",
                0,
                Prose::Field("io.k8s.api.apps.v1.DaemonSetStatus", "numberAvailable"),
            ),
            column("Node Selector", "string", "", 0, Prose::Field("io.k8s.api.core.v1.PodSpec", "nodeSelector")),
            AGE,
            column("Containers", "string", "", 1, text("Names of each container in the template.")),
            column("Images", "string", "", 1, text("Images referenced by each container in the template.")),
            column("Selector", "string", "", 1, Prose::Field("io.k8s.api.apps.v1.DaemonSetSpec", "selector")),
        ],
        generation: Generation::Spec,
        ..About::new("daemonsets", "daemonset")
    };
    const NEEDS_SELECTOR: bool = true;

    const INNER_ANNOTATIONS: &'static [&'static str] = &[TEMPLATE_GENERATION];

    /// The annotation is a field of upstream's internal form: it must be a number.
    fn unreadable(object: &Value) -> Option<String> {
        let text = object.get("metadata")?.get("annotations")?.get(TEMPLATE_GENERATION)?.as_str()?;
        syntax::go_int(text).err()
    }

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let strategy = spec.update_strategy.get_or_insert_default();
        strategy.type_.or_set("RollingUpdate");
        if strategy.type_.text() == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        template::set_defaults(&mut spec.template);
        // Upstream keeps it as a field, and writes the annotation whenever it writes the object.
        set_template_generation(self, template_generation(self));
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(DaemonSetStatus::default());
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, None));
        let generation = template_generation(self).max(1);
        set_template_generation(self, generation);
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        let before = old.spec.as_ref().map(|s| &s.template);
        self.spec.iter_mut().for_each(|s| template::prepare(&mut s.template, before));
        let template = |object: &Self| object.spec.as_ref().map(|s| s.template.clone());
        let changed = !equal::same(&template(self), &template(old));
        set_template_generation(self, template_generation(old) + i64::from(changed));
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        set_template_generation(self, template_generation(old));
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, template_generation(self), errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            template::selector_is_kept(&new.selector, &old.selector, errors);
        }
        self.validate_create(request, errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let none = DaemonSetStatus::default();
        validate_status(self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none), errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = |object: &Self| object.spec.as_ref().map(|s| s.template.clone());
        let changed = old.is_none_or(|old| !equal::same(&template(self), &template(old)));
        let of = self.spec.as_ref().map(|s| &s.template).filter(|_| changed);
        template::warnings(of, &SPEC.child("template"))
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = Default::default();
        let (spec, status) = (self.spec.as_ref(), self.status.as_ref().unwrap_or(&none));
        let (names, images) = template::cells(spec.map(|s| &s.template));
        let nodes = spec.and_then(|s| s.template.spec.as_ref()).and_then(|s| s.node_selector.as_ref());
        vec![
            json!(self.metadata.name),
            json!(status.desired_number_scheduled),
            json!(status.current_number_scheduled),
            json!(status.number_ready),
            json!(status.updated_number_scheduled.unwrap_or(0)),
            json!(status.number_available.unwrap_or(0)),
            json!(table::labels(nodes)),
            json!(table::age(&self.metadata, now)),
            json!(names),
            json!(images),
            json!(table::selector(spec.map(|s| &s.selector))),
        ]
    }
}

fn template_generation(object: &DaemonSet) -> i64 {
    let text = object.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE_GENERATION));
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut DaemonSet, generation: i64) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn validate_spec(spec: &DaemonSetSpec, template_generation: i64, errors: &mut Errors) {
    let path = SPEC.child("selector");
    let missing = spec.selector == LabelSelector::default();
    selectors::label_selector(Some(&spec.selector), &path, errors);
    let template_path = SPEC.child("template");
    if let Some(selector) = selectors::selector(&spec.selector) {
        let selector = if missing { Selector::nothing() } else { selector };
        template::matches(&selector, &spec.template, &template_path, errors);
    }
    if !missing && template::is_empty(&spec.selector) {
        errors.push(selectors::invalid(&spec.selector, &path, "empty selector is invalid for daemonset"));
    }
    validate::template(&spec.template, &template_path, errors);
    template::runs_forever(&spec.template, "DaemonSet", &template_path, errors);
    not_negative(spec.min_ready_seconds.unwrap_or(0), SPEC.child("minReadySeconds"), errors);
    not_negative(template_generation, SPEC.child("templateGeneration"), errors);
    validate_strategy(spec, &SPEC.child("updateStrategy"), errors);
    not_negative(spec.revision_history_limit.unwrap_or(0), SPEC.child("revisionHistoryLimit"), errors);
}

fn validate_strategy(spec: &DaemonSetSpec, path: &Path, errors: &mut Errors) {
    let none = Default::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&none);
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.text(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(rolling_path, "")),
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling, &rolling_path, errors),
        _ => {
            let wrong = Error::not_supported(*path, "", &["RollingUpdate", "OnDelete"]);
            errors.push(wrong.showing_struct(strategy, "io.k8s.api.apps.v1.DaemonSetUpdateStrategy"));
        }
    }
}

fn validate_rolling(rolling: &RollingUpdateDaemonSet, path: &Path, errors: &mut Errors) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    percent::validate(unavailable, &unavailable_path, errors);
    percent::validate(surge, &surge_path, errors);
    percent::at_most_all(unavailable, &unavailable_path, errors);
    percent::at_most_all(surge, &surge_path, errors);
    match (percent::number(unavailable) != 0, percent::number(surge) != 0) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.push(Error::invalid(surge_path, percent::shown(surge), why));
        }
        (false, false) => errors.push(Error::required(unavailable_path, "cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

fn validate_status(status: &DaemonSetStatus, old: &DaemonSetStatus, errors: &mut Errors) {
    let number = |count: Option<i32>| i64::from(count.unwrap_or(0));
    for (name, count) in [
        ("currentNumberScheduled", status.current_number_scheduled.into()),
        ("numberMisscheduled", status.number_misscheduled.into()),
        ("desiredNumberScheduled", status.desired_number_scheduled.into()),
        ("numberReady", status.number_ready.into()),
        ("observedGeneration", status.observed_generation.unwrap_or(0)),
        ("updatedNumberScheduled", number(status.updated_number_scheduled)),
        ("numberAvailable", number(status.number_available)),
        ("numberUnavailable", number(status.number_unavailable)),
        ("collisionCount", number(status.collision_count)),
    ] {
        not_negative(count, STATUS.child(name), errors);
    }
    counts::collisions_only_grow(status.collision_count, old.collision_count, errors);
}

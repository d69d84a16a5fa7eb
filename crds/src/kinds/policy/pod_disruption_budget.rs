//! PodDisruptionBudget (policy/v1).

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use serde_json::{Value, json};

use crate::{
    condition,
    field::{self, Error, Errors, Path},
    given::Items,
    kind::{AGE, About, Generation, Kind, NAME, Request, Subresource, column, text},
    percent,
    selector::validate::label_selector,
    table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");

impl Kind for PodDisruptionBudget {
    const ABOUT: About = About {
        short_names: &["pdb"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Min Available", "string", "", 0, text("The minimum number of pods that must be available.")),
            column("Max Unavailable", "string", "", 0, text("The maximum number of pods that may be unavailable.")),
            column(
                "Allowed Disruptions",
                "integer",
                "",
                0,
                text("Calculated number of pods that may be disrupted at this time."),
            ),
            AGE,
        ],
        generation: Generation::Spec,
        unconditional_update: false,
        checks_metadata: false,
        checks_changes: false,
        ..About::new("poddisruptionbudgets", "poddisruptionbudget")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::path_segment(name)
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(PodDisruptionBudgetStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_update(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        let Some(status) = &self.status else {
            return;
        };
        condition::validate(status.conditions.items(), &STATUS.child("conditions"), errors);
        for (field, number) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            field::not_negative(number.unwrap_or(0), STATUS.child(field), errors);
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let number = |value: Option<&_>| value.map_or_else(|| "N/A".to_owned(), percent::text);
        vec![
            json!(self.metadata.name),
            json!(number(spec.min_available.as_ref())),
            json!(number(spec.max_unavailable.as_ref())),
            json!(self.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate(budget: &PodDisruptionBudget, errors: &mut Errors) {
    let Some(spec) = &budget.spec else {
        return;
    };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(SPEC, "", why).showing_struct(spec, "io.k8s.api.policy.v1.PodDisruptionBudgetSpec"));
    }
    for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
        if let Some(value) = value {
            percent::validate(value, &SPEC.child(field), errors);
            percent::at_most_all(value, &SPEC.child(field), errors);
        }
    }
    label_selector(spec.selector.as_ref(), &SPEC.child("selector"), errors);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref().filter(|p| !policies.contains(p)) {
        errors.push(Error::not_supported(SPEC.child("unhealthyPodEvictionPolicy"), policy, &policies));
    }
}

//! ValidatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1).

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use serde_json::{Value, json};

use super::{policy, webhook};
use crate::{
    field::{Error, Errors, Path},
    kind::{AGE, About, Generation, Kind, NAME, Request, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

impl Kind for ValidatingAdmissionPolicyBinding {
    const ABOUT: About = About {
        categories: &["api-extensions"],
        columns: &[
            NAME,
            column(
                "PolicyName",
                "string",
                "",
                0,
                text("PolicyName indicates the policy definition which the policy binding binded to"),
            ),
            column(
                "ParamRef",
                "string",
                "",
                0,
                text("ParamRef indicates the param resource which sets the configuration param"),
            ),
            AGE,
        ],
        generation: Generation::Spec,
        unconditional_update: false,
        checks_changes: false,
        ..About::new("validatingadmissionpolicybindings", "validatingadmissionpolicybinding")
    };

    fn set_defaults(&mut self) {
        policy::set_defaults(&mut self.spec.match_resources);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let spec = &self.spec;
        policy::validate_policy_name(&spec.policy_name, &SPEC.child("policyName"), errors);
        if let Some(param) = &spec.param_ref {
            policy::validate_param_ref(param, &SPEC.child("paramRef"), errors);
        }
        if let Some(resources) = &spec.match_resources {
            policy::validate_resources(resources, &SPEC.child("matchResources"), errors);
        }
        validate_actions(&spec.validation_actions, &SPEC.child("validationActions"), errors);
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        webhook::name_warning(self.metadata.name.as_deref())
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            json!(self.metadata.name),
            json!(self.spec.policy_name),
            json!(policy::param_cell(self.spec.param_ref.as_ref())),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_actions(actions: &[String], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, action) in actions.iter().enumerate() {
        let path = path.index(i);
        webhook::one_of(Some(action), ACTIONS, &path, errors);
        if !seen.insert(action) {
            errors.push(Error::duplicate(path, action.as_str()));
        }
    }
    let has = |wanted: &str| actions.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(Error::invalid(*path, actions, why));
    }
    if actions.is_empty() {
        errors.push(Error::required(*path, "at least one validation action is required"));
    }
}

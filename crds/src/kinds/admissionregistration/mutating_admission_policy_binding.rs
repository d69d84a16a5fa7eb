//! MutatingAdmissionPolicyBinding (admissionregistration.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;
use serde_json::{Value, json};

use super::{policy, rule, webhook};
use crate::{
    field::{Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Request, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for MutatingAdmissionPolicyBinding {
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
        ..About::new("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding")
    };

    fn set_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            policy::set_defaults(&mut spec.match_resources);
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let none = Default::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        policy::validate_policy_name(spec.policy_name.text(), &SPEC.child("policyName"), errors);
        if let Some(param) = &spec.param_ref {
            policy::validate_param_ref(param, &SPEC.child("paramRef"), errors);
        }
        if let Some(resources) = &spec.match_resources {
            let path = SPEC.child("matchResources");
            policy::validate_resources(resources, &path, errors);
            rule::validate_mutable(resources.resource_rules.items(), &path.child("resourceRules"), errors);
        }
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        webhook::name_warning(self.metadata.name.as_deref())
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        vec![
            json!(self.metadata.name),
            json!(spec.map_or("", |spec| spec.policy_name.text())),
            json!(policy::param_cell(spec.and_then(|spec| spec.param_ref.as_ref()))),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

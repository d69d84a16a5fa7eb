//! MutatingAdmissionPolicy (admissionregistration.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicySpec, Mutation};
use serde_json::{Value, json};

use super::{condition, expression::Scope, policy, rule, webhook};
use crate::{
    equal,
    field::{Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Request, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const PATCH_TYPES: &[&str] = &["ApplyConfiguration", "JSONPatch"];

impl Kind for MutatingAdmissionPolicy {
    const ABOUT: About = About {
        categories: &["api-extensions"],
        columns: &[
            NAME,
            column(
                "Mutations",
                "integer",
                "",
                0,
                text("Mutation indicates the number of mutations rules defined in this configuration"),
            ),
            column(
                "ParamKind",
                "string",
                "",
                0,
                text("ParamKind specifies the kind of resources used to parameterize this policy"),
            ),
            AGE,
        ],
        generation: Generation::Spec,
        unconditional_update: false,
        checks_changes: false,
        ..About::new("mutatingadmissionpolicies", "mutatingadmissionpolicy")
    };

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        policy::set_defaults(&mut spec.match_constraints);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(self, None, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate_spec(self, Some(old), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        webhook::name_warning(self.metadata.name.as_deref())
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        vec![
            json!(self.metadata.name),
            json!(spec.map_or(0, |spec| spec.mutations.items().len())),
            json!(policy::param_kind_cell(spec.and_then(|spec| spec.param_kind.as_ref()))),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_spec(object: &MutatingAdmissionPolicy, old: Option<&MutatingAdmissionPolicy>, errors: &mut Errors) {
    let none = MutatingAdmissionPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&none);
    policy::validate_failure_policy(spec.failure_policy.as_deref(), &SPEC.child("failurePolicy"), errors);
    if let Some(kind) = &spec.param_kind {
        policy::validate_param_kind(kind, &SPEC.child("paramKind"), errors);
    }
    let path = SPEC.child("matchConstraints");
    policy::validate_constraints(spec.match_constraints.as_ref(), &path, errors);
    if let Some(constraints) = &spec.match_constraints {
        rule::validate_mutable(constraints.resource_rules.items(), &path.child("resourceRules"), errors);
    }
    let kept = old.map(|old| old.spec.as_ref().unwrap_or(&none)).is_some_and(|old| {
        equal::same(&(&old.param_kind, &old.match_conditions), &(&spec.param_kind, &spec.match_conditions))
    });
    if !kept {
        condition::validate(
            spec.match_conditions.items(),
            spec.param_kind.is_some(),
            &SPEC.child("matchConditions"),
            errors,
        );
    }
    let mut scope = Scope::with_variables(spec.param_kind.is_some());
    policy::validate_variables(spec.variables.items(), &mut scope, &SPEC.child("variables"), errors);
    let list = SPEC.child("mutations");
    if spec.mutations.items().is_empty() {
        errors.push(Error::required(list, "mutations must contain at least one item"));
    }
    for (i, mutation) in spec.mutations.items().iter().enumerate() {
        validate_mutation(mutation, &scope, &list.index(i), errors);
    }
    let path = SPEC.child("reinvocationPolicy");
    match spec.reinvocation_policy.text() {
        "" => errors.push(Error::required(path, "")),
        policy => webhook::one_of(Some(policy), webhook::REINVOCATION_POLICIES, &path, errors),
    }
}

fn validate_mutation(mutation: &Mutation, scope: &Scope, path: &Path, errors: &mut Errors) {
    let apply = ("applyConfiguration", mutation.apply_configuration.as_ref().map(|apply| apply.expression.text()));
    let json = ("jsonPatch", mutation.json_patch.as_ref().map(|patch| patch.expression.text()));
    let ((wanted, expression), (other, unwanted)) = match mutation.patch_type.as_str() {
        "" => return errors.push(Error::required(path.child("patchType"), "")),
        "JSONPatch" => (json, apply),
        "ApplyConfiguration" => (apply, json),
        unknown => return errors.push(Error::not_supported(path.child("patchType"), unknown, PATCH_TYPES)),
    };
    let when = format!("specified when patchType is {}", mutation.patch_type);
    let wanted_path = path.child(wanted);
    match expression {
        None => errors.push(Error::required(wanted_path, format!("must be {when}"))),
        Some(expression) if expression.trim().is_empty() => {
            errors.push(Error::required(wanted_path.child("expression"), ""));
        }
        Some(expression) if wanted == "jsonPatch" => {
            scope.patches(expression, &wanted_path.child("expression"), errors);
        }
        Some(expression) => scope.configuration(expression, &wanted_path.child("expression"), errors),
    }
    if unwanted.is_some() {
        errors.push(Error::invalid(path.child(other), format!("{{{other}}}"), format!("must not be {when}")));
    }
}

//! ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1).

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ExpressionWarning, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
    ValidatingAdmissionPolicyStatus, Validation,
};
use serde_json::{Value, json};

use super::{condition, expression::Scope, policy, webhook};
use crate::{
    condition as conditions, equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Generation, Kind, NAME, Request, Subresource, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ANNOTATIONS_MAX: usize = 20;
const VALUE_LENGTH_MAX: usize = 5 << 10;

impl Kind for ValidatingAdmissionPolicy {
    const ABOUT: About = About {
        categories: &["api-extensions"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Validations",
                "integer",
                "",
                0,
                text("Validations indicates the number of validation rules defined in this configuration"),
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
        ..About::new("validatingadmissionpolicies", "validatingadmissionpolicy")
    };

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        policy::set_defaults(&mut spec.match_constraints);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ValidatingAdmissionPolicyStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(self, None, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate_spec(self, Some(old), errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        let Some(status) = &self.status else { return };
        let path = STATUS.child("typeChecking");
        let list = path.child("expressionWarnings");
        let warnings = status.type_checking.as_ref().map(|types| types.expression_warnings.items());
        for (i, warning) in warnings.unwrap_or_default().iter().enumerate() {
            validate_warning(warning, &list.index(i), errors);
        }
        conditions::validate(status.conditions.items(), &STATUS.child("conditions"), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        webhook::name_warning(self.metadata.name.as_deref())
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.as_ref();
        vec![
            json!(self.metadata.name),
            json!(spec.map_or(0, |spec| spec.validations.items().len())),
            json!(policy::param_kind_cell(spec.and_then(|spec| spec.param_kind.as_ref()))),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_spec(object: &ValidatingAdmissionPolicy, old: Option<&ValidatingAdmissionPolicy>, errors: &mut Errors) {
    let none = ValidatingAdmissionPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&none);
    policy::validate_failure_policy(spec.failure_policy.as_deref(), &SPEC.child("failurePolicy"), errors);
    if let Some(kind) = &spec.param_kind {
        policy::validate_param_kind(kind, &SPEC.child("paramKind"), errors);
    }
    policy::validate_constraints(spec.match_constraints.as_ref(), &SPEC.child("matchConstraints"), errors);
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
    let (variables, has_params) = (spec.variables.items(), spec.param_kind.is_some());
    let mut scope = if variables.is_empty() { Scope::plain(has_params) } else { Scope::with_variables(has_params) };
    policy::validate_variables(variables, &mut scope, &SPEC.child("variables"), errors);
    let (validations, annotations) = (SPEC.child("validations"), SPEC.child("auditAnnotations"));
    if spec.validations.items().is_empty() && spec.audit_annotations.items().is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.extend([validations, annotations].map(|path| Error::required(path, why)));
        return;
    }
    for (i, validation) in spec.validations.items().iter().enumerate() {
        validate_validation(validation, &scope, &validations.index(i), errors);
    }
    let name = object.metadata.name.text();
    validate_annotations(spec.audit_annotations.items(), name, &scope, &annotations, errors);
}

fn validate_validation(validation: &Validation, scope: &Scope, path: &Path, errors: &mut Errors) {
    const EMPTY: &str = "must be non-empty if specified";
    let expression_path = path.child("expression");
    match validation.expression.as_str() {
        blank if blank.trim().is_empty() => {
            errors.push(Error::required(expression_path, "expression is not specified"));
        }
        expression => scope.condition(expression, &expression_path, errors),
    }
    let expression = validation.message_expression.text();
    if !expression.is_empty() && expression.trim().is_empty() {
        errors.push(Error::invalid(path.child("messageExpression"), expression, EMPTY));
    } else if !expression.is_empty() {
        scope.message(expression, &path.child("messageExpression"), errors);
    }
    let (message, message_path) = (validation.message.text(), path.child("message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(Error::invalid(message_path, message, EMPTY));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(Error::invalid(message_path, message, "must not contain line breaks"));
    }
    webhook::one_of(validation.reason.as_deref(), REASONS, &path.child("reason"), errors);
}

fn validate_annotations(annotations: &[AuditAnnotation], name: &str, scope: &Scope, path: &Path, errors: &mut Errors) {
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        let wrong = Error::invalid(*path, "", why);
        errors.push(wrong.showing_struct(annotations, "[]io.k8s.api.admissionregistration.v1.AuditAnnotation"));
    }
    let mut seen = HashSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let path = path.index(i);
        let (key_path, key) = (path.child("key"), annotation.key.as_str());
        if name.is_empty() {
            errors.push(Error::invalid(key_path, key, "requires metadata.name be non-empty"));
        } else {
            let full = format!("{name}/{key}");
            extend(errors, key_path, &full, field::qualified_name(&full));
        }
        let (value_path, value) = (path.child("valueExpression"), annotation.value_expression.trim());
        if value.is_empty() {
            errors.push(Error::required(value_path, "valueExpression is not specified"));
        } else if value.len() > VALUE_LENGTH_MAX {
            errors.push(Error::required(value_path, format!("must not exceed {VALUE_LENGTH_MAX} bytes in length")));
        } else {
            scope.annotation(value, &annotation.value_expression, &value_path, errors);
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(key_path, key));
        }
    }
}

fn validate_warning(warning: &ExpressionWarning, path: &Path, errors: &mut Errors) {
    for (name, value) in [("warning", warning.warning.as_str()), ("fieldRef", warning.field_ref.trim())] {
        if value.is_empty() {
            errors.push(Error::required(path.child(name), ""));
        }
    }
}

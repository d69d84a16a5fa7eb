//! The decisions of one policy about one request with one parameter: pure.

use crds::cel::{self, Env, MATCH_LIMIT, Value};
use k8s_openapi::api::admissionregistration::v1::{AuditAnnotation, Validation as Given};
use serde_json::Value as Json;

use super::Validating;
use crate::admission::expression::{Expression, Input, Run};

/// Longer messages are not shown.
const MESSAGE_BYTES_MAX: usize = 5 << 10;

/// Something that must hold.
pub struct Validation {
    expression: Expression,
    message_expression: Option<Expression>,
    message: String,
    reason: String,
}

impl Validation {
    pub fn new(env: &Env, message_env: &Env, given: &Given) -> Self {
        let message = given.message_expression.as_deref().filter(|source| !source.is_empty());
        Self {
            expression: Expression::new(env, &given.expression),
            message_expression: message.map(|source| Expression::new(message_env, source)),
            message: given.message.clone().unwrap_or_default(),
            reason: given.reason.clone().unwrap_or_default(),
        }
    }
}

/// Something that the audit is told.
pub struct Annotation {
    key: String,
    value: Expression,
}

impl Annotation {
    pub fn new(env: &Env, given: &AuditAnnotation) -> Self {
        Self { key: given.key.clone(), value: Expression::new(env, &given.value_expression) }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Admit,
    Deny {
        message: String,
        /// Empty: Invalid.
        reason: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Annotated {
    Nothing,
    Publish(String, String),
    Failed(String),
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotated>,
}

pub(super) fn evaluate(
    of: &Validating,
    input: &Input,
    params: Option<&Json>,
    authorizer: &cel::Authorizer,
    budget: u64,
) -> Outcome {
    let policy = &of.policy;
    let failed = |message: String| match policy.ignores_failure {
        true => Decision::Admit,
        false => Decision::Deny { message, reason: String::new() },
    };
    let alone = |decision: Decision| Outcome { decisions: vec![decision], annotations: Vec::new() };
    let with_authorizer = || input.bindings(params, Some(authorizer));
    if !policy.conditions.is_empty() {
        let mut run = Run::new(with_authorizer(), &policy.named, MATCH_LIMIT);
        match policy.conditions.hold(&mut run, policy.ignores_failure) {
            Ok(true) => {}
            Ok(false) => return Outcome::default(),
            Err(why) => return alone(failed(why)),
        }
    }
    let mut run = Run::new(with_authorizer(), &policy.named, budget);
    let mut values = Vec::with_capacity(of.validations.len());
    for validation in &of.validations {
        match run.evaluate(&validation.expression) {
            Ok(value) => values.push(value),
            Err(over) => return alone(failed(over.to_string())),
        }
    }
    let mut messages = Run::new(input.bindings(params, None), &policy.named, run.budget());
    let mut told = Vec::with_capacity(values.len());
    let mut over = None;
    for validation in &of.validations {
        let message =
            validation.message_expression.as_ref().map(|expression| messages.evaluate(expression)).transpose();
        match message {
            Ok(message) => told.push(message.and_then(Result::ok).and_then(|value| shown(&value))),
            Err(why) => {
                over = Some(why);
                break;
            }
        }
    }
    let decide = |(at, (validation, value)): (usize, (&Validation, &Result<Value<'_>, String>))| match value {
        Err(why) => failed(why.clone()),
        Ok(_) if over.is_some() => {
            failed(format!("failed messageExpression: {}", over.as_ref().map(ToString::to_string).unwrap_or_default()))
        }
        Ok(value) if value.as_bool() == Some(true) => Decision::Admit,
        Ok(_) => {
            let own = Some(validation.message.trim().to_owned()).filter(|message| !message.is_empty());
            let expression = || format!("failed expression: {}", validation.expression.source().trim());
            let message = told.get(at).cloned().flatten().or(own).unwrap_or_else(expression);
            Decision::Deny { message, reason: validation.reason.clone() }
        }
    };
    let decisions = of.validations.iter().zip(&values).enumerate().map(decide).collect();
    let mut run = Run::new(input.bindings(params, None), &policy.named, budget);
    let mut annotations = Vec::with_capacity(of.annotations.len());
    for annotation in &of.annotations {
        match run.evaluate(&annotation.value) {
            Ok(value) => annotations.push(annotated(annotation, value, policy.ignores_failure)),
            Err(over) => return alone(failed(over.to_string())),
        }
    }
    Outcome { decisions, annotations }
}

/// What a message expression says, if it can be shown.
fn shown(value: &Value<'_>) -> Option<String> {
    let message = value.as_str()?.trim();
    let fits = !message.is_empty() && message.len() <= MESSAGE_BYTES_MAX && !message.contains('\n');
    fits.then(|| message.to_owned())
}

fn annotated(annotation: &Annotation, value: Result<Value<'_>, String>, ignores_failure: bool) -> Annotated {
    match value {
        Err(_) if ignores_failure => Annotated::Nothing,
        Err(why) => Annotated::Failed(why),
        Ok(Value::Null) => Annotated::Nothing,
        Ok(value) => match value.as_str().map(str::trim) {
            Some("") => Annotated::Nothing,
            Some(text) => Annotated::Publish(annotation.key.clone(), text.to_owned()),
            None => Annotated::Failed(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or \
                 null.",
                annotation.value.source(),
                value.type_of().name()
            )),
        },
    }
}

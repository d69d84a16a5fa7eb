//! ValidatingAdmissionPolicy: expressions that say whether a request is let through, warned about or told to the audit.

use std::{collections::BTreeMap, sync::Arc};

use crds::cel::{self, OBJECT_LIMIT, admission};
use futures::future::BoxFuture;
use http::StatusCode;
use k8s_openapi::{
    api::admissionregistration::v1::{
        ValidatingAdmissionPolicy as Definition, ValidatingAdmissionPolicyBinding as BindingDefinition,
    },
    apimachinery::pkg::apis::meta::v1::StatusCause,
};
use serde_json::{Value, json};

use super::{
    Attributes, Plugin,
    expression::{self, Input},
    policy::{self, Binding, Compile, Policies, Policy},
    webhook,
};
use crate::{
    authorize::Authorize,
    error::{ApiError, Result},
    world::World,
};

mod evaluate;

pub use evaluate::{Annotated, Annotation, Decision, Validation};

const AUDIT_KEY: &str = "validation.policy.admission.k8s.io/validation_failure";
const ANNOTATION_BYTES_MAX: usize = 10 << 10;

pub struct ValidatingAdmissionPolicy {
    authorizer: Arc<dyn Authorize>,
    policies: Policies<Definition, BindingDefinition>,
}

impl ValidatingAdmissionPolicy {
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer, policies: Policies::default() }
    }
}

/// A policy, compiled.
pub struct Validating {
    policy: Policy,
    validations: Vec<Validation>,
    annotations: Vec<Annotation>,
}

impl AsRef<Policy> for Validating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

impl Compile for Definition {
    type Compiled = Validating;

    fn compile(self, name: &str) -> Validating {
        let spec = self.spec.unwrap_or_default();
        let variables = spec.variables.unwrap_or_default();
        let has_params = spec.param_kind.is_some();
        let (policy, env) = Policy::new(
            name,
            spec.match_constraints,
            spec.param_kind,
            spec.failure_policy.as_deref(),
            &variables,
            &spec.match_conditions.unwrap_or_default(),
        );
        let message_env = policy.named.known_to(admission::env(has_params, false));
        let validations = spec.validations.unwrap_or_default();
        let annotations = spec.audit_annotations.unwrap_or_default();
        Validating {
            validations: validations.iter().map(|v| Validation::new(&env, &message_env, v)).collect(),
            annotations: annotations.iter().map(|a| Annotation::new(&env, a)).collect(),
            policy,
        }
    }
}

impl Compile for BindingDefinition {
    type Compiled = Binding;

    fn compile(self, name: &str) -> Binding {
        let spec = self.spec;
        let (policy, actions) = (Some(spec.policy_name), Some(spec.validation_actions));
        Binding::new(name, policy, spec.match_resources, spec.param_ref, actions)
    }
}

/// A refusal of a policy.
struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        !webhook::is_exempt(attributes)
    }

    fn changes(&self) -> bool {
        false
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let policies = self.policies.current(world);
            if policies.is_empty() {
                return Ok(());
            }
            let authorizer = expression::authorizer(&self.authorizer, attributes);
            let mut denied = Vec::new();
            for (policy, bindings) in policies {
                // On the heap: most requests come here for nothing, and the rest of it is large.
                Box::pin(judge(&policy, &bindings, attributes, &authorizer, &mut denied, world)).await?;
            }
            denied.into_iter().next().map_or(Ok(()), |denied| Err(refusal(attributes, denied)))
        })
    }
}

/// Evaluates one policy with all of its bindings.
async fn judge(
    validating: &Validating,
    bindings: &[Arc<Binding>],
    attributes: &mut Attributes,
    authorizer: &cel::Authorizer,
    denied: &mut Vec<Denied>,
    world: &World,
) -> Result<()> {
    let policy = &validating.policy;
    let misconfigured = |binding: Option<&Binding>, why: String| {
        let what = if binding.is_some() { "binding" } else { "policy" };
        (!policy.ignores_failure).then(|| Denied {
            policy: policy.name.clone(),
            binding: binding.map(|binding| binding.name.clone()),
            message: format!("failed to configure {what}: {why}"),
            reason: String::new(),
        })
    };
    let matched = match policy.matched(attributes, world).await {
        Ok(None) => return Ok(()),
        Ok(Some(matched)) => matched,
        Err(error) => {
            denied.extend(misconfigured(None, error.to_string()));
            return Ok(());
        }
    };
    if let Some(why) = policy.misconfigured(world) {
        denied.extend(misconfigured(None, why));
        return Ok(());
    }
    let mut input = None;
    let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for binding in bindings {
        match binding.matches(attributes, world).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                denied.extend(misconfigured(Some(binding), error.to_string()));
                continue;
            }
        }
        let kind = policy.param_kind.as_ref();
        let params = policy::collect(kind, binding.param_ref.as_ref(), &attributes.namespace, world);
        let params = match params {
            Ok(params) => params,
            Err(why) => {
                denied.extend(misconfigured(Some(binding), why));
                continue;
            }
        };
        if params.is_empty() {
            continue;
        }
        let input: &Input = match &mut input {
            Some(input) => input,
            none => match Input::new(attributes, &matched, world).await {
                Ok(made) => none.insert(made.with_namespace(attributes, world).await?),
                Err(error) => {
                    denied.extend(misconfigured(Some(binding), format!("failed to convert object version: {error}")));
                    continue;
                }
            },
        };
        for params in &params {
            let result = validating.evaluate(input, params.as_ref(), authorizer);
            for (index, decision) in result.decisions.into_iter().enumerate() {
                act(policy, binding, index, decision, attributes, denied);
            }
            for annotation in result.annotations {
                match annotation {
                    Annotated::Nothing => {}
                    Annotated::Publish(key, value) => {
                        let values = annotations.entry(key).or_default();
                        let value = cut(value);
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                    Annotated::Failed(message) => denied.push(Denied {
                        policy: policy.name.clone(),
                        binding: Some(binding.name.clone()),
                        message,
                        reason: String::new(),
                    }),
                }
            }
        }
    }
    for (key, values) in annotations {
        attributes.audit_annotations.insert(format!("{}/{key}", policy.name), values.join(", "));
    }
    Ok(())
}

fn cut(mut value: String) -> String {
    let mut end = value.len().min(ANNOTATION_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.truncate(end);
    value
}

/// Does what the binding says should be done about a decision.
fn act(
    policy: &Policy,
    binding: &Binding,
    index: usize,
    decision: Decision,
    attributes: &mut Attributes,
    denied: &mut Vec<Denied>,
) {
    let Decision::Deny { message, reason } = decision else { return };
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => denied.push(Denied {
                policy: policy.name.clone(),
                binding: Some(binding.name.clone()),
                message: message.clone(),
                reason: reason.clone(),
            }),
            "Audit" => {
                let failure = json!([{
                    "message": message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": index,
                    "validationActions": binding.actions,
                }]);
                attributes.audit_annotations.insert(AUDIT_KEY.to_owned(), failure.to_string());
            }
            "Warn" => attributes.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                policy.name, binding.name
            )),
            _ => {}
        }
    }
}

fn refusal(attributes: &Attributes, denied: Denied) -> ApiError {
    let with = denied.binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
    let message = format!("ValidatingAdmissionPolicy '{}'{with} denied request: {}", denied.policy, denied.message);
    let reason = if denied.reason.is_empty() { "Invalid" } else { &denied.reason };
    let code = match reason {
        "Forbidden" => StatusCode::FORBIDDEN,
        "Unauthorized" => StatusCode::UNAUTHORIZED,
        "RequestEntityTooLarge" => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let cause = StatusCause { message: Some(message.clone()), ..StatusCause::default() };
    attributes.forbidden(message).coded(code, reason).with_cause(cause)
}

impl Validating {
    fn evaluate(&self, input: &Input, params: Option<&Value>, authorizer: &cel::Authorizer) -> evaluate::Outcome {
        evaluate::evaluate(self, input, params, authorizer, OBJECT_LIMIT)
    }
}

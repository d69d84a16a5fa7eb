//! MutatingAdmissionPolicy: expressions that change what is written, each seeing what those before it have made.

use std::sync::Arc;

use crds::cel::{self, MATCH_LIMIT};
use futures::future::BoxFuture;
use k8s_openapi::{
    api::admissionregistration::v1::{
        MutatingAdmissionPolicy as Definition, MutatingAdmissionPolicyBinding as BindingDefinition,
    },
    apimachinery::pkg::apis::meta::v1::StatusCause,
};
use serde_json::Value;

use super::{
    Attributes, Operation, Plugin,
    expression::{self, Input, Run},
    policy::{self, Binding, Compile, Policies, Policy},
    rule::Matched,
    version::{convert_some, set_defaults},
    webhook,
};
use crate::{
    authorize::Authorize,
    error::{ApiError, Result},
    metadata,
    world::World,
};

mod mutation;

use mutation::Mutation;

const NAME: &str = "MutatingAdmissionPolicy";

pub struct MutatingAdmissionPolicy {
    authorizer: Arc<dyn Authorize>,
    policies: Policies<Definition, BindingDefinition>,
}

impl MutatingAdmissionPolicy {
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer, policies: Policies::default() }
    }
}

/// A policy, compiled.
pub struct Mutating {
    policy: Policy,
    is_reinvocable: bool,
    mutations: Vec<Mutation>,
}

impl AsRef<Policy> for Mutating {
    fn as_ref(&self) -> &Policy {
        &self.policy
    }
}

impl Compile for Definition {
    type Compiled = Mutating;

    fn compile(self, name: &str) -> Mutating {
        let spec = self.spec.unwrap_or_default();
        let (policy, env) = Policy::new(
            name,
            spec.match_constraints,
            spec.param_kind,
            spec.failure_policy.as_deref(),
            &spec.variables.unwrap_or_default(),
            &spec.match_conditions.unwrap_or_default(),
        );
        let env = env.patches();
        let mutations = spec.mutations.unwrap_or_default();
        Mutating {
            policy,
            is_reinvocable: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
            mutations: mutations.into_iter().filter_map(|mutation| Mutation::new(&env, mutation)).collect(),
        }
    }
}

impl Compile for BindingDefinition {
    type Compiled = Binding;

    fn compile(self, name: &str) -> Binding {
        let spec = self.spec.unwrap_or_default();
        Binding::new(name, spec.policy_name, spec.match_resources, spec.param_ref, None)
    }
}

/// A policy to be carried out with one binding and one parameter.
struct Invocation {
    mutating: Arc<Mutating>,
    binding: Arc<Binding>,
    matched: Matched,
    params: Option<Value>,
}

impl Invocation {
    /// What tells it from others in a second round.
    fn id(&self) -> String {
        let part = |name: &str| self.params.as_ref().map_or("", |params| metadata::text(params, name));
        let (policy, binding) = (&self.mutating.policy.name, &self.binding.name);
        format!("{policy}/{binding}/{}/{}", part("namespace"), part("name"))
    }
}

/// Something that is wrong with a policy.
struct Failure {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: &'static str,
}

impl Failure {
    fn told(&self) -> String {
        match &self.binding {
            Some(binding) => {
                format!("policy '{}' with binding '{binding}' denied request: {}", self.policy, self.message)
            }
            None => format!("policy {:?} denied request: {}", self.policy, self.message),
        }
    }
}

impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Delete && !webhook::is_exempt(attributes)
    }

    // Defaults are set after each mutation.
    fn changes(&self) -> bool {
        false
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let policies = self.policies.current(world);
            if policies.is_empty() {
                return Ok(());
            }
            let mut failures = Vec::new();
            // On the heap: most requests come here for nothing, and the rest of it is large.
            let invocations = Box::pin(invocations(policies, attributes, &mut failures, world)).await;
            if !invocations.is_empty() {
                let authorizer = expression::authorizer(&self.authorizer, attributes);
                attributes.reinvocation.enter(NAME, attributes.object.as_ref());
                let dispatched = Box::pin(dispatch(&invocations, attributes, &authorizer, &mut failures, world)).await;
                attributes.reinvocation.leave(NAME, attributes.object.as_ref());
                dispatched?;
            }
            refusal(attributes, &failures).map_or(Ok(()), Err)
        })
    }
}

/// What is to be carried out, and what cannot be.
async fn invocations(
    policies: Vec<(Arc<Mutating>, Vec<Arc<Binding>>)>,
    attributes: &Attributes,
    failures: &mut Vec<Failure>,
    world: &World,
) -> Vec<Invocation> {
    let mut invocations = Vec::new();
    for (mutating, bindings) in policies {
        let policy = &mutating.policy;
        let mut failed = |binding: Option<&Binding>, why: String| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            failures.extend((!policy.ignores_failure).then(|| Failure {
                policy: policy.name.clone(),
                binding: binding.map(|binding| binding.name.clone()),
                message: format!("failed to configure {what}: {why}"),
                reason: "",
            }));
        };
        let matched = match policy.matched(attributes, world).await {
            Ok(None) => continue,
            Ok(Some(matched)) => matched,
            Err(error) => {
                failed(None, error.to_string());
                continue;
            }
        };
        if let Some(why) = policy.misconfigured(world) {
            failed(None, why);
            continue;
        }
        for binding in bindings {
            match binding.matches(attributes, world).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    failed(Some(&binding), error.to_string());
                    continue;
                }
            }
            let kind = policy.param_kind.as_ref();
            match policy::collect(kind, binding.param_ref.as_ref(), &attributes.namespace, world) {
                Err(why) => failed(Some(&binding), why),
                Ok(params) => invocations.extend(params.into_iter().map(|params| Invocation {
                    mutating: mutating.clone(),
                    binding: binding.clone(),
                    matched: matched.clone(),
                    params,
                })),
            }
        }
    }
    invocations
}

async fn dispatch(
    invocations: &[Invocation],
    attributes: &mut Attributes,
    authorizer: &cel::Authorizer,
    failures: &mut Vec<Failure>,
    world: &World,
) -> Result<()> {
    let mut touched = false;
    for invocation in invocations {
        let (mutating, id) = (&invocation.mutating, invocation.id());
        let policy = &mutating.policy;
        let mut failed = |message: String| {
            failures.extend((!policy.ignores_failure).then(|| Failure {
                policy: policy.name.clone(),
                binding: Some(invocation.binding.name.clone()),
                message,
                reason: "Invalid",
            }));
        };
        let mut input =
            Input::new(attributes, &invocation.matched, world).await?.with_namespace(attributes, world).await?;
        if !policy.conditions.is_empty() {
            let bindings = input.bindings(invocation.params.as_ref(), Some(authorizer));
            let mut run = Run::new(bindings, &policy.named, MATCH_LIMIT);
            match policy.conditions.hold(&mut run, policy.ignores_failure) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    failed(why);
                    continue;
                }
            }
        }
        if !attributes.reinvocation.calls(NAME, &id) {
            continue;
        }
        let before = input.object.clone();
        for mutation in &mutating.mutations {
            if input.object.is_none() {
                continue;
            }
            match mutation.mutated(&input, invocation, authorizer) {
                Ok(mut object) => {
                    set_defaults(&mut object, &invocation.matched.kind, world)?;
                    input.object = Some(object);
                    touched = true;
                }
                Err(mutation::Failed::Evaluation(why)) => failed(why),
                Err(mutation::Failed::Request(error)) => return Err(error),
            }
        }
        if input.object != before {
            let kind = &invocation.matched.kind;
            attributes.object = convert_some(input.object.as_ref(), kind, &attributes.kind, world).await?;
            attributes.sent = Arc::new(attributes.sent.read_again());
            attributes.reinvocation.changed(NAME);
        }
        if mutating.is_reinvocable {
            attributes.reinvocation.called(NAME, &id);
        }
    }
    // As upstream: whoever may be called again is, once anything was mutated at all.
    if touched {
        attributes.reinvocation.changed(NAME);
    }
    Ok(())
}

/// The first failure's words and reason, with all of them as causes.
fn refusal(attributes: &Attributes, failures: &[Failure]) -> Option<ApiError> {
    let first = failures.first()?;
    let mut error = attributes.forbidden("admission request denied by policy").worded(first.told());
    if !first.reason.is_empty() {
        let code = error.code();
        error = error.coded(code, first.reason);
    }
    let cause = |failure: &Failure| StatusCause { message: Some(failure.told()), ..StatusCause::default() };
    Some(failures.iter().map(cause).fold(error, ApiError::with_cause))
}

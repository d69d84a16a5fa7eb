//! What the two webhook plugins have in common: their configurations, whom they call, and what an answer means.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use crds::cel::{MATCH_LIMIT, admission};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhook, ValidatingWebhookConfiguration,
};

use super::{
    Attributes,
    expression::{self, Conditions, Input, Named, Run},
    rule::{self, Matched, Rule},
    select::Selectors,
};
use crate::{
    authorize::Authorize,
    cache::Object,
    error::{ApiError, Result, Subject},
    webhook::Webhook,
    world::World,
};

mod call;
mod review;

pub use call::{Answer, CallFailure, Question};
pub use review::request_of;

/// As long as upstream lets a whole request take.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(34);
const TIMEOUT_SECONDS: u64 = 10;

/// One webhook of a configuration.
#[derive(Debug)]
pub struct Hook {
    pub configuration: String,
    pub name: String,
    /// `configuration/name/n`, unique among all.
    pub id: String,
    pub ignores_failure: bool,
    /// To be called again if the object changes after it.
    pub is_reinvocable: bool,
    webhook: Webhook,
    rules: Vec<Rule>,
    equivalent: bool,
    selectors: Selectors,
    conditions: Conditions,
    allows_dry_run: bool,
    timeout: Duration,
    /// None: it takes no form of review that we know.
    version: Option<review::Version>,
}

impl Hook {
    fn new(configuration: &str, ordinal: usize, hook: ValidatingWebhook, is_reinvocable: bool) -> Self {
        let timeout = hook.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(TIMEOUT_SECONDS);
        Self {
            configuration: configuration.to_owned(),
            id: format!("{configuration}/{}/{ordinal}", hook.name),
            ignores_failure: hook.failure_policy.as_deref() == Some("Ignore"),
            is_reinvocable,
            webhook: Webhook::of(&hook.client_config),
            rules: hook.rules.unwrap_or_default().into_iter().map(Rule::from).collect(),
            equivalent: hook.match_policy.as_deref() == Some("Equivalent"),
            selectors: Selectors::new(hook.namespace_selector.as_ref(), hook.object_selector.as_ref()),
            conditions: Conditions::new(&admission::env(false, true), &hook.match_conditions.unwrap_or_default()),
            allows_dry_run: matches!(hook.side_effects.as_str(), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(timeout),
            version: review::Version::first(&hook.admission_review_versions),
            name: hook.name,
        }
    }

    /// What it wants to see of a request; none if the request is not its business.
    pub async fn matched(
        &self,
        attributes: &Attributes,
        authorizer: &Arc<dyn Authorize>,
        world: &World,
    ) -> Result<Option<Matched>> {
        let matched = rule::matched(&self.rules, self.equivalent, attributes, &world.registry.table());
        let Some(matched) = matched.filter(|_| self.selectors.match_object(attributes)) else { return Ok(None) };
        let selected = self.selectors.match_namespace(attributes, world).await?;
        if !selected || self.conditions.is_empty() {
            return Ok(Some(matched).filter(|_| selected));
        }
        let input = Input::new(attributes, &matched, world).await?;
        let authorizer = expression::authorizer(authorizer, attributes);
        let mut run = Run::new(input.bindings(None, Some(&authorizer)), &Named::default(), MATCH_LIMIT);
        let held = self.conditions.hold(&mut run, self.ignores_failure);
        let refused = |why| {
            let on = Subject { group: attributes.group(), resource: attributes.resource(), name: &attributes.name };
            ApiError::forbidden(on, why)
        };
        match held {
            Ok(holds) => Ok(Some(matched).filter(|_| holds)),
            Err(why) => Err(refused(why)),
        }
    }
}

/// A kind of configuration.
pub trait Configuration: crds::kind::Kind {
    fn hooks(self) -> Vec<(ValidatingWebhook, bool)>;
}

impl Configuration for ValidatingWebhookConfiguration {
    fn hooks(self) -> Vec<(ValidatingWebhook, bool)> {
        self.webhooks.unwrap_or_default().into_iter().map(|hook| (hook, false)).collect()
    }
}

impl Configuration for MutatingWebhookConfiguration {
    fn hooks(self) -> Vec<(ValidatingWebhook, bool)> {
        let hook = |hook: MutatingWebhook| {
            let is_reinvocable = hook.reinvocation_policy.as_deref() == Some("IfNeeded");
            let common = ValidatingWebhook {
                admission_review_versions: hook.admission_review_versions,
                client_config: hook.client_config,
                failure_policy: hook.failure_policy,
                match_conditions: hook.match_conditions,
                match_policy: hook.match_policy,
                name: hook.name,
                namespace_selector: hook.namespace_selector,
                object_selector: hook.object_selector,
                rules: hook.rules,
                side_effects: hook.side_effects,
                timeout_seconds: hook.timeout_seconds,
            };
            (common, is_reinvocable)
        };
        self.webhooks.unwrap_or_default().into_iter().map(hook).collect()
    }
}

fn compile<C: Configuration>(object: &Object) -> Vec<Arc<Hook>> {
    let hooks = match object.decode::<C>() {
        Ok(configuration) => configuration.hooks(),
        Err(error) => {
            tracing::error!(%error, name = %object.name, "a webhook configuration cannot be read");
            return Vec::new();
        }
    };
    let names: Vec<String> = hooks.iter().map(|(hook, _)| hook.name.clone()).collect();
    let ordinal = |at: usize| names[..at].iter().filter(|name| **name == names[at]).count();
    let hooks = hooks.into_iter().enumerate();
    hooks.map(|(at, (hook, again))| Arc::new(Hook::new(&object.name, ordinal(at), hook, again))).collect()
}

type Compiled = (Arc<Object>, Arc<[Arc<Hook>]>);

/// The hooks of all configurations of a kind, by name; each is compiled once for every version of it.
pub struct Hooks<C> {
    compiled: ArcSwap<Vec<Compiled>>,
    kind: std::marker::PhantomData<fn() -> C>,
}

impl<C> Default for Hooks<C> {
    fn default() -> Self {
        Self { compiled: ArcSwap::default(), kind: std::marker::PhantomData }
    }
}

impl<C: Configuration> Hooks<C> {
    /// As the cache has them now.
    pub fn current(&self, world: &World) -> Vec<Arc<Hook>> {
        let objects = world.cache.prefix(C::ABOUT.storage_prefix).list("");
        if objects.is_empty() {
            return Vec::new();
        }
        let known = self.compiled.load_full();
        let same = |(object, (compiled, _)): (&Arc<Object>, &Compiled)| Arc::ptr_eq(object, compiled);
        if known.len() == objects.len() && objects.iter().zip(known.iter()).all(same) {
            return known.iter().flat_map(|(_, hooks)| hooks.iter().cloned()).collect();
        }
        let compiled = objects.into_iter().map(|object| {
            let unchanged = known.iter().find(|(compiled, _)| Arc::ptr_eq(compiled, &object));
            let hooks = unchanged.map_or_else(|| compile::<C>(&object).into(), |(_, hooks)| hooks.clone());
            (object, hooks)
        });
        let compiled: Vec<Compiled> = compiled.collect();
        let hooks = compiled.iter().flat_map(|(_, hooks)| hooks.iter().cloned()).collect();
        self.compiled.store(Arc::new(compiled));
        hooks
    }
}

/// What configures webhooks and policies is never shown to them: nobody could take a wrong one back.
pub fn is_exempt(attributes: &Attributes) -> bool {
    const KINDS: [&str; 6] = [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    ];
    attributes.kind.group == "admissionregistration.k8s.io" && KINDS.contains(&&*attributes.kind.kind)
}

#[cfg(test)]
mod tests;

//! What validating and mutating policies have in common: whom they match, their bindings and parameters.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crds::{
    cel::admission,
    kind::{Gvk, Kind, split_group_version},
};
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, MatchResources, ParamKind, ParamRef, Variable};

use super::{
    Attributes,
    expression::{Conditions, Named},
    rule::{self, Matched, Rule},
    select::Selectors,
};
use crate::{cache::Object, error::Result, world::World};

mod param;

pub use param::collect;

/// Which requests a policy or a binding is about.
#[derive(Clone, Debug)]
pub struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    selectors: Selectors,
}

impl From<MatchResources> for Constraints {
    fn from(resources: MatchResources) -> Self {
        let rules = |rules: Option<Vec<_>>| rules.unwrap_or_default().into_iter().map(Rule::from).collect();
        Self {
            rules: rules(resources.resource_rules),
            excluded: rules(resources.exclude_resource_rules),
            equivalent: resources.match_policy.as_deref() == Some("Equivalent"),
            selectors: Selectors::new(resources.namespace_selector.as_ref(), resources.object_selector.as_ref()),
        }
    }
}

impl Constraints {
    /// What they want to see of a request; none if it is not their business.
    pub async fn matched(&self, attributes: &Attributes, world: &World) -> Result<Option<Matched>> {
        let table = world.registry.table();
        if !self.selectors.match_object(attributes)
            || rule::matched(&self.excluded, self.equivalent, attributes, &table).is_some()
        {
            return Ok(None);
        }
        let matched = if self.rules.is_empty() {
            Some(Matched::of(attributes))
        } else {
            rule::matched(&self.rules, self.equivalent, attributes, &table)
        };
        let Some(matched) = matched else { return Ok(None) };
        let selected = self.selectors.match_namespace(attributes, world).await?;
        Ok(Some(matched).filter(|_| selected))
    }
}

/// A policy of either kind, without what it does.
#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    constraints: Option<Constraints>,
    pub param_kind: Option<ParamKind>,
    pub ignores_failure: bool,
    pub named: Named,
    pub conditions: Conditions,
}

impl Policy {
    /// Also gives the environment of its expressions, with an authorizer.
    pub fn new(
        name: &str,
        constraints: Option<MatchResources>,
        param_kind: Option<ParamKind>,
        failure_policy: Option<&str>,
        variables: &[Variable],
        conditions: &[MatchCondition],
    ) -> (Self, crds::cel::Env) {
        let env = admission::env(param_kind.is_some(), true);
        let named = Named::new(&env, variables);
        let env = named.known_to(env);
        let conditions = Conditions::new(&env, conditions);
        let ignores_failure = failure_policy == Some("Ignore");
        let constraints = constraints.map(Constraints::from);
        (Self { name: name.to_owned(), constraints, param_kind, ignores_failure, named, conditions }, env)
    }

    pub async fn matched(&self, attributes: &Attributes, world: &World) -> Result<Option<Matched>> {
        match &self.constraints {
            Some(constraints) => constraints.matched(attributes, world).await,
            None => Ok(None),
        }
    }

    /// Why it can be used for nothing: its parameters are of a kind that is not served.
    pub fn misconfigured(&self, world: &World) -> Option<String> {
        let kind = self.param_kind.as_ref()?;
        let gvk = gvk_of(kind);
        if world.registry.kind(&gvk).is_some() {
            return None;
        }
        let version = match gvk.group.as_ref() {
            "" => format!("/{}", gvk.version),
            group => format!("{group}/{}", gvk.version),
        };
        Some(format!("failed to find resource referenced by paramKind: '{version}, Kind={}'", gvk.kind))
    }
}

fn gvk_of(kind: &ParamKind) -> Gvk {
    let api_version = kind.api_version.as_deref().unwrap_or_default();
    let (group, version) = split_group_version(api_version);
    let kind = kind.kind.clone().unwrap_or_default();
    Gvk { group: group.to_owned().into(), version: version.to_owned().into(), kind: kind.into() }
}

/// A binding of a policy of either kind.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    policy: String,
    constraints: Option<Constraints>,
    pub param_ref: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`; only of validating ones.
    pub actions: Vec<String>,
}

impl Binding {
    pub fn new(
        name: &str,
        policy: Option<String>,
        constraints: Option<MatchResources>,
        param_ref: Option<ParamRef>,
        actions: Option<Vec<String>>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            policy: policy.unwrap_or_default(),
            constraints: constraints.map(Constraints::from),
            param_ref,
            actions: actions.unwrap_or_default(),
        }
    }

    pub async fn matches(&self, attributes: &Attributes, world: &World) -> Result<bool> {
        match &self.constraints {
            Some(constraints) => Ok(constraints.matched(attributes, world).await?.is_some()),
            None => Ok(true),
        }
    }
}

/// A kind of object that is compiled into something, once for each version of it.
pub trait Compile: Kind {
    type Compiled: Send + Sync + 'static;

    fn compile(self, name: &str) -> Self::Compiled;
}

type Known<C> = (Arc<Object>, Option<Arc<C>>);

struct Compiled<K: Compile>(ArcSwap<Vec<Known<K::Compiled>>>);

impl<K: Compile> Compiled<K> {
    fn current(&self, world: &World) -> Arc<Vec<Known<K::Compiled>>> {
        let objects = world.cache.prefix(K::ABOUT.storage_prefix).list("");
        let known = self.0.load_full();
        let same = |(object, (compiled, _)): (&Arc<Object>, &Known<K::Compiled>)| Arc::ptr_eq(object, compiled);
        if known.len() == objects.len() && objects.iter().zip(known.iter()).all(same) {
            return known;
        }
        let compiled = objects.into_iter().map(|object| {
            if let Some((_, compiled)) = known.iter().find(|(known, _)| Arc::ptr_eq(known, &object)) {
                return (object.clone(), compiled.clone());
            }
            let compiled = match object.decode::<K>() {
                Ok(decoded) => Some(Arc::new(decoded.compile(&object.name))),
                Err(error) => {
                    tracing::error!(%error, name = %object.name, "a policy or its binding cannot be read");
                    None
                }
            };
            (object, compiled)
        });
        let compiled: Arc<Vec<_>> = Arc::new(compiled.collect());
        self.0.store(compiled.clone());
        compiled
    }
}

/// The policies of a kind with their bindings, both by name.
pub struct Policies<P: Compile, B: Compile<Compiled = Binding>> {
    policies: Compiled<P>,
    bindings: Compiled<B>,
}

/// A policy with what it is bound by.
pub type Bound<C> = (Arc<C>, Vec<Arc<Binding>>);

impl<P: Compile, B: Compile<Compiled = Binding>> Default for Policies<P, B> {
    fn default() -> Self {
        Self { policies: Compiled(ArcSwap::default()), bindings: Compiled(ArcSwap::default()) }
    }
}

impl<P: Compile<Compiled: AsRef<Policy>>, B: Compile<Compiled = Binding>> Policies<P, B> {
    /// Those that are bound, as the cache has them now.
    pub fn current(&self, world: &World) -> Vec<Bound<P::Compiled>> {
        let policies = self.policies.current(world);
        if policies.is_empty() {
            return Vec::new();
        }
        let bindings = self.bindings.current(world);
        let with_bindings = |policy: &Arc<P::Compiled>| {
            let of_policy = |binding: &&Arc<Binding>| binding.policy == (**policy).as_ref().name;
            let bindings = bindings.iter().filter_map(|(_, binding)| binding.as_ref());
            (policy.clone(), bindings.filter(of_policy).cloned().collect::<Vec<_>>())
        };
        let bound = policies.iter().filter_map(|(_, policy)| policy.as_ref()).map(with_bindings);
        bound.filter(|(_, bindings)| !bindings.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;

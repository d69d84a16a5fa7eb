//! Admission: what may still change or refuse a request that is authorized. THE TABLE of plugins is here.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use crds::{
    kind::{Definition, Gvk},
    user::User,
};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::{
    authorize::Authorize,
    codec::sent::Sent,
    error::{ApiError, Result, Subject},
    metrics::admission::{Durations, Step, Timings},
    options::{DeleteOptions, WriteOptions},
    world::World,
};

pub mod certificate;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod edit;
pub mod escalation;
mod expression;
pub mod limit_ranger;
pub mod mutating_admission_policy;
pub mod mutating_webhook;
pub mod namespace_lifecycle;
pub mod node_declared_feature_validator;
pub mod node_restriction;
pub mod persistent_volume_claim_resize;
pub mod pod_group_workload_exists;
mod pod_reference;
pub mod pod_resize_validator;
pub mod pod_security;
pub mod pod_topology_labels;
mod policy;
pub mod priority;
mod reinvocation;
pub mod resource_quota;
mod rule;
pub mod runtime_class;
mod select;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
pub mod validating_admission_policy;
pub mod validating_webhook;
mod version;
mod webhook;

pub use reinvocation::Reinvocation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// With what options a request was made.
#[derive(Clone)]
pub enum Options {
    None,
    Create(WriteOptions),
    Update(WriteOptions),
    Delete(DeleteOptions),
}

impl Options {
    /// As webhooks see them, with kind and apiVersion.
    pub fn object(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Create(options) => options.object("CreateOptions"),
            Self::Update(options) => options.object("UpdateOptions"),
            Self::Delete(options) => options.object(),
        }
    }
}

/// What plugins see of a request. `admit` may change `object`; nobody may change the rest but for the lists at the end.
#[derive(Clone)]
pub struct Attributes {
    pub operation: Operation,
    /// The kind behind the path (of `pods/binding`: Pod).
    pub definition: Arc<Definition>,
    /// The kind of `object`: of `pods/binding` Binding, of `deployments/scale` Scale, else the definition's own.
    pub kind: Gvk,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped kinds; for a Namespace its own name, as upstream has it.
    pub namespace: String,
    /// Empty for a create with `generateName` before the name is made, and for deletecollection.
    pub name: String,
    /// What shall be written (or, for CONNECT, the options); none for DELETE.
    pub object: Option<Value>,
    /// What is there: for UPDATE and DELETE.
    pub old: Option<Arc<Value>>,
    pub options: Options,
    pub dry_run: bool,
    pub user: Arc<User>,
    /// `Warning` headers of the answer.
    pub warnings: Vec<String>,
    pub audit_annotations: BTreeMap<String, String>,
    /// What the client wrote and `object` does not tell any more; nothing once a patch was applied to the object's JSON.
    pub sent: Arc<Sent>,
    /// What `admit` keeps for a second round after webhooks and policies.
    pub reinvocation: Reinvocation,
}

impl Attributes {
    pub fn group(&self) -> &str {
        &self.definition.gvk.group
    }

    pub fn version(&self) -> &str {
        &self.definition.gvk.version
    }

    /// The plural, `pods`.
    pub fn resource(&self) -> &str {
        &self.definition.plural
    }

    /// The refusal of a plugin; a create without a name yet is told by its `generateName`.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        let of_object =
            |field: &str| self.object.as_ref()?.get("metadata")?.get(field)?.as_str().filter(|n| !n.is_empty());
        let name = match self.name.as_str() {
            "" => of_object("name").or_else(|| of_object("generateName")).unwrap_or("Unknown"),
            name => name,
        };
        ApiError::forbidden(Subject { group: self.group(), resource: self.resource(), name }, why)
    }

    /// Whether this is about a resource (and a subresource, empty for the object itself).
    pub fn is(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.group() == group && self.resource() == resource && self.subresource == subresource
    }
}

/// One admission plugin. `admit` runs before validation, in the order of the table; `validate` after it, on the object
/// as it will be stored. A plugin that only checks implements `validate` alone.
pub trait Plugin: Send + Sync {
    /// Upstream's name, `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    /// Whether the plugin has anything to do here; cheap, asked before every call.
    fn handles(&self, attributes: &Attributes) -> bool;

    /// Whether `admit` may change the object without setting its defaults anew: what is never changed so need not be
    /// compared.
    fn changes(&self) -> bool {
        true
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        let (_, _) = (attributes, world);
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        let (_, _) = (attributes, world);
        Box::pin(async { Ok(()) })
    }
}

/// A plugin to be left out that there is not.
#[derive(Debug, thiserror::Error)]
#[error("disable-admission-plugins plugin \"{0}\" is unknown")]
pub struct UnknownPlugin(String);

/// The plugins that are on, in upstream's order.
pub struct Chain {
    plugins: Vec<Link>,
    durations: Durations,
}

struct Link {
    plugin: Box<dyn Plugin>,
    timings: Timings,
}

impl Link {
    fn new(plugin: Box<dyn Plugin>) -> Self {
        Self { plugin, timings: Timings::default() }
    }
}

impl Chain {
    /// THE TABLE, in upstream's order: a new plugin is one file in `admission/` and its row here.
    pub fn standard(authorizer: Arc<dyn Authorize>) -> Self {
        Self::new(vec![
            Box::<namespace_lifecycle::NamespaceLifecycle>::default(),
            Box::<limit_ranger::LimitRanger>::default(),
            Box::<service_account::ServiceAccount>::default(),
            Box::new(node_restriction::NodeRestriction::new(authorizer.clone())),
            Box::<taint_nodes_by_condition::TaintNodesByCondition>::default(),
            Box::<pod_security::PodSecurity>::default(),
            Box::<priority::Priority>::default(),
            Box::<default_toleration_seconds::DefaultTolerationSeconds>::default(),
            Box::<default_storage_class::DefaultStorageClass>::default(),
            Box::<storage_object_in_use_protection::StorageObjectInUseProtection>::default(),
            Box::<persistent_volume_claim_resize::PersistentVolumeClaimResize>::default(),
            Box::<runtime_class::RuntimeClass>::default(),
            Box::new(certificate::CertificateApproval::new(authorizer.clone())),
            Box::new(certificate::CertificateSigning::new(authorizer.clone())),
            Box::<certificate::CertificateSubjectRestriction>::default(),
            Box::<default_ingress_class::DefaultIngressClass>::default(),
            Box::<pod_topology_labels::PodTopologyLabels>::default(),
            Box::<pod_group_workload_exists::PodGroupWorkloadExists>::default(),
            Box::<node_declared_feature_validator::NodeDeclaredFeatureValidator>::default(),
            Box::<pod_resize_validator::PodResizeValidator>::default(),
            Box::new(mutating_admission_policy::MutatingAdmissionPolicy::new(authorizer.clone())),
            Box::new(mutating_webhook::MutatingAdmissionWebhook::new(authorizer.clone())),
            Box::new(validating_admission_policy::ValidatingAdmissionPolicy::new(authorizer.clone())),
            Box::new(validating_webhook::ValidatingAdmissionWebhook::new(authorizer)),
            // What all others let through is charged last.
            Box::<resource_quota::ResourceQuota>::default(),
        ])
    }

    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins: plugins.into_iter().map(Link::new).collect(), durations: Durations::default() }
    }

    /// Leaves out plugins.
    ///
    /// # Errors
    /// If one of the names is no plugin's.
    pub fn without(mut self, names: &[String]) -> std::result::Result<Self, UnknownPlugin> {
        let is_plugin = |name: &&String| self.plugins.iter().any(|link| link.plugin.name() == *name);
        if let Some(unknown) = names.iter().find(|name| !is_plugin(name)) {
            return Err(UnknownPlugin(unknown.clone()));
        }
        self.plugins.retain(|link| !names.iter().any(|name| link.plugin.name() == name));
        Ok(self)
    }

    /// How long the plugins take.
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// With one more plugin, after all others.
    pub fn and(mut self, plugin: impl Plugin + 'static) -> Self {
        self.plugins.push(Link::new(Box::new(plugin)));
        self
    }

    fn note(&self, link: &Link, step: Step, of: &Attributes, rejected: bool, begun: Instant) {
        self.durations.note(&link.timings, link.plugin.name(), step, of.operation, rejected, begun.elapsed());
    }

    /// Whether any plugin may change this object.
    pub fn may_change(&self, attributes: &Attributes) -> bool {
        self.plugins.iter().any(|Link { plugin, .. }| plugin.changes() && plugin.handles(attributes))
    }

    /// A second time, if a webhook or a policy has changed what plugins before it have seen.
    pub async fn admit(&self, attributes: &mut Attributes, world: &World) -> Result<()> {
        self.admit_once(attributes, world).await?;
        if attributes.reinvocation.begin() {
            self.admit_once(attributes, world).await?;
        }
        Ok(())
    }

    async fn admit_once(&self, attributes: &mut Attributes, world: &World) -> Result<()> {
        for link in &self.plugins {
            if link.plugin.handles(attributes) {
                let begun = Instant::now();
                let admitted = link.plugin.admit(attributes, world).await;
                self.note(link, Step::Admit, attributes, admitted.is_err(), begun);
                admitted?;
            }
        }
        Ok(())
    }

    pub async fn validate(&self, attributes: &mut Attributes, world: &World) -> Result<()> {
        for link in &self.plugins {
            if link.plugin.handles(attributes) {
                let begun = Instant::now();
                let validated = link.plugin.validate(attributes, world).await;
                self.note(link, Step::Validate, attributes, validated.is_err(), begun);
                validated?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_left_out_by_name() {
        let without = |name: &str| {
            let plugins: Vec<Box<dyn Plugin>> =
                vec![Box::<limit_ranger::LimitRanger>::default(), Box::<priority::Priority>::default()];
            Chain::new(plugins).without(&[name.to_owned()])
        };
        let names = |chain: Chain| chain.plugins.iter().map(|link| link.plugin.name()).collect::<Vec<_>>();
        assert_eq!(without("LimitRanger").map(names).unwrap(), ["Priority"]);
        let unknown = without("Other").map(names).unwrap_err();
        assert_eq!(unknown.to_string(), r#"disable-admission-plugins plugin "Other" is unknown"#);
    }
}

//! The objects that a cluster has before anyone wrote one, and how they are kept so at every start.
//!
//! The facts are in the JSON files beside this module, one a family; this module and its children know their form.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

pub mod ensure;
pub mod flow;
pub mod identity;
mod network;
mod policy;
pub mod presence;
mod reconcile;
mod registration;

use crate::registry::Table;

pub use registration::{AUTOMANAGED, conditions_of_local_services, name as api_service_name};

/// What the objects depend on.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where this API server is reached.
    pub address: IpAddr,
    /// Where the cluster's API servers are reached, this one among them.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    /// The ranges of service addresses; the first is where `service_ip` is from.
    pub service_ranges: Vec<String>,
    /// The first address of the first range.
    pub service_ip: IpAddr,
    /// PEM, signs client certificates.
    pub client_authority: String,
    /// PEM, signs the front proxy.
    pub front_proxy_authority: String,
}

/// What must be done next for an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(Value),
    Update(Value),
    /// Through the `status` subresource.
    UpdateStatus(Value),
    /// To it, under this name.
    ApplyStatus(&'static str, Value),
    Delete,
}

/// An object that must exist.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    /// Empty: cluster-scoped.
    pub namespace: String,
    pub name: String,
    /// Who owns the object's fields.
    manager: &'static str,
    object: Value,
    /// Without times of transition.
    status: Option<Value>,
    /// Who applies the status, if it is not updated.
    applier: Option<&'static str>,
    keep: Keep,
}

/// What upstream does with one that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// It is its owner's.
    AsItIs,
    /// Missing rules and labels are added.
    Rules,
    /// Missing subjects and labels are added; with another role it is made anew.
    Subjects,
    /// The spec is ours, unless an annotation says that it is no longer.
    Spec { always: bool },
    /// These fields are ours.
    Fields(&'static [&'static str]),
    /// It must not be there, if these are its labels.
    Absent,
}

impl Wanted {
    fn new((group, version, resource, kind): Kind, namespace: &str, name: &str, mut object: Value, keep: Keep) -> Self {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { group, version, resource, namespace, name, manager: MANAGER, object, status: None, applier: None, keep }
    }

    /// `/api/v1/namespaces/default/services`
    fn collection(&self) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let scope = match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!("/namespaces/{namespace}"),
        };
        format!("{root}/{}{scope}/{}", self.version, self.resource)
    }

    fn managed_by(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }

    fn with_status(self, status: Value) -> Self {
        Self { status: Some(status), ..self }
    }

    fn applied_by(self, applier: &'static str) -> Self {
        Self { applier: Some(applier), ..self }
    }

    /// The next write, given the object as it is. Done when there is none; a create is followed by a status.
    pub fn plan(&self, existing: Option<&Value>, now: Timestamp) -> Option<Write> {
        let Some(existing) = existing else {
            return (self.keep != Keep::Absent).then(|| Write::Create(self.object.clone()));
        };
        reconcile::plan(self.keep, &self.object, existing).or_else(|| {
            let conditions = reconcile::conditions(self.status.as_ref()?, existing, now)?;
            Some(match self.applier {
                Some(applier) => Write::ApplyStatus(applier, reconcile::applied(existing, conditions)),
                None => Write::UpdateStatus(reconcile::updated_status(existing, conditions)),
            })
        })
    }
}

/// Group, version, resource, kind.
type Kind = (&'static str, &'static str, &'static str, &'static str);

const MANAGER: &str = "kube-apiserver";
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// All objects, in waves: those of one wave do not depend on one another.
pub fn waves(cluster: &Cluster, kinds: &Table, now: Timestamp) -> Result<[Vec<Wanted>; 2], serde_json::Error> {
    let namespaces =
        NAMESPACES.map(|name| Wanted::new(("", "v1", "namespaces", "Namespace"), "", name, json!({}), Keep::AsItIs));
    let mut first = Vec::from(namespaces);
    first.extend(flow::priority_levels()?);
    first.extend(network::service_ranges(cluster));
    let mut second = policy::rbac()?;
    second.extend(flow::flow_schemas()?);
    second.extend(policy::priority_classes()?);
    second.extend(network::kubernetes(cluster));
    second.extend(policy::config_maps(cluster, now));
    second.extend(registration::api_services(kinds)?);
    Ok([first, second])
}

/// What earlier starts have left and this one does not want.
pub fn gone(kinds: &Table) -> Vec<Wanted> {
    registration::gone(kinds)
}

/// What all nodes may do, for the Node authorizer.
pub fn node_rules() -> Result<Vec<PolicyRule>, serde_json::Error> {
    policy::rules_of_cluster_role("system:node")
}

#[cfg(test)]
pub(crate) mod tests;

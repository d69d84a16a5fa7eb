//! Which requests the rules of a webhook or a policy are about; in any version of the resource, if they say so.

use std::sync::Arc;

use crds::kind::{Definition, Gvk, Subresource};
use k8s_openapi::api::admissionregistration::v1::{NamedRuleWithOperations, RuleWithOperations};

use super::Attributes;
use crate::{registry::Table, subresource};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: Scope,
    /// None: any name.
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    /// Not a scope that is known.
    None,
}

/// What a rule that matches wants to see: the resource, and what the object must be converted to.
#[derive(Clone)]
pub struct Matched {
    pub definition: Arc<Definition>,
    pub kind: Gvk,
}

impl Matched {
    /// The request as it was made.
    pub fn of(attributes: &Attributes) -> Self {
        Self { definition: attributes.definition.clone(), kind: attributes.kind.clone() }
    }
}

impl From<RuleWithOperations> for Rule {
    fn from(rule: RuleWithOperations) -> Self {
        Self {
            operations: rule.operations.unwrap_or_default(),
            groups: rule.api_groups.unwrap_or_default(),
            versions: rule.api_versions.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            scope: match rule.scope.as_deref() {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::None,
            },
            names: Vec::new(),
        }
    }
}

impl From<NamedRuleWithOperations> for Rule {
    fn from(rule: NamedRuleWithOperations) -> Self {
        let unnamed = RuleWithOperations {
            api_groups: rule.api_groups,
            api_versions: rule.api_versions,
            operations: rule.operations,
            resources: rule.resources,
            scope: rule.scope,
        };
        Self { names: rule.resource_names.unwrap_or_default(), ..Self::from(unnamed) }
    }
}

fn has(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Whether it is about this request, were it made for this version of the resource.
    fn matches(&self, attributes: &Attributes, definition: &Definition) -> bool {
        let is_namespace = definition.gvk.group.is_empty() && definition.plural == "namespaces";
        let clustered = is_namespace || attributes.namespace.is_empty();
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => clustered,
            Scope::Namespaced => !clustered,
            Scope::None => false,
        };
        let of_resource = |resource: &String| {
            let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
            (resource == "*" || resource == definition.plural) && (part == "*" || part == attributes.subresource)
        };
        in_scope
            && has(&self.operations, attributes.operation.name())
            && has(&self.groups, &definition.gvk.group)
            && has(&self.versions, &definition.gvk.version)
            && self.resources.iter().any(of_resource)
            && (self.names.is_empty() || self.names.contains(&attributes.name))
    }
}

/// The first rule's view of a request: as it was made if any rule is about that, else in another version.
pub fn matched(rules: &[Rule], equivalent: bool, attributes: &Attributes, table: &Table) -> Option<Matched> {
    let own = &attributes.definition;
    if rules.iter().any(|rule| rule.matches(attributes, own)) {
        return Some(Matched::of(attributes));
    }
    if !equivalent {
        return None;
    }
    let others = table.all().iter().filter(|other| other.storage_prefix == own.storage_prefix && other.gvk != own.gvk);
    let others: Vec<_> = others.collect();
    let found = rules.iter().find_map(|rule| others.iter().find(|other| rule.matches(attributes, other)))?;
    Some(Matched { definition: (*found).clone(), kind: kind_of(found, &attributes.subresource)? })
}

/// What is written under a path of a resource.
fn kind_of(definition: &Definition, part: &str) -> Option<Gvk> {
    if part.is_empty() {
        return Some(definition.gvk.clone());
    }
    match definition.subresource(part)? {
        Subresource::Status => Some(definition.gvk.clone()),
        Subresource::Scale(_) => Some(subresource::scale::gvk()),
        Subresource::Other { kind: (group, version, kind), .. } => {
            Some(Gvk { group: (*group).into(), version: (*version).into(), kind: (*kind).into() })
        }
    }
}

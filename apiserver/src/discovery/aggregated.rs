//! The aggregated documents: all groups, versions and resources at once.

use std::borrow::Cow;

use crds::kind::{Definition, Subresource};
use serde::Serialize;

use super::{Group, Version, kind_of, part_kind, part_name, part_verbs, verbs};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupDiscoveryList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Name<'a>,
    items: Vec<GroupDiscovery<'a>>,
}

#[derive(Serialize)]
pub(super) struct Name<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct GroupDiscovery<'a> {
    metadata: Name<'a>,
    versions: Vec<VersionDiscovery<'a>>,
}

#[derive(Serialize)]
pub(super) struct VersionDiscovery<'a> {
    version: &'a str,
    resources: Vec<ResourceDiscovery<'a>>,
    freshness: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceDiscovery<'a> {
    resource: &'a str,
    response_kind: ResponseKind<'a>,
    scope: &'static str,
    singular_resource: &'a str,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    short_names: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<SubresourceDiscovery<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubresourceDiscovery<'a> {
    subresource: &'a str,
    response_kind: ResponseKind<'a>,
    verbs: &'a [&'static str],
}

#[derive(Serialize)]
pub(super) struct ResponseKind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> ResponseKind<'a> {
    /// Upstream leaves the version's own group and version empty for built-in kinds, not for custom ones.
    pub fn new(kind: (&'a str, &'a str, &'a str), version: &Version) -> Self {
        let (group, name) = if version.built_in && version.is_own(kind) { ("", "") } else { (kind.0, kind.1) };
        Self { group, version: name, kind: kind.2 }
    }
}

impl<'a> GroupDiscoveryList<'a> {
    pub fn new<'g>(groups: impl Iterator<Item = &'g Group<'a>>) -> Self
    where
        'a: 'g,
    {
        let group = |group: &Group<'a>| GroupDiscovery {
            metadata: Name { name: Some(group.name).filter(|name| !name.is_empty()) },
            versions: group.versions.iter().map(VersionDiscovery::new).collect(),
        };
        let (kind, api_version) = ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2");
        Self { kind, api_version, metadata: Name { name: None }, items: groups.map(group).collect() }
    }
}

impl<'a> VersionDiscovery<'a> {
    pub fn new(version: &Version<'a>) -> Self {
        let resources = version.resources.iter().map(|definition| ResourceDiscovery::new(definition, version));
        Self { version: version.name, resources: resources.collect(), freshness: "Current" }
    }
}

impl<'a> ResourceDiscovery<'a> {
    pub fn new(definition: &'a Definition, version: &Version) -> Self {
        let part = |part: &'a Subresource| SubresourceDiscovery {
            subresource: part_name(part),
            response_kind: ResponseKind::new(part_kind(definition, part), version),
            verbs: part_verbs(part),
        };
        Self {
            resource: &definition.plural,
            response_kind: ResponseKind::new(kind_of(definition), version),
            scope: if definition.namespaced { "Namespaced" } else { "Cluster" },
            singular_resource: &definition.singular,
            verbs: verbs(definition, version),
            short_names: &definition.short_names,
            categories: &definition.categories,
            subresources: definition.subresources.iter().map(part).collect(),
        }
    }
}

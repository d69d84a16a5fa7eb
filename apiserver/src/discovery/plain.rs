//! The documents as they always were: versions, groups, and the resources of a version.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::kind::{Definition, Subresource, Verb};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Group, Version, part_kind, part_name, part_verbs, verbs};

/// The kinds that upstream keeps in another version than the one that is served.
const STORED: [(&str, &str, &str, &str); 5] = [
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", "admissionregistration.k8s.io", "v1beta1"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", "admissionregistration.k8s.io", "v1beta1"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "apiextensions.k8s.io", "v1beta1"),
    ("autoscaling", "HorizontalPodAutoscaler", "autoscaling", "v2"),
    ("events.k8s.io", "Event", "", "v1"),
];

/// Tells clients when objects should be written again; none for what is not stored.
fn storage_version_hash(definition: &Definition) -> Option<String> {
    if !definition.verbs.contains(&Verb::Watch) {
        return None;
    }
    let (group, version, kind) = (&*definition.gvk.group, &*definition.gvk.version, &*definition.gvk.kind);
    if let Some(custom) = &definition.custom {
        let hash = Sha256::digest(format!("{group}/{}/{kind}", custom.family.stored));
        return Some(BASE64_STANDARD.encode(&hash[..8]));
    }
    let stored = STORED.iter().find(|s| (s.0, s.1) == (group, kind)).map(|s| (s.2, s.3));
    let (group, version) = stored.or(definition.conversion.map(|c| c.stored)).unwrap_or((group, version));
    let hash = Sha256::digest(format!("{group}/{version}/{kind}"));
    Some(BASE64_STANDARD.encode(&hash[..8]))
}

#[derive(Serialize)]
pub(super) struct Versions<'a> {
    kind: &'static str,
    versions: [&'static str; 1],
    #[serde(rename = "serverAddressByClientCIDRs")]
    addresses: [ServerAddress<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerAddress<'a> {
    #[serde(rename = "clientCIDR")]
    client_cidr: &'static str,
    server_address: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupList<'a> {
    kind: &'static str,
    api_version: &'static str,
    groups: Vec<ApiGroup<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiGroup<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    name: &'a str,
    versions: Vec<GroupVersion<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_version: Option<GroupVersion<'a>>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupVersion<'a> {
    group_version: String,
    version: &'a str,
}

impl<'a> Versions<'a> {
    pub fn new(address: &'a str) -> Self {
        let everywhere = ServerAddress { client_cidr: "0.0.0.0/0", server_address: address };
        Self { kind: "APIVersions", versions: ["v1"], addresses: [everywhere] }
    }
}

impl<'a> GroupList<'a> {
    pub fn new<'g>(groups: impl Iterator<Item = &'g Group<'a>>) -> Self
    where
        'a: 'g,
    {
        Self { kind: "APIGroupList", api_version: "v1", groups: groups.map(ApiGroup::listed).collect() }
    }
}

impl<'a> ApiGroup<'a> {
    pub fn listed(group: &Group<'a>) -> Self {
        let version = |v: &Version<'a>| GroupVersion { group_version: v.group_version(), version: v.name };
        let versions: Vec<_> = group.versions.iter().map(version).collect();
        let preferred_version = versions.first().cloned();
        Self { kind: None, api_version: None, name: group.name, versions, preferred_version }
    }

    pub fn alone(group: &Group<'a>) -> Self {
        Self { kind: Some("APIGroup"), api_version: Some("v1"), ..Self::listed(group) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceList<'a> {
    kind: &'static str,
    /// Upstream leaves it out for the core group.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    group_version: String,
    resources: Vec<Resource<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource<'a> {
    name: Cow<'a, str>,
    singular_name: &'a str,
    namespaced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    kind: &'a str,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    short_names: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    categories: &'a [Cow<'static, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_version_hash: Option<String>,
}

impl<'a> ResourceList<'a> {
    pub fn new(group: &Group<'a>, version: &Version<'a>) -> Self {
        let with_parts = |definition: &&'a Definition| {
            let parts = definition.subresources.iter().map(|part| Resource::part(definition, part, version));
            std::iter::once(Resource::new(definition, version)).chain(parts).collect::<Vec<_>>()
        };
        Self {
            kind: "APIResourceList",
            api_version: (!group.name.is_empty()).then_some("v1"),
            group_version: version.group_version(),
            resources: version.resources.iter().flat_map(with_parts).collect(),
        }
    }
}

impl<'a> Resource<'a> {
    pub fn new(definition: &'a Definition, version: &Version) -> Self {
        Self {
            name: Cow::Borrowed(&definition.plural),
            singular_name: &definition.singular,
            namespaced: definition.namespaced,
            group: None,
            version: None,
            kind: &definition.gvk.kind,
            verbs: verbs(definition, version),
            short_names: &definition.short_names,
            categories: &definition.categories,
            storage_version_hash: storage_version_hash(definition),
        }
    }

    pub fn part(definition: &'a Definition, part: &'a Subresource, version: &Version) -> Self {
        let kind = part_kind(definition, part);
        let foreign = !version.is_own(kind);
        Self {
            name: format!("{}/{}", definition.plural, part_name(part)).into(),
            singular_name: "",
            namespaced: definition.namespaced,
            group: foreign.then_some(kind.0),
            version: foreign.then_some(kind.1),
            kind: kind.2,
            verbs: part_verbs(part).to_vec(),
            short_names: &[],
            categories: &[],
            storage_version_hash: None,
        }
    }
}

//! The documents that tell clients which groups, versions and resources are served.
//!
//! Made from the table of kinds alone, once for each state of it: `/api`, `/apis`, a document for every group and
//! version, and the two aggregated ones.

mod aggregated;
mod plain;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use crds::{
    kind::{self, Definition, Subresource, Verb},
    kinds,
    version::by_maturity,
};
use http::HeaderMap;
use sha2::{Digest, Sha512};

use self::{
    aggregated::GroupDiscoveryList,
    plain::{ApiGroup, GroupList, ResourceList, Versions},
};
use crate::codec::json;

/// The media type of the aggregated documents; clients ask for it in `Accept`.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// All documents of one state of the table, as JSON.
#[derive(Debug)]
pub struct Documents {
    /// By path: `/apis`, `/apis/apps`, `/apis/apps/v1`, `/api/v1`.
    plain: BTreeMap<String, Bytes>,
    aggregated_core: Aggregated,
    aggregated_groups: Aggregated,
}

/// An aggregated document and the tag that tells whether a client's copy is still good.
#[derive(Debug)]
pub struct Aggregated {
    pub json: Bytes,
    /// With its quotes, as it stands in the header.
    pub etag: String,
}

impl Aggregated {
    /// Sent along with `Vary: Accept`: anyone may cache it, but must ask whether it has changed.
    pub const CACHE_CONTROL: &str = "public";

    fn new(list: &GroupDiscoveryList) -> Result<Self, serde_json::Error> {
        json::line(list).map(Self::of)
    }

    pub fn of(json: Bytes) -> Self {
        let hash: String = Sha512::digest(&json).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { json, etag: format!("\"{hash}\"") }
    }

    /// Whether the client has this document already, so that the answer is 304.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        headers.get(http::header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == self.etag.as_bytes())
    }
}

/// Every other discovery answer: `Cache-Control`, without which kubectl believes its copy for ten minutes.
pub const CACHE_CONTROL: &str = "no-cache, private";

impl Documents {
    pub fn new(definitions: &[Arc<Definition>]) -> Result<Self, serde_json::Error> {
        let groups = groups(definitions);
        let mut plain = BTreeMap::new();
        let mut add = |path: String, json: Result<Bytes, _>| json.map(|json| drop(plain.insert(path, json)));
        for group in &groups {
            for version in &group.versions {
                let list = ResourceList::new(group, version);
                add(version.path(), json::line(&list))?;
            }
            if !group.name.is_empty() {
                add(format!("/apis/{}", group.name), json::line(&ApiGroup::alone(group)))?;
            }
        }
        let named = || groups.iter().filter(|group| !group.name.is_empty());
        add("/apis".into(), json::line(&GroupList::new(named())))?;
        let core = groups.iter().filter(|group| group.name.is_empty());
        Ok(Self {
            plain,
            aggregated_core: Aggregated::new(&GroupDiscoveryList::new(core))?,
            aggregated_groups: Aggregated::new(&GroupDiscoveryList::new(named()))?,
        })
    }

    /// The document of a path, a trailing slash or not; `/api` is [`Self::versions`].
    pub fn plain(&self, path: &str) -> Option<&Bytes> {
        self.plain.get(path.trim_end_matches('/'))
    }

    /// Of every document but `/api`.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.plain.keys().map(String::as_str)
    }

    /// What `/api` and `/apis` answer to those who accept [`AGGREGATED`].
    pub fn aggregated(&self, path: &str) -> Option<&Aggregated> {
        match path.trim_end_matches('/') {
            "/api" => Some(&self.aggregated_core),
            "/apis" => Some(&self.aggregated_groups),
            _ => None,
        }
    }

    /// What `/api` answers: the only document that tells the server's own address (`host:port`).
    pub fn versions(address: &str) -> Result<Bytes, serde_json::Error> {
        json::line(&Versions::new(address))
    }
}

struct Group<'a> {
    name: &'a str,
    /// The preferred one first.
    versions: Vec<Version<'a>>,
}

struct Version<'a> {
    group: &'a str,
    name: &'a str,
    built_in: bool,
    /// By plural.
    resources: Vec<&'a Definition>,
}

impl Version<'_> {
    fn group_version(&self) -> String {
        kind::group_version(self.group, self.name)
    }

    fn path(&self) -> String {
        if self.group.is_empty() { format!("/api/{}", self.name) } else { format!("/apis/{}", self.group_version()) }
    }

    fn is_own(&self, kind: (&str, &str, &str)) -> bool {
        (kind.0, kind.1) == (self.group, self.name)
    }
}

/// Built-in groups in the order of the table, which is upstream's by priority; then the others by name.
fn groups(definitions: &[Arc<Definition>]) -> Vec<Group<'_>> {
    let rank = |group: &str| kinds::all().position(|kind| kind.gvk.group == group).unwrap_or(usize::MAX);
    let mut groups: Vec<Group> = Vec::new();
    for definition in definitions {
        let name = &*definition.gvk.group;
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.add(definition),
            None => {
                let mut group = Group { name, versions: Vec::new() };
                group.add(definition);
                groups.push(group);
            }
        }
    }
    groups.sort_by_cached_key(|group| (rank(group.name), group.name));
    for group in &mut groups {
        group.versions.sort_by(|a, b| by_maturity(a.name, b.name));
        group.versions.iter_mut().for_each(|version| version.resources.sort_by(|a, b| a.plural.cmp(&b.plural)));
    }
    groups
}

impl<'a> Group<'a> {
    fn add(&mut self, definition: &'a Definition) {
        let name = &*definition.gvk.version;
        match self.versions.iter_mut().find(|version| version.name == name) {
            Some(version) => version.resources.push(definition),
            None => {
                let built_in = kinds::has_group(self.name);
                self.versions.push(Version { group: self.name, name, built_in, resources: vec![definition] });
            }
        }
    }
}

fn kind_of(definition: &Definition) -> (&str, &str, &str) {
    (&definition.gvk.group, &definition.gvk.version, &definition.gvk.kind)
}

/// Built-in kinds in the order of the alphabet, custom ones in the order that upstream has fixed for them.
fn verbs(definition: &Definition, version: &Version) -> Vec<&'static str> {
    use Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
    if version.built_in {
        return definition.verbs.iter().map(|verb| verb.name()).collect();
    }
    let order: &[Verb] = match &definition.custom {
        Some(custom) if custom.terminating => &[Delete, DeleteCollection, Get, List, Watch],
        _ => &[Delete, DeleteCollection, Get, List, Patch, Create, Update, Watch],
    };
    order.iter().filter(|verb| definition.verbs.contains(verb)).map(|verb| verb.name()).collect()
}

fn part_name(part: &Subresource) -> &'static str {
    match part {
        Subresource::Status => "status",
        Subresource::Scale(_) => "scale",
        Subresource::Other { name, .. } => name,
    }
}

fn part_kind<'a>(definition: &'a Definition, part: &'a Subresource) -> (&'a str, &'a str, &'a str) {
    match part {
        Subresource::Status => kind_of(definition),
        Subresource::Scale(_) => ("autoscaling", "v1", "Scale"),
        Subresource::Other { kind, .. } => *kind,
    }
}

fn part_verbs(part: &Subresource) -> &'static [&'static str] {
    match part {
        Subresource::Status | Subresource::Scale(_) => &["get", "patch", "update"],
        Subresource::Other { verbs, .. } => verbs,
    }
}

#[cfg(test)]
mod tests {
    use crds::kinds::KINDS;
    use serde_json::Value;

    use super::*;

    fn definitions() -> Vec<Arc<Definition>> {
        KINDS.iter().cloned().map(Arc::new).collect()
    }

    fn golden(name: &str) -> Value {
        let path = format!("{}/tests/golden/discovery/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(&path).expect(&path)).unwrap()
    }

    fn parsed(json: &[u8]) -> Value {
        serde_json::from_slice(json).unwrap()
    }

    #[test]
    fn every_document_is_as_recorded() {
        let documents = Documents::new(&definitions()).unwrap();
        for (path, json) in &documents.plain {
            let name = path.trim_start_matches('/').replace('/', "__");
            assert_eq!(parsed(json), golden(&name), "{path}");
        }
        let recorded = std::fs::read_dir(format!("{}/tests/golden/discovery", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(documents.plain.len() + 3, recorded.count());
        assert_eq!(parsed(&Documents::versions("192.0.2.1:6443").unwrap()), golden("api"));
    }

    /// What stock serves with `--runtime-config=api/all=true`, and with the features that kinds belong to.
    #[test]
    fn what_is_off_by_default_is_as_recorded() {
        let all: Vec<_> = kinds::all().cloned().map(Arc::new).collect();
        let documents = Documents::new(&all).unwrap();
        let mut seen = 0;
        let folder = format!("{}/tests/golden/discovery-off", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let recorded = parsed(&std::fs::read(&path).unwrap());
            let group_version = recorded["groupVersion"].as_str().unwrap();
            let ours = documents.plain(&format!("/apis/{group_version}")).map(|json| parsed(json)).unwrap_or_default();
            let find =
                |name: &Value| ours["resources"].as_array().and_then(|all| all.iter().find(|r| r["name"] == *name));
            for resource in recorded["resources"].as_array().unwrap() {
                assert_eq!(find(&resource["name"]), Some(resource), "{group_version}");
                seen += 1;
            }
        }
        let off: usize = kinds::OFF.iter().map(|kind| 1 + kind.subresources.len()).sum();
        assert_eq!(seen, off);
    }

    #[test]
    fn aggregated_documents_are_as_recorded() {
        let documents = Documents::new(&definitions()).unwrap();
        for (path, name) in [("/api", "aggregated-api"), ("/apis/", "aggregated-apis")] {
            let aggregated = documents.aggregated(path).unwrap();
            assert_eq!(parsed(&aggregated.json), golden(name));
            assert_eq!(aggregated.etag.len(), 130);
            let mut headers = HeaderMap::new();
            assert!(!aggregated.is_known(&headers));
            headers.insert(http::header::IF_NONE_MATCH, aggregated.etag.parse().unwrap());
            assert!(aggregated.is_known(&headers));
        }
        assert!(documents.aggregated("/apis/apps").is_none());
    }

    #[test]
    fn paths_may_end_with_a_slash() {
        let documents = Documents::new(&definitions()).unwrap();
        assert_eq!(documents.plain("/apis/apps/v1/"), documents.plain("/apis/apps/v1"));
        assert!(documents.plain("/apis/apps/v2").is_none());
    }

    #[test]
    fn custom_kinds_follow_the_built_in_ones() {
        let widget = |group: &'static str, version: &'static str| {
            let mut widget = KINDS[2].clone();
            widget.gvk = crds::kind::Gvk { group: group.into(), version: version.into(), kind: "Widget".into() };
            (widget.plural, widget.subresources) = ("widgets".into(), vec![Subresource::Status]);
            Arc::new(widget)
        };
        let custom = [("z.example.com", "v1"), ("a.example.com", "v1alpha1"), ("a.example.com", "v2")];
        let all: Vec<_> = custom.iter().map(|(group, version)| widget(group, version)).chain(definitions()).collect();
        let documents = Documents::new(&all).unwrap();
        let list = parsed(documents.plain("/apis").unwrap());
        let names: Vec<_> = list["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
        assert_eq!(
            (names[0], &names[names.len() - 2..]),
            ("apiregistration.k8s.io", &["a.example.com", "z.example.com"][..])
        );
        let group = parsed(documents.plain("/apis/a.example.com").unwrap());
        assert_eq!(group["preferredVersion"]["version"], "v2");
        let aggregated = parsed(&documents.aggregated("/apis").unwrap().json);
        let resource = &aggregated["items"].as_array().unwrap().last().unwrap()["versions"][0]["resources"][0];
        let kind = serde_json::json!({"group": "z.example.com", "version": "v1", "kind": "Widget"});
        assert_eq!((&resource["responseKind"], &resource["verbs"][0]), (&kind, &Value::from("delete")));
    }
}

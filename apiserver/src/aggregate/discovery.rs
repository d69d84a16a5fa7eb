//! What other servers have to discover, among what this one has.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use crds::{kind::Kind, user::User, version::by_maturity};
use http::{StatusCode, header};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use serde_json::{Map, Value, json};

use super::{Aggregator, Remote, openapi};
use crate::{
    codec::typed,
    discovery::{Aggregated, Documents},
    error::{ApiError, Result},
    world::World,
};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// Always the first group.
const OWN: &str = "apiregistration.k8s.io";

/// By APIService.
pub type Discovered = BTreeMap<String, Version>;

/// What one version of a group has.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// As the aggregated form has them.
    resources: Value,
    /// The server has told so just now.
    pub is_current: bool,
    /// Where its OpenAPI v3 document is, relative to the server.
    pub openapi: Option<String>,
}

/// The documents with other servers' groups in them, for one state of all that they are made of.
#[derive(Default)]
pub struct Merged(ArcSwapOption<Made>);

struct Made {
    base: Arc<Bytes>,
    discovered: Arc<Discovered>,
    specs: Vec<APIServiceSpec>,
    plain: Bytes,
    aggregated: Arc<Aggregated>,
}

/// Asks a server for what it has; nothing, and not current, if it does not tell.
pub async fn fetch(world: &World, remote: &Remote, is_available: bool) -> Version {
    let none = Version { resources: json!([]), is_current: false, openapi: None };
    if !is_available {
        return none;
    }
    let resources = resources(world, remote).await;
    let is_current = resources.is_some();
    let openapi = openapi::fetch(world, remote).await;
    Version { resources: resources.unwrap_or_else(|| json!([])), is_current, openapi }
}

async fn resources(world: &World, remote: &Remote) -> Option<Value> {
    let master = User::named("system:kube-aggregator", &[User::MASTERS]);
    let of_all = remote.fetch(world, "/apis", &master, ACCEPT).await.ok()?;
    let kind = of_all.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if of_all.code == StatusCode::OK && kind.contains("as=APIGroupDiscoveryList") {
        let list: Value = serde_json::from_slice(&of_all.body).ok()?;
        return Some(of_version(&list, remote));
    }
    // A server that does not know the aggregated form.
    let fetched = remote.fetch(world, &remote.path(), &master, "application/json").await.ok()?;
    let list: Value = serde_json::from_slice(&fetched.body).ok().filter(|_| fetched.code == StatusCode::OK)?;
    Some(from_plain(&list))
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn of_version(list: &Value, remote: &Remote) -> Value {
    let group = items(list, "items").find(|group| group["metadata"]["name"] == remote.group.as_str());
    let version = group.and_then(|group| items(group, "versions").find(|v| v["version"] == remote.version.as_str()));
    let mut resources = version.map_or_else(|| json!([]), |version| version["resources"].clone());
    // Some clients cannot do without.
    for resource in resources.as_array_mut().into_iter().flatten() {
        fill_kind(resource);
        resource["subresources"].as_array_mut().into_iter().flatten().for_each(fill_kind);
        if resource["subresources"].is_null() {
            resource.as_object_mut().map(|resource| resource.remove("subresources"));
        }
    }
    resources
}

fn fill_kind(resource: &mut Value) {
    if resource["responseKind"].is_null() {
        resource["responseKind"] = json!({"group": "", "version": "", "kind": ""});
    }
}

/// An `APIResourceList` in the aggregated form.
fn from_plain(list: &Value) -> Value {
    let text = |resource: &Value, name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    let kind = |resource: &Value| {
        let part = |name: &str| text(resource, name);
        json!({"group": part("group"), "version": part("version"), "kind": part("kind")})
    };
    let mut all: Vec<Value> = Vec::new();
    let (whole, parts): (Vec<&Value>, Vec<&Value>) =
        items(list, "resources").partition(|resource| !text(resource, "name").contains('/'));
    for resource in whole {
        let mut made = json!({
            "resource": text(resource, "name"),
            "responseKind": kind(resource),
            "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": text(resource, "singularName"),
            "verbs": resource["verbs"],
        });
        for name in ["shortNames", "categories"] {
            if resource[name].is_array() {
                made[name] = resource[name].clone();
            }
        }
        all.push(made);
    }
    for part in parts {
        let name = text(part, "name");
        let (parent, name) = name.split_once('/').unwrap_or((&name, ""));
        let made = json!({"subresource": name, "responseKind": kind(part), "verbs": part["verbs"]});
        let Some(parent) = all.iter_mut().find(|known| known["resource"] == parent) else { continue };
        match parent["subresources"].as_array_mut() {
            Some(known) => known.push(made),
            None => parent["subresources"] = json!([made]),
        }
    }
    Value::Array(all)
}

impl Aggregator {
    /// Takes note of what servers have.
    pub(super) fn discovered(&self, found: Discovered) {
        if **self.discovered.load() != found {
            self.discovered.store(Arc::new(found));
        }
    }

    /// The documents of `/apis`, plain and aggregated, with other servers' groups; none if there are no such.
    pub fn documents(&self, world: &World, own: &Documents) -> Result<Option<(Bytes, Arc<Aggregated>)>> {
        let remotes = self.remotes(world);
        let Some(base) = own.plain("/apis").filter(|_| !remotes.is_empty()) else { return Ok(None) };
        let Some(own_aggregated) = own.aggregated("/apis") else { return Ok(None) };
        let specs: Vec<APIServiceSpec> = specs(world)?;
        let discovered = self.discovered.load_full();
        let known =
            self.merged.0.load_full().filter(|made| {
                *made.base == *base && Arc::ptr_eq(&made.discovered, &discovered) && made.specs == specs
            });
        if let Some(made) = known {
            return Ok(Some((made.plain.clone(), made.aggregated.clone())));
        }
        let plain = merged_plain(base, &specs).map_err(ApiError::internal)?;
        let aggregated = merged_aggregated(&own_aggregated.json, &specs, &discovered).map_err(ApiError::internal)?;
        let aggregated = Arc::new(Aggregated::of(aggregated));
        let made = Made {
            base: Arc::new(base.clone()),
            discovered,
            specs,
            plain: plain.clone(),
            aggregated: aggregated.clone(),
        };
        self.merged.0.store(Some(Arc::new(made)));
        Ok(Some((plain, aggregated)))
    }

    /// The document of a group that has versions of other servers; none for one that has not.
    pub fn group(&self, world: &World, own: &Documents, group: &str) -> Result<Option<Value>> {
        if !self.remotes(world).iter().any(|remote| remote.group == group) {
            return Ok(None);
        }
        let Some((plain, _)) = self.documents(world, own)? else { return Ok(None) };
        let list: Value = serde_json::from_slice(&plain).map_err(ApiError::internal)?;
        let found = items(&list, "groups").find(|known| known["name"] == group).cloned();
        Ok(found.map(|mut found| {
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            found
        }))
    }
}

/// Of all APIServices but the core group's, in the order of groups and, within each, of versions.
fn specs(world: &World) -> Result<Vec<APIServiceSpec>> {
    let objects = world.cache.prefix(APIService::ABOUT.storage_prefix).list("");
    let mut all = Vec::new();
    for object in objects {
        let Some(spec) = object.decode::<APIService>()?.spec else { continue };
        if spec.group.as_ref().is_some_and(|group| !group.is_empty()) {
            all.push((Reverse(spec.group_priority_minimum), object.name.to_string(), spec));
        }
    }
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Ok(all.into_iter().map(|(_, _, spec)| spec).collect())
}

/// Where each group stands.
fn ranks(specs: &[APIServiceSpec]) -> HashMap<&str, usize> {
    let mut ranks = HashMap::from([(OWN, 0)]);
    for (rank, spec) in specs.iter().enumerate() {
        ranks.entry(spec.group.as_deref().unwrap_or_default()).or_insert(rank + 1);
    }
    ranks
}

/// Puts groups where their priority wants them; those that have none stay behind, as they were.
fn sort(groups: &mut [Value], ranks: &HashMap<&str, usize>, name: fn(&Value) -> &str) {
    groups.sort_by_key(|group| ranks.get(name(group)).copied().unwrap_or(usize::MAX));
}

/// Puts versions where their priority wants them.
fn sort_versions(versions: &mut [Value], group: &str, specs: &[APIServiceSpec]) {
    let priority = |version: &str| {
        let mut of = specs.iter().filter(|spec| spec.group.as_deref() == Some(group));
        of.find(|spec| spec.version.as_deref() == Some(version)).map_or(0, |spec| spec.version_priority)
    };
    let name = |version: &Value| version["version"].as_str().unwrap_or_default().to_owned();
    versions.sort_by(|a, b| {
        let (a, b) = (name(a), name(b));
        priority(&b).cmp(&priority(&a)).then_with(|| by_maturity(&a, &b))
    });
}

fn remote_versions(specs: &[APIServiceSpec]) -> impl Iterator<Item = (&str, &str)> {
    let remote = specs.iter().filter(|spec| spec.service.is_some());
    remote.map(|spec| (spec.group.as_deref().unwrap_or_default(), spec.version.as_deref().unwrap_or_default()))
}

fn merged_plain(base: &[u8], specs: &[APIServiceSpec]) -> serde_json::Result<Bytes> {
    let mut list: Value = serde_json::from_slice(base)?;
    let Some(groups) = list["groups"].as_array_mut() else { return Ok(Bytes::copy_from_slice(base)) };
    for (group, version) in remote_versions(specs) {
        let at = groups.iter().position(|known| known["name"] == group).unwrap_or_else(|| {
            groups.push(json!({"name": group, "versions": []}));
            groups.len() - 1
        });
        let Some(versions) = groups[at]["versions"].as_array_mut() else { continue };
        if !versions.iter().any(|known| known["version"] == version) {
            versions.push(json!({"groupVersion": format!("{group}/{version}"), "version": version}));
        }
        sort_versions(versions, group, specs);
        let preferred = versions.first().cloned().unwrap_or_default();
        groups[at]["preferredVersion"] = preferred;
    }
    sort(groups, &ranks(specs), |group| group["name"].as_str().unwrap_or_default());
    Ok(typed::line(&list))
}

fn merged_aggregated(base: &[u8], specs: &[APIServiceSpec], discovered: &Discovered) -> serde_json::Result<Bytes> {
    let mut list: Value = serde_json::from_slice(base)?;
    let Some(groups) = list["items"].as_array_mut() else { return Ok(Bytes::copy_from_slice(base)) };
    for (group, version) in remote_versions(specs) {
        let at = groups.iter().position(|known| known["metadata"]["name"] == group).unwrap_or_else(|| {
            groups.push(json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": []}));
            groups.len() - 1
        });
        let Some(versions) = groups[at]["versions"].as_array_mut() else { continue };
        if versions.iter().any(|known| known["version"] == version) {
            continue;
        }
        let found = discovered.get(&format!("{version}.{group}"));
        let mut made = Map::from_iter([("version".to_owned(), version.into())]);
        if let Some(found) = found.filter(|found| found.resources.as_array().is_some_and(|all| !all.is_empty())) {
            made.insert("resources".to_owned(), found.resources.clone());
        }
        let is_current = found.is_some_and(|found| found.is_current);
        made.insert("freshness".to_owned(), if is_current { "Current" } else { "Stale" }.into());
        versions.push(Value::Object(made));
        sort_versions(versions, group, specs);
    }
    sort(groups, &ranks(specs), |group| group["metadata"]["name"].as_str().unwrap_or_default());
    Ok(typed::line(&list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(group: &str, version: &str, group_priority: i32, version_priority: i32, remote: bool) -> APIServiceSpec {
        APIServiceSpec {
            group: Some(group.to_owned()),
            version: Some(version.to_owned()),
            group_priority_minimum: group_priority,
            version_priority,
            service: remote.then(Default::default),
            ..Default::default()
        }
    }

    #[test]
    fn groups_stand_where_their_priority_wants_them() {
        let base = json!({"groups": [
            {"name": OWN, "versions": [{"version": "v1"}]},
            {"name": "apps", "versions": [{"version": "v1"}]},
            {"name": "batch", "versions": [{"version": "v1"}]},
        ]});
        let specs = [
            spec("apps", "v1", 17800, 15, false),
            spec("m.io", "v1beta1", 17600, 10, true),
            spec("m.io", "v1", 17600, 20, true),
            spec("batch", "v1", 17400, 15, false),
        ];
        let merged: Value =
            serde_json::from_slice(&merged_plain(base.to_string().as_bytes(), &specs).unwrap()).unwrap();
        let names: Vec<_> = items(&merged, "groups").map(|group| group["name"].as_str().unwrap()).collect();
        assert_eq!(names, [OWN, "apps", "m.io", "batch"]);
        let group = &merged["groups"][2];
        assert_eq!(group["preferredVersion"], json!({"groupVersion": "m.io/v1", "version": "v1"}));
        assert_eq!(group["versions"][1]["version"], "v1beta1");
    }

    #[test]
    fn the_old_form_becomes_the_new_one() {
        let list = json!({"resources": [
            {"name": "as", "singularName": "a", "namespaced": true, "kind": "A", "verbs": ["get"], "shortNames": ["x"]},
            {"name": "as/status", "singularName": "", "namespaced": true, "kind": "A", "verbs": ["get"]},
        ]});
        let kind = json!({"group": "", "version": "", "kind": "A"});
        let want = json!([{
            "resource": "as", "responseKind": kind, "scope": "Namespaced", "singularResource": "a", "verbs": ["get"],
            "shortNames": ["x"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}],
        }]);
        assert_eq!(from_plain(&list), want);
    }
}

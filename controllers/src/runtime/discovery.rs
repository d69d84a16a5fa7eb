//! Which kinds a server has, custom and aggregated ones included.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::core::Version;

use super::{
    object::Resource,
    server::{Error, Server},
};

/// A kind and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub resource: Resource,
    pub verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// What was found, and what could not be asked: an aggregated server that is down must not hide the others.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    pub kinds: Vec<Served>,
    pub failures: Vec<String>,
}

/// Each kind once, in its group's preferred version.
pub async fn discover(server: &Server) -> Result<Discovery, Error> {
    let client = server.client();
    let mut lists = Vec::new();
    let mut discovery = Discovery::default();
    for version in client.list_core_api_versions().await?.versions {
        lists.push((String::new(), version.clone(), client.list_core_api_resources(&version).await));
    }
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.map(|v| v.version);
        let mut versions: Vec<String> = group.versions.into_iter().map(|v| v.version).collect();
        versions.sort_by_key(|v| (Some(v) != preferred.as_ref(), std::cmp::Reverse(Version::parse(v).priority())));
        for version in versions {
            let list = client.list_api_group_resources(&format!("{}/{version}", group.name)).await;
            lists.push((group.name.clone(), version, list));
        }
    }
    let mut seen = BTreeMap::new();
    for (group, version, list) in lists {
        match list {
            Ok(list) => collect(&group, &version, list, &mut seen),
            Err(error) => discovery.failures.push(format!("{group}/{version}: {error}")),
        }
    }
    discovery.kinds = seen.into_values().collect();
    Ok(discovery)
}

fn collect(group: &str, version: &str, list: APIResourceList, seen: &mut BTreeMap<(String, String), Served>) {
    for kind in list.resources.into_iter().filter(|r| !r.name.contains('/')) {
        seen.entry((group.to_owned(), kind.name.clone())).or_insert_with(|| Served {
            resource: Resource {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                kind: kind.kind.into(),
                plural: kind.name.into(),
                namespaced: kind.namespaced,
            },
            verbs: kind.verbs,
        });
    }
}

//! APIServices of the groups and versions that definitions bring.

use std::{collections::BTreeSet, sync::Arc};

use http::Method;
use serde_json::{Value, json};

use super::control::Control;
use crate::{
    bootstrap::{
        AUTOMANAGED, api_service_name, conditions_of_local_services,
        ensure::{EnsureError, send},
    },
    pipeline::Apiserver,
};

const COLLECTION: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// After all groups of Kubernetes' own.
const GROUP_PRIORITY: i32 = 1000;
const VERSION_PRIORITY: i32 = 100;

/// Registers the versions of a group that are to be served, and takes away those that are no more.
pub async fn register(control: &Control, server: &Arc<Apiserver>, group: &str) -> Result<(), EnsureError> {
    if group.is_empty() || server.world.registry.table().is_built_in(group) {
        return Ok(());
    }
    let definitions = control.kinds.group(group);
    let versions = definitions.iter().flat_map(|d| d.spec.versions.iter().filter(|version| version.served));
    let wanted: BTreeSet<_> = versions.map(|version| (group.to_owned(), version.name.clone())).collect();
    let of_group = |set: &BTreeSet<(String, String)>| -> BTreeSet<_> {
        set.iter().filter(|(known, _)| known == group).cloned().collect()
    };
    let known = of_group(&control.registered.lock());
    for (group, version) in wanted.difference(&known) {
        add(server, group, version).await?;
        control.registered.lock().insert((group.clone(), version.clone()));
    }
    // Of a group without definitions there may be some from before this server began.
    for (group, version) in known.difference(&wanted) {
        remove(server, group, version).await?;
        control.registered.lock().remove(&(group.clone(), version.clone()));
    }
    Ok(())
}

async fn add(server: &Arc<Apiserver>, group: &str, version: &str) -> Result<(), EnsureError> {
    let (service, name) = (server.own_service(), api_service_name(group, version));
    let path = format!("{COLLECTION}/{name}");
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "labels": {AUTOMANAGED: "true"}},
        "spec": {
            "group": group, "version": version,
            "groupPriorityMinimum": GROUP_PRIORITY, "versionPriority": VERSION_PRIORITY,
        },
    });
    let made = match send(&service, Method::GET, &path, None).await? {
        Some(existing) => Some(existing),
        None => send(&service, Method::POST, COLLECTION, Some(object)).await?,
    };
    let Some(mut made) = made.filter(|made| is_local(made) && made["status"]["conditions"].is_null()) else {
        return Ok(());
    };
    let mut status = conditions_of_local_services();
    status["conditions"][0]["lastTransitionTime"] = crate::metadata::seconds(server.world.now()).into();
    made["status"] = status;
    send(&service, Method::PUT, &format!("{path}/status"), Some(made)).await.map(drop)
}

/// Only what was registered for a definition goes with it.
async fn remove(server: &Arc<Apiserver>, group: &str, version: &str) -> Result<(), EnsureError> {
    let (service, path) = (server.own_service(), format!("{COLLECTION}/{}", api_service_name(group, version)));
    let Some(existing) = send(&service, Method::GET, &path, None).await? else { return Ok(()) };
    if existing["metadata"]["labels"][AUTOMANAGED] != "true" {
        return Ok(());
    }
    let uid = &existing["metadata"]["uid"];
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    send(&service, Method::DELETE, &path, Some(options)).await.map(drop)
}

fn is_local(service: &Value) -> bool {
    service["spec"]["service"].is_null()
}

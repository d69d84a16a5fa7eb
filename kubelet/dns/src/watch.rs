//! Keeps the zone true: watches namespaces, services and endpoint slices.

use std::{fmt::Debug, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Namespace, Service as ServiceObject},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::zone::{Endpoint, Port, Service, Target, Zone};

/// Starts a watch of each kind that names come from.
pub fn start(client: &Client, zone: &Arc<RwLock<Zone>>, tasks: &mut JoinSet<()>) {
    tasks.spawn(follow(
        Api::<Namespace>::all(client.clone()),
        zone.clone(),
        "namespaces",
        |zone, namespace, exists| {
            zone.set_namespace(&namespace.name_any(), exists);
        },
    ));
    tasks.spawn(follow(Api::<ServiceObject>::all(client.clone()), zone.clone(), "services", |zone, object, exists| {
        let service = exists.then(|| service(object)).flatten();
        zone.set_service(&object.namespace().unwrap_or_default(), &object.name_any(), service);
    }));
    tasks.spawn(follow(
        Api::<EndpointSlice>::all(client.clone()),
        zone.clone(),
        "endpointslices",
        |zone, slice, exists| {
            let Some(service) = slice.labels().get("kubernetes.io/service-name") else { return };
            let endpoints = if exists { endpoints(slice) } else { Vec::new() };
            zone.set_slice(&slice.namespace().unwrap_or_default(), service, &slice.name_any(), endpoints);
        },
    ));
}

/// Applies every change of a kind to the zone; after a relist, what is no longer there is taken out.
async fn follow<K>(api: Api<K>, zone: Arc<RwLock<Zone>>, cache: &'static str, apply: impl Fn(&mut Zone, &K, bool))
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut known = std::collections::HashMap::new();
    let mut listed = std::collections::HashMap::new();
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => {
                apply(&mut zone.write(), &object, true);
                known.insert(key(&object), object);
            }
            Ok(watcher::Event::Delete(object)) => {
                apply(&mut zone.write(), &object, false);
                known.remove(&key(&object));
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(key(&object), object);
            }
            Ok(watcher::Event::InitDone) => {
                let mut zone = zone.write();
                for (key, gone) in &known {
                    if !listed.contains_key(key) {
                        apply(&mut zone, gone, false);
                    }
                }
                for object in listed.values() {
                    apply(&mut zone, object, true);
                }
                known = std::mem::take(&mut listed);
                zone.completed(cache);
            }
            Err(error) => tracing::debug!(%error, cache, "a watch broke off; it is resumed"),
        }
    }
}

fn key<K: kube::Resource>(object: &K) -> (String, String) {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

fn service(object: &ServiceObject) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let ips = || spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
    let target = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => Target::External(spec.external_name.clone()?),
        (_, Some("None")) => Target::Headless,
        (_, None | Some("")) => return None,
        _ => Target::Cluster(ips().collect()),
    };
    let ports = spec.ports.iter().flatten().filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), Some(p.port)));
    Some(Service { target, ports: ports.collect() })
}

fn endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports = slice.ports.iter().flatten().filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), p.port));
    let ports: Vec<Port> = ports.collect();
    let ready = slice.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false));
    let named = ready.flat_map(|endpoint| {
        let addresses = endpoint.addresses.iter().filter_map(|a| a.parse().ok());
        addresses.map(|address| Endpoint { address, hostname: endpoint.hostname.clone(), ports: ports.clone() })
    });
    named.collect()
}

fn port(name: Option<&String>, protocol: Option<&String>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.cloned().unwrap_or_default(),
        protocol: protocol.map_or_else(|| "tcp".to_owned(), |p| p.to_lowercase()),
        number: u16::try_from(number?).ok()?,
    })
}

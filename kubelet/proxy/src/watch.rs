//! Keeps the rules true: watches services and endpoint slices, and applies what changes.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    Config, nft, rules,
    ruleset::{Family, Ruleset},
    service,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Changes come in bursts: so long they are gathered, since running `nft` costs some milliseconds.
const GATHER: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_secs(1);

pub fn start(config: Config, client: Client, tasks: &mut JoinSet<()>) {
    let changed = Arc::new(Notify::new());
    let (services, service_writer) = reflector::store();
    let (slices, slice_writer) = reflector::store();
    let (nodes, node_writer) = reflector::store();
    // Services that another proxy takes care of, and headless ones, are told apart by labels.
    let proxied = watcher::Config::default().labels(&format!("!{PROXY_NAME},!service.kubernetes.io/headless"));
    let own_node = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let watch_services =
        watcher(Api::<Service>::all(client.clone()), watcher::Config::default().labels(&format!("!{PROXY_NAME}")));
    let watch_slices = watcher(Api::<EndpointSlice>::all(client.clone()), proxied);
    let watch_node = watcher(Api::<Node>::all(client), own_node);
    tasks.spawn(follow(watch_services.default_backoff().reflect(service_writer), changed.clone()));
    tasks.spawn(follow(watch_slices.default_backoff().reflect(slice_writer), changed.clone()));
    tasks.spawn(follow(watch_node.default_backoff().reflect(node_writer), changed.clone()));
    tasks.spawn(Sync { config, services, slices, nodes, applied: [None, None] }.run(changed));
}

fn follow<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    changed: Arc<Notify>,
) -> impl Future<Output = ()> {
    events.for_each(move |event| {
        match event {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::debug!(%error, "a watch broke off; it is resumed"),
        }
        std::future::ready(())
    })
}

struct Sync {
    config: Config,
    services: reflector::Store<Service>,
    slices: reflector::Store<EndpointSlice>,
    nodes: reflector::Store<Node>,
    /// What the kernel holds, for each family; `None` if that is not known.
    applied: [Option<Ruleset>; 2],
}

impl Sync {
    async fn run(mut self, changed: Arc<Notify>) {
        // Rules made from half of the objects would cut off services that work.
        let filled = (self.services.wait_until_ready().await, self.slices.wait_until_ready().await);
        if filled.0.is_err() || filled.1.is_err() {
            return;
        }
        loop {
            if let Err(error) = self.sync().await {
                tracing::warn!(%error, "the service rules could not be applied; they are tried again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            changed.notified().await;
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn sync(&mut self) -> Result<(), nft::NftError> {
        let ports = self.ports();
        for (family, applied) in Family::ALL.into_iter().zip(&mut self.applied) {
            let wanted = rules::rules(&ports, &self.config.cluster_cidrs, family);
            let script = match applied {
                Some(applied) => wanted.difference(applied, family),
                None => wanted.replace(family),
            };
            if script.is_empty() {
                continue;
            }
            // Until it has succeeded nobody knows what the kernel holds.
            *applied = None;
            nft::run(&script).await?;
            *applied = Some(wanted);
        }
        Ok(())
    }

    fn ports(&self) -> Vec<service::ServicePort> {
        let slices = self.slices.state();
        let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in &slices {
            if let Some(service) = slice.labels().get(SERVICE_NAME) {
                by_service.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
            }
        }
        let zone = self.nodes.state().first().and_then(|node| node.labels().get(ZONE).cloned());
        let mut services = self.services.state();
        services.sort_by_key(|s| (s.namespace(), s.name_any()));
        let ports = services.iter().flat_map(|s| {
            let slices = by_service.get(&(s.namespace().unwrap_or_default(), s.name_any()));
            service::service_ports(s, slices.map_or(&[], Vec::as_slice), &self.config.node_name, zone.as_deref())
        });
        ports.collect()
    }
}

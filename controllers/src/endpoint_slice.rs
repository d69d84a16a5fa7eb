//! Lists the pods behind each Service in EndpointSlices.

pub mod plan;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};

use crate::{
    plan::Plan,
    pod,
    runtime::{
        Caches, Controller, View, Wiring,
        cache::Change,
        object::{self, Key},
        server::Error,
    },
    service,
};

pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

#[derive(Debug)]
pub struct Observed {
    pub service: Arc<Service>,
    /// Those that the Service selects and that have an address.
    pub pods: Vec<Arc<Pod>>,
    /// The zone of each of the pods' nodes that exist.
    pub zones: BTreeMap<String, Option<String>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub trigger_time: Option<Timestamp>,
}

#[derive(Default)]
pub struct EndpointSliceController;

impl Controller for EndpointSliceController {
    const NAME: &'static str = "endpointslice";
    const ACCOUNT: &'static str = "endpointslice-controller";
    const COMPONENT: &'static str = "endpoint-slice-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Service>();
        wiring.map::<Pod>(service::of_pod);
        wiring.map::<EndpointSlice>(|_, change| service_keys(change, CONTROLLER));
        let pods = wiring.reads::<Pod>();
        pods.index_by(pod::BY_NODE, pod::node_names);
        wiring.map::<Node>(of_node);
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        // The slices of a Service that is gone are the garbage collector's.
        let Some(service) = view.caches.get::<Service>().get(key) else {
            return Ok(None);
        };
        let Some(selector) = service::selector(&service) else {
            return Ok(None);
        };
        let all = view.caches.get::<Pod>().in_namespace(&key.namespace);
        let selected =
            all.into_iter().filter(|p| selector.matches(p.metadata.labels.as_ref().unwrap_or(&Default::default())));
        let pods: Vec<_> = selected.filter(|p| service::has_endpoint(p, true)).collect();
        let nodes = view.caches.get::<Node>();
        let zones = pods.iter().filter_map(|p| nodes.find("", pod::node_name(p))).map(|n| {
            let zone = object::label(&n.metadata, "topology.kubernetes.io/zone").filter(|z| !z.is_empty());
            (object::name(&n.metadata).to_owned(), zone.map(str::to_owned))
        });
        Ok(Some(Observed {
            zones: zones.collect(),
            slices: slices(&view.caches, key, CONTROLLER),
            trigger_time: service::trigger_time(&service, &pods),
            pods,
            service,
        }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

/// A Service's slices that one controller manages.
pub fn slices(caches: &Caches, service: &Key, controller: &str) -> Vec<Arc<EndpointSlice>> {
    let mut slices = caches.get::<EndpointSlice>().in_namespace(&service.namespace);
    slices.retain(|s| {
        object::label(&s.metadata, SERVICE_LABEL) == Some(&service.name)
            && object::label(&s.metadata, MANAGED_BY) == Some(controller)
            && s.metadata.deletion_timestamp.is_none()
    });
    slices
}

/// A slice's change concerns the Service that it is labelled with, before or after.
pub fn service_keys(change: &Change<'_, EndpointSlice>, controller: &str) -> Vec<Key> {
    let managed = |s: &&Arc<EndpointSlice>| object::label(&s.metadata, MANAGED_BY) == Some(controller);
    let key = |s: &Arc<EndpointSlice>| {
        object::label(&s.metadata, SERVICE_LABEL).map(|name| Key::new(object::namespace(&s.metadata), name))
    };
    change.states().filter(managed).filter_map(key).collect()
}

/// A node that comes, goes or moves to another zone concerns the Services of its pods.
fn of_node(caches: &Caches, change: &Change<'_, Node>) -> Vec<Key> {
    let zone = |n: &Arc<Node>| object::label(&n.metadata, "topology.kubernetes.io/zone").map(str::to_owned);
    let Some(node) = change.last().filter(|_| change.old.is_none() || change.old.map(zone) != change.new.map(zone))
    else {
        return Vec::new();
    };
    let pods = caches.get::<Pod>().indexed(pod::BY_NODE, object::name(&node.metadata));
    pods.iter().flat_map(|p| service::of_pod(caches, &Change { old: None, new: Some(p) })).collect()
}

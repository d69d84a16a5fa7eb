//! Mirrors Endpoints that people keep by hand into EndpointSlices.

use std::{net::IpAddr, sync::Arc};

use crds::owner;
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    endpoint_slice::{
        MANAGED_BY, SERVICE_LABEL,
        plan::{Arrangement, Wanted},
        service_keys, slices,
    },
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
    service::TRIGGER_TIME,
};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Of each subset so many addresses are mirrored.
const ADDRESSES_MAX: usize = 1000;

#[derive(Debug)]
pub struct Observed {
    /// None if there is nothing to mirror.
    pub endpoints: Option<Arc<Endpoints>>,
    pub slices: Vec<Arc<EndpointSlice>>,
}

#[derive(Default)]
pub struct EndpointSliceMirroringController;

impl Controller for EndpointSliceMirroringController {
    const NAME: &'static str = "endpointslice-mirroring";
    const ACCOUNT: &'static str = "endpointslicemirroring-controller";
    const COMPONENT: &'static str = "endpoint-slice-mirroring-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Endpoints>();
        wiring.root::<Service>();
        wiring.map::<EndpointSlice>(|_, change| service_keys(change, CONTROLLER));
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let service = view.caches.get::<Service>().get(key);
        let by_hand = service.is_some_and(|s| s.spec.as_ref().is_some_and(|s| s.selector.is_none()));
        let endpoints = view.caches.get::<Endpoints>().get(key).filter(|e| {
            by_hand
                && object::label(&e.metadata, SKIP_MIRROR) != Some("true")
                && object::annotation(&e.metadata, LEADER).is_none()
                && e.metadata.deletion_timestamp.is_none()
        });
        Ok(Some(Observed { endpoints, slices: slices(&view.caches, key, CONTROLLER) }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let Some(endpoints) = &seen.endpoints else {
            let deletions = seen.slices.iter().map(|s| Write::delete::<EndpointSlice>(&s.metadata));
            return Plan::default().together(deletions.collect());
        };
        let arrangement = Arrangement {
            meta: slice_meta(endpoints),
            owner: object::uid(&endpoints.metadata),
            endpoints_max: ADDRESSES_MAX,
            trigger_time: object::annotation(&endpoints.metadata, TRIGGER_TIME).and_then(|t| t.parse().ok()),
            deleting: false,
        };
        arrangement.arrange(wanted(endpoints), &seen.slices)
    }
}

fn slice_meta(endpoints: &Endpoints) -> ObjectMeta {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), object::name(&endpoints.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|k, _| k != TRIGGER_TIME && k != LAST_APPLIED);
    ObjectMeta {
        generate_name: Some(format!("{}-", object::name(&endpoints.metadata))),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner::controller_reference::<Endpoints>(&endpoints.metadata)]),
        ..ObjectMeta::default()
    }
}

fn wanted(endpoints: &Endpoints) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        for (address, ready) in ready.chain(unready).take(ADDRESSES_MAX) {
            let Some((endpoint, address_type)) = endpoint(address, ready) else {
                continue;
            };
            match wanted.iter_mut().find(|w| w.address_type == address_type && w.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => wanted.push(Wanted {
                    address_type: address_type.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    wanted
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(Endpoint, &'static str)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        ..Endpoint::default()
    };
    Some((endpoint, if ip.is_ipv6() { "IPv6" } else { "IPv4" }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_slice_for_each_family_and_set_of_ports() {
        let endpoints: Endpoints = serde_json::from_value(json!({
            "metadata": {"name": "e", "namespace": "n", "uid": "u", "annotations": {"a": "1", LAST_APPLIED: "x"}},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 80}]}]}))
        .unwrap();
        let seen = Observed { endpoints: Some(Arc::new(endpoints)), slices: Vec::new() };
        let plan = EndpointSliceMirroringController.plan(&seen);
        let slices: Vec<EndpointSlice> =
            plan.writes().map(|w| serde_json::from_value(w.body().unwrap().clone()).unwrap()).collect();
        assert_eq!(slices.iter().map(|s| s.address_type.as_str()).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
        assert_eq!(slices[0].endpoints.as_ref().unwrap().len(), 2);
        assert_eq!(slices[0].metadata.annotations, Some([("a".to_owned(), "1".to_owned())].into()));
        let mut kept = slices.clone();
        for (i, slice) in kept.iter_mut().enumerate() {
            slice.metadata.name = Some(i.to_string());
        }
        let again = Observed { slices: kept.into_iter().map(Arc::new).collect(), ..seen };
        assert!(EndpointSliceMirroringController.plan(&again).is_empty());
    }
}

//! The subsets of an Endpoints object: addresses that share ports.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::Observed;
use crate::{
    plan::{Event, Plan, Write},
    pod,
    runtime::object::{self, annotation, label},
    service,
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

pub fn is_ours(endpoints: &Endpoints) -> bool {
    label(&endpoints.metadata, MANAGED_BY) == Some(CONTROLLER)
}

pub fn plan(seen: &Observed) -> Plan {
    match seen {
        Observed::Left(endpoints) => Plan::of(Write::delete::<Endpoints>(&endpoints.metadata)),
        Observed::Serving { service, pods, endpoints, trigger_time } => {
            let subsets = subsets(service, pods.iter().map(|p| &**p));
            serve(service, subsets, endpoints.as_deref(), *trigger_time)
        }
    }
}

fn serve(
    service: &Service,
    mut subsets: Vec<EndpointSubset>,
    current: Option<&Endpoints>,
    trigger_time: Option<Timestamp>,
) -> Plan {
    let truncated = truncate(&mut subsets);
    let labels = labels(service);
    let subsets = Some(subsets).filter(|s| !s.is_empty());
    let over = current.is_some_and(|c| annotation(&c.metadata, OVER_CAPACITY).is_some());
    if current.is_some_and(|c| {
        c.subsets.as_deref().unwrap_or_default() == subsets.as_deref().unwrap_or_default()
            && c.metadata.labels.as_ref() == Some(&labels)
            && over == truncated
    }) {
        return Plan::default();
    }
    let mut metadata = current.map(|c| c.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    });
    metadata.labels = Some(labels);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.remove(service::TRIGGER_TIME);
    annotations.remove(OVER_CAPACITY);
    if let Some(time) = trigger_time {
        annotations.insert(service::TRIGGER_TIME.to_owned(), time.to_string());
    }
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    let endpoints = Endpoints { metadata, subsets };
    let (namespace, name) = (object::namespace(&service.metadata), object::name(&service.metadata));
    let about = object::reference(&endpoints);
    if current.is_some() {
        let message = format!("Failed to update endpoint {namespace}/{name}: {{error}}");
        return Plan::of(Write::update(&endpoints).told_failed(Event::warning(
            about,
            "FailedToUpdateEndpoint",
            message,
        )));
    }
    let message = format!("Failed to create endpoint for service {namespace}/{name}: {{error}}");
    Plan::of(Write::create(&endpoints).told_failed(Event::warning(about, "FailedToCreateEndpoint", message)))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS_LABEL);
    if service::is_headless(service) {
        labels.insert(service::HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    labels
}

type PortKey = (String, i32, String, Option<String>);
/// Address, and the pod behind it.
type AddressKey = (std::net::IpAddr, String);

/// Each address with all of its ports, addresses of the same ports together.
fn subsets<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<BTreeSet<PortKey>, [BTreeMap<AddressKey, EndpointAddress>; 2]> = BTreeMap::new();
    for pod in pods {
        let Some((key, address)) = address(service, pod) else {
            continue;
        };
        let ports = ports(service, pod);
        // Only a headless service may have endpoints without ports.
        if ports.is_empty() && !(service::is_headless(service) && has_no_ports(service)) {
            continue;
        }
        let unready = !service::publishes_unready(service) && !pod::is_ready(pod);
        groups.entry(ports).or_default()[usize::from(unready)].insert(key, address);
    }
    let subset = |(ports, [ready, unready]): (BTreeSet<PortKey>, [BTreeMap<AddressKey, EndpointAddress>; 2])| {
        let some = |addresses: BTreeMap<AddressKey, EndpointAddress>| {
            Some(addresses.into_values().collect::<Vec<_>>()).filter(|a| !a.is_empty())
        };
        let port = |(name, port, protocol, app_protocol): PortKey| EndpointPort {
            name: Some(name).filter(|n| !n.is_empty()),
            port,
            protocol: Some(protocol),
            app_protocol,
        };
        EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(unready),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|p| !p.is_empty()),
        }
    };
    groups.into_iter().map(subset).collect()
}

fn has_no_ports(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_none_or(Vec::is_empty)
}

fn ports(service: &Service, pod: &Pod) -> BTreeSet<PortKey> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let key = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let number = service::target_port(pod, port)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some((port.name.clone().unwrap_or_default(), number, protocol, port.app_protocol.clone()))
    };
    ports.filter_map(key).collect()
}

/// The pod's address of the Service's first family.
fn address(service: &Service, pod: &Pod) -> Option<(AddressKey, EndpointAddress)> {
    let spec = service.spec.as_ref()?;
    let first = spec.ip_families.as_ref().and_then(|f| f.first()).map(String::as_str);
    let ip = pod.status.as_ref()?.pod_ip.as_deref().unwrap_or_default();
    let six = match first {
        Some(family) => family == "IPv6",
        None if !service::is_headless(service) => spec.cluster_ip.as_deref().unwrap_or_default().contains(':'),
        None => ip.contains(':'),
    };
    let ip = service::addresses(pod, six).into_iter().next()?;
    let address = EndpointAddress {
        ip: ip.clone(),
        node_name: Some(pod::node_name(pod).to_owned()),
        hostname: service::hostname(pod, service),
        target_ref: Some(service::target(pod)),
    };
    Some(((ip.parse().ok()?, object::uid(&pod.metadata).to_owned()), address))
}

/// Cuts the addresses down to the limit, unready ones first; says whether it had to.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|s| count(&s.addresses)).sum();
    let unready: usize = subsets.iter().map(|s| count(&s.not_ready_addresses)).sum();
    if ready + unready <= ADDRESSES_MAX {
        return false;
    }
    let cut_ready = ready > ADDRESSES_MAX;
    let (room, total) = if cut_ready { (ADDRESSES_MAX, ready) } else { (ADDRESSES_MAX - ready, unready) };
    let mut left = room;
    for subset in subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (count(list) * room).div_ceil(total).min(left);
        if let Some(list) = list {
            list.truncate(share);
        }
        left -= count(list);
        list.take_if(|l| l.is_empty());
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [
                {"name": "a", "port": 80, "targetPort": 8080}, {"name": "b", "port": 81, "targetPort": "named"}]}}))
        .unwrap()
    }

    fn addressed(i: usize, state: &str, named: Option<i32>) -> Pod {
        let mut pod = pod(&format!("p{i}"), state);
        let ip = format!("10.1.{}.{}", i / 250, i % 250 + 1);
        pod.status.as_mut().unwrap().pod_ips = Some(serde_json::from_value(json!([{"ip": ip}])).unwrap());
        if let Some(port) = named {
            let container = json!([{"name": "c", "ports": [{"name": "named", "containerPort": port}]}]);
            pod.spec.as_mut().unwrap().containers = serde_json::from_value(container).unwrap();
        }
        pod
    }

    #[test]
    fn grouped_by_ports() {
        let pods = [addressed(2, "ready", Some(1)), addressed(1, "running", Some(1)), addressed(3, "ready", None)];
        let subsets = subsets(&service(), pods.iter());
        let ips = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>();
        let shown: Vec<_> = subsets
            .iter()
            .map(|s| (ips(&s.addresses), ips(&s.not_ready_addresses), s.ports.as_ref().unwrap().len()))
            .collect();
        let text = |s: &str| vec![s.to_owned()];
        assert_eq!(shown, [(text("10.1.0.4"), vec![], 1), (text("10.1.0.3"), text("10.1.0.2"), 2)]);
    }

    #[test]
    fn written_once() {
        let pods = [addressed(1, "ready", None)];
        let first = serve(&service(), subsets(&service(), pods.iter()), None, None);
        let made: Endpoints = serde_json::from_value(first.writes().next().unwrap().body().unwrap().clone()).unwrap();
        assert!(is_ours(&made));
        assert!(serve(&service(), subsets(&service(), pods.iter()), Some(&made), None).is_empty());
        assert!(!serve(&service(), vec![], Some(&made), None).is_empty());
    }

    #[test]
    fn cut_at_the_limit() {
        let pods: Vec<_> = (0..1200).map(|i| addressed(i, if i < 900 { "ready" } else { "running" }, None)).collect();
        let mut all = subsets(&service(), pods.iter());
        assert!(truncate(&mut all));
        assert_eq!(all[0].addresses.as_ref().unwrap().len(), 900);
        assert_eq!(all[0].not_ready_addresses.as_ref().unwrap().len(), 100);
    }
}

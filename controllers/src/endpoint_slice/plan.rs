//! Which endpoints a Service has, and how they are spread over slices with as few writes as possible.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::owner;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{CONTROLLER, MANAGED_BY, Observed, SERVICE_LABEL};
use crate::{
    plan::{Plan, Write},
    pod,
    runtime::object,
    service,
};

const ENDPOINTS_MAX: usize = 100;

/// What tells groups of slices apart: address type and ports.
type Group = (String, Vec<PortKey>);
type PortKey = (Option<String>, Option<i32>, Option<String>, Option<String>);

fn port_key(ports: &[EndpointPort]) -> Vec<PortKey> {
    let key = |p: &EndpointPort| (p.name.clone(), p.port, p.protocol.clone(), p.app_protocol.clone());
    let mut keys: Vec<_> = ports.iter().map(key).collect();
    keys.sort();
    keys
}

/// The endpoints that share address type and ports.
#[derive(Debug)]
pub struct Wanted {
    pub address_type: String,
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

pub fn plan(seen: &Observed) -> Plan {
    let types = address_types(&seen.service);
    let arrangement = Arrangement {
        meta: slice_meta(&seen.service),
        owner: object::uid(&seen.service.metadata),
        endpoints_max: ENDPOINTS_MAX,
        trigger_time: seen.trigger_time,
        deleting: seen.service.metadata.deletion_timestamp.is_some(),
    };
    let mut wanted: Vec<Wanted> = Vec::new();
    for address_type in &types {
        for pod in &seen.pods {
            add_pod(&mut wanted, seen, pod, address_type);
        }
        // A Service without endpoints has an empty slice of each type: somebody has looked.
        if !wanted.iter().any(|w| w.address_type == *address_type) {
            wanted.push(Wanted { address_type: (*address_type).to_owned(), ports: Vec::new(), endpoints: Vec::new() });
        }
    }
    arrangement.arrange(wanted, &seen.slices)
}

fn add_pod(wanted: &mut Vec<Wanted>, seen: &Observed, pod: &Pod, address_type: &str) {
    // A pod of a node that is gone is shown only where unready ones are, too.
    if !seen.zones.contains_key(pod::node_name(pod)) && !service::publishes_unready(&seen.service) {
        return;
    }
    let ports = ports(&seen.service, pod);
    let key = port_key(&ports);
    let at = wanted.iter().position(|w| w.address_type == address_type && port_key(&w.ports) == key);
    let group = match at {
        Some(at) => &mut wanted[at],
        None => {
            wanted.push(Wanted { address_type: address_type.to_owned(), ports, endpoints: Vec::new() });
            let last = wanted.len() - 1;
            &mut wanted[last]
        }
    };
    let endpoint = endpoint(seen, pod, address_type);
    if !endpoint.addresses.is_empty() {
        group.endpoints.push(endpoint);
    }
}

fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.unwrap_or_default();
    let has = |family: &str| families.iter().any(|f| f == family);
    let ip = spec.cluster_ip.unwrap_or_default();
    let (four, six) = match families.is_empty() {
        false => (has("IPv4"), has("IPv6")),
        true if matches!(ip.as_str(), "" | "None") => (true, true),
        true => (!ip.contains(':'), ip.contains(':')),
    };
    [("IPv4", four), ("IPv6", six)].into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let found = ports.filter_map(|port| {
        let number = service::target_port(pod, port)?;
        Some(EndpointPort {
            // An unnamed port has an empty name, not none.
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    found.collect()
}

fn endpoint(seen: &Observed, pod: &Pod, address_type: &str) -> Endpoint {
    let (serving, terminating) = (pod::is_ready(pod), pod::is_terminating(pod));
    let ready = service::publishes_unready(&seen.service) || (serving && !terminating);
    let node = Some(pod::node_name(pod)).filter(|n| !n.is_empty());
    let zone = node.and_then(|n| seen.zones.get(n).cloned().flatten());
    let hints = if ready { hints(&seen.service, node, zone.as_deref()) } else { None };
    Endpoint {
        addresses: service::addresses(pod, address_type == "IPv6"),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints,
        hostname: service::hostname(pod, &seen.service),
        node_name: node.map(str::to_owned),
        target_ref: Some(service::target(pod)),
        zone,
        deprecated_topology: None,
    }
}

/// Who should prefer an endpoint, if the Service asks for nearness.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let distribution = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let by_node = match distribution {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let zones = zone.map(|z| vec![ForZone { name: z.to_owned() }]);
    let nodes = node.filter(|_| by_node).map(|n| vec![ForNode { name: n.to_owned() }]);
    (zones.is_some() || nodes.is_some()).then_some(EndpointHints { for_zones: zones, for_nodes: nodes })
}

/// The metadata that every slice of a Service has.
fn slice_meta(service: &Service) -> ObjectMeta {
    let reserved = [SERVICE_LABEL, MANAGED_BY, service::HEADLESS_LABEL];
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|k, _| !reserved.contains(&k.as_str()));
    if service::is_headless(service) {
        labels.insert(service::HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_LABEL.to_owned(), object::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    ObjectMeta {
        generate_name: Some(format!("{}-", object::name(&service.metadata))),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![owner::controller_reference::<Service>(&service.metadata)]),
        ..ObjectMeta::default()
    }
}

/// How wanted endpoints are brought into slices.
pub struct Arrangement<'a> {
    /// What new slices are made with; its labels (and annotations, if any) are kept on old ones.
    pub meta: ObjectMeta,
    pub owner: &'a str,
    pub endpoints_max: usize,
    pub trigger_time: Option<Timestamp>,
    /// The owner is going: nothing new is made that the garbage collector would have to remove.
    pub deleting: bool,
}

#[derive(Default)]
struct Changes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
}

impl Arrangement<'_> {
    pub fn arrange(&self, wanted: Vec<Wanted>, existing: &[Arc<EndpointSlice>]) -> Plan {
        let mut changes = Changes::default();
        let mut groups: BTreeMap<Group, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
        for slice in existing {
            let owned = slice.metadata.owner_references.iter().flatten().any(|o| o.uid == self.owner);
            if !owned {
                changes.delete.push(slice.clone());
                continue;
            }
            let key = (slice.address_type.clone(), port_key(slice.ports.as_deref().unwrap_or_default()));
            groups.entry(key).or_default().push(slice.clone());
        }
        for group in wanted {
            let key = (group.address_type.clone(), port_key(&group.ports));
            let slices = groups.remove(&key).unwrap_or_default();
            self.arrange_group(group, slices, &mut changes);
        }
        changes.delete.extend(groups.into_values().flatten());
        self.writes(changes)
    }

    fn arrange_group(&self, group: Wanted, slices: Vec<Arc<EndpointSlice>>, changes: &mut Changes) {
        let placeholder = group.endpoints.is_empty();
        let mut missing: BTreeMap<_, Endpoint> = BTreeMap::new();
        let mut order = Vec::new();
        for endpoint in group.endpoints.iter().cloned() {
            order.push(identity(&endpoint));
            missing.insert(identity(&endpoint), endpoint);
        }
        let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
        for slice in slices {
            let mut updated = EndpointSlice::clone(&slice);
            let before = slice.endpoints.clone().unwrap_or_default();
            let kept: Vec<Endpoint> = before.iter().filter_map(|e| missing.remove(&identity(e))).collect();
            let relabelled = updated.metadata.labels != self.meta.labels || self.has_other_annotations(&slice.metadata);
            updated.metadata.labels.clone_from(&self.meta.labels);
            let differs = kept != before || relabelled;
            updated.endpoints = Some(kept);
            if differs { changed.push((slice, updated)) } else { unchanged.push((slice, updated)) }
        }
        let mut missing: Vec<Endpoint> = order.iter().filter_map(|id| missing.remove(id)).collect();
        missing.reverse();
        // Slices that must be written anyway are filled first, the fullest foremost.
        changed.sort_by_key(|(_, s)| Reverse(s.endpoints.as_ref().map_or(0, Vec::len)));
        for (_, slice) in &mut changed {
            self.fill(slice, &mut missing);
        }
        while !missing.is_empty() {
            match self.closest(&unchanged, missing.len()) {
                Some(at) => {
                    let (old, mut slice) = unchanged.swap_remove(at);
                    self.fill(&mut slice, &mut missing);
                    changed.push((old, slice));
                }
                None => {
                    let mut slice = EndpointSlice {
                        metadata: self.meta.clone(),
                        address_type: group.address_type.clone(),
                        ports: Some(group.ports.clone()),
                        endpoints: Some(Vec::new()),
                    };
                    self.fill(&mut slice, &mut missing);
                    changes.create.push(slice);
                }
            }
        }
        let mut left = unchanged.len() + changes.create.len();
        for (old, slice) in changed {
            let empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty);
            if empty && !(placeholder && left == 0) {
                changes.delete.push(old);
            } else {
                left += 1;
                changes.update.push(slice);
            }
        }
        if placeholder && left == 0 {
            changes.create.push(EndpointSlice {
                metadata: self.meta.clone(),
                address_type: group.address_type,
                ports: Some(group.ports),
                endpoints: Some(Vec::new()),
            });
        }
    }

    fn has_other_annotations(&self, meta: &ObjectMeta) -> bool {
        let mut have = meta.annotations.clone().unwrap_or_default();
        have.remove(service::TRIGGER_TIME);
        self.meta.annotations.as_ref().is_some_and(|want| *want != have)
    }

    fn fill(&self, slice: &mut EndpointSlice, missing: &mut Vec<Endpoint>) {
        let endpoints = slice.endpoints.get_or_insert_default();
        while endpoints.len() < self.endpoints_max
            && let Some(next) = missing.pop()
        {
            endpoints.push(next);
        }
    }

    /// The slice that the rest fits into best.
    fn closest(&self, slices: &[(Arc<EndpointSlice>, EndpointSlice)], count: usize) -> Option<usize> {
        let size = |s: &EndpointSlice| s.endpoints.as_ref().map_or(0, Vec::len);
        let room = |s: &EndpointSlice| self.endpoints_max.checked_sub(size(s) + count);
        let fitting = slices.iter().enumerate().filter_map(|(i, (_, s))| room(s).map(|room| (room, i)));
        fitting.min().map(|(_, i)| i)
    }

    fn writes(&self, mut changes: Changes) -> Plan {
        // One update is better than a deletion and a creation: nobody sees a moment without endpoints.
        let mut delete = Vec::new();
        for old in changes.delete {
            let owned = old.metadata.owner_references.iter().flatten().any(|o| o.uid == self.owner);
            let same = changes.create.iter().rposition(|s| owned && s.address_type == old.address_type);
            match same {
                Some(at) => {
                    let new = changes.create.remove(at);
                    let metadata = ObjectMeta {
                        labels: new.metadata.labels,
                        annotations: new.metadata.annotations,
                        ..old.metadata.clone()
                    };
                    changes.update.push(EndpointSlice { metadata, ..new });
                }
                None => delete.push(old),
            }
        }
        if self.deleting {
            changes.create.clear();
        }
        let stamp = |mut slice: EndpointSlice| {
            let mut annotations = match &self.meta.annotations {
                Some(wanted) => wanted.clone(),
                None => slice.metadata.annotations.take().unwrap_or_default(),
            };
            annotations.remove(service::TRIGGER_TIME);
            if let Some(time) = self.trigger_time {
                annotations.insert(service::TRIGGER_TIME.to_owned(), time.to_string());
            }
            slice.metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
            slice
        };
        Plan::default()
            .together(changes.create.into_iter().map(|s| Write::create(&stamp(s))).collect())
            .together(changes.update.into_iter().map(|s| Write::update(&stamp(s))).collect())
            .together(delete.iter().map(|s| Write::delete::<EndpointSlice>(&s.metadata)).collect())
    }
}

/// What makes two endpoints the same one.
fn identity(endpoint: &Endpoint) -> (BTreeSet<String>, Option<String>) {
    let uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.clone());
    (endpoint.addresses.iter().cloned().collect(), uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::pod;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "root", "labels": {"l": "1"}},
            "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "a"},
                "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}]}}))
        .unwrap()
    }

    fn addressed(i: usize, state: &str) -> Arc<Pod> {
        let mut pod = pod(&format!("p{i}"), state);
        let ip = format!("10.1.{}.{}", i / 250, i % 250 + 1);
        pod.status.as_mut().unwrap().pod_ips = Some(serde_json::from_value(json!([{"ip": ip}])).unwrap());
        pod.spec.as_mut().unwrap().node_name = Some("node".into());
        pod.spec.as_mut().unwrap().containers =
            serde_json::from_value(json!([{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}])).unwrap();
        Arc::new(pod)
    }

    fn observed(pods: Vec<Arc<Pod>>, slices: Vec<EndpointSlice>) -> Observed {
        Observed {
            service: Arc::new(service()),
            pods,
            zones: [("node".to_owned(), Some("z".to_owned()))].into(),
            slices: slices.into_iter().map(Arc::new).collect(),
            trigger_time: None,
        }
    }

    /// Carries a plan out on slices.
    fn apply(seen: &Observed) -> (Vec<EndpointSlice>, [usize; 3]) {
        let mut slices: BTreeMap<String, EndpointSlice> =
            seen.slices.iter().map(|s| (s.metadata.name.clone().unwrap(), EndpointSlice::clone(s))).collect();
        let mut counts = [0; 3];
        for write in plan(seen).writes() {
            match write.body() {
                None => {
                    slices.remove(&write.name);
                    counts[2] += 1;
                }
                Some(body) => {
                    let mut slice: EndpointSlice = serde_json::from_value(body.clone()).unwrap();
                    counts[usize::from(!write.is_create())] += 1;
                    let name = slice.metadata.name.get_or_insert_with(|| format!("s{}", slices.len())).clone();
                    slices.insert(name, slice);
                }
            }
        }
        (slices.into_values().collect(), counts)
    }

    #[test]
    fn slices_follow_pods() {
        let pods = |n: usize| (0..n).map(|i| addressed(i, "ready")).collect::<Vec<_>>();
        let (empty, counts) = apply(&observed(vec![], vec![]));
        assert_eq!((counts, empty[0].endpoints.as_deref()), ([1, 0, 0], Some(&[][..])));
        assert_eq!(apply(&observed(vec![], empty.clone())).1, [0, 0, 0], "the placeholder stays");
        let (one, counts) = apply(&observed(pods(1), empty));
        assert_eq!(counts, [0, 1, 0], "the placeholder is used");
        assert_eq!(apply(&observed(pods(1), one.clone())).1, [0, 0, 0]);
        let (many, counts) = apply(&observed(pods(250), one));
        assert_eq!((many.len(), counts), (3, [2, 1, 0]));
        assert!(many.iter().all(|s| s.endpoints.as_ref().unwrap().len() <= 100));
        let (few, _) = apply(&observed(pods(2), many));
        assert_eq!(few.iter().map(|s| s.endpoints.as_ref().unwrap().len()).sum::<usize>(), 2);
        let (none, _) = apply(&observed(vec![], few));
        assert_eq!(none.len(), 1);
        assert!(none[0].ports.as_ref().unwrap().is_empty());
    }

    #[test]
    fn what_an_endpoint_shows() {
        for (state, ready, serving, terminating) in
            [("ready", true, true, false), ("running", false, false, false), ("terminating", false, false, true)]
        {
            let (slices, _) = apply(&observed(vec![addressed(1, state)], vec![]));
            let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
            let conditions = endpoint.conditions.as_ref().unwrap();
            assert_eq!(
                (conditions.ready, conditions.serving, conditions.terminating),
                (Some(ready), Some(serving), Some(terminating)),
                "{state}"
            );
            assert_eq!(endpoint.zone.as_deref(), Some("z"));
            assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
            assert_eq!(slices[0].ports.as_ref().unwrap()[0].name.as_deref(), Some(""));
        }
    }

    #[test]
    fn labels_of_the_service_are_kept_up() {
        let (mut slices, _) = apply(&observed(vec![addressed(1, "ready")], vec![]));
        slices[0].metadata.labels.as_mut().unwrap().remove("l");
        let (slices, counts) = apply(&observed(vec![addressed(1, "ready")], slices));
        assert_eq!(counts, [0, 1, 0]);
        assert_eq!(object::label(&slices[0].metadata, "l"), Some("1"));
    }
}

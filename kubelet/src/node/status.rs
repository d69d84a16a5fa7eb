//! What a node says about itself, from what is seen of it.

use std::{collections::BTreeMap, net::IpAddr};

use crds::quantity::Quantity;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
        NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{api::resource::Quantity as Wire, apis::meta::v1::Time},
};

use super::VERSION;
use crate::{
    config::Config,
    pod::resource,
    system::{Machine, Space},
};

/// How many images a node tells of, the largest first, and how many names of each.
const IMAGES_MAX: usize = 50;
const NAMES_MAX: usize = 5;

/// What is seen of the node at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    pub machine: Machine,
    pub space: Space,
    pub addresses: Vec<IpAddr>,
    pub hostname: String,
    /// Name and version of the runtime, if it answers.
    pub runtime: Option<(String, String)>,
    /// `Err` tells why nobody answers.
    pub runtime_status: Result<cri::StatusResponse, String>,
    pub images: Vec<cri::Image>,
    /// The port of the node's own API.
    pub port: u16,
    pub pressures: Vec<&'static str>,
    /// A pod network is configured, or none is asked of us.
    pub network_configured: bool,
}

/// All that the machine has.
pub fn capacity(machine: &Machine, space: &Space, config: &Config) -> resource::List {
    let mut all = resource::List::from([
        ("cpu".into(), Quantity::from_units(machine.cpus)),
        ("memory".into(), kibi(machine.memory_bytes)),
        ("pods".into(), Quantity::from_units(config.max_pods)),
    ]);
    if space.capacity_bytes > 0 {
        all.insert("ephemeral-storage".into(), kibi(i64::try_from(space.capacity_bytes).unwrap_or(i64::MAX)));
    }
    all
}

/// What pods may have: the capacity without what is reserved and what eviction keeps free.
pub fn allocatable(capacity: &resource::List, config: &Config) -> resource::List {
    let mut left = capacity.clone();
    for (name, reserved) in &config.reserved {
        if let (Some(q), Ok(reserved)) = (left.get_mut(name), reserved.parse::<Quantity>()) {
            *q = *q - reserved;
        }
    }
    if let Some(memory) = left.get_mut("memory") {
        let kept = i64::try_from(config.eviction_hard.memory_available_bytes).unwrap_or(i64::MAX);
        *memory = *memory - Quantity::from_bytes(kept);
    }
    if let Some(storage) = left.get_mut("ephemeral-storage") {
        let part = (100.0 - config.eviction_hard.nodefs_available_percent) / 100.0;
        *storage = Quantity::from_units((storage.units() as f64 * part) as i64);
    }
    for q in left.values_mut().filter(|q| q.is_negative()) {
        *q = Quantity::ZERO;
    }
    left
}

fn kibi(bytes: i64) -> Quantity {
    Quantity::from_bytes(bytes / 1024 * 1024)
}

fn wire(list: resource::List) -> BTreeMap<String, Wire> {
    list.into_iter().map(|(name, q)| (name, q.into())).collect()
}

/// The whole status. Resources that others have added are kept, and so are the times of conditions that stay.
pub fn status(config: &Config, seen: &Seen, old: &NodeStatus, now: Timestamp) -> NodeStatus {
    let capacity = capacity(&seen.machine, &seen.space, config);
    let allocatable = allocatable(&capacity, config);
    let (mut all, mut free) = (wire(capacity), wire(allocatable));
    for (name, q) in old.capacity.iter().flatten() {
        all.entry(name.clone()).or_insert_with(|| q.clone());
        free.entry(name.clone()).or_insert_with(|| q.clone());
    }
    let machine = &seen.machine;
    let (features, handlers) = features(seen);
    NodeStatus {
        addresses: Some(addresses(seen)),
        capacity: Some(all),
        allocatable: Some(free),
        conditions: Some(conditions(seen, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(seen.port) }),
        }),
        declared_features: Some(vec!["ExtendWebSocketsToKubelet".into()]),
        features,
        images: Some(images(&seen.images)),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.clone(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: runtime_version(seen, old),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.into(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..Default::default()
        }),
        runtime_handlers: handlers,
        ..old.clone()
    }
}

/// A runtime that is down for a while is still the same.
fn runtime_version(seen: &Seen, old: &NodeStatus) -> String {
    let before = || old.node_info.as_ref().map(|i| i.container_runtime_version.clone()).unwrap_or_default();
    seen.runtime.as_ref().map_or_else(before, |(name, version)| format!("{name}://{version}"))
}

fn addresses(seen: &Seen) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    let internal = seen.addresses.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", seen.hostname.clone())]).collect()
}

fn images(all: &[cri::Image]) -> Vec<ContainerImage> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let image = |i: &cri::Image| ContainerImage {
        names: Some(i.repo_digests.iter().chain(&i.repo_tags).take(NAMES_MAX).cloned().collect()),
        size_bytes: i64::try_from(i.size).ok(),
    };
    all.into_iter()
        .filter(|i| !i.repo_tags.is_empty() || !i.repo_digests.is_empty())
        .take(IMAGES_MAX)
        .map(image)
        .collect()
}

fn features(seen: &Seen) -> (Option<NodeFeatures>, Option<Vec<NodeRuntimeHandler>>) {
    let Ok(status) = &seen.runtime_status else { return (None, None) };
    let features = status
        .features
        .as_ref()
        .map(|f| NodeFeatures { supplemental_groups_policy: Some(f.supplemental_groups_policy) });
    let handler = |h: &cri::RuntimeHandler| NodeRuntimeHandler {
        name: Some(h.name.clone()).filter(|n| !n.is_empty()),
        features: h.features.as_ref().map(|f| NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
            user_namespaces: Some(f.user_namespaces),
        }),
    };
    let handlers: Vec<_> = status.runtime_handlers.iter().map(handler).collect();
    (features, (!handlers.is_empty()).then_some(handlers))
}

fn conditions(seen: &Seen, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let pressed = |kind: &str| seen.pressures.contains(&kind);
    let pressure = |kind: &str, pressed: bool, [bad, good]: [&str; 2], [worse, better]: [&str; 2]| {
        let (status, reason, message) = if pressed { ("True", bad, worse) } else { ("False", good, better) };
        condition(kind, status, reason, message.into(), old, now)
    };
    let (ready, reason, message) = match unready(seen) {
        None => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("False", "KubeletNotReady", why),
    };
    let own = vec![
        pressure(
            "MemoryPressure",
            pressed("memory"),
            ["KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"],
            ["kubelet has insufficient memory available", "kubelet has sufficient memory available"],
        ),
        pressure(
            "DiskPressure",
            pressed("disk"),
            ["KubeletHasDiskPressure", "KubeletHasNoDiskPressure"],
            ["kubelet has disk pressure", "kubelet has no disk pressure"],
        ),
        pressure(
            "PIDPressure",
            pressed("pid"),
            ["KubeletHasInsufficientPID", "KubeletHasSufficientPID"],
            ["kubelet has insufficient PID available", "kubelet has sufficient PID available"],
        ),
        condition("Ready", ready, reason, message, old, now),
    ];
    let kinds: Vec<_> = own.iter().map(|c| c.type_.clone()).collect();
    let others = old.conditions.iter().flatten().filter(|c| !kinds.contains(&c.type_)).cloned();
    others.chain(own.clone()).collect()
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    old: &NodeStatus,
    now: Timestamp,
) -> NodeCondition {
    let before = old.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
    }
}

/// Why the node cannot run pods.
fn unready(seen: &Seen) -> Option<String> {
    let status = match &seen.runtime_status {
        Err(_) => return Some("container runtime is down".into()),
        Ok(status) => status.status.clone().unwrap_or_default(),
    };
    let mut why = Vec::new();
    for (kind, what) in
        [("RuntimeReady", "container runtime not ready"), ("NetworkReady", "container runtime network not ready")]
    {
        match status.conditions.iter().find(|c| c.r#type == kind) {
            Some(c) if c.status => {}
            Some(c) => why.push(format!("{what}: {kind}=false reason:{} message:{}", c.reason, c.message)),
            None => why.push(format!("{what}: {kind} is not reported")),
        }
    }
    if !seen.network_configured {
        why.push("the node has no pod CIDR yet".into());
    }
    (!why.is_empty()).then(|| why.join(", "))
}

/// Whether anything but heartbeats differs.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |s: &NodeStatus| {
        let mut s = s.clone();
        s.conditions.iter_mut().flatten().for_each(|c| c.last_heartbeat_time = None);
        s
    };
    still(a) != still(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ready: bool) -> Seen {
        let condition = |kind: &str, status| cri::RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", ready)];
        Seen {
            machine: Machine { cpus: 2, memory_bytes: 4 << 30, ..Default::default() },
            runtime_status: Ok(cri::StatusResponse {
                status: Some(cri::RuntimeStatus { conditions }),
                ..Default::default()
            }),
            network_configured: true,
            space: Space::default(),
            addresses: Vec::new(),
            hostname: "n".into(),
            runtime: Some(("containerd".into(), "1".into())),
            images: Vec::new(),
            port: 10250,
            pressures: Vec::new(),
        }
    }

    #[test]
    fn resources_and_readiness() {
        let config = Config { reserved: [("cpu".to_owned(), "500m".to_owned())].into(), ..Default::default() };
        let now = Timestamp::from_second(7).unwrap();
        let extended = NodeStatus {
            capacity: Some([("example.com/foo".to_owned(), Wire("5".into()))].into()),
            ..Default::default()
        };
        let made = status(&config, &seen(true), &extended, now);
        let allocatable = made.allocatable.clone().unwrap();
        assert_eq!((allocatable["cpu"].0.as_str(), allocatable["memory"].0.as_str()), ("1500m", "3996Mi"));
        assert_eq!(allocatable["example.com/foo"].0, "5");
        let later = Timestamp::from_second(17).unwrap();
        assert!(!differs(&made, &status(&config, &seen(true), &made, later)));
        let down = status(&config, &seen(false), &made, later);
        assert!(differs(&made, &down));
        let ready = down.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            ready.message.unwrap(),
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
        );
        assert_eq!(ready.last_transition_time, Some(Time(later)));
    }
}

//! What containers and pods ask of the machine, and how the kernel is told.

use std::collections::BTreeMap;

use crds::quantity::Quantity;
use k8s_cri::v1 as cri;
use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, ResourceFieldSelector, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Wire,
};

use super::{
    PodExt, Role, init_role,
    observed::{Container as Seen, Observed},
    qos,
};

/// The period over which a cpu limit is enforced, in microseconds.
pub const PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// A smaller quota is refused by the kernel, in microseconds.
const MIN_QUOTA: i64 = 1_000;

pub type List = BTreeMap<String, Quantity>;

/// Shares of the cpu for a request in thousandths.
pub const fn shares(millis: i64) -> i64 {
    let shares = millis.saturating_mul(1024) / 1000;
    if shares < MIN_SHARES {
        MIN_SHARES
    } else if shares > MAX_SHARES {
        MAX_SHARES
    } else {
        shares
    }
}

/// Microseconds in each period for a limit in thousandths; 0 is no limit.
pub const fn quota(millis: i64) -> i64 {
    if millis == 0 {
        return 0;
    }
    let quota = millis.saturating_mul(PERIOD) / 1000;
    if quota < MIN_QUOTA { MIN_QUOTA } else { quota }
}

fn amount(list: Option<&BTreeMap<String, Wire>>, name: &str) -> Option<Quantity> {
    list?.get(name).map(|q| Quantity::of(Some(q)))
}

fn of(r: Option<&ResourceRequirements>, limits: bool) -> Option<&BTreeMap<String, Wire>> {
    r.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() })
}

/// The limits and weights of one container.
pub fn linux(pod: &Pod, c: &Container, oom_score_adj: i64) -> cri::LinuxContainerResources {
    let spec = pod.spec();
    let own = c.resources.as_ref();
    let limit = |name| {
        let own = amount(of(own, true), name).filter(|q| !q.is_zero());
        own.or_else(|| amount(of(spec.resources.as_ref(), true), name)).unwrap_or(Quantity::ZERO)
    };
    let cpu_limit = limit("cpu").millis();
    let cpu_request = amount(of(own, false), "cpu").map_or(cpu_limit, |q| q.millis());
    cri::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: limit("memory").units(),
        oom_score_adj,
        ..Default::default()
    }
}

/// What a running container is to have now, and the resources in which that differs from what it was given. None: it
/// has that, or is of a static pod, which is never resized.
pub fn resized(
    pod: &Pod,
    c: &Container,
    running: &Seen,
    seen: &Observed,
) -> Option<(cri::LinuxContainerResources, Vec<&'static str>)> {
    let given = seen.actuated.get(&running.id).filter(|_| !pod.is_static())?;
    let resources = linux(pod, c, given.oom_score_adj);
    let changed = changed(given, &resources);
    (!changed.is_empty()).then_some((resources, changed))
}

/// The resources in which two settings differ.
fn changed(a: &cri::LinuxContainerResources, b: &cri::LinuxContainerResources) -> Vec<&'static str> {
    let cpu = a.cpu_shares != b.cpu_shares || a.cpu_quota.max(0) != b.cpu_quota.max(0);
    let memory = a.memory_limit_in_bytes.max(0) != b.memory_limit_in_bytes.max(0);
    [(cpu, "cpu"), (memory, "memory")].into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}

fn add(list: &mut List, more: Option<&BTreeMap<String, Wire>>) {
    for (name, q) in more.into_iter().flatten() {
        let entry = list.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry += Quantity::of(Some(q));
    }
}

fn raise(list: &mut List, other: &List) {
    for (name, q) in other {
        let entry = list.entry(name.clone()).or_insert(*q);
        *entry = (*entry).max(*q);
    }
}

/// What a pod needs: main containers and sidecars together, or the hungriest moment of its start.
pub fn total(pod: &Pod, limits: bool) -> List {
    let spec = pod.spec();
    let (mut sum, mut sidecars, mut start) = (List::new(), List::new(), List::new());
    for c in &spec.containers {
        add(&mut sum, of(c.resources.as_ref(), limits));
    }
    for c in spec.init_containers.iter().flatten() {
        let asked = of(c.resources.as_ref(), limits);
        let mut moment = sidecars.clone();
        add(&mut moment, asked);
        if init_role(c) == Role::Sidecar {
            add(&mut sum, asked);
            sidecars = moment.clone();
        }
        raise(&mut start, &moment);
    }
    raise(&mut sum, &start);
    for (name, q) in of(spec.resources.as_ref(), limits).into_iter().flatten() {
        sum.insert(name.clone(), Quantity::of(Some(q)));
    }
    let overhead = spec.overhead.as_ref().filter(|_| !limits || !sum.is_empty());
    add(&mut sum, overhead);
    sum
}

/// What is reserved for a pod, as its status tells it.
pub fn requests(pod: &Pod) -> BTreeMap<String, Wire> {
    total(pod, false).into_iter().map(|(name, q)| (name, q.into())).collect()
}

/// The resources of the pod as a whole, as its status tells them.
pub fn pod_status(pod: &Pod) -> Option<ResourceRequirements> {
    let wire = |list: List| -> Option<BTreeMap<String, Wire>> {
        let shown = list.into_iter().filter(|(_, q)| !q.is_zero());
        Some(shown.map(|(name, q)| (name, q.into())).collect()).filter(|m: &BTreeMap<_, _>| !m.is_empty())
    };
    let limited =
        |name: &str| pod.spec().containers.iter().all(|c| amount(of(c.resources.as_ref(), true), name).is_some());
    let limits = total(pod, true).into_iter().filter(|(name, _)| limited(name)).collect();
    Some(ResourceRequirements { requests: wire(total(pod, false)), limits: wire(limits), claims: None })
}

/// The settings of the group that holds a whole pod: shares, quota and memory, each only where it bounds anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub cpu_shares: i64,
    pub cpu_quota: Option<i64>,
    pub memory_bytes: Option<i64>,
}

/// A pod is bounded by the sum of its limits, if every container has one.
pub fn group(pod: &Pod) -> Group {
    let spec = pod.spec();
    let (requests, limits) = (total(pod, false), total(pod, true));
    let bounded = |name: &str| {
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let whole = amount(of(spec.resources.as_ref(), true), name).is_some();
        let each = all.into_iter().all(|c| amount(of(c.resources.as_ref(), true), name).is_some_and(|q| !q.is_zero()));
        (whole || each).then(|| limits.get(name).copied()).flatten()
    };
    let cpu = requests.get("cpu").or_else(|| limits.get("cpu")).copied().unwrap_or(Quantity::ZERO);
    match qos::class(pod) {
        qos::BEST_EFFORT => Group { cpu_shares: MIN_SHARES, ..Group::default() },
        _ => Group {
            cpu_shares: shares(cpu.millis()),
            cpu_quota: bounded("cpu").map(|q| quota(q.millis())),
            memory_bytes: bounded("memory").map(|q| q.units()),
        },
    }
}

/// What a container was really given: as the runtime tells, else as it was told before, else as asked.
pub fn container_status(
    c: &Container,
    seen: &Seen,
    actuated: Option<&cri::LinuxContainerResources>,
    old: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let mut shown = c.resources.clone().unwrap_or_default();
    shown.claims = None;
    if seen.state != super::observed::State::Running {
        return shown;
    }
    let Some(actual) = seen.resources.as_ref().or(actuated) else {
        return old.and_then(|o| o.resources.clone()).unwrap_or(shown);
    };
    let mut set = |limits: bool, name: &str, value: Option<Quantity>, least: i64| {
        let list = if limits { &mut shown.limits } else { &mut shown.requests };
        let Some(list) = list else { return };
        let asked = amount(Some(list), name).unwrap_or(Quantity::ZERO).millis();
        if let Some(value) = value.filter(|v| v.millis() > least || asked > least) {
            list.insert(name.into(), value.into());
        }
    };
    let limit = (actual.cpu_period > 0 && actual.cpu_quota > 0)
        .then(|| Quantity::from_millis(actual.cpu_quota * 1000 / actual.cpu_period));
    let request = (actual.cpu_shares > 0).then(|| Quantity::from_millis((actual.cpu_shares * 1000 + 1023) / 1024));
    let memory = (actual.memory_limit_in_bytes > 0).then(|| Quantity::from_bytes(actual.memory_limit_in_bytes));
    set(true, "cpu", limit, 10);
    set(false, "cpu", request, 2);
    set(true, "memory", memory, 0);
    shown
}

/// The value of a `resourceFieldRef`. What a container is not limited to is what the node has.
pub fn field(selector: &ResourceFieldSelector, c: &Container, allocatable: &List) -> Option<String> {
    let (kind, name) = selector.resource.split_once('.')?;
    let limits = kind == "limits";
    if !limits && kind != "requests" {
        return None;
    }
    let node = |name: &str| allocatable.get(name).copied();
    let own = amount(of(c.resources.as_ref(), limits), name);
    let value = if limits {
        own.filter(|q| !q.is_zero()).or_else(|| node(name))
    } else {
        own.or_else(|| amount(of(c.resources.as_ref(), true), name))
    };
    let value = value.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref().map_or(Quantity::ZERO, |d| Quantity::of(Some(d)));
    let divisor = if divisor.is_zero() { Quantity::from_units(1) } else { divisor };
    let (n, d) = (value.nanos(), divisor.nanos());
    Some((n / d + i128::from(n % d > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn ask(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"requests": {"cpu": cpu, "memory": memory}})
    }

    #[test]
    fn shares_and_quotas() {
        assert_eq!([0, 1, 100, 1000].map(shares), [2, 2, 102, 1024]);
        assert_eq!([0, 1, 10, 500, 2000].map(quota), [0, 1000, 1000, 50_000, 200_000]);
    }

    #[test]
    fn totals() {
        let pod = pod(json!({
            "containers": [{"name": "a", "resources": ask("100m", "1Gi")}, {"name": "b", "resources": ask("100m", "1Gi")}],
            "initContainers": [
                {"name": "i", "resources": ask("50m", "4Gi")},
                {"name": "s", "restartPolicy": "Always", "resources": ask("10m", "1Gi")},
                {"name": "j", "resources": ask("1", "1Gi")},
            ],
            "overhead": {"cpu": "5m"},
        }));
        let shown: Vec<_> = requests(&pod).into_iter().map(|(k, v)| format!("{k}={}", v.0)).collect();
        assert_eq!(shown, ["cpu=1015m", "memory=4Gi"]);
    }

    #[test]
    fn groups_are_bounded_when_all_are() {
        let limited = json!({"limits": {"cpu": "500m", "memory": "1Gi"}});
        let both =
            pod(json!({"containers": [{"name": "a", "resources": limited}, {"name": "b", "resources": limited}]}));
        let want = Group { cpu_shares: 1024, cpu_quota: Some(100_000), memory_bytes: Some(2 << 30) };
        assert_eq!(group(&both), want);
        let one = pod(json!({"containers": [{"name": "a", "resources": limited}, {"name": "b"}]}));
        assert_eq!(group(&one), Group { cpu_shares: 512, ..Group::default() });
        assert_eq!(group(&pod(json!({"containers": [{"name": "a"}]}))).cpu_shares, 2);
    }

    #[test]
    fn fields() {
        let c: Container = serde_json::from_value(json!({"name": "a", "resources": {"limits": {"memory": "64Mi"},
            "requests": {"cpu": "250m"}}}))
        .unwrap();
        let node = List::from([("cpu".into(), Quantity::from_units(2))]);
        for (resource, divisor, want) in [
            ("requests.cpu", "1m", Some("250")),
            ("requests.cpu", "0", Some("1")),
            ("limits.cpu", "1", Some("2")),
            ("limits.memory", "1Mi", Some("64")),
            ("requests.memory", "1", Some("67108864")),
            ("bounds.memory", "1", None),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            assert_eq!(field(&selector, &c, &node).as_deref(), want, "{resource} {divisor}");
        }
    }
}

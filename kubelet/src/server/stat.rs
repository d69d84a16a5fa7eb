//! What pods and the node use, as metrics-server and `kubectl top` read it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_cri::v1 as cri;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Answer, json as answer};
use crate::{
    agent::Agent,
    pod::{
        PodExt,
        observed::{CONTAINER_NAME, POD_UID, State, timestamp},
        table::Entry,
    },
};

/// The usage of one running container.
pub struct Usage {
    pub entry: Arc<Entry>,
    pub container: String,
    pub started_nanos: i64,
    pub cpu_nanos: u64,
    pub working_set_bytes: u64,
    pub stats: cri::ContainerStats,
}

/// The usage of all running containers of known pods.
pub async fn usages(agent: &Agent) -> Vec<Usage> {
    let stats = agent.runtime.stats().await.unwrap_or_default();
    let usage = |stats: cri::ContainerStats| {
        let attributes = stats.attributes.as_ref()?;
        let entry = agent.pods.get(attributes.labels.get(POD_UID)?)?;
        let running = entry.containers.iter().find(|c| c.id == attributes.id && c.state == State::Running)?;
        let cpu = stats.cpu.as_ref()?;
        Some(Usage {
            container: attributes.labels.get(CONTAINER_NAME)?.clone(),
            started_nanos: running.started_at,
            cpu_nanos: cpu.usage_core_nano_seconds.map_or(0, |v| v.value),
            working_set_bytes: stats.memory.as_ref().and_then(|m| m.working_set_bytes).map_or(0, |v| v.value),
            entry: entry.clone(),
            stats,
        })
    };
    stats.into_iter().filter_map(usage).collect()
}

fn time(nanos: i64) -> Time {
    Time(timestamp(nanos))
}

fn value(v: Option<&cri::UInt64Value>) -> Value {
    v.map_or(Value::Null, |v| json!(v.value))
}

fn container(usage: &Usage) -> Value {
    let (cpu, memory) = (usage.stats.cpu.unwrap_or_default(), usage.stats.memory.unwrap_or_default());
    let disk = usage.stats.writable_layer.clone().unwrap_or_default();
    pruned(json!({
        "name": usage.container, "startTime": time(usage.started_nanos),
        "cpu": {"time": time(cpu.timestamp), "usageNanoCores": value(cpu.usage_nano_cores.as_ref()),
            "usageCoreNanoSeconds": usage.cpu_nanos},
        "memory": {"time": time(memory.timestamp), "workingSetBytes": usage.working_set_bytes,
            "availableBytes": value(memory.available_bytes.as_ref()), "usageBytes": value(memory.usage_bytes.as_ref()),
            "rssBytes": value(memory.rss_bytes.as_ref()), "pageFaults": value(memory.page_faults.as_ref()),
            "majorPageFaults": value(memory.major_page_faults.as_ref())},
        "rootfs": {"time": time(disk.timestamp), "usedBytes": value(disk.used_bytes.as_ref()),
            "inodesUsed": value(disk.inodes_used.as_ref())},
    }))
}

/// Without members that are null.
fn pruned(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(|v| *v = pruned(v.take()));
    }
    value
}

pub async fn summary(agent: &Arc<Agent>) -> Answer {
    let usages = usages(agent).await;
    let memory = agent.system.memory().unwrap_or_default();
    let space = agent.system.space(&agent.config.root_dir).unwrap_or_default();
    let now = Time(agent.clock.now());
    let mut pods: BTreeMap<String, Vec<&Usage>> = BTreeMap::new();
    for usage in &usages {
        pods.entry(usage.entry.pod.uid().to_owned()).or_default().push(usage);
    }
    let pod = |list: Vec<&Usage>| -> Option<Value> {
        let pod = &list.first()?.entry.pod;
        let sum = |of: fn(&Usage) -> u64| list.iter().map(|u| of(u)).sum::<u64>();
        Some(json!({
            "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
            "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()),
            "containers": list.iter().map(|u| container(u)).collect::<Vec<_>>(),
            "cpu": {"time": now, "usageCoreNanoSeconds": sum(|u| u.cpu_nanos)},
            "memory": {"time": now, "workingSetBytes": sum(|u| u.working_set_bytes)},
        }))
    };
    let filesystem = json!({
        "time": now, "availableBytes": space.available_bytes, "capacityBytes": space.capacity_bytes,
        "usedBytes": space.capacity_bytes.saturating_sub(space.available_bytes),
        "inodesFree": space.inodes_free, "inodes": space.inodes,
        "inodesUsed": space.inodes.saturating_sub(space.inodes_free),
    });
    answer(&json!({
        "node": {
            "nodeName": agent.config.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": memory.cpu_nanos},
            "memory": {"time": now, "availableBytes": memory.available_bytes, "usageBytes": memory.usage_bytes,
                "workingSetBytes": memory.working_set_bytes, "rssBytes": memory.rss_bytes},
            "fs": filesystem, "runtime": {"imageFs": filesystem},
            "rlimit": {"time": now, "maxpid": memory.processes_max, "curproc": memory.processes},
        },
        "pods": pods.into_values().filter_map(pod).collect::<Vec<_>>(),
    }))
}

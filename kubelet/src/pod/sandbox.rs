//! The configuration of a pod's sandbox.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;

use super::{
    PodExt, hostname,
    observed::{POD_NAME, POD_NAMESPACE, POD_UID},
    resource, security,
};

/// What the machine adds to a pod's own wishes.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub cluster_domain: String,
    pub dns: cri::DnsConfig,
    pub log_dir: String,
    pub cgroup_parent: String,
}

pub fn config(pod: &Pod, attempt: u32, place: &Place) -> Result<cri::PodSandboxConfig, String> {
    let hostname = if pod.host_network() { String::new() } else { hostname::kernel(pod, &place.cluster_domain)? };
    let group = resource::group(pod);
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.name().into(),
            uid: pod.uid().into(),
            namespace: pod.namespace().into(),
            attempt,
        }),
        hostname,
        log_directory: place.log_dir.clone(),
        dns_config: Some(place.dns.clone()),
        port_mappings: if pod.host_network() { Vec::new() } else { ports(pod) },
        labels: labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: place.cgroup_parent.clone(),
            security_context: Some(security::sandbox(pod)),
            sysctls: sysctls(pod),
            overhead: Some(cri::LinuxContainerResources::default()),
            resources: Some(cri::LinuxContainerResources {
                cpu_period: resource::PERIOD,
                cpu_quota: group.cpu_quota.unwrap_or(0),
                cpu_shares: group.cpu_shares,
                memory_limit_in_bytes: group.memory_bytes.unwrap_or(0),
                ..Default::default()
            }),
        }),
        ..Default::default()
    })
}

fn labels(pod: &Pod) -> std::collections::HashMap<String, String> {
    let mut all: std::collections::HashMap<_, _> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    for (key, value) in [(POD_NAME, pod.name()), (POD_NAMESPACE, pod.namespace()), (POD_UID, pod.uid())] {
        all.insert(key.into(), value.into());
    }
    all
}

/// Sysctls may be written with slashes; the runtime wants dots.
fn sysctls(pod: &Pod) -> std::collections::HashMap<String, String> {
    let spec = pod.spec();
    let set = spec.security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    set.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect()
}

fn ports(pod: &Pod) -> Vec<cri::PortMapping> {
    let spec = pod.spec();
    let sidecars = spec.init_containers.iter().flatten().filter(|c| super::init_role(c) == super::Role::Sidecar);
    let all = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    all.filter(|p| p.host_port.is_some_and(|h| h > 0))
        .map(|p| cri::PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            } as i32,
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or_default(),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_ports_and_sysctls() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"securityContext": {"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]},
                "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "UDP"},
                    {"containerPort": 81}]}]}}))
        .unwrap();
        let made = config(&pod, 2, &Place::default()).unwrap();
        assert_eq!(made.labels["io.kubernetes.pod.uid"], "u");
        assert_eq!(made.hostname, "p");
        assert_eq!(made.port_mappings.len(), 1);
        assert_eq!(made.port_mappings[0].host_ip, "127.0.0.1");
        assert_eq!(made.linux.unwrap().sysctls["kernel.shm_rmid_forced"], "1");
    }
}

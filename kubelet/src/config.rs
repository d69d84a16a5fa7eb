//! What an administrator can set; the names are those of upstream's flags and configuration file.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Taint;

/// The settings of one node agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--hostname-override`
    pub node_name: String,
    /// `--node-ip`: the address that the node reports; the default route's when absent.
    pub node_ip: Option<IpAddr>,
    /// `--root-dir`: volumes, plugins and certificates live below it.
    pub root_dir: PathBuf,
    /// `podLogsDir`
    pub pod_log_dir: PathBuf,
    /// Where links named after pod and container point to their logs.
    pub container_log_dir: PathBuf,
    /// `--container-runtime-endpoint`, without the `unix://`.
    pub runtime_endpoint: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// `--resolv-conf`: what pods with `dnsPolicy: Default` are given; empty means none.
    pub resolv_conf: PathBuf,
    /// `--cgroup-root`: the group below which all pods live; empty means the root.
    pub cgroup_root: String,
    /// `--cgroups-per-qos`
    pub cgroups_per_qos: bool,
    /// `--address`, where the kubelet API is served.
    pub address: IpAddr,
    /// `--port`; 0 lets the system choose.
    pub port: u16,
    /// `--tls-cert-file` and `--tls-private-key-file`: asked of the cluster when absent.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `--client-ca-file`: whose client certificates are believed; each in DER.
    pub client_ca: Vec<Vec<u8>>,
    pub anonymous_auth: bool,
    pub max_pods: i64,
    /// `--pod-manifest-path`: a folder of static pods.
    pub static_pod_path: Option<PathBuf>,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    pub provider_id: Option<String>,
    /// Where the default CNI configuration is written; nothing is written when absent.
    pub cni_conf_dir: Option<PathBuf>,
    /// The resources that are kept from pods, as upstream's `--kube-reserved` and `--system-reserved` together.
    pub reserved: BTreeMap<String, String>,
    /// `evictionHard`
    pub eviction_hard: Eviction,
    /// Percent of the image filesystem in use at which unused images are removed, and down to which.
    pub image_gc: (u8, u8),
    pub container_log_max_bytes: u64,
    pub container_log_max_files: usize,
    /// Patterns of sysctls that pods may set beyond the safe ones (`--allowed-unsafe-sysctls`).
    pub allowed_unsafe_sysctls: Vec<String>,
    pub seccomp_default: bool,
    /// How often the runtime is listed when it sends no events.
    pub relist_period: Duration,
    /// `nodeStatusUpdateFrequency` and `nodeStatusReportFrequency`
    pub status_period: Duration,
    pub status_report_period: Duration,
    pub lease_duration: Duration,
    /// Whether pods may be served by a process of the same user only; a simulated node serves nothing.
    pub serve: bool,
}

/// When pods are evicted because the node runs out.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    pub memory_available_bytes: u64,
    /// Parts of a hundred.
    pub nodefs_available_percent: f64,
    pub nodefs_inodes_free_percent: f64,
    pub imagefs_available_percent: f64,
}

impl Default for Eviction {
    fn default() -> Self {
        Self {
            memory_available_bytes: 100 << 20,
            nodefs_available_percent: 10.0,
            nodefs_inodes_free_percent: 5.0,
            imagefs_available_percent: 15.0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_ip: None,
            root_dir: "/var/lib/kubelet".into(),
            pod_log_dir: "/var/log/pods".into(),
            container_log_dir: "/var/log/containers".into(),
            runtime_endpoint: "/run/containerd/containerd.sock".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            cgroup_root: String::new(),
            cgroups_per_qos: true,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 10250,
            tls: None,
            client_ca: Vec::new(),
            anonymous_auth: false,
            max_pods: 110,
            static_pod_path: None,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            provider_id: None,
            cni_conf_dir: None,
            reserved: BTreeMap::new(),
            eviction_hard: Eviction::default(),
            image_gc: (85, 80),
            container_log_max_bytes: 10 << 20,
            container_log_max_files: 5,
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            relist_period: Duration::from_secs(1),
            status_period: Duration::from_secs(10),
            status_report_period: Duration::from_secs(300),
            lease_duration: Duration::from_secs(40),
            serve: true,
        }
    }
}

impl Config {
    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    /// Where one volume of a pod is, as upstream lays it out (`volumes/kubernetes.io~configmap/name`).
    pub fn volume_dir(&self, uid: &str, plugin: &str, volume: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes").join(plugin.replace('/', "~")).join(volume)
    }

    /// Holds the termination messages of a container.
    pub fn container_dir(&self, uid: &str, container: &str) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container)
    }

    pub fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_log_dir.join(format!("{namespace}_{name}_{uid}"))
    }

    pub fn pki_dir(&self) -> PathBuf {
        self.root_dir.join("pki")
    }
}

/// The path without a leading slash, so that it can be joined below another.
pub(crate) fn relative(path: &str) -> &Path {
    Path::new(path.trim_start_matches('/'))
}

//! What is known of a pod on this machine at one moment: all that `plan` and `status` may look at.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::PodStatus;

use super::backoff::Backoff;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The shared part of a pod, as the runtime has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    /// Whether the sandbox uses the node's network.
    pub host_network: bool,
    pub ips: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

/// One attempt of a container, as the runtime has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: State,
    pub restart_count: i32,
    /// The image as the runtime names it.
    pub image: String,
    /// The digest under which the image was pulled.
    pub image_ref: String,
    pub hash: String,
    /// Nanoseconds since 1970, as the runtime tells them; 0 is never.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub log_path: String,
    pub resources: Option<cri::LinuxContainerResources>,
    pub user: Option<cri::LinuxContainerUser>,
}

impl Container {
    pub fn finished(&self) -> Timestamp {
        timestamp(self.finished_at)
    }

    pub fn succeeded(&self) -> bool {
        self.state == State::Exited && self.exit_code == 0
    }
}

/// Nanoseconds since 1970 as a time; what does not fit is the epoch.
pub fn timestamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What the probes of one running container last found; `None` means that they have not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

/// Why a container could not be started last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
    pub reason: String,
    pub message: String,
    /// When it is tried again.
    pub until: Timestamp,
}

/// Why all of a pod's containers must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Deleted in the API, or its manifest is gone.
    Deleted,
    /// All that was to run has run.
    Completed,
    /// The node ends it: eviction, active deadline, refused admission.
    Failed { reason: String, message: String },
}

/// An end that has begun; it is never taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    pub cause: Cause,
    pub grace_seconds: i64,
}

/// A resource change that is wanted of a running container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// All attempts of all containers, newest first.
    pub containers: Vec<Container>,
    /// By container id.
    pub probed: BTreeMap<String, Probed>,
    /// Containers that could not be started, by name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Crash backoffs by container name.
    pub backoff: BTreeMap<String, Backoff>,
    /// Whether directories, groups and volumes are in place.
    pub prepared: bool,
    /// When the preparation may be tried again after a failure.
    pub prepare_after: Option<Timestamp>,
    /// When a sandbox may be tried again after a failure.
    pub sandbox_after: Option<Timestamp>,
    /// Something is being started right now.
    pub starting: bool,
    /// Ids of containers and sandboxes that are being stopped.
    pub stopping: BTreeSet<String>,
    /// Ids of containers whose resources are being changed.
    pub resizing: BTreeSet<String>,
    /// The resources that running containers were last given, by container id.
    pub actuated: BTreeMap<String, cri::LinuxContainerResources>,
    pub termination: Option<Termination>,
    /// Volumes and groups are gone again.
    pub cleaned: bool,
    /// The status that was last reported, or else that of the API: what must not be forgotten.
    pub reported: PodStatus,
}

impl Observed {
    /// The newest attempt of a container.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| matches!(c.state, State::Running | State::Unknown))
    }

    /// The sandbox in which containers can be started, if the newest is fit for it.
    pub fn sandbox(&self, host_network: bool) -> Option<&Sandbox> {
        let newest = self.sandboxes.first().filter(|s| s.ready && s.host_network == host_network)?;
        let alone = self.sandboxes.iter().filter(|s| s.ready).count() == 1;
        (alone && (host_network || !newest.ips.is_empty())).then_some(newest)
    }

    /// The attempt number of the next sandbox.
    pub fn next_attempt(&self) -> u32 {
        self.sandboxes.first().map_or(0, |s| s.attempt + 1)
    }
}

//! The container runtime, as far as the node needs it.

pub mod cri;
pub mod fake;
pub mod observe;
pub mod relist;

use futures::{future::BoxFuture, stream::BoxStream};
pub use k8s_cri::v1 as api;

/// Why the runtime did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    pub kind: Kind,
    /// In the runtime's own words.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotFound,
    Unimplemented,
    DeadlineExceeded,
    /// Nobody answers at the other end.
    Unavailable,
    Other,
}

impl RuntimeError {
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }
}

pub type Result<T> = std::result::Result<T, RuntimeError>;
type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// What a command in a container did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

/// One container runtime. Every call is one call of CRI v1.
pub trait Runtime: Send + Sync {
    fn version(&self) -> Answer<'_, api::VersionResponse>;
    fn status(&self) -> Answer<'_, api::StatusResponse>;

    fn run_sandbox(&self, config: api::PodSandboxConfig, handler: String) -> Answer<'_, String>;
    fn stop_sandbox(&self, id: String) -> Answer<'_, ()>;
    fn remove_sandbox(&self, id: String) -> Answer<'_, ()>;
    fn sandbox_status(&self, id: String) -> Answer<'_, api::PodSandboxStatus>;
    /// All sandboxes, or those of one pod.
    fn list_sandboxes(&self, uid: Option<String>) -> Answer<'_, Vec<api::PodSandbox>>;

    fn create_container(
        &self,
        sandbox: String,
        config: api::ContainerConfig,
        sandbox_config: api::PodSandboxConfig,
    ) -> Answer<'_, String>;
    fn start_container(&self, id: String) -> Answer<'_, ()>;
    /// Ends the container, by force after so many seconds; returns when it has ended.
    fn stop_container(&self, id: String, grace_seconds: i64) -> Answer<'_, ()>;
    fn remove_container(&self, id: String) -> Answer<'_, ()>;
    fn container_status(&self, id: String) -> Answer<'_, api::ContainerStatus>;
    fn list_containers(&self, uid: Option<String>) -> Answer<'_, Vec<api::Container>>;
    fn update_resources(&self, id: String, resources: api::LinuxContainerResources) -> Answer<'_, ()>;
    fn reopen_log(&self, id: String) -> Answer<'_, ()>;
    fn stats(&self) -> Answer<'_, Vec<api::ContainerStats>>;

    fn exec_sync(&self, id: String, command: Vec<String>, timeout_seconds: i64) -> Answer<'_, Output>;
    /// These answer with the address of a streaming server.
    fn exec(&self, request: api::ExecRequest) -> Answer<'_, String>;
    fn attach(&self, request: api::AttachRequest) -> Answer<'_, String>;
    fn port_forward(&self, request: api::PortForwardRequest) -> Answer<'_, String>;

    fn list_images(&self) -> Answer<'_, Vec<api::Image>>;
    /// The image and what its makers say of it; `None` when it is not here.
    fn image_status(&self, image: String) -> Answer<'_, Option<api::Image>>;
    /// Answers with what to call the image in a container.
    fn pull_image(
        &self,
        image: String,
        auth: Option<api::AuthConfig>,
        sandbox: api::PodSandboxConfig,
    ) -> Answer<'_, String>;
    fn remove_image(&self, image: String) -> Answer<'_, ()>;
    fn image_fs(&self) -> Answer<'_, Vec<api::FilesystemUsage>>;

    /// The uids of pods of which something changed; not every runtime tells.
    fn events(&self) -> Answer<'_, BoxStream<'static, String>>;
}

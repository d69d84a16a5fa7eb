//! The runtime behind a unix socket that speaks CRI v1.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{Answer, Kind, Output, Result, Runtime, RuntimeError, api};

/// As long as upstream waits for an ordinary call.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest message: a list of very many containers.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

impl From<Status> for RuntimeError {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::Unimplemented => Kind::Unimplemented,
            Code::DeadlineExceeded => Kind::DeadlineExceeded,
            Code::Unavailable => Kind::Unavailable,
            _ => Kind::Other,
        };
        Self { kind, message: status.message().to_owned() }
    }
}

/// A connection that is made at the first call and again whenever it broke.
pub fn connect(socket: &Path) -> Channel {
    let path = PathBuf::from(socket);
    Endpoint::from_static("http://[::]").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    }))
}

/// A client of one runtime.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    pub fn new(socket: &Path) -> Self {
        let channel = connect(socket);
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }
}

fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Calls one method and takes what is wanted out of the answer.
macro_rules! call {
    ($self:ident.$client:ident.$method:ident($message:expr, $timeout:expr) => |$answer:ident| $out:expr) => {{
        let mut client = $self.$client.clone();
        async move {
            let $answer = client.$method(timed($message, $timeout)).await?.into_inner();
            Ok($out)
        }
        .boxed()
    }};
    ($self:ident.$client:ident.$method:ident($message:expr) => |$answer:ident| $out:expr) => {
        call!($self.$client.$method($message, TIMEOUT) => |$answer| $out)
    };
}

fn missing(what: &str) -> RuntimeError {
    RuntimeError { kind: Kind::NotFound, message: format!("the runtime answered without a {what}") }
}

fn selector(uid: Option<String>) -> std::collections::HashMap<String, String> {
    uid.map(|uid| (crate::pod::observed::POD_UID.to_owned(), uid)).into_iter().collect()
}

impl Runtime for Cri {
    fn version(&self) -> Answer<'_, api::VersionResponse> {
        call!(self.runtime.version(api::VersionRequest { version: "v1".into() }) => |r| r)
    }

    fn status(&self) -> Answer<'_, api::StatusResponse> {
        call!(self.runtime.status(api::StatusRequest { verbose: false }) => |r| r)
    }

    fn run_sandbox(&self, config: api::PodSandboxConfig, handler: String) -> Answer<'_, String> {
        let request = api::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        call!(self.runtime.run_pod_sandbox(request, TIMEOUT * 2) => |r| r.pod_sandbox_id)
    }

    fn stop_sandbox(&self, id: String) -> Answer<'_, ()> {
        call!(self.runtime.stop_pod_sandbox(api::StopPodSandboxRequest { pod_sandbox_id: id }) => |_r| ())
    }

    fn remove_sandbox(&self, id: String) -> Answer<'_, ()> {
        call!(self.runtime.remove_pod_sandbox(api::RemovePodSandboxRequest { pod_sandbox_id: id }) => |_r| ())
    }

    fn sandbox_status(&self, id: String) -> Answer<'_, api::PodSandboxStatus> {
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
        call!(self.runtime.pod_sandbox_status(request) => |r| r.status.ok_or_else(|| missing("status"))?)
    }

    fn list_sandboxes(&self, uid: Option<String>) -> Answer<'_, Vec<api::PodSandbox>> {
        let filter = api::PodSandboxFilter { label_selector: selector(uid), ..Default::default() };
        call!(self.runtime.list_pod_sandbox(api::ListPodSandboxRequest { filter: Some(filter) }) => |r| r.items)
    }

    fn create_container(
        &self,
        sandbox: String,
        config: api::ContainerConfig,
        sandbox_config: api::PodSandboxConfig,
    ) -> Answer<'_, String> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: sandbox,
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        call!(self.runtime.create_container(request) => |r| r.container_id)
    }

    fn start_container(&self, id: String) -> Answer<'_, ()> {
        call!(self.runtime.start_container(api::StartContainerRequest { container_id: id }) => |_r| ())
    }

    fn stop_container(&self, id: String, grace_seconds: i64) -> Answer<'_, ()> {
        let patience = TIMEOUT + Duration::from_secs(grace_seconds.unsigned_abs());
        let request = api::StopContainerRequest { container_id: id, timeout: grace_seconds };
        call!(self.runtime.stop_container(request, patience) => |_r| ())
    }

    fn remove_container(&self, id: String) -> Answer<'_, ()> {
        call!(self.runtime.remove_container(api::RemoveContainerRequest { container_id: id }) => |_r| ())
    }

    fn container_status(&self, id: String) -> Answer<'_, api::ContainerStatus> {
        let request = api::ContainerStatusRequest { container_id: id, verbose: false };
        call!(self.runtime.container_status(request) => |r| r.status.ok_or_else(|| missing("status"))?)
    }

    fn list_containers(&self, uid: Option<String>) -> Answer<'_, Vec<api::Container>> {
        let filter = api::ContainerFilter { label_selector: selector(uid), ..Default::default() };
        call!(self.runtime.list_containers(api::ListContainersRequest { filter: Some(filter) }) => |r| r.containers)
    }

    fn update_resources(&self, id: String, resources: api::LinuxContainerResources) -> Answer<'_, ()> {
        let request =
            api::UpdateContainerResourcesRequest { container_id: id, linux: Some(resources), ..Default::default() };
        call!(self.runtime.update_container_resources(request) => |_r| ())
    }

    fn reopen_log(&self, id: String) -> Answer<'_, ()> {
        call!(self.runtime.reopen_container_log(api::ReopenContainerLogRequest { container_id: id }) => |_r| ())
    }

    fn stats(&self) -> Answer<'_, Vec<api::ContainerStats>> {
        call!(self.runtime.list_container_stats(api::ListContainerStatsRequest { filter: None }) => |r| r.stats)
    }

    fn exec_sync(&self, id: String, command: Vec<String>, timeout_seconds: i64) -> Answer<'_, Output> {
        // The runtime enforces the timeout; the deadline of the call only guards against its silence.
        let patience = match timeout_seconds {
            0 => Duration::from_secs(u64::from(u32::MAX)),
            s => TIMEOUT + Duration::from_secs(s.unsigned_abs()),
        };
        let request = api::ExecSyncRequest { container_id: id, cmd: command, timeout: timeout_seconds };
        call!(self.runtime.exec_sync(request, patience) => |r| {
            Output { stdout: r.stdout, stderr: r.stderr, exit_code: r.exit_code }
        })
    }

    fn exec(&self, request: api::ExecRequest) -> Answer<'_, String> {
        call!(self.runtime.exec(request) => |r| r.url)
    }

    fn attach(&self, request: api::AttachRequest) -> Answer<'_, String> {
        call!(self.runtime.attach(request) => |r| r.url)
    }

    fn port_forward(&self, request: api::PortForwardRequest) -> Answer<'_, String> {
        call!(self.runtime.port_forward(request) => |r| r.url)
    }

    fn list_images(&self) -> Answer<'_, Vec<api::Image>> {
        call!(self.images.list_images(api::ListImagesRequest { filter: None }) => |r| r.images)
    }

    fn image_status(&self, image: String) -> Answer<'_, Option<api::Image>> {
        let image = Some(api::ImageSpec { image, ..Default::default() });
        call!(self.images.image_status(api::ImageStatusRequest { image, verbose: false }) => |r| r.image)
    }

    fn pull_image(
        &self,
        image: String,
        auth: Option<api::AuthConfig>,
        sandbox: api::PodSandboxConfig,
    ) -> Answer<'_, String> {
        let image = Some(api::ImageSpec { image, ..Default::default() });
        let request = api::PullImageRequest { image, auth, sandbox_config: Some(sandbox) };
        // A large image takes as long as it takes; the runtime itself gives up without progress.
        call!(self.images.pull_image(request, Duration::from_secs(3600)) => |r| r.image_ref)
    }

    fn remove_image(&self, image: String) -> Answer<'_, ()> {
        let image = Some(api::ImageSpec { image, ..Default::default() });
        call!(self.images.remove_image(api::RemoveImageRequest { image }) => |_r| ())
    }

    fn image_fs(&self) -> Answer<'_, Vec<api::FilesystemUsage>> {
        call!(self.images.image_fs_info(api::ImageFsInfoRequest {}) => |r| r.image_filesystems)
    }

    fn events(&self) -> Answer<'_, BoxStream<'static, String>> {
        let mut client = self.runtime.clone();
        async move {
            let stream = client.get_container_events(api::GetEventsRequest {}).await?.into_inner();
            let uids = stream.filter_map(async |event| {
                let status = event.ok()?.pod_sandbox_status?;
                status.metadata.map(|m| m.uid)
            });
            Ok::<_, RuntimeError>(uids.boxed())
        }
        .boxed()
    }
}

/// A result that counts what is gone as done.
pub fn gone(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}

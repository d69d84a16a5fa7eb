//! A runtime that plays its containers by script, on tokio's clock: whole nodes run in a simulation with it.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{Answer, Kind, Output, Result, Runtime, RuntimeError, api};
use crate::{
    clock::Clock,
    pod::observed::{CONTAINER_NAME, POD_UID},
};

/// How many changes a slow listener may be behind.
const EVENTS_MAX: usize = 4096;

/// What a container does once it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// Runs until it is stopped, and then ends so soon after.
    Forever { shutdown: Duration },
    /// Ends by itself.
    Exit { after: Duration, code: i32 },
    /// Cannot be started.
    Broken,
}

impl Default for Play {
    fn default() -> Self {
        Self::Forever { shutdown: Duration::ZERO }
    }
}

/// Chooses what a container does, by its configuration.
pub type Script = Arc<dyn Fn(&api::ContainerConfig) -> Play + Send + Sync>;

#[derive(Default)]
struct State {
    counter: u64,
    sandboxes: BTreeMap<String, api::PodSandboxStatus>,
    containers: BTreeMap<String, Held>,
    images: BTreeMap<String, api::Image>,
}

struct Held {
    status: api::ContainerStatus,
    sandbox: String,
    play: Play,
}

/// A runtime without processes.
#[derive(Clone)]
pub struct Fake {
    clock: Clock,
    script: Script,
    /// The first two parts of its pods' addresses.
    network: [u8; 2],
    latency: Duration,
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<String>,
}

fn missing(what: &str, id: &str) -> RuntimeError {
    RuntimeError { kind: Kind::NotFound, message: format!("{what} {id:?} not found") }
}

fn unimplemented(what: &str) -> RuntimeError {
    RuntimeError { kind: Kind::Unimplemented, message: format!("the fake runtime has no {what}") }
}

impl Fake {
    /// Every call takes `latency`.
    pub fn new(clock: Clock, network: [u8; 2], latency: Duration, script: Script) -> Self {
        Self { clock, script, network, latency, state: Arc::default(), changes: broadcast::Sender::new(EVENTS_MAX) }
    }

    /// Ends a running container from outside, as a crash would.
    pub fn crash(&self, id: &str, code: i32) {
        self.exit(id, code);
    }

    fn nanos(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    fn tell(&self, uid: Option<&String>) {
        // Nobody may be listening.
        if let Some(uid) = uid
            && self.changes.send(uid.clone()).is_err()
        {
            tracing::trace!(uid, "nobody listens to the fake runtime");
        }
    }

    fn exit(&self, id: &str, code: i32) {
        let now = self.nanos();
        let mut state = self.state.lock();
        let Some(held) = state.containers.get_mut(id) else { return };
        if held.status.state == api::ContainerState::ContainerExited as i32 {
            return;
        }
        held.status.state = api::ContainerState::ContainerExited as i32;
        held.status.finished_at = now;
        held.status.exit_code = code;
        held.status.reason = if code == 0 { "Completed" } else { "Error" }.into();
        let uid = held.status.labels.get(POD_UID).cloned();
        drop(state);
        self.tell(uid.as_ref());
    }

    /// After the latency of every call, does something with the state.
    fn act<'a, T: Send + 'a>(&'a self, act: impl FnOnce(&mut State) -> Result<T> + Send + 'a) -> Answer<'a, T> {
        async move {
            tokio::time::sleep(self.latency).await;
            act(&mut self.state.lock())
        }
        .boxed()
    }

    fn start(&self, id: String) -> Result<()> {
        let now = self.nanos();
        let mut state = self.state.lock();
        let held = state.containers.get_mut(&id).ok_or_else(|| missing("container", &id))?;
        let play = held.play;
        if play == Play::Broken {
            held.status.state = api::ContainerState::ContainerExited as i32;
            (held.status.exit_code, held.status.finished_at) = (128, now);
            held.status.reason = "StartError".into();
            return Err(RuntimeError { kind: Kind::Other, message: "exec: no such file or directory".into() });
        }
        held.status.state = api::ContainerState::ContainerRunning as i32;
        held.status.started_at = now;
        let uid = held.status.labels.get(POD_UID).cloned();
        drop(state);
        self.tell(uid.as_ref());
        if let Play::Exit { after, code } = play {
            let this = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                this.exit(&id, code);
            });
        }
        Ok(())
    }
}

fn selected(labels: &HashMap<String, String>, uid: Option<&String>) -> bool {
    uid.is_none_or(|uid| labels.get(POD_UID) == Some(uid))
}

impl Runtime for Fake {
    fn version(&self) -> Answer<'_, api::VersionResponse> {
        let version = api::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            runtime_api_version: "v1".into(),
        };
        self.act(|_| Ok(version))
    }

    fn status(&self) -> Answer<'_, api::StatusResponse> {
        let condition = |kind: &str| api::RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let conditions = ["RuntimeReady", "NetworkReady"].map(condition).to_vec();
        self.act(|_| Ok(api::StatusResponse { status: Some(api::RuntimeStatus { conditions }), ..Default::default() }))
    }

    fn run_sandbox(&self, config: api::PodSandboxConfig, _: String) -> Answer<'_, String> {
        let now = self.nanos();
        let [a, b] = self.network;
        self.act(move |state| {
            state.counter += 1;
            let [.., c, d] = (state.counter + 1).to_be_bytes();
            let options = config.linux.and_then(|l| l.security_context).and_then(|s| s.namespace_options);
            let namespaces = api::Namespace { options };
            let status = api::PodSandboxStatus {
                id: format!("sandbox-{}", state.counter),
                metadata: config.metadata,
                state: api::PodSandboxState::SandboxReady as i32,
                created_at: now,
                network: Some(api::PodSandboxNetworkStatus {
                    ip: Ipv4Addr::new(a, b, c, d).to_string(),
                    additional_ips: Vec::new(),
                }),
                linux: Some(api::LinuxPodSandboxStatus { namespaces: Some(namespaces) }),
                labels: config.labels,
                annotations: config.annotations,
                ..Default::default()
            };
            let id = status.id.clone();
            state.sandboxes.insert(id.clone(), status);
            Ok(id)
        })
    }

    fn stop_sandbox(&self, id: String) -> Answer<'_, ()> {
        self.act(move |state| {
            let found = state.sandboxes.get_mut(&id).ok_or_else(|| missing("sandbox", &id))?;
            found.state = api::PodSandboxState::SandboxNotready as i32;
            Ok(())
        })
    }

    fn remove_sandbox(&self, id: String) -> Answer<'_, ()> {
        self.act(move |state| {
            state.sandboxes.remove(&id);
            state.containers.retain(|_, c| c.sandbox != id);
            Ok(())
        })
    }

    fn sandbox_status(&self, id: String) -> Answer<'_, api::PodSandboxStatus> {
        self.act(move |state| state.sandboxes.get(&id).cloned().ok_or_else(|| missing("sandbox", &id)))
    }

    fn list_sandboxes(&self, uid: Option<String>) -> Answer<'_, Vec<api::PodSandbox>> {
        self.act(move |state| {
            let wanted = state.sandboxes.values().filter(|s| selected(&s.labels, uid.as_ref()));
            let item = |s: &api::PodSandboxStatus| api::PodSandbox {
                id: s.id.clone(),
                metadata: s.metadata.clone(),
                state: s.state,
                created_at: s.created_at,
                labels: s.labels.clone(),
                annotations: s.annotations.clone(),
                ..Default::default()
            };
            Ok(wanted.map(item).collect())
        })
    }

    fn create_container(
        &self,
        sandbox: String,
        config: api::ContainerConfig,
        _: api::PodSandboxConfig,
    ) -> Answer<'_, String> {
        let (now, play) = (self.nanos(), (self.script)(&config));
        self.act(move |state| {
            state.counter += 1;
            let id = format!("container-{}", state.counter);
            let image = config.image.unwrap_or_default();
            let status = api::ContainerStatus {
                id: id.clone(),
                metadata: config.metadata,
                state: api::ContainerState::ContainerCreated as i32,
                created_at: now,
                image_ref: image.image.clone(),
                image: Some(api::ImageSpec { image: image.user_specified_image, ..Default::default() }),
                labels: config.labels,
                annotations: config.annotations,
                mounts: config.mounts,
                log_path: config.log_path,
                ..Default::default()
            };
            state.containers.insert(id.clone(), Held { status, sandbox, play });
            Ok(id)
        })
    }

    fn start_container(&self, id: String) -> Answer<'_, ()> {
        async move {
            tokio::time::sleep(self.latency).await;
            self.start(id)
        }
        .boxed()
    }

    fn stop_container(&self, id: String, grace_seconds: i64) -> Answer<'_, ()> {
        async move {
            let play =
                self.state.lock().containers.get(&id).map(|c| c.play).ok_or_else(|| missing("container", &id))?;
            let grace = Duration::from_secs(grace_seconds.unsigned_abs());
            let (shutdown, code) = match play {
                Play::Forever { shutdown } if shutdown <= grace => (shutdown, 0),
                Play::Forever { .. } => (grace, 137),
                _ => (Duration::ZERO, 143),
            };
            tokio::time::sleep(self.latency + shutdown).await;
            self.exit(&id, code);
            Ok(())
        }
        .boxed()
    }

    fn remove_container(&self, id: String) -> Answer<'_, ()> {
        self.act(move |state| {
            state.containers.remove(&id);
            Ok(())
        })
    }

    fn container_status(&self, id: String) -> Answer<'_, api::ContainerStatus> {
        self.act(move |state| {
            let found = state.containers.get(&id).map(|c| c.status.clone());
            found.ok_or_else(|| missing("container", &id))
        })
    }

    fn list_containers(&self, uid: Option<String>) -> Answer<'_, Vec<api::Container>> {
        self.act(move |state| {
            let wanted = state.containers.values().filter(|c| selected(&c.status.labels, uid.as_ref()));
            let item = |c: &Held| api::Container {
                id: c.status.id.clone(),
                pod_sandbox_id: c.sandbox.clone(),
                metadata: c.status.metadata.clone(),
                image: c.status.image.clone(),
                image_ref: c.status.image_ref.clone(),
                state: c.status.state,
                created_at: c.status.created_at,
                labels: c.status.labels.clone(),
                annotations: c.status.annotations.clone(),
                ..Default::default()
            };
            Ok(wanted.map(item).collect())
        })
    }

    fn update_resources(&self, id: String, resources: api::LinuxContainerResources) -> Answer<'_, ()> {
        self.act(move |state| {
            let found = state.containers.get_mut(&id).ok_or_else(|| missing("container", &id))?;
            found.status.resources = Some(api::ContainerResources { linux: Some(resources), ..Default::default() });
            Ok(())
        })
    }

    fn reopen_log(&self, _: String) -> Answer<'_, ()> {
        self.act(|_| Ok(()))
    }

    fn stats(&self) -> Answer<'_, Vec<api::ContainerStats>> {
        self.act(|_| Ok(Vec::new()))
    }

    fn exec_sync(&self, id: String, _: Vec<String>, _: i64) -> Answer<'_, Output> {
        self.act(move |state| {
            let running = |c: &Held| c.status.state == api::ContainerState::ContainerRunning as i32;
            match state.containers.get(&id) {
                Some(c) if running(c) => Ok(Output::default()),
                Some(c) => {
                    let name = c.status.labels.get(CONTAINER_NAME).cloned().unwrap_or_default();
                    Err(RuntimeError { kind: Kind::Other, message: format!("container {name} is not running") })
                }
                None => Err(missing("container", &id)),
            }
        })
    }

    fn exec(&self, _: api::ExecRequest) -> Answer<'_, String> {
        self.act(|_| Err(unimplemented("streams")))
    }

    fn attach(&self, _: api::AttachRequest) -> Answer<'_, String> {
        self.act(|_| Err(unimplemented("streams")))
    }

    fn port_forward(&self, _: api::PortForwardRequest) -> Answer<'_, String> {
        self.act(|_| Err(unimplemented("streams")))
    }

    fn list_images(&self) -> Answer<'_, Vec<api::Image>> {
        self.act(|state| Ok(state.images.values().cloned().collect()))
    }

    fn image_status(&self, image: String) -> Answer<'_, Option<api::Image>> {
        self.act(move |state| {
            let named = |i: &&api::Image| i.id == image || i.repo_tags.contains(&image);
            Ok(state.images.values().find(named).cloned())
        })
    }

    fn pull_image(&self, image: String, _: Option<api::AuthConfig>, _: api::PodSandboxConfig) -> Answer<'_, String> {
        self.act(move |state| {
            let id = format!("sha256:{image}");
            let pulled =
                api::Image { id: id.clone(), repo_tags: vec![image.clone()], size: 1 << 20, ..Default::default() };
            state.images.insert(image, pulled);
            Ok(id)
        })
    }

    fn remove_image(&self, image: String) -> Answer<'_, ()> {
        self.act(move |state| {
            state.images.retain(|_, i| i.id != image && !i.repo_tags.contains(&image));
            Ok(())
        })
    }

    fn image_fs(&self) -> Answer<'_, Vec<api::FilesystemUsage>> {
        self.act(|_| Ok(Vec::new()))
    }

    fn events(&self) -> Answer<'_, BoxStream<'static, String>> {
        let listener = self.changes.subscribe();
        let stream = tokio_stream::wrappers::BroadcastStream::new(listener).filter_map(async |uid| uid.ok()).boxed();
        let answer: BoxFuture<'_, _> = async move { Ok(stream) }.boxed();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn plays_by_script() {
        let script: Script = Arc::new(|c| match c.metadata.as_ref().map(|m| m.name.as_str()) {
            Some("job") => Play::Exit { after: Duration::from_secs(5), code: 3 },
            Some("slow") => Play::Forever { shutdown: Duration::from_secs(60) },
            _ => Play::Broken,
        });
        let fake = Fake::new(Clock::from(jiff::Timestamp::UNIX_EPOCH), [10, 1], Duration::from_millis(1), script);
        let sandbox = fake.run_sandbox(api::PodSandboxConfig::default(), String::new()).await.unwrap();
        let mut ids = Vec::new();
        for name in ["job", "slow", "broken"] {
            let metadata = Some(api::ContainerMetadata { name: name.into(), attempt: 0 });
            let config = api::ContainerConfig { metadata, ..Default::default() };
            let id = fake.create_container(sandbox.clone(), config, api::PodSandboxConfig::default()).await.unwrap();
            assert_eq!(fake.start_container(id.clone()).await.is_err(), name == "broken");
            ids.push(id);
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(fake.container_status(ids[0].clone()).await.unwrap().exit_code, 3);
        let before = fake.clock.now();
        fake.stop_container(ids[1].clone(), 30).await.unwrap();
        assert_eq!(fake.clock.now().duration_since(before).as_secs(), 30);
        let killed = fake.container_status(ids[1].clone()).await.unwrap();
        assert_eq!((killed.exit_code, killed.state), (137, api::ContainerState::ContainerExited as i32));
    }
}

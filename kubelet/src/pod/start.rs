//! Brings up what one pod needs: its place on the machine, its sandbox, its containers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Container, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount},
    node::v1::RuntimeClass,
};
use kube::{Api, api::PostParams};

use super::{
    PodExt, Role, container, dns, environment,
    environment::Sources,
    field::Addresses,
    hostname, lifecycle,
    observed::{Observed, Waiting},
    resource, sandbox,
};
use crate::{
    agent::Agent,
    event::Severity,
    image,
    object::Watched,
    system::cgroup,
    volume::{self, Contents, Ready, TokenKey, reference},
};

/// How long the objects of a pod may take to be known.
const OBJECTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Views of the objects that a pod refers to, by name.
#[derive(Clone, Default)]
pub struct Held {
    pub config_maps: BTreeMap<String, Watched<ConfigMap>>,
    pub secrets: BTreeMap<String, Watched<Secret>>,
}

impl Held {
    pub fn of(agent: &Agent, pod: &Pod) -> Self {
        let wanted = reference::of(pod);
        let namespace = pod.namespace();
        let maps = wanted.config_maps.into_iter().map(|n| (n.clone(), agent.config_maps.watch(namespace, &n)));
        let secrets = wanted.secrets.into_iter().map(|n| (n.clone(), agent.secrets.watch(namespace, &n)));
        Self { config_maps: maps.collect(), secrets: secrets.collect() }
    }

    /// Returns when any of the objects has changed.
    pub async fn changed(&mut self) {
        use futures::FutureExt;
        let maps = self.config_maps.values_mut().map(|w| w.changed().boxed());
        let secrets = self.secrets.values_mut().map(|w| w.changed().boxed());
        let all: Vec<_> = maps.chain(secrets).collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(all).await;
    }
}

/// A service account's token and when to ask for another.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub renew_at: Timestamp,
}

pub type Tokens = BTreeMap<TokenKey, Token>;

/// What a preparation leaves behind.
#[derive(Clone, Default)]
pub struct Prepared {
    pub volumes: BTreeMap<String, Ready>,
    pub tokens: Tokens,
    /// The views as they were read: what changes from now on is news.
    pub held: Held,
}

/// Makes directories, groups and volumes; done again it brings volumes up to date.
pub async fn prepare(agent: Arc<Agent>, pod: Arc<Pod>, mut held: Held, tokens: Tokens) -> Result<Prepared, String> {
    let config = &agent.config;
    let log_dir = config.log_dir(pod.namespace(), pod.name(), pod.uid());
    for (dir, mode) in [(config.pod_dir(pod.uid()), 0o750), (log_dir, 0o755)] {
        agent.system.create_dir(&dir, mode).map_err(|e| format!("error making pod data directories: {e}"))?;
    }
    if config.cgroups_per_qos {
        let group = cgroup::parent(&config.cgroup_root, &pod);
        let made = agent.system.create_group(&group, &resource::group(&pod));
        made.map_err(|e| {
            format!("failed to ensure that the pod: {} cgroups exist and are correctly applied: {e}", pod.uid())
        })?;
    }
    let gathered = tokio::time::timeout(OBJECTS_TIMEOUT, gather(&agent, &pod, &mut held, tokens)).await;
    let (contents, tokens) = gathered.map_err(|_| "timed out waiting for the condition".to_owned())??;
    let mut volumes = BTreeMap::new();
    for wanted in pod.spec().volumes.iter().flatten() {
        let ready = volume::set_up(agent.system.as_ref(), config, &pod, wanted, &contents)
            .map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", wanted.name))?;
        volumes.insert(wanted.name.clone(), ready);
    }
    Ok(Prepared { volumes, tokens, held })
}

async fn gather(agent: &Agent, pod: &Pod, held: &mut Held, old: Tokens) -> Result<(Contents, Tokens), String> {
    let mut contents = Contents { sources: objects(held).await, ..Default::default() };
    contents.sources.addresses.host = agent.host().ips;
    contents.sources.allocatable = agent.allocatable.clone();
    let wanted = reference::of(pod);
    let mut tokens = Tokens::new();
    for key in wanted.tokens {
        let token = match old.get(&key).filter(|t| t.renew_at > agent.clock.now()) {
            Some(token) => token.clone(),
            None => token(agent, pod, &key).await?,
        };
        contents.tokens.insert(key.clone(), token.text.clone());
        tokens.insert(key, token);
    }
    for claim in wanted.claims {
        let bound = bound_volume(agent, pod, &claim).await?;
        contents.claims.insert(claim, bound);
    }
    for source in pod.spec().volumes.iter().flatten() {
        let Some(wanted) = &source.image else { continue };
        let image = image_volume(agent, pod, held, source.name.as_str(), wanted).await?;
        contents.images.insert(source.name.clone(), image);
    }
    Ok((contents, tokens))
}

async fn objects(held: &mut Held) -> Sources {
    let mut sources = Sources::default();
    for (name, watched) in &mut held.config_maps {
        if let Some(map) = watched.get().await {
            sources.config_maps.insert(name.clone(), map.as_ref().clone());
        }
    }
    for (name, watched) in &mut held.secrets {
        if let Some(secret) = watched.get().await {
            sources.secrets.insert(name.clone(), secret.as_ref().clone());
        }
    }
    sources
}

/// Asks for a token that is bound to the pod, and renews it when four fifths of its life, or a day, have passed.
async fn token(agent: &Agent, pod: &Pod, (audience, seconds): &TokenKey) -> Result<Token, String> {
    let spec = pod.spec();
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(agent.client.clone(), pod.namespace());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![audience.clone()]).filter(|_| !audience.is_empty()),
            expiration_seconds: Some(*seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name().into()),
                uid: Some(pod.uid().into()),
            }),
        }),
        ..Default::default()
    };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.map_err(|e| format!("failed to fetch token: {e}"))?;
    let status = answer.status.ok_or("failed to fetch token: the answer holds none")?;
    let now = agent.clock.now();
    let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err("failed to fetch token: the answer holds none".into());
    };
    let life = expires.0.duration_since(now);
    let renew_in = (life * 4 / 5).min(SignedDuration::from_hours(24));
    Ok(Token { text, renew_at: now + renew_in })
}

async fn bound_volume(agent: &Agent, pod: &Pod, claim: &str) -> Result<PersistentVolume, String> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(agent.client.clone(), pod.namespace());
    let found = api.get(claim).await.map_err(|e| format!("failed to fetch PVC from API server: {e}"))?;
    let name = found.spec.and_then(|s| s.volume_name).filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| format!("PVC {}/{claim} is not bound", pod.namespace()))?;
    let api: Api<PersistentVolume> = Api::all(agent.client.clone());
    api.get(&name).await.map_err(|e| format!("failed to fetch PV {name} from API server: {e}"))
}

async fn image_volume(
    agent: &Agent,
    pod: &Pod,
    held: &Held,
    volume: &str,
    source: &k8s_openapi::api::core::v1::ImageVolumeSource,
) -> Result<String, String> {
    // The pull is told and counted as if the volume were a container of that name.
    let stand_in = Container {
        name: volume.to_owned(),
        image: source.reference.clone(),
        image_pull_policy: source.pull_policy.clone(),
        ..Default::default()
    };
    let secrets = pull_secrets(pod, held.clone()).await;
    let request =
        image::Request { pod, role: Role::Main, container: &stand_in, secrets: &secrets, sandbox: Default::default() };
    agent.images.ensure(request).await.map(|p| p.id).map_err(|w| w.message)
}

async fn pull_secrets(pod: &Pod, mut held: Held) -> Vec<Arc<Secret>> {
    let mut secrets = Vec::new();
    for reference in pod.spec().image_pull_secrets.iter().flatten() {
        if let Some(watched) = held.secrets.get_mut(&reference.name) {
            secrets.extend(watched.get().await);
        }
    }
    secrets
}

/// The configuration of the pod's sandbox on this node.
pub fn sandbox_config(agent: &Agent, pod: &Pod, attempt: u32) -> Result<cri::PodSandboxConfig, String> {
    let config = &agent.config;
    let servers: Vec<_> = config.cluster_dns.iter().map(ToString::to_string).collect();
    let place = sandbox::Place {
        cluster_domain: config.cluster_domain.clone(),
        dns: dns::of(pod, &agent.resolver(), &servers, &config.cluster_domain),
        log_dir: config.log_dir(pod.namespace(), pod.name(), pod.uid()).to_string_lossy().into_owned(),
        cgroup_parent: if config.cgroups_per_qos { cgroup::parent(&config.cgroup_root, pod) } else { String::new() },
    };
    sandbox::config(pod, attempt, &place)
}

/// Makes a sandbox, after removing containers that must begin anew in it.
pub async fn create_sandbox(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    attempt: u32,
    remove: Vec<String>,
) -> Result<String, String> {
    for id in remove {
        crate::runtime::cri::gone(agent.runtime.remove_container(id).await).map_err(|e| e.message)?;
    }
    let config = sandbox_config(&agent, &pod, attempt)?;
    let handler = match &pod.spec().runtime_class_name {
        Some(class) if !class.is_empty() => handler(&agent, class).await?,
        _ => String::new(),
    };
    agent.runtime.run_sandbox(config, handler).await.map_err(|e| e.message)
}

async fn handler(agent: &Agent, class: &str) -> Result<String, String> {
    if let Some(handler) = agent.handlers.lock().get(class) {
        return Ok(handler.clone());
    }
    let found = Api::<RuntimeClass>::all(agent.client.clone()).get(class).await;
    let found = found.map_err(|e| format!("failed to get sandbox runtime: {e}"))?;
    // A handler never changes under the same name, but a class may be made anew.
    agent.handlers.lock().insert(class.to_owned(), found.handler.clone());
    Ok(found.handler)
}

/// What a start needs besides the pod.
pub struct Start {
    pub role: Role,
    pub name: String,
    pub restart_count: Option<i32>,
    pub seen: Observed,
    pub volumes: BTreeMap<String, Ready>,
    pub held: Held,
}

/// A container that runs.
pub struct Started {
    pub id: String,
    pub resources: cri::LinuxContainerResources,
}

/// Pulls, creates, starts, and runs the hook. On failure says what the container now waits for.
pub async fn start(agent: Arc<Agent>, pod: Arc<Pod>, start: Start) -> Result<Started, Waiting> {
    let Some((role, container)) = pod.container(&start.name) else {
        return Err(wait(&agent, "CreateContainerConfigError", format!("no container {:?}", start.name)));
    };
    let say = |severity, reason: &str, message: String| {
        agent.events.container(&pod, role, &container.name, severity, reason, message);
    };
    let failed = |reason: &str, message: String| {
        say(Severity::Warning, "Failed", format!("Error: {message}"));
        wait(&agent, reason, message)
    };
    let Some(sandbox) = start.seen.sandboxes.first() else {
        return Err(failed("CreateContainerError", "there is no sandbox".into()));
    };
    let sandbox_config =
        sandbox_config(&agent, &pod, sandbox.attempt).map_err(|m| failed("CreateContainerConfigError", m))?;
    let secrets = pull_secrets(&pod, start.held.clone()).await;
    let request =
        image::Request { pod: &pod, role, container: &container, secrets: &secrets, sandbox: sandbox_config.clone() };
    let present = agent.images.ensure(request).await.inspect_err(|waiting| {
        say(Severity::Warning, "Failed", format!("Error: {}", waiting.reason));
    })?;
    let config = configure(&agent, &pod, role, &container, &start, present)
        .await
        .map_err(|m| failed("CreateContainerConfigError", m))?;
    let resources = config.linux.as_ref().and_then(|l| l.resources.clone()).unwrap_or_default();
    let log = PathBuf::from(&sandbox_config.log_directory).join(&config.log_path);
    let created = agent.runtime.create_container(sandbox.id.clone(), config, sandbox_config).await;
    let id = created.map_err(|e| failed("CreateContainerError", e.message))?;
    say(Severity::Normal, "Created", "Container created".into());
    agent.runtime.start_container(id.clone()).await.map_err(|e| failed("RunContainerError", e.message))?;
    say(Severity::Normal, "Started", "Container started".into());
    link_log(&agent, &pod, &container.name, &id, &log);
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref())
        && let Err(message) = lifecycle::run(&agent, &pod, &container, &id, hook).await
    {
        // What the hook said may be secret; only the status, which is guarded like the pod, holds it.
        say(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into());
        say(Severity::Normal, "Killing", "FailedPostStartHook".into());
        if let Err(error) = agent.runtime.stop_container(id, pod.grace_seconds()).await {
            tracing::warn!(pod = pod.title(), %error, "cannot end a container whose hook failed");
        }
        return Err(Waiting { until: agent.clock.now(), ..wait(&agent, "PostStartHookError", message) });
    }
    Ok(Started { id, resources })
}

fn wait(agent: &Agent, reason: &str, message: String) -> Waiting {
    Waiting { reason: reason.into(), message, until: agent.clock.now() + super::backoff::INITIAL }
}

async fn configure(
    agent: &Agent,
    pod: &Pod,
    role: Role,
    c: &Container,
    start: &Start,
    present: image::Present,
) -> Result<cri::ContainerConfig, String> {
    let mut held = start.held.clone();
    let mut sources = tokio::time::timeout(OBJECTS_TIMEOUT, objects(&mut held))
        .await
        .map_err(|_| "timed out waiting for the condition".to_owned())?;
    if !pod.is_static() {
        let known = tokio::time::timeout(OBJECTS_TIMEOUT, agent.services.wait_until_ready()).await;
        known
            .ok()
            .and_then(Result::ok)
            .ok_or("services have not yet been read at least once, cannot construct envvars")?;
    }
    let host = agent.host().ips;
    let ips = match start.seen.sandboxes.first() {
        Some(sandbox) if !pod.host_network() => sandbox.ips.clone(),
        _ => host.clone(),
    };
    sources.services = agent.services(pod.namespace());
    sources.addresses = Addresses { host, pod: ips.clone() };
    sources.allocatable = agent.allocatable.clone();
    sources.files = files(agent, c, &start.volumes);
    let environment = environment::environment(pod, c, &sources)?;
    let restart_count = start.restart_count.unwrap_or_else(|| next_log(agent, pod, &c.name));
    let mut mounts = volume::mount::mounts(agent.system.as_ref(), &agent.config, pod, c, &start.volumes, &environment)
        .map_err(|e| e.to_string())?;
    own_mounts(agent, pod, c, &ips, &mut mounts).map_err(|e| e.to_string())?;
    let log_dir = agent.config.log_dir(pod.namespace(), pod.name(), pod.uid()).join(&c.name);
    agent
        .system
        .create_dir(&log_dir, 0o755)
        .map_err(|e| format!("create container log directory for container {} failed: {e}", c.name))?;
    let given = container::Inputs {
        restart_count,
        image_ref: present.id,
        image_user: present.user,
        environment,
        mounts,
        devices: Vec::new(),
        memory_bytes: agent.machine.memory_bytes,
        seccomp_root: agent.config.root_dir.join("seccomp").to_string_lossy().into_owned(),
        seccomp_default: agent.config.seccomp_default,
    };
    container::config(pod, role, c, &start.seen, given)
}

/// Files of volumes that variables are read from.
fn files(agent: &Agent, c: &Container, volumes: &BTreeMap<String, Ready>) -> BTreeMap<(String, String), String> {
    let wanted = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.file_key_ref.as_ref());
    let read = |volume: &str, path: &str| {
        let (Ready::Path(base) | Ready::ReadOnly(base)) = volumes.get(volume)? else { return None };
        let file = agent.system.resolve_below(base, Path::new(path)).ok()?;
        String::from_utf8(agent.system.read(&file).ok()?).ok()
    };
    wanted.filter_map(|f| Some(((f.volume_name.clone(), f.path.clone()), read(&f.volume_name, &f.path)?))).collect()
}

/// The hosts file, and the file that a container may write its last words to.
fn own_mounts(
    agent: &Agent,
    pod: &Pod,
    c: &Container,
    ips: &[String],
    mounts: &mut Vec<cri::Mount>,
) -> std::io::Result<()> {
    let system = agent.system.as_ref();
    let taken =
        |path: &str, mounts: &[cri::Mount]| mounts.iter().any(|m| m.container_path.trim_end_matches('/') == path);
    let mount = |from: &Path, to: &str| cri::Mount {
        container_path: to.to_owned(),
        host_path: from.to_string_lossy().into_owned(),
        ..Default::default()
    };
    if !ips.is_empty() && !taken("/etc/hosts", mounts) {
        let spec = pod.spec();
        let aliases = spec.host_aliases.as_deref().unwrap_or(&[]);
        let text = if pod.host_network() {
            let node = system.read(Path::new("/etc/hosts")).unwrap_or_default();
            hostname::node_hosts(&String::from_utf8_lossy(&node), aliases)
        } else {
            let (name, domain) = hostname::of(pod, &agent.config.cluster_domain);
            hostname::hosts(ips, &name, &domain, aliases)
        };
        let file = agent.config.pod_dir(pod.uid()).join("etc-hosts");
        system.write(&file, text.as_bytes(), 0o644)?;
        mounts.push(mount(&file, "/etc/hosts"));
    }
    let path = container::message_path(c);
    if !path.is_empty() && !taken(path, mounts) {
        let dir = agent.config.container_dir(pod.uid(), &c.name);
        system.create_dir(&dir, 0o750)?;
        let number = system.list(&dir)?.len();
        let file = dir.join(format!("{number:08x}"));
        // Everybody may write: the container may run as anyone.
        system.write(&file, b"", 0o666)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        mounts.push(mount(&file, &path));
    }
    Ok(())
}

/// The runtime may have forgotten earlier attempts; their logs tell how many there were.
fn next_log(agent: &Agent, pod: &Pod, name: &str) -> i32 {
    let dir = agent.config.log_dir(pod.namespace(), pod.name(), pod.uid()).join(name);
    let logs = agent.system.list(&dir).unwrap_or_default();
    let number = |p: &PathBuf| p.file_name()?.to_str()?.split('.').next()?.parse::<i32>().ok();
    logs.iter().filter_map(number).max().map_or(0, |n| n + 1)
}

/// A link by which log collectors find the log of a container.
fn link_log(agent: &Agent, pod: &Pod, container: &str, id: &str, log: &Path) {
    let mut name = format!("{}_{}_{container}", pod.name(), pod.namespace());
    name.truncate(251 - id.len().min(200));
    let link = agent.config.container_log_dir.join(format!("{name}-{id}.log"));
    let made =
        agent.system.create_dir(&agent.config.container_log_dir, 0o755).and_then(|()| agent.system.link(log, &link));
    if let Err(error) = made {
        tracing::debug!(%error, "cannot link a log");
    }
}

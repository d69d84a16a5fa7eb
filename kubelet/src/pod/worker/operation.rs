//! What a worker does beside waiting; each operation ends with something to learn from.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use crate::{
    agent::Agent,
    event::Severity,
    pod::{
        PodExt, lifecycle,
        observed::{Observed, Waiting},
        patch,
        plan::Stop,
        start::{self, Held, Prepared, Start, Started, Tokens},
    },
    runtime::cri::gone,
    system::cgroup,
    volume,
};

/// No container is given less to end by itself, in seconds.
const GRACE_MIN: i64 = 2;
/// How often the removal of a group is tried: its last process may still be on its way out.
const GROUP_TRIES: u32 = 50;

/// How an operation ended.
pub(super) enum Outcome {
    Prepared(Result<Prepared, String>),
    Refreshed(Result<Prepared, String>),
    Sandbox(Result<(), String>),
    Started(String, Result<Started, Waiting>),
    Stopped(String),
    Resized(String, Option<cri::LinuxContainerResources>),
    CleanedUp(Result<(), String>),
    /// The pod as the API now has it, unless only its mirror was written.
    Written(Result<Option<Box<Pod>>, String>),
    /// Whether the API took it.
    Deleted(bool),
}

pub(super) async fn prepare(agent: Arc<Agent>, pod: Arc<Pod>, (held, tokens): (Held, Tokens)) -> Outcome {
    Outcome::Prepared(start::prepare(agent, pod, held, tokens).await)
}

pub(super) async fn refresh(agent: Arc<Agent>, pod: Arc<Pod>, held: Held, tokens: Tokens) -> Outcome {
    Outcome::Refreshed(start::prepare(agent, pod, held, tokens).await)
}

pub(super) async fn create_sandbox(agent: Arc<Agent>, pod: Arc<Pod>, attempt: u32, remove: Vec<String>) -> Outcome {
    if attempt > 0 {
        let message = "Pod sandbox changed, it will be killed and re-created.";
        agent.events.pod(&pod, Severity::Normal, "SandboxChanged", message);
    }
    Outcome::Sandbox(start::create_sandbox(agent, pod, attempt, remove).await.map(drop))
}

pub(super) async fn start(agent: Arc<Agent>, pod: Arc<Pod>, start: Start) -> Outcome {
    let name = start.name.clone();
    Outcome::Started(name, start::start(agent, pod, start).await)
}

/// Runs the hook, waits for those that must end first, and stops the container, all within the grace.
pub(super) async fn stop(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    stop: Stop,
    mut alive: watch::Receiver<BTreeSet<String>>,
    created: bool,
) -> Outcome {
    let begun = Instant::now();
    let grace = Duration::from_secs(stop.grace_seconds.max(0).unsigned_abs());
    let left = || grace.saturating_sub(begun.elapsed());
    let container = pod.container(&stop.name);
    if let Some((role, c)) = &container {
        agent.events.container(&pod, *role, &c.name, Severity::Normal, "Killing", stop.message.clone());
        let hook =
            c.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()).filter(|_| !created && stop.grace_seconds > 0);
        if let Some(hook) = hook {
            let ran = tokio::time::timeout(left(), lifecycle::run(&agent, &pod, c, &stop.id, hook)).await;
            if let Ok(Err(message)) = ran {
                debug!(pod = pod.title(), message, "a preStop hook failed");
                agent.events.container(
                    &pod,
                    *role,
                    &c.name,
                    Severity::Warning,
                    "FailedPreStopHook",
                    "PreStopHook failed",
                );
            }
        }
    }
    let ended = alive.wait_for(|alive| !stop.after.iter().any(|name| alive.contains(name)));
    let in_time = tokio::time::timeout(left(), ended).await.is_ok();
    debug!(pod = pod.title(), container = stop.name, in_time, "stopping");
    let seconds = i64::try_from(left().as_secs()).unwrap_or(i64::MAX).max(GRACE_MIN);
    if let Err(error) = gone(agent.runtime.stop_container(stop.id.clone(), seconds).await) {
        warn!(pod = pod.title(), container = stop.name, %error, "cannot stop a container");
        tokio::time::sleep(super::RETRY).await;
    } else if created {
        remove_unstarted(&agent, &stop.id).await;
    }
    Outcome::Stopped(stop.id)
}

/// To stop a container that was never started does nothing: it would be stopped for ever, and has nothing to tell.
async fn remove_unstarted(agent: &Agent, id: &str) {
    let status = agent.runtime.container_status(id.to_owned()).await;
    let unstarted = status.is_ok_and(|s| s.state == cri::ContainerState::ContainerCreated as i32);
    // A start that was given up may still be on its way through the runtime.
    if unstarted && !remove_container(agent, id).await {
        tokio::time::sleep(super::RETRY).await;
    }
}

pub(super) async fn stop_sandbox(agent: Arc<Agent>, id: String) -> Outcome {
    if let Err(error) = gone(agent.runtime.stop_sandbox(id.clone()).await) {
        warn!(id, %error, "cannot stop a sandbox");
        tokio::time::sleep(super::RETRY).await;
    }
    Outcome::Stopped(id)
}

pub(super) async fn resize(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    id: String,
    name: String,
    resources: cri::LinuxContainerResources,
) -> Outcome {
    // A pod's group cannot be less than what is in it: it grows before its containers, and shrinks after the last of them.
    let grown = fit_group(&agent, &pod);
    match agent.runtime.update_resources(id.clone(), resources.clone()).await {
        Ok(()) => {
            if let Err(error) = grown.or_else(|_| fit_group(&agent, &pod)) {
                debug!(pod = pod.title(), %error, "cannot change the group of a pod");
            }
            Outcome::Resized(id, Some(resources))
        }
        Err(error) => {
            warn!(pod = pod.title(), container = name, %error, "cannot change the resources of a container");
            tokio::time::sleep(super::RETRY).await;
            Outcome::Resized(id, None)
        }
    }
}

fn fit_group(agent: &Agent, pod: &Pod) -> std::io::Result<()> {
    if !agent.config.cgroups_per_qos {
        return Ok(());
    }
    agent.system.create_group(&cgroup::parent(&agent.config.cgroup_root, pod), &crate::pod::resource::group(pod))
}

/// Gives back what a preparation made; logs and last words stay for as long as the API has the pod.
pub(super) async fn clean_up(agent: Arc<Agent>, pod: Arc<Pod>) -> Outcome {
    let done = async {
        let (system, config) = (agent.system.as_ref(), &agent.config);
        volume::tear_down(system, config, pod.uid()).map_err(|e| e.to_string())?;
        for dir in ["volumes", "volume-subpaths"] {
            system.remove(&config.pod_dir(pod.uid()).join(dir)).map_err(|e| e.to_string())?;
        }
        if config.cgroups_per_qos {
            remove_group(&agent, &cgroup::parent(&config.cgroup_root, &pod)).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    };
    let done = done.await;
    if done.is_err() {
        tokio::time::sleep(super::RETRY).await;
    }
    Outcome::CleanedUp(done)
}

pub(crate) async fn remove_group(agent: &Agent, group: &str) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match agent.system.remove_group(group) {
            Err(error) if tries < GROUP_TRIES => {
                debug!(group, %error, "a group cannot be removed yet");
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done => return done,
        }
    }
}

/// Removes every trace of a pod that is no more.
pub(super) async fn remove(agent: &Agent, pod: &Pod, seen: &Observed) {
    for c in &seen.containers {
        remove_container(agent, &c.id).await;
    }
    for s in &seen.sandboxes {
        if let Err(error) = gone(agent.runtime.remove_sandbox(s.id.clone()).await) {
            warn!(pod = pod.title(), %error, "cannot remove a sandbox");
        }
    }
    let logs = agent.config.log_dir(pod.namespace(), pod.name(), pod.uid());
    for dir in [agent.config.pod_dir(pod.uid()), logs] {
        if let Err(error) = agent.system.remove(&dir) {
            warn!(pod = pod.title(), %error, "cannot remove a pod's files");
        }
    }
}

/// Removes a container with the link to its log. Says whether the container is gone.
pub(crate) async fn remove_container(agent: &Agent, id: &str) -> bool {
    let removed = gone(agent.runtime.remove_container(id.to_owned()).await);
    if let Err(error) = &removed {
        warn!(id, %error, "cannot remove a container");
    }
    let links = agent.system.list(&agent.config.container_log_dir).unwrap_or_default();
    let own = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().ends_with(&format!("-{id}.log")));
    for link in links.iter().filter(|l| own(l)) {
        if let Err(error) = agent.system.remove(link) {
            debug!(%error, "cannot remove the link to a log");
        }
    }
    removed.is_ok()
}

/// The write that brings the API up to date, if it is not.
pub(super) fn write(
    agent: &Arc<Agent>,
    pod: &Arc<Pod>,
    stored: &PodStatus,
    new: &PodStatus,
) -> Option<BoxFuture<'static, Outcome>> {
    // A static pod is reported through its mirror, which has a uid of its own.
    let target = if pod.is_static() { agent.pods.mirror(pod)? } else { pod.clone() };
    let held = if pod.is_static() { crate::pod::status_of(&target).into_owned() } else { stored.clone() };
    let patch = patch::patch(target.uid(), &held, new)?;
    let (agent, own) = (agent.clone(), pod.is_static());
    let write = async move {
        let api: Api<Pod> = Api::namespaced(agent.client.clone(), target.namespace());
        let written = api.patch_status(target.name(), &PatchParams::default(), &Patch::Strategic(patch)).await;
        Outcome::Written(match written {
            Ok(served) if own => {
                agent.pods.set_mirror(Arc::new(served));
                Ok(None)
            }
            Ok(served) => Ok(Some(Box::new(served))),
            Err(error) => Err(error.to_string()),
        })
    };
    Some(write.boxed())
}

/// Lets go of a pod that was deleted and has ended.
pub(super) async fn delete(agent: Arc<Agent>, pod: Arc<Pod>) -> Outcome {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), pod.namespace());
    let preconditions = Preconditions { uid: Some(pod.uid().into()), resource_version: None };
    let params =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
    match api.delete(pod.name(), &params).await {
        Ok(_) => Outcome::Deleted(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Outcome::Deleted(true),
        Err(error) => {
            warn!(pod = pod.title(), %error, "cannot delete a pod");
            Outcome::Deleted(false)
        }
    }
}

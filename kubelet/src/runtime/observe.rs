//! What the runtime has of one pod, as the pod's own nouns.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;

use super::{Result, Runtime, api};
use crate::{
    config::Config,
    pod::{
        PodExt,
        observed::{
            CONTAINER_HASH, CONTAINER_NAME, Container, MESSAGE_PATH, MESSAGE_POLICY, RESTART_COUNT, Sandbox, State,
        },
    },
    system::System,
};

/// How much of a container's last words is told, in bytes: of its own file, and of its log.
const MESSAGE_MAX: u64 = 4096;
const LOG_MESSAGE_MAX: usize = 2048;
const LOG_MESSAGE_LINES: usize = 80;

/// What is known of ended containers, and of running ones that did not change: they need not be asked about again.
#[derive(Debug, Default)]
pub struct Memory {
    containers: HashMap<String, Container>,
    sandboxes: HashMap<String, Sandbox>,
}

impl Memory {
    /// The sandboxes and containers of a pod, newest first.
    pub async fn observe(
        &mut self,
        runtime: &dyn Runtime,
        system: &dyn System,
        config: &Config,
        pod: &Pod,
    ) -> Result<(Vec<Sandbox>, Vec<Container>)> {
        let uid = pod.uid();
        let (sandboxes, containers) =
            futures::try_join!(runtime.list_sandboxes(Some(uid.into())), runtime.list_containers(Some(uid.into())))?;
        let mut seen = (Vec::new(), Vec::new());
        for listed in sandboxes {
            if let Some(sandbox) = self.sandbox(runtime, listed).await? {
                seen.0.push(sandbox);
            }
        }
        for listed in containers {
            if let Some(container) = self.container(runtime, system, config, pod, listed).await? {
                seen.1.push(container);
            }
        }
        seen.0.sort_by_key(|s: &Sandbox| std::cmp::Reverse((s.created_at, s.attempt)));
        seen.1.sort_by_key(|c: &Container| std::cmp::Reverse((c.created_at, c.restart_count)));
        self.sandboxes = seen.0.iter().map(|s| (s.id.clone(), s.clone())).collect();
        self.containers = seen.1.iter().map(|c| (c.id.clone(), c.clone())).collect();
        Ok(seen)
    }

    async fn sandbox(&self, runtime: &dyn Runtime, listed: api::PodSandbox) -> Result<Option<Sandbox>> {
        let ready = listed.state == api::PodSandboxState::SandboxReady as i32;
        if let Some(known) = self.sandboxes.get(&listed.id).filter(|k| k.ready == ready) {
            return Ok(Some(known.clone()));
        }
        match runtime.sandbox_status(listed.id).await {
            Ok(status) => Ok(Some(sandbox(status))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn container(
        &self,
        runtime: &dyn Runtime,
        system: &dyn System,
        config: &Config,
        pod: &Pod,
        listed: api::Container,
    ) -> Result<Option<Container>> {
        let state = state(listed.state);
        // A running container may have been given other resources.
        let settled = |k: &&Container| k.state == state && (state == State::Exited || k.resources.is_none());
        if let Some(known) = self.containers.get(&listed.id).filter(settled).filter(|k| k.state != State::Created) {
            return Ok(Some(known.clone()));
        }
        match runtime.container_status(listed.id).await {
            Ok(status) => {
                // It may have ended since it was listed.
                let words = match self::state(status.state) {
                    State::Exited => last_words(system, config, pod, &status),
                    _ => String::new(),
                };
                let mut seen = container(status, listed.pod_sandbox_id);
                if !words.is_empty() {
                    let before = if seen.message.is_empty() { "" } else { ": " };
                    seen.message = format!("{}{before}{words}", seen.message);
                }
                Ok(Some(seen))
            }
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn state(number: i32) -> State {
    match api::ContainerState::try_from(number) {
        Ok(api::ContainerState::ContainerCreated) => State::Created,
        Ok(api::ContainerState::ContainerRunning) => State::Running,
        Ok(api::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    }
}

fn sandbox(status: api::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|i| i.ip);
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
    Sandbox {
        id: status.id,
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ready: status.state == api::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        host_network: options.is_some_and(|o| o.network == api::NamespaceMode::Node as i32),
        ips: std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect(),
    }
}

fn container(status: api::ContainerStatus, sandbox_id: String) -> Container {
    let label = |key: &str| status.labels.get(key).cloned().unwrap_or_default();
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    Container {
        name: label(CONTAINER_NAME),
        restart_count: annotation(RESTART_COUNT).parse().unwrap_or_default(),
        hash: annotation(CONTAINER_HASH),
        id: status.id,
        sandbox_id,
        state: state(status.state),
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_ref: status.image_ref,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        log_path: status.log_path,
        resources: status.resources.and_then(|r| r.linux),
        user: status.user.and_then(|u| u.linux),
    }
}

/// What a container wrote to its message file; or the end of its log, if it failed and its policy says so.
fn last_words(system: &dyn System, config: &Config, pod: &Pod, status: &api::ContainerStatus) -> String {
    let path = status.annotations.get(MESSAGE_PATH).map_or("", String::as_str);
    let file = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    if let Some(file) = file {
        match system.read_end(std::path::Path::new(&file.host_path), MESSAGE_MAX) {
            Ok(data) if !data.is_empty() => return String::from_utf8_lossy(&data).into_owned(),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return format!("Error on reading termination log {}: {e}", file.host_path),
        }
    }
    let fallback = status.annotations.get(MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    if !fallback || status.exit_code == 0 {
        return String::new();
    }
    let log = if status.log_path.starts_with('/') {
        status.log_path.clone().into()
    } else {
        config.log_dir(pod.namespace(), pod.name(), pod.uid()).join(&status.log_path)
    };
    let end = system.read_end(&log, 64 << 10).unwrap_or_default();
    log_end(&String::from_utf8_lossy(&end))
}

/// The text of the last lines of a log in the runtime's format (`time stream tag text`).
fn log_end(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|l| l.split(' ').count() > 3).collect();
    let last = &lines[lines.len().saturating_sub(LOG_MESSAGE_LINES)..];
    let text = |line: &&str| {
        let mut parts = line.splitn(4, ' ');
        let end = if parts.nth(2) == Some("F") { "\n" } else { "" };
        format!("{}{end}", parts.next().unwrap_or(""))
    };
    let all: String = last.iter().map(text).collect();
    let from = (all.len().saturating_sub(LOG_MESSAGE_MAX)..=all.len()).find(|i| all.is_char_boundary(*i)).unwrap_or(0);
    all[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ends() {
        let log = "broken\n2026-01-01T00:00:00Z stdout F one two\n2026-01-01T00:00:00Z stderr P par\n2026-01-01T00:00:00Z stderr F tial\n";
        assert_eq!(log_end(log), "one two\npartial\n");
        let long: String = (0..200).map(|n| format!("t stdout F {n:040}\n")).collect();
        assert_eq!(log_end(&long).len(), LOG_MESSAGE_MAX);
    }
}

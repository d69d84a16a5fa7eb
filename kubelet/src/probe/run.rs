//! Runs the probes of one container, over and over, each in a task of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Pod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{task::JoinHandle, time::Instant};

use super::{Count, Finding, Kind, Rhythm, grpc, http, tcp};
use crate::{
    agent::Agent,
    event::Severity,
    pod::{
        PodExt, Role,
        environment::expand,
        observed::{Container as Seen, Probed, State, timestamp},
    },
    runtime,
};

/// A probe that could not be made is tried so often before that counts.
const TRIES: usize = 3;

/// Where findings are told.
pub type Tell = Arc<dyn Fn(&str, Kind, bool) + Send + Sync>;

/// The probes of a pod that are running, by container id and kind.
#[derive(Default)]
pub struct Probes {
    tasks: BTreeMap<(String, Kind), Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Probes {
    /// Starts the probes that are due and ends those whose container or purpose is gone.
    pub fn sync(
        &mut self,
        agent: &Arc<Agent>,
        pod: &Arc<Pod>,
        containers: &[Seen],
        probed: &BTreeMap<String, Probed>,
        terminating: bool,
        tell: &Tell,
    ) {
        let mut wanted = BTreeMap::new();
        for (role, container) in pod.containers() {
            let seen = containers.iter().find(|c| c.name == container.name).filter(|c| c.state == State::Running);
            let (Some(seen), true) = (seen, role != Role::Ephemeral) else { continue };
            for kind in due(&container, probed.get(&seen.id).copied().unwrap_or_default(), terminating) {
                wanted.insert((seen.id.clone(), kind), (role, container.clone().into_owned(), seen.clone()));
            }
        }
        self.tasks.retain(|key, _| wanted.contains_key(key));
        for (key, (role, container, seen)) in wanted {
            let Some(probe) = key.1.of(&container).cloned() else { continue };
            self.tasks.entry(key.clone()).or_insert_with(|| {
                let prober =
                    Prober { agent: agent.clone(), pod: pod.clone(), role, container, seen, kind: key.1, probe };
                Task(tokio::spawn(prober.run(tell.clone())))
            });
        }
    }

    pub fn clear(&mut self) {
        self.tasks.clear();
    }
}

/// Which probes of a running container make sense now: nothing else before it has started.
fn due(container: &Container, probed: Probed, terminating: bool) -> Vec<Kind> {
    let started = container.startup_probe.is_none() || probed.startup == Some(true);
    let makes_sense = |kind: &Kind| match kind {
        Kind::Startup => !started && !terminating && probed.startup != Some(false),
        Kind::Liveness => started && !terminating && probed.liveness != Some(false),
        Kind::Readiness => started,
    };
    Kind::ALL.into_iter().filter(|k| k.of(container).is_some()).filter(makes_sense).collect()
}

struct Prober {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    role: Role,
    container: Container,
    seen: Seen,
    kind: Kind,
    probe: Probe,
}

impl Prober {
    async fn run(self, tell: Tell) {
        let rhythm = Rhythm::of(&self.probe);
        let mut count = Count::default();
        let mut stands = None;
        let first =
            timestamp(self.seen.started_at) + jiff::SignedDuration::try_from(rhythm.initial_delay).unwrap_or_default();
        tokio::time::sleep_until(self.agent.clock.instant(first).max(Instant::now())).await;
        let mut ticks = tokio::time::interval(rhythm.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let finding = self.find(rhythm.timeout).await;
            self.report(&finding);
            if let Some(result) = count.record(finding.is_success(), &rhythm)
                && stands != Some(result)
            {
                stands = Some(result);
                tell(&self.seen.id, self.kind, result);
            }
        }
    }

    async fn find(&self, patience: Duration) -> Finding {
        let mut last = Finding::Error(String::new());
        for _ in 0..TRIES {
            last = self.once(patience).await;
            if !matches!(last, Finding::Error(_)) {
                break;
            }
        }
        last
    }

    async fn once(&self, patience: Duration) -> Finding {
        let ip = self.agent.pod_ip(&self.pod);
        let given = |host: &Option<String>| host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| ip.clone());
        if let Some(exec) = &self.probe.exec {
            return self.exec(exec.command.as_deref().unwrap_or(&[]), patience).await;
        }
        if let Some(action) = &self.probe.http_get {
            return match port(&action.port, &self.container) {
                Ok(port) => http::probe(&http::Get::of(action, port, &ip, "probe"), patience).await,
                Err(message) => Finding::Error(message),
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            return match port(&action.port, &self.container) {
                Ok(port) => tcp::probe(&given(&action.host), port, patience).await,
                Err(message) => Finding::Error(message),
            };
        }
        if let Some(action) = &self.probe.grpc {
            let port = u16::try_from(action.port).unwrap_or_default();
            return grpc::probe(&ip, port, action.service.as_deref().unwrap_or(""), patience).await;
        }
        Finding::Error(format!("missing probe handler for {}:{}", self.pod.title(), self.container.name))
    }

    async fn exec(&self, command: &[String], patience: Duration) -> Finding {
        let plain = |name: &str| {
            let found = self.container.env.iter().flatten().find(|e| e.name == name)?;
            found.value.clone()
        };
        let command: Vec<_> = command.iter().map(|word| expand(word, &plain)).collect();
        let seconds = i64::try_from(patience.as_secs()).unwrap_or(1);
        match self.agent.runtime.exec_sync(self.seen.id.clone(), command.clone(), seconds).await {
            Ok(output) if output.exit_code == 0 => Finding::Success,
            Ok(output) => Finding::Failure(combined(&output)),
            Err(error) if error.kind == runtime::Kind::DeadlineExceeded || error.message.contains("timed out") => {
                Finding::Failure(format!(
                    "command timed out: {:?} timed out after {}s",
                    command.join(" "),
                    patience.as_secs()
                ))
            }
            Err(error) => Finding::Error(error.message),
        }
    }

    fn report(&self, finding: &Finding) {
        let kind = self.kind;
        let (reason, message) = match finding {
            Finding::Success => return,
            Finding::Warning(text) => ("ProbeWarning", format!("{kind:?} probe warning: {text}")),
            Finding::Failure(text) => ("Unhealthy", format!("{kind:?} probe failed: {text}")),
            Finding::Error(text) => {
                ("Unhealthy", format!("{kind:?} probe errored and resulted in unknown state: {text}"))
            }
        };
        self.agent.events.container(&self.pod, self.role, &self.container.name, Severity::Warning, reason, message);
    }
}

/// How much of a command's output is told, in bytes.
const OUTPUT_MAX: usize = 10 << 10;

fn combined(output: &runtime::Output) -> String {
    let mut all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    all.truncate(OUTPUT_MAX);
    String::from_utf8_lossy(&all).into_owned()
}

/// The number of a port that may be given by the name that the container has for it.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    match number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0) {
        Some(port) => Ok(port),
        None => match port {
            IntOrString::Int(number) => Err(format!("invalid port number: {number}")),
            IntOrString::String(name) => Err(format!("strconv.Atoi: parsing {name:?}: invalid syntax")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_before_startup_and_readiness_to_the_end() {
        let c: Container =
            serde_json::from_value(json!({"name": "c", "startupProbe": {}, "livenessProbe": {}, "readinessProbe": {}}))
                .unwrap();
        let started = Probed { startup: Some(true), ..Default::default() };
        assert_eq!(due(&c, Probed::default(), false), [Kind::Startup]);
        assert_eq!(due(&c, started, false), [Kind::Liveness, Kind::Readiness]);
        assert_eq!(due(&c, started, true), [Kind::Readiness]);
        let failed = Probed { liveness: Some(false), ..started };
        assert_eq!(due(&c, failed, false), [Kind::Readiness]);
    }

    #[test]
    fn ports() {
        let c: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}]})).unwrap();
        for (given, want) in [
            (IntOrString::Int(8080), Ok(8080)),
            (IntOrString::String("web".into()), Ok(80)),
            (IntOrString::String("81".into()), Ok(81)),
            (IntOrString::String("x".into()), Err("strconv.Atoi: parsing \"x\": invalid syntax")),
            (IntOrString::Int(0), Err("invalid port number: 0")),
        ] {
            assert_eq!(port(&given, &c), want.map_err(str::to_owned));
        }
    }
}

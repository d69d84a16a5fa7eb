//! What to do next for one pod: all of the thinking, none of the doing.

mod end;
pub(crate) use end::grace;
mod init;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    PodExt, Role,
    backoff::Backoff,
    backoff::go_duration,
    container,
    observed::{Cause, Observed, State, Termination, Waiting},
    resource, restart,
};

/// One thing to do. Steps of one plan may run at the same time, except that only one thing is started at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make directories, groups and volumes.
    Prepare,
    /// Make a new sandbox, after removing the init containers that must run again in it.
    CreateSandbox {
        attempt: u32,
        remove: Vec<String>,
    },
    /// Pull the image if need be, create the container, start it, run its hook.
    Start {
        role: Role,
        name: String,
        restart_count: Option<i32>,
        backoff: Option<Backoff>,
    },
    /// Leave a container waiting, and tell why.
    Hold {
        name: String,
        waiting: Waiting,
    },
    Stop(Stop),
    StopSandbox {
        id: String,
    },
    Resize {
        id: String,
        name: String,
        resources: cri::LinuxContainerResources,
    },
    /// From now on nothing is started any more.
    Terminate(Termination),
    /// Give back volumes and groups.
    CleanUp,
}

/// How one container is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub id: String,
    pub name: String,
    /// For the event, as upstream words it.
    pub message: String,
    /// What the hook and the container's own shutdown share.
    pub grace_seconds: i64,
    /// Containers that must have ended first, as long as there is time.
    pub after: Vec<String>,
}

/// What to do now and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}

/// What remains to be done, given what is there.
pub fn plan(pod: &Pod, seen: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(termination) = &seen.termination {
        end::plan(pod, seen, termination, &mut plan);
        return plan;
    }
    if let Some(termination) = end::due(pod, seen, now, &mut plan) {
        plan.step(Step::Terminate(termination));
        return plan;
    }
    if !seen.prepared {
        prepare(seen, now, &mut plan);
        return plan;
    }
    if seen.sandbox(pod.host_network()).is_none() {
        sandbox(pod, seen, now, &mut plan);
        return plan;
    }
    containers(pod, seen, now, &mut plan);
    plan
}

fn prepare(seen: &Observed, now: Timestamp, plan: &mut Plan) {
    match seen.prepare_after {
        _ if seen.starting => {}
        Some(after) if after > now => plan.wake(after),
        _ => plan.step(Step::Prepare),
    }
}

/// The sandbox is missing or broken: everything in it ends before another is made.
fn sandbox(pod: &Pod, seen: &Observed, now: Timestamp, plan: &mut Plan) {
    if seen.starting {
        return;
    }
    let attempt = seen.next_attempt();
    let spec = pod.spec();
    let initialized = spec.containers.iter().any(|c| seen.latest(&c.name).is_some());
    let none_left = spec.containers.iter().all(|c| {
        let once = c.restart_policy.as_deref().unwrap_or(pod.restart_policy()) == "OnFailure";
        once && seen.latest(&c.name).is_some_and(|l| l.succeeded())
    });
    let never = pod.restart_policy() == "Never" && attempt != 0 && !seen.containers.is_empty();
    if never || none_left && initialized {
        plan.step(Step::Terminate(completed(pod)));
        return;
    }
    let running: Vec<_> = seen.running().collect();
    for c in running.iter().filter(|c| !seen.stopping.contains(&c.id)) {
        plan.step(Step::Stop(stop(pod, c.id.clone(), &c.name, "", None)));
    }
    if !running.is_empty() {
        return;
    }
    let ready: Vec<_> = seen.sandboxes.iter().filter(|s| s.ready).collect();
    for s in ready.iter().filter(|s| !seen.stopping.contains(&s.id)) {
        plan.step(Step::StopSandbox { id: s.id.clone() });
    }
    if !ready.is_empty() {
        return;
    }
    match seen.sandbox_after {
        Some(after) if after > now => plan.wake(after),
        _ => {
            let init = |name: &str| spec.init_containers.iter().flatten().any(|c| c.name == name);
            let remove = seen.containers.iter().filter(|c| init(&c.name)).map(|c| c.id.clone()).collect();
            plan.step(Step::CreateSandbox { attempt, remove });
        }
    }
}

/// Containers to start, in order, and to stop.
#[derive(Default)]
struct Wanted<'a> {
    start: Vec<(Role, &'a Container)>,
    stop: Vec<Stop>,
}

fn containers(pod: &Pod, seen: &Observed, now: Timestamp, plan: &mut Plan) {
    let spec = pod.spec();
    let mut wanted = Wanted::default();
    let progress = init::decide(pod, spec.init_containers.as_deref().unwrap_or(&[]), seen, &mut wanted, plan);
    if progress == init::Progress::Failed {
        plan.step(Step::Terminate(completed(pod)));
        return;
    }
    if progress == init::Progress::Done && !main(pod, &spec.containers, seen, &mut wanted, plan) {
        plan.step(Step::Terminate(completed(pod)));
        return;
    }
    let stops = wanted.stop.drain(..).filter(|s| !seen.stopping.contains(&s.id));
    plan.steps.extend(stops.map(Step::Stop));

    let ephemeral: Vec<_> = pod.containers().into_iter().filter(|(role, _)| *role == Role::Ephemeral).collect();
    // Ephemeral containers are never restarted, not even when the runtime has forgotten them.
    let over = |name: &str| {
        let all = seen.reported.ephemeral_container_statuses.iter().flatten();
        let mut named = all.filter(|s| s.name == name);
        named.any(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()))
    };
    let fresh = ephemeral.iter().filter(|(_, c)| seen.latest(&c.name).is_none() && !over(&c.name));
    let first = fresh.map(|(r, c)| (*r, c.as_ref()));
    start(pod, first.chain(wanted.start.iter().copied()), seen, now, plan);
}

/// Looks after the main containers; says whether any is running or to be started.
fn main<'a>(pod: &Pod, all: &'a [Container], seen: &Observed, wanted: &mut Wanted<'a>, plan: &mut Plan) -> bool {
    let mut alive = false;
    for c in all {
        let latest = seen.latest(&c.name);
        let Some(running) = latest.filter(|l| l.state == State::Running) else {
            if let Some(unknown) = latest.filter(|l| l.state == State::Unknown) {
                let message = "Container is in \"unknown\" state, try killing it before restart";
                wanted.stop.push(stop(pod, unknown.id.clone(), &c.name, message, None));
            }
            if restart::wanted(c, pod, seen) {
                alive = true;
                wanted.start.push((Role::Main, c));
            }
            continue;
        };
        let Some((message, restart, grace)) = fault(pod, c, running, seen, plan) else {
            alive = true;
            continue;
        };
        let message = if restart { format!("{message}, will be restarted") } else { message };
        alive |= restart;
        wanted.stop.push(stop(pod, running.id.clone(), &c.name, &message, grace));
    }
    alive
}

/// Why a running container must go: the message, whether it comes back, and the probe's own grace.
fn fault(
    pod: &Pod,
    c: &Container,
    running: &super::observed::Container,
    seen: &Observed,
    plan: &mut Plan,
) -> Option<(String, bool, Option<i64>)> {
    let restart = restart::after_kill(c, pod);
    if running.hash != container::hash(c) {
        return Some((format!("Container {} definition changed", c.name), true, None));
    }
    let probed = seen.probed.get(&running.id).copied().unwrap_or_default();
    let grace = |p: &Option<k8s_openapi::api::core::v1::Probe>| p.as_ref()?.termination_grace_period_seconds;
    if probed.liveness == Some(false) {
        return Some((format!("Container {} failed liveness probe", c.name), restart, grace(&c.liveness_probe)));
    }
    if probed.startup == Some(false) {
        return Some((format!("Container {} failed startup probe", c.name), restart, grace(&c.startup_probe)));
    }
    resize(pod, c, running, seen, plan).map(|message| (message, true, None))
}

/// Adds the change of a running container's resources; a message when it must be restarted for it instead.
fn resize(
    pod: &Pod,
    c: &Container,
    running: &super::observed::Container,
    seen: &Observed,
    plan: &mut Plan,
) -> Option<String> {
    let (resources, changed) = resource::resized(pod, c, running, seen)?;
    if seen.resizing.contains(&running.id) {
        return None;
    }
    let restarts = |name: &str| {
        let policies = c.resize_policy.iter().flatten();
        policies.into_iter().any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    if changed.iter().any(|name| restarts(name)) {
        return Some(format!("Container {} resize requires restart", c.name));
    }
    plan.step(Step::Resize { id: running.id.clone(), name: c.name.clone(), resources });
    None
}

/// Starts the first container whose time has come. A failing init container holds up all that follow it.
fn start<'a>(
    pod: &Pod,
    wanted: impl Iterator<Item = (Role, &'a Container)>,
    seen: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) {
    let mut busy = seen.starting;
    for (role, c) in wanted {
        let latest = seen.latest(&c.name);
        if latest.is_some_and(|l| seen.stopping.contains(&l.id) || l.state == State::Running) {
            continue;
        }
        let held = match held(pod, c, seen, now) {
            Err(waiting) => {
                plan.wake(waiting.until);
                if seen.waiting.get(&c.name) != Some(&waiting) {
                    plan.step(Step::Hold { name: c.name.clone(), waiting });
                }
                true
            }
            Ok(_) if busy => true,
            Ok(backoff) => {
                busy = true;
                let restart_count = latest.map(|l| l.restart_count + 1);
                plan.step(Step::Start { role, name: c.name.clone(), restart_count, backoff });
                true
            }
        };
        if held && role == Role::Init {
            return;
        }
    }
}

/// Whether the container must wait; if not, the backoff that counts from this start on.
fn held(pod: &Pod, c: &Container, seen: &Observed, now: Timestamp) -> Result<Option<Backoff>, Waiting> {
    let exited = seen.containers.iter().find(|l| l.name == c.name && l.state == State::Exited);
    if let Some(exited) = exited.filter(|e| e.hash == container::hash(c))
        && let Some(backoff) = seen.backoff.get(&c.name)
        && backoff.until(exited.finished()) > now
    {
        let delay = go_duration(backoff.delay);
        return Err(Waiting {
            reason: "CrashLoopBackOff".into(),
            message: format!("back-off {delay} restarting failed container={} pod={}", c.name, pod.title()),
            until: backoff.until(exited.finished()),
        });
    }
    if let Some(waiting) = seen.waiting.get(&c.name).filter(|w| w.until > now) {
        return Err(waiting.clone());
    }
    Ok(exited.map(|e| Backoff::next(seen.backoff.get(&c.name).copied(), e.finished(), now)))
}

fn completed(pod: &Pod) -> Termination {
    Termination { cause: Cause::Completed, grace_seconds: pod.grace_seconds() }
}

fn stop(pod: &Pod, id: String, name: &str, message: &str, grace: Option<i64>) -> Stop {
    let message = if message.is_empty() { format!("Stopping container {name}") } else { message.to_owned() };
    let grace_seconds = pod.metadata.deletion_grace_period_seconds.or(grace).unwrap_or_else(|| pod.grace_seconds());
    Stop { id, name: name.to_owned(), message, grace_seconds, after: Vec::new() }
}

/// When a pod has been active for as long as it may.
fn deadline(pod: &Pod, seen: &Observed) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = seen.reported.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

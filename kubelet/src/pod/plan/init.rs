//! How far the init containers are: they run one after the other; sidecars among them keep running.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Plan, Wanted, resize, stop};
use crate::pod::{
    PodExt, Role, container, init_role,
    observed::{Observed, State},
    restart,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Ongoing,
    Done,
    /// One failed for good, and the pod with it.
    Failed,
}

/// Walks from the last to the first, as finished ones may have been removed: the last that has run tells most.
pub(super) fn decide<'a>(
    pod: &Pod,
    all: &'a [Container],
    seen: &Observed,
    wanted: &mut Wanted<'a>,
    plan: &mut Plan,
) -> Progress {
    if all.is_empty() {
        return Progress::Done;
    }
    let begun =
        |c: &Container| seen.latest(&c.name).is_some_and(|l| matches!(l.state, State::Created | State::Running));
    let mut done = pod.spec().containers.iter().any(begun);
    let mut later_begun = done;
    let mut start: Vec<usize> = Vec::new();
    for (i, c) in all.iter().enumerate().rev() {
        let role = init_role(c);
        let Some(latest) = seen.latest(&c.name) else {
            if later_begun && role == Role::Sidecar {
                start.push(i);
            }
            continue;
        };
        if later_begun && role == Role::Init {
            continue;
        }
        let mut passed = false;
        match (latest.state, role) {
            (State::Created, _) => start.push(i),
            (State::Running, Role::Sidecar) => passed = sidecar(pod, c, latest, seen, wanted, plan),
            (State::Running, _) => {}
            (State::Exited, Role::Sidecar) => start.push(i),
            (State::Exited, _) if latest.exit_code == 0 => passed = true,
            (State::Exited, _) => {
                if !restart::after_exit(c, pod, latest.exit_code) {
                    return Progress::Failed;
                }
                start.push(i);
            }
            (State::Unknown, _) => {
                if role == Role::Init && !restart::after_kill(c, pod) {
                    return Progress::Failed;
                }
                let message = "Init container is in \"unknown\" state, try killing it before restart";
                wanted.stop.push(stop(pod, latest.id.clone(), &c.name, message, None));
                start.push(i);
            }
        }
        match passed {
            true if i + 1 == all.len() => done = true,
            true if !later_begun => start.push(i + 1),
            _ => {}
        }
        if wanted.stop.iter().any(|s| s.id == latest.id) && !start.contains(&i) {
            start.push(i);
        }
        later_begun = true;
    }
    if !later_begun {
        start.push(0);
    }
    start.sort_unstable();
    wanted.start.extend(start.into_iter().map(|i| (init_role(&all[i]), &all[i])));
    if done { Progress::Done } else { Progress::Ongoing }
}

/// Whether a running sidecar lets the next container start; its failed probes have it restarted, and it is given the
/// resources that it is to have now.
fn sidecar(
    pod: &Pod,
    c: &Container,
    latest: &crate::pod::observed::Container,
    seen: &Observed,
    wanted: &mut Wanted<'_>,
    plan: &mut Plan,
) -> bool {
    let probed = seen.probed.get(&latest.id).copied().unwrap_or_default();
    let mut kill = |message: String, grace| wanted.stop.push(stop(pod, latest.id.clone(), &c.name, &message, grace));
    if let Some(probe) = &c.startup_probe {
        if probed.startup == Some(false) {
            kill(format!("Init container {} failed startup probe", c.name), probe.termination_grace_period_seconds);
        }
        if probed.startup != Some(true) {
            return false;
        }
    }
    if latest.hash != container::hash(c) {
        kill(format!("Init container {} definition changed", c.name), None);
    } else if probed.liveness == Some(false) {
        let grace = c.liveness_probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
        kill(format!("Init container {} failed liveness probe", c.name), grace);
    } else if let Some(message) = resize(pod, c, latest, seen, plan) {
        kill(message, None);
    }
    true
}

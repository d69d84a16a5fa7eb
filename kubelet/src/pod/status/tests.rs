//! Statuses for pods in every state, as tables.

use serde_json::{Value, json};

use super::*;
use crate::pod::observed::{Container as Seen, Probed, Sandbox, Termination, Waiting};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec}),
    )
    .unwrap()
}

fn seen(containers: &[(&str, State, i32)]) -> Observed {
    let container = |(name, state, exit_code): &(&str, State, i32)| Seen {
        id: format!("{name}1"),
        name: (*name).into(),
        sandbox_id: "s".into(),
        state: *state,
        exit_code: *exit_code,
        reason: if *exit_code == 0 { "Completed" } else { "Error" }.into(),
        started_at: 5_000_000_000,
        finished_at: 6_000_000_000,
        ..Default::default()
    };
    Observed {
        sandboxes: vec![Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.2".into()], ..Default::default() }],
        containers: containers.iter().map(container).collect(),
        prepared: true,
        ..Default::default()
    }
}

fn of(pod: &Pod, seen: &Observed) -> PodStatus {
    let host = Host { runtime: "containerd".into(), ips: vec!["192.0.2.1".into()] };
    status(pod, seen, &host, Timestamp::from_second(10).unwrap())
}

const RUN: State = State::Running;
const END: State = State::Exited;

#[test]
fn phases() {
    for (policy, init, have, ended, want) in [
        ("Always", false, vec![], false, "Pending"),
        ("Always", false, vec![("a", RUN, 0)], false, "Pending"),
        ("Always", false, vec![("a", RUN, 0), ("b", RUN, 0)], false, "Running"),
        ("Always", false, vec![("a", END, 1), ("b", END, 0)], false, "Running"),
        ("Always", false, vec![("a", END, 1), ("b", END, 0)], true, "Failed"),
        ("OnFailure", false, vec![("a", END, 1), ("b", END, 0)], false, "Running"),
        ("OnFailure", false, vec![("a", END, 0), ("b", END, 0)], false, "Succeeded"),
        ("Never", false, vec![("a", END, 1), ("b", RUN, 0)], false, "Running"),
        ("Never", false, vec![("a", END, 1), ("b", END, 0)], false, "Failed"),
        ("Always", true, vec![("i", RUN, 0)], false, "Pending"),
        ("Always", true, vec![("i", END, 1)], false, "Pending"),
        ("Never", true, vec![("i", END, 1)], false, "Failed"),
        ("Always", true, vec![("i", END, 0), ("a", RUN, 0), ("b", RUN, 0)], false, "Running"),
    ] {
        let mut spec = json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
        if init {
            spec["initContainers"] = json!([{"name": "i"}]);
        }
        let mut seen = seen(&have);
        if ended {
            seen.termination = Some(Termination { cause: Cause::Deleted, grace_seconds: 1 });
        }
        assert_eq!(of(&pod(spec), &seen).phase.as_deref(), Some(want), "{policy} {have:?}");
    }
}

#[test]
fn conditions_and_their_messages() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b", "readinessProbe": {}}],
        "initContainers": [{"name": "i"}, {"name": "j"}]}));
    let rows = |status: &PodStatus| -> Vec<String> {
        let word = |c: &PodCondition| {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            format!("{} {} {} {}", c.type_, c.status, text(&c.reason), text(&c.message)).trim_end().to_owned()
        };
        status.conditions.iter().flatten().map(word).collect()
    };
    assert_eq!(
        rows(&of(&pod, &seen(&[("i", END, 0)]))),
        [
            "PodReadyToStartContainers True",
            "Initialized False ContainersNotInitialized containers with incomplete status: [j]",
            "Ready False ContainersNotReady containers with unready status: [a b]",
            "ContainersReady False ContainersNotReady containers with unready status: [a b]",
            "PodScheduled True",
        ]
    );
    let mut running = seen(&[("i", END, 0), ("j", END, 0), ("a", RUN, 0), ("b", RUN, 0)]);
    let status = of(&pod, &running);
    assert_eq!(rows(&status)[2], "Ready False ContainersNotReady containers with unready status: [b]");
    assert_eq!(status.conditions.unwrap()[0].observed_generation, Some(3));
    running.probed.insert("b1".into(), Probed { readiness: Some(true), ..Default::default() });
    assert_eq!(rows(&of(&pod, &running))[1..4], ["Initialized True", "Ready True", "ContainersReady True"]);
}

#[test]
fn a_resize_is_in_progress_until_the_runtime_has_taken_it() {
    let asking = |cpu: &str| pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}));
    let given = |cpu: &str| {
        let before = asking(cpu);
        let mut seen = seen(&[("a", RUN, 0)]);
        seen.actuated.insert("a1".into(), resource::linux(&before, &before.spec().containers[0], 0));
        let first = of(&asking("25m"), &seen).conditions.unwrap().swap_remove(0);
        (first.type_, first.status, first.observed_generation)
    };
    assert_eq!(given("20m"), ("PodResizeInProgress".into(), "True".into(), Some(3)));
    assert_eq!(given("25m").0, "PodReadyToStartContainers");
}

#[test]
fn what_waits_says_why_and_keeps_its_last_state() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let fresh = of(&pod, &seen(&[])).container_statuses.unwrap().remove(0);
    assert_eq!(fresh.state.unwrap().waiting.unwrap().reason.as_deref(), Some("ContainerCreating"));
    assert_eq!((fresh.started, fresh.ready), (Some(false), false));

    let mut crashed = seen(&[("a", END, 1)]);
    let until = Timestamp::from_second(99).unwrap();
    let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: "back-off".into(), until };
    crashed.waiting.insert("a".into(), waiting);
    let status = of(&pod, &crashed).container_statuses.unwrap().remove(0);
    assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(status.container_id.as_deref(), Some("containerd://a1"));
}

#[test]
fn a_dead_pod_keeps_address_and_start_and_is_not_over_while_it_runs() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let mut now = seen(&[("a", RUN, 0)]);
    now.reported = of(&pod, &now);
    assert_eq!(now.reported.pod_ip.as_deref(), Some("10.0.0.2"));
    let cause = Cause::Failed { reason: "Evicted".into(), message: "too much".into() };
    now.termination = Some(Termination { cause, grace_seconds: 1 });
    assert_eq!(of(&pod, &now).phase.as_deref(), Some("Running"));
    now.containers[0].state = END;
    now.sandboxes.clear();
    now.cleaned = true;
    let over = of(&pod, &now);
    assert_eq!((over.phase.as_deref(), over.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert_eq!(over.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(over.start_time, now.reported.start_time);
    assert!(over.conditions.unwrap().iter().any(|c| c.type_ == "DisruptionTarget" && c.status == "True"));
}

#[test]
fn what_never_began_is_lost_when_the_pod_is_gone() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut now = seen(&[]);
    now.termination = Some(Termination { cause: Cause::Deleted, grace_seconds: 1 });
    now.cleaned = true;
    let status = of(&pod, &now);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let terminated = status.container_statuses.unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!((terminated.exit_code, terminated.reason.as_deref()), (137, Some(UNKNOWN)));
}

//! Plans for pods in every state, as tables.

use serde_json::json;

use super::*;
use crate::pod::observed::{Container as Seen, Probed, Sandbox};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
}

fn seen(pod: &Pod, containers: &[(&str, State, i32)]) -> Observed {
    let sandbox = Sandbox { id: "s".into(), ready: true, ips: vec!["10.0.0.1".into()], ..Default::default() };
    let hash = |name: &str| pod.container(name).map(|(_, c)| container::hash(&c)).unwrap_or_default();
    let containers = containers.iter().map(|(name, state, exit_code)| Seen {
        id: format!("{name}-id"),
        name: (*name).into(),
        sandbox_id: "s".into(),
        state: *state,
        exit_code: *exit_code,
        hash: hash(name),
        finished_at: 100_000_000_000,
        ..Default::default()
    });
    Observed { sandboxes: vec![sandbox], containers: containers.collect(), prepared: true, ..Default::default() }
}

/// Steps in short words.
fn words(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::Prepare => "prepare".into(),
            Step::CreateSandbox { attempt, .. } => format!("sandbox {attempt}"),
            Step::Start { name, .. } => format!("start {name}"),
            Step::Hold { name, waiting } => format!("hold {name} {}", waiting.reason),
            Step::Stop(s) => format!("stop {} {}", s.name, s.after.join(",")).trim_end().to_owned(),
            Step::StopSandbox { id } => format!("stop sandbox {id}"),
            Step::Resize { name, .. } => format!("resize {name}"),
            Step::Terminate(t) => format!(
                "terminate {}",
                match &t.cause {
                    Cause::Deleted => "deleted",
                    Cause::Completed => "completed",
                    Cause::Failed { reason, .. } => reason,
                }
            ),
            Step::CleanUp => "clean up".into(),
        })
        .collect()
}

fn steps(pod: &Pod, seen: &Observed) -> Vec<String> {
    words(&plan(pod, seen, at(101)))
}

const RUN: State = State::Running;
const END: State = State::Exited;

#[test]
fn from_nothing_to_running() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let mut nothing = Observed::default();
    assert_eq!(steps(&pod, &nothing), ["prepare"]);
    nothing.prepared = true;
    assert_eq!(steps(&pod, &nothing), ["sandbox 0"]);
    nothing.sandbox_after = Some(at(105));
    assert_eq!(plan(&pod, &nothing, at(101)), Plan { steps: vec![], wake_at: Some(at(105)) });
    assert_eq!(steps(&pod, &seen(&pod, &[])), ["start a"]);
    assert_eq!(steps(&pod, &seen(&pod, &[("a", RUN, 0)])), ["start b"]);
    let busy = Observed { starting: true, ..seen(&pod, &[("a", RUN, 0)]) };
    assert!(steps(&pod, &busy).is_empty());
    assert!(steps(&pod, &seen(&pod, &[("a", RUN, 0), ("b", RUN, 0)])).is_empty());
}

#[test]
fn init_containers_and_sidecars_in_order() {
    let pod = pod(json!({"restartPolicy": "Always", "containers": [{"name": "a"}], "initContainers": [
        {"name": "i"}, {"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "j"},
    ]}));
    for (have, want) in [
        (vec![], vec!["start i"]),
        (vec![("i", RUN, 0)], vec![]),
        (vec![("i", END, 1)], vec!["start i"]),
        (vec![("i", END, 0)], vec!["start s"]),
        (vec![("s", RUN, 0), ("i", END, 0)], vec![]),
        (vec![("j", END, 0), ("s", RUN, 0), ("i", END, 0)], vec!["start a"]),
        (vec![("j", END, 0), ("s", END, 1), ("i", END, 0)], vec!["start s"]),
        (vec![("a", RUN, 0), ("s", END, 0)], vec!["start s"]),
        (vec![("a", RUN, 0)], vec!["start s"]),
    ] {
        assert_eq!(steps(&pod, &seen(&pod, &have)), want, "{have:?}");
    }
    let mut started = seen(&pod, &[("s", RUN, 0), ("i", END, 0)]);
    started.probed.insert("s-id".into(), Probed { startup: Some(true), ..Default::default() });
    assert_eq!(steps(&pod, &started), ["start j"]);
    started.probed.insert("s-id".into(), Probed { startup: Some(false), ..Default::default() });
    assert_eq!(steps(&pod, &started), ["stop s"]);
}

#[test]
fn running_containers_and_sidecars_are_given_what_they_are_to_have_now() {
    let asked = |millis: &str| json!({"requests": {"cpu": millis}});
    let of = |main: &str, sidecar: &str| {
        pod(json!({
            "containers": [{"name": "a", "resources": asked(main)}],
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": asked(sidecar),
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}],
        }))
    };
    let before = of("20m", "20m");
    let mut now = seen(&before, &[("a", RUN, 0), ("s", RUN, 0)]);
    for (_, c) in before.containers() {
        now.actuated.insert(format!("{}-id", c.name), resource::linux(&before, &c, 0));
    }
    assert!(steps(&before, &now).is_empty());
    assert_eq!(steps(&of("25m", "20m"), &now), ["resize a"]);
    assert_eq!(steps(&of("20m", "25m"), &now), ["stop s"]);
    now.resizing.insert("a-id".into());
    assert!(steps(&of("25m", "20m"), &now).is_empty());
}

#[test]
fn ends_by_itself() {
    for (policy, have, want) in [
        ("Never", vec![("a", END, 0)], vec!["terminate completed"]),
        ("Never", vec![("a", END, 1)], vec!["terminate completed"]),
        ("OnFailure", vec![("a", END, 0)], vec!["terminate completed"]),
        ("OnFailure", vec![("a", END, 1)], vec!["start a"]),
        ("Always", vec![("a", END, 0)], vec!["start a"]),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        assert_eq!(steps(&pod, &seen(&pod, &have)), want, "{policy} {have:?}");
    }
    let failed =
        pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
    assert_eq!(steps(&failed, &seen(&failed, &[("i", END, 1)])), ["terminate completed"]);
}

#[test]
fn backs_off_from_the_second_restart_on() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let mut now = seen(&pod, &[("a", END, 1), ("b", RUN, 0)]);
    let first = plan(&pod, &now, at(101));
    let Some(Step::Start { backoff, restart_count, .. }) = first.steps.first() else { panic!("{first:?}") };
    assert_eq!(*restart_count, Some(1));
    now.backoff.insert("a".into(), backoff.unwrap());
    let second = plan(&pod, &now, at(105));
    assert_eq!(second.wake_at, Some(at(110)));
    let Some(Step::Hold { waiting, .. }) = second.steps.first() else { panic!("{second:?}") };
    assert_eq!(waiting.message, "back-off 10s restarting failed container=a pod=p_n(u)");
    now.waiting.insert("a".into(), waiting.clone());
    assert!(plan(&pod, &now, at(105)).steps.is_empty());
    assert_eq!(words(&plan(&pod, &now, at(110))), ["start a"]);
}

#[test]
fn probes_stop_containers() {
    let pod = pod(json!({"containers": [{"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 7}}]}));
    let mut now = seen(&pod, &[("a", RUN, 0)]);
    now.probed.insert("a-id".into(), Probed { liveness: Some(false), ..Default::default() });
    let made = plan(&pod, &now, at(101));
    let Some(Step::Stop(stop)) = made.steps.first() else { panic!("{made:?}") };
    assert_eq!(stop.message, "Container a failed liveness probe, will be restarted");
    assert_eq!(stop.grace_seconds, 7);
    now.stopping.insert("a-id".into());
    assert!(steps(&pod, &now).is_empty());
}

#[test]
fn terminates_in_order() {
    let mut pod = pod(json!({"containers": [{"name": "a"}], "initContainers": [
        {"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}]}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    let mut now = seen(&pod, &[("a", RUN, 0), ("t", RUN, 0), ("s", RUN, 0)]);
    let due = plan(&pod, &now, at(101));
    assert_eq!(due.steps, [Step::Terminate(Termination { cause: Cause::Deleted, grace_seconds: 5 })]);
    now.termination = Some(Termination { cause: Cause::Deleted, grace_seconds: 5 });
    assert_eq!(steps(&pod, &now), ["stop a", "stop t a", "stop s t,a"]);
    now.containers.iter_mut().for_each(|c| c.state = END);
    assert_eq!(steps(&pod, &now), ["stop sandbox s"]);
    now.sandboxes[0].ready = false;
    assert_eq!(steps(&pod, &now), ["clean up"]);
    now.cleaned = true;
    assert!(steps(&pod, &now).is_empty());
}

#[test]
fn deadline_and_lost_sandbox() {
    let pod = pod(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "a"}]}));
    let mut now = seen(&pod, &[("a", RUN, 0)]);
    now.reported.start_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(50)));
    assert_eq!(plan(&pod, &now, at(101)).wake_at, Some(at(110)));
    assert_eq!(words(&plan(&pod, &now, at(110))), ["terminate DeadlineExceeded"]);
    now.sandboxes[0].ready = false;
    assert_eq!(steps(&pod, &now), ["stop a"]);
    now.containers[0].state = END;
    assert_eq!(steps(&pod, &now), ["sandbox 1"]);
}

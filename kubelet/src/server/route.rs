//! Which path is answered by what.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Answer, Refusal, json, log, metric, query, stat, stream, text};
use crate::{
    agent::Agent,
    pod::{PodExt, observed::State, table::Entry},
};

pub async fn answer(agent: &Arc<Agent>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().trim_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let method = request.method().clone();
    let streaming = matches!(method, Method::GET | Method::POST);
    match (&method, parts.as_slice()) {
        (&Method::GET, ["healthz", ..]) => text(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(agent, |_| true),
        (&Method::GET, ["runningpods"]) => pods(agent, |e| e.containers.iter().any(|c| c.state == State::Running)),
        (&Method::GET, ["configz"]) => configz(agent),
        (&Method::GET, ["stats", "summary"]) => stat::summary(agent).await,
        (&Method::GET, ["metrics"]) => metric::own(agent),
        (&Method::GET, ["metrics", "resource"]) => metric::resource(agent).await,
        (&Method::GET, ["metrics", "probes" | "cadvisor"]) => metric::empty(),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            log::answer(agent, namespace, pod, container, &query(request.uri())).await
        }
        (_, ["exec", namespace, pod, rest @ .., container]) if streaming && rest.len() < 2 => {
            match container_id(agent, namespace, pod, rest.first().copied(), container) {
                Ok(id) => stream::exec(agent, id, request).await,
                Err(refusal) => *refusal,
            }
        }
        (_, ["attach", namespace, pod, rest @ .., container]) if streaming && rest.len() < 2 => {
            match container_id(agent, namespace, pod, rest.first().copied(), container) {
                Ok(id) => stream::attach(agent, id, request).await,
                Err(refusal) => *refusal,
            }
        }
        (_, ["portForward", namespace, pod, rest @ ..]) if streaming && rest.len() < 2 => {
            match find(agent, namespace, pod, rest.first().copied()) {
                Ok(entry) => stream::port_forward(agent, &entry, request).await,
                Err(refusal) => *refusal,
            }
        }
        (&Method::POST, ["run", namespace, pod, rest @ .., container]) if rest.len() < 2 => {
            match container_id(agent, namespace, pod, rest.first().copied(), container) {
                Ok(id) => run(agent, id, &request).await,
                Err(refusal) => *refusal,
            }
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pods(agent: &Agent, wanted: impl Fn(&Entry) -> bool) -> Answer {
    let all = agent.pods.all();
    let items: Vec<&Pod> = all.iter().filter(|e| wanted(e)).map(|e| e.pod.as_ref()).collect();
    json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

fn configz(agent: &Agent) -> Answer {
    let c = &agent.config;
    json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": c.address, "port": c.port, "clusterDomain": c.cluster_domain, "clusterDNS": c.cluster_dns,
        "maxPods": c.max_pods, "cgroupDriver": "cgroupfs", "cgroupRoot": c.cgroup_root, "cgroupsPerQOS": c.cgroups_per_qos,
        "containerRuntimeEndpoint": format!("unix://{}", c.runtime_endpoint.display()),
        "containerLogMaxFiles": c.container_log_max_files, "podLogsDir": c.pod_log_dir,
        "imageGCHighThresholdPercent": c.image_gc.0, "imageGCLowThresholdPercent": c.image_gc.1,
        "nodeStatusUpdateFrequency": format!("{}s", c.status_period.as_secs()),
        "nodeLeaseDurationSeconds": c.lease_duration.as_secs(),
        "seccompDefault": c.seccomp_default,
    }}))
}

fn find(agent: &Agent, namespace: &str, pod: &str, uid: Option<&str>) -> Result<Arc<Entry>, Refusal> {
    let found = agent.pods.find(namespace, pod).filter(|e| uid.is_none_or(|u| u == e.pod.uid()));
    found.ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, "pod does not exist")))
}

/// The running container of a name.
fn container_id(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<String, Refusal> {
    let entry = find(agent, namespace, pod, uid)?;
    let found = entry.containers.iter().find(|c| c.name == container && c.state == State::Running);
    let missing = || Box::new(text(StatusCode::NOT_FOUND, format!("container not found (\"{container}\")")));
    found.map(|c| c.id.clone()).ok_or_else(missing)
}

/// Runs a command to its end and answers with what it wrote.
async fn run(agent: &Agent, id: String, request: &Request<Incoming>) -> Answer {
    let command = query(request.uri()).into_iter().find(|(name, _)| name == "cmd").map(|(_, value)| value);
    let words = command.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    match agent.runtime.exec_sync(id, words, 0).await {
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            text(StatusCode::OK, String::from_utf8_lossy(&all).into_owned())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.message),
    }
}

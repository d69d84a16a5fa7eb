//! A whole node on the fake runtime and machine, against a few lines of API, under a paused clock.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use kubelet::{
    Config, Kubelet,
    clock::Clock,
    runtime::fake::{Fake, Play},
    system::{Machine, fake},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Holds the pods of one node, by name.
#[derive(Clone)]
struct Api {
    pods: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Counts the writes.
    written: watch::Sender<u64>,
    events: Arc<Mutex<Option<mpsc::Receiver<Value>>>>,
}

fn answer(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

/// What a strategic merge does to a status, as far as the kubelet uses it.
fn merge(pod: &mut Value, patch: &Value) {
    for (name, new) in patch["status"].as_object().unwrap() {
        let old = &mut pod["status"][name];
        match (name.as_str(), new, old.as_array_mut()) {
            ("conditions", Value::Array(new), Some(old)) => {
                old.retain(|o| !new.iter().any(|n| n["type"] == o["type"]));
                old.extend(new.iter().cloned());
            }
            _ => *old = new.clone(),
        }
    }
}

impl Api {
    fn new(pods: &[Value]) -> (Self, mpsc::Sender<Value>) {
        let named = pods.iter().map(|p| (p["metadata"]["name"].as_str().unwrap().to_owned(), p.clone()));
        let (sender, events) = mpsc::channel(8);
        let pods = Arc::new(Mutex::new(named.collect()));
        (Self { pods, written: watch::Sender::new(0), events: Arc::new(Mutex::new(Some(events))) }, sender)
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                Ok::<_, Infallible>(api.answer(&parts.method, &parts.uri, body))
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: Value) -> Answer {
        let (path, query) = (uri.path(), uri.query().unwrap_or(""));
        if query.contains("watch=true") {
            let events = (path == "/api/v1/pods").then(|| self.events.lock().unwrap().take()).flatten();
            let events = events.map(tokio_stream::wrappers::ReceiverStream::new);
            let lines = stream::iter(events).flatten().map(|e| Ok(Frame::data(Bytes::from(format!("{e}\n")))));
            return Response::new(StreamBody::new(lines.chain(stream::pending())).boxed_unsync());
        }
        let mut pods = self.pods.lock().unwrap();
        let name = path.trim_end_matches("/status").rsplit('/').next().unwrap_or("").to_owned();
        let changed = match (method, pods.get_mut(&name)) {
            (&Method::GET, _) if path == "/api/v1/pods" => {
                let items: Vec<_> = pods.values().cloned().collect();
                return answer(
                    &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
                );
            }
            (&Method::GET, _) => {
                return answer(
                    &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
                );
            }
            (&Method::PATCH, Some(pod)) if path.contains("/pods/") => {
                merge(pod, &body);
                pod.clone()
            }
            (&Method::DELETE, Some(_)) => pods.remove(&name).unwrap(),
            _ => return answer(&body),
        };
        drop(pods);
        self.written.send_modify(|n| *n += 1);
        answer(&changed)
    }

    fn pod(&self, name: &str) -> Value {
        self.pods.lock().unwrap().get(name).cloned().unwrap_or(Value::Null)
    }

    /// Waits, in the clock's time, until a pod is as wanted.
    async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut written = self.written.subscribe();
        let done = async {
            while !wanted(&self.pod(name)) {
                written.changed().await.unwrap();
            }
            self.pod(name)
        };
        let last = tokio::time::timeout(Duration::from_secs(3600), done).await;
        last.unwrap_or_else(|_| panic!("{name} stays {}", self.pod(name)["status"]))
    }
}

fn pod(name: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"nodeName": "n", "restartPolicy": policy, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": name, "image": "x:1"}]},
    })
}

async fn start(api: &Api) -> kubelet::Handle {
    let clock = Clock::from("2026-01-01T00:00:00Z".parse().unwrap());
    let script =
        Arc::new(|c: &kubelet::runtime::api::ContainerConfig| match c.metadata.as_ref().unwrap().name.as_str() {
            "job" => Play::Exit { after: Duration::from_secs(5), code: 0 },
            "crash" => Play::Exit { after: Duration::from_secs(1), code: 1 },
            _ => Play::Forever { shutdown: Duration::from_secs(2) },
        });
    let runtime = Arc::new(Fake::new(clock, [10, 1], Duration::from_millis(5), script));
    let machine = Machine { cpus: 4, memory_bytes: 8 << 30, architecture: "amd64".into(), ..Machine::default() };
    let system = Arc::new(fake::Fake::new(machine, Ipv4Addr::new(192, 0, 2, 1).into()));
    let config = Config { node_name: "n".into(), serve: false, ..Config::default() };
    Kubelet::start_on(config, api.client(), runtime, system, clock).await.unwrap()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[tokio::test(start_paused = true)]
async fn pods_run_finish_and_crash() {
    let (api, _events) = Api::new(&[pod("web", "Always"), pod("job", "Never"), pod("crash", "Always")]);
    let handle = start(&api).await;
    let web = api.until("web", ready).await;
    assert_eq!(web["status"]["phase"], "Running");
    assert!(web["status"]["podIP"].as_str().unwrap().starts_with("10.1."));
    let job = api.until("job", |p| p["status"]["phase"] == "Succeeded").await;
    assert_eq!(job["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    let crash = api.until("crash", |p| p["status"]["containerStatuses"][0]["restartCount"] == 4).await;
    assert_eq!(crash["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    handle.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_before_it_is_let_go() {
    let (api, events) = Api::new(&[pod("web", "Always")]);
    let handle = start(&api).await;
    let mut web = api.until("web", ready).await;
    web["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:00Z".into();
    web["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    web["metadata"]["resourceVersion"] = "2".into();
    api.pods.lock().unwrap().insert("web".into(), web.clone());
    events.send(json!({"type": "MODIFIED", "object": web})).await.unwrap();
    let over = api.until("web", |p| p["status"]["phase"] == "Succeeded").await;
    assert_eq!(over["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    api.until("web", Value::is_null).await;
    handle.stop().await;
}

//! The controllers over a server in memory, in one thread, under a paused clock and in a seeded order.

// All of this file is test code, its helpers too.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use controllers::{config::Config, controllers::Controllers, runtime::clock::Clock};
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Key = (String, String, String);
type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Keeps objects and tells watchers; pods are ready as soon as they are made.
#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(u64, String, &'static str, Value)>,
    watchers: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    pods_made: usize,
    ready_min: usize,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

fn answer(code: u16, body: &Value) -> Answer {
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_string())).boxed()).unwrap()
}

fn refuse(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": reason, "metadata": {}});
    answer(code, &status)
}

impl State {
    fn put(&mut self, key: Key, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(&key.0, kind, object.clone());
        if kind == "DELETED" {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object.clone());
        }
        object
    }

    fn tell(&mut self, collection: &str, kind: &'static str, object: Value) {
        let text = line(kind, &object);
        self.watchers.retain(|(watched, sender)| watched != collection || sender.send(text.clone()).is_ok());
        self.history.push((self.version, collection.to_owned(), kind, object));
    }

    fn of<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |(k, _)| k.0.ends_with(plural)).map(|(_, o)| o)
    }
}

impl Fake {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                // Other tasks run between any two requests.
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(fake.serve(&parts, &serde_json::from_slice(&body).unwrap_or_default()))
            }
        });
        kube::Client::new(service, "default")
    }

    fn serve(&self, parts: &http::request::Parts, body: &Value) -> Answer {
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let (root, rest) = path.split_at(if path[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let collection = format!("{}/{}", root.join("/"), rest[0]);
        let key = |name: &str| (collection.clone(), namespace.to_owned(), name.to_owned());
        let query = parts.uri.query().unwrap_or_default();
        match (&parts.method, rest) {
            (&Method::GET, [_]) if query.contains("watch=true") => self.watch(collection, query),
            (&Method::GET, [_]) => self.list(&collection, namespace),
            (&Method::GET, [_, name, ..]) => match self.lock().objects.get(&key(name)) {
                Some(object) => answer(200, object),
                None => refuse(404, "NotFound"),
            },
            (&Method::POST, _) => self.create(body, |name| key(name)),
            (&Method::PUT, [_, name, sub @ ..]) => self.update(key(name), body, !sub.is_empty()),
            (&Method::DELETE, [_, name]) => self.delete(&key(name), body),
            _ => refuse(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, collection: &str, namespace: &str) -> Answer {
        let state = self.lock();
        let listed = |k: &Key| k.0 == collection && (namespace.is_empty() || k.1 == namespace);
        let items: Vec<_> = state.objects.iter().filter(|(k, _)| listed(k)).map(|(_, o)| o).collect();
        answer(200, &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}))
    }

    fn watch(&self, collection: String, query: &str) -> Answer {
        let from = query.split('&').find_map(|p| p.strip_prefix("resourceVersion=")).unwrap().parse().unwrap();
        let mut state = self.lock();
        let missed = state.history.iter().filter(|(at, of, ..)| *at > from && *of == collection);
        let missed: Vec<_> = missed.map(|(_, _, kind, object)| line(kind, object)).collect();
        let (sender, receiver) = mpsc::unbounded_channel();
        state.watchers.push((collection, sender));
        let events = stream::iter(missed).chain(UnboundedReceiverStream::new(receiver));
        let frames = events.map(|bytes| Ok::<_, Infallible>(http_body::Frame::data(bytes)));
        Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(frames))))))
    }

    fn create(&self, body: &Value, key: impl Fn(&str) -> Key) -> Answer {
        let (mut state, mut object) = (self.lock(), body.clone());
        let serial = state.version + 1;
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().map_or_else(|| format!("{prefix}{serial}"), str::to_owned);
        let key = key(&name);
        if state.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists");
        }
        let meta = &mut object["metadata"];
        meta["name"] = json!(name);
        meta["uid"] = json!(format!("uid-{serial}"));
        meta["generation"] = json!(1);
        meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if key.0.ends_with("/pods") {
            state.pods_made += 1;
            object["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        }
        answer(201, &state.put(key, object, "ADDED"))
    }

    fn update(&self, key: Key, body: &Value, part: bool) -> Answer {
        let mut state = self.lock();
        let Some(old) = state.objects.get(&key).cloned() else {
            return refuse(404, "NotFound");
        };
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return refuse(409, "Conflict");
        }
        let mut new = if part { old.clone() } else { body.clone() };
        let status = if part { body } else { &old };
        new["status"] = status["status"].clone();
        new["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
        if new["spec"] != old["spec"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        answer(200, &state.put(key, new, "MODIFIED"))
    }

    fn delete(&self, key: &Key, body: &Value) -> Answer {
        let mut state = self.lock();
        let Some(old) = state.objects.get(key).cloned() else {
            return refuse(404, "NotFound");
        };
        if body["preconditions"]["uid"] != old["metadata"]["uid"] {
            return refuse(409, "Conflict");
        }
        state.put(key.clone(), old, "DELETED");
        let ready = state.of("/pods").count();
        state.ready_min = state.ready_min.min(ready);
        answer(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
    }
}

/// Bodies must be `Sync`; a stream in a lock is.
struct SyncStream<S>(Mutex<S>);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().0.get_mut().unwrap().poll_next_unpin(context)
    }
}

const DEPLOYMENTS: &str = "apis/apps/v1/deployments";

fn deployment(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 5, "selector": {"matchLabels": {"app": "a"}}, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// A rollout of five pods to a second template; gives the whole history, as text.
async fn rollout(seed: u64) -> String {
    let fake = Fake::default();
    let config = Config {
        clock: Clock::tokio("2026-01-01T00:00:00Z".parse().unwrap()),
        seed: Some(seed),
        disabled: ["garbage-collector".to_owned()].into(),
        ..Config::default()
    };
    let running = Controllers::start(fake.client(), config);
    let key = (DEPLOYMENTS.to_owned(), "default".to_owned(), "web".to_owned());
    fake.create(&deployment("1"), |_| key.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    {
        let mut state = fake.lock();
        assert_eq!((state.pods_made, state.of("/pods").count()), (5, 5), "seed {seed}: nothing is made twice");
        state.ready_min = 5;
        let mut second = state.objects[&key].clone();
        second["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
        second["metadata"]["generation"] = json!(2);
        state.put(key.clone(), second, "MODIFIED");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.stop().await;
    let state = fake.lock();
    assert_eq!((state.pods_made, state.of("/pods").count()), (10, 5), "seed {seed}: each pod is replaced once");
    assert!(state.ready_min >= 4, "seed {seed}: only {} pods were left at a time", state.ready_min);
    assert!(state.of("/pods").all(|p| p["spec"]["containers"][0]["image"] == "2"));
    let status = &state.objects[&key]["status"];
    assert_eq!((&status["updatedReplicas"], &status["observedGeneration"]), (&json!(5), &json!(2)), "seed {seed}");
    let told = state.history.iter().filter(|(_, of, ..)| !of.contains("events"));
    told.map(|(_, of, kind, o)| format!("{kind} {of} {}\n", o["metadata"]["name"])).collect()
}

#[tokio::test(start_paused = true)]
async fn a_rollout_converges_in_any_order() {
    for seed in 0..10 {
        rollout(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_reproduces() {
    assert_eq!(rollout(7).await, rollout(7).await);
}

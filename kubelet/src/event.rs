//! Tells the cluster what happened to a pod or to the node; repeats are counted instead of told again.

use std::collections::{HashMap, VecDeque};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::{
    clock::Clock,
    pod::{PodExt, Role},
};

/// How many events may wait to be sent, and how many are remembered to count repeats.
const QUEUE_MAX: usize = 1024;
const MEMORY_MAX: usize = 1024;
/// The longest message that the API takes, in bytes.
const MESSAGE_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
}

/// Takes events and sends them in the background; when too many wait, new ones are dropped.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// A recorder, and the loop that sends for it.
pub fn recorder(client: kube::Client, node: String, clock: Clock) -> (Recorder, impl Future<Output = ()> + Send) {
    let (queue, notes) = mpsc::channel(QUEUE_MAX);
    (Recorder { queue }, send(client, node, clock, notes))
}

impl Recorder {
    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &str, message: impl Into<String>) {
        self.send(reference(pod), severity, reason, message.into());
    }

    pub fn container(
        &self,
        pod: &Pod,
        role: Role,
        container: &str,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let list = match role {
            Role::Ephemeral => "ephemeralContainers",
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
        };
        let about = ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..reference(pod) };
        self.send(about, severity, reason, message.into());
    }

    /// Upstream refers to a node by its name in place of its uid.
    pub fn node(&self, node: &str, severity: Severity, reason: &str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some(<Node as k8s_openapi::Resource>::KIND.into()),
            name: Some(node.into()),
            uid: Some(node.into()),
            ..Default::default()
        };
        self.send(about, severity, reason, message.into());
    }

    fn send(&self, about: ObjectReference, severity: Severity, reason: &str, mut message: String) {
        if message.len() > MESSAGE_MAX {
            let end = (0..=MESSAGE_MAX).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
        }
        let note = Note { about, severity, reason: reason.into(), message };
        if let Err(error) = self.queue.try_send(note) {
            debug!(%error, "an event is lost");
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name().into()),
        namespace: Some(pod.namespace().into()),
        uid: Some(pod.uid().into()),
        resource_version: pod.metadata.resource_version.clone(),
        ..Default::default()
    }
}

type Key = (Option<String>, Option<String>, Severity, String, String);

/// Names and counts of events that were sent, the oldest forgotten first.
#[derive(Default)]
struct Sent {
    counts: HashMap<Key, (String, i32)>,
    order: VecDeque<Key>,
}

async fn send(client: kube::Client, node: String, clock: Clock, mut notes: mpsc::Receiver<Note>) {
    let mut sent = Sent::default();
    while let Some(note) = notes.recv().await {
        if let Err(error) = publish(&client, &node, clock, &mut sent, note).await {
            debug!(%error, "cannot send an event");
        }
    }
}

async fn publish(client: &kube::Client, node: &str, clock: Clock, sent: &mut Sent, note: Note) -> kube::Result<()> {
    let now = clock.now();
    let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".into());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let key: Key = (note.about.uid.clone(), note.about.field_path.clone(), note.severity, note.reason, note.message);
    if let Some((name, count)) = sent.counts.get_mut(&key) {
        let patch = json!({"count": *count + 1, "lastTimestamp": Time(now)});
        match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => {
                *count += 1;
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let name = format!("{}.{:x}", note.about.name.as_deref().unwrap_or(""), now.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..Default::default() },
        involved_object: note.about,
        reason: Some(key.3.clone()),
        message: Some(key.4.clone()),
        type_: Some(format!("{:?}", key.2)),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Default::default()
    };
    api.create(&PostParams::default(), &event).await?;
    if sent.counts.insert(key.clone(), (name, 1)).is_none() {
        sent.order.push_back(key);
    }
    if sent.order.len() > MEMORY_MAX
        && let Some(oldest) = sent.order.pop_front()
    {
        sent.counts.remove(&oldest);
    }
    Ok(())
}

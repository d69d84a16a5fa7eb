//! What a controller decides: the writes to make, in order, and when to look again.

use std::time::Duration;

use crds::kind::Kind;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::{Value, json};

use crate::runtime::object::{self, Resource};

/// Everything that is to happen for one key. The steps run one after another; within a step the writes run together,
/// creations in growing batches so that a refusal is found out with one request. A step that fails ends the plan.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Vec<Write>>,
    pub events: Vec<Event>,
    pub requeue_after: Option<Duration>,
}

impl Plan {
    pub fn of(write: Write) -> Self {
        Self::default().then(write)
    }

    pub fn then(self, write: Write) -> Self {
        self.together(vec![write])
    }

    pub fn together(mut self, writes: Vec<Write>) -> Self {
        if !writes.is_empty() {
            self.steps.push(writes);
        }
        self
    }

    pub fn tell(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// Looks again then, or sooner if that was asked for already.
    pub fn again_after(mut self, delay: Duration) -> Self {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |d| d.min(delay)));
        self
    }

    pub fn again_at(self, now: Timestamp, then: Timestamp) -> Self {
        // A moment later than the time itself: a timer may fire early by a fraction of a millisecond.
        self.again_after(crate::runtime::clock::until(now, then) + Duration::from_millis(1))
    }

    pub fn writes(&self) -> impl Iterator<Item = &Write> {
        self.steps.iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.events.is_empty()
    }
}

/// An observation for `kubectl describe`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub regarding: ObjectReference,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Event {
    pub fn normal(regarding: ObjectReference, reason: &'static str, message: impl Into<String>) -> Self {
        Self { regarding, warning: false, reason, message: message.into() }
    }

    pub fn warning(regarding: ObjectReference, reason: &'static str, message: impl Into<String>) -> Self {
        Self { regarding, warning: true, reason, message: message.into() }
    }
}

/// The events that a write's result makes: `{name}` stands for the written object's name, `{error}` for the refusal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub done: Option<Event>,
    pub failed: Option<Event>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Value),
    /// Replaces the object (or a part of it), if it still has the resource version inside.
    Update(Value),
    MergePatch(Value),
    StrategicPatch(Value),
    Apply(Value),
    Delete {
        uid: Option<String>,
        resource_version: Option<String>,
        propagation: Option<&'static str>,
        grace_seconds: Option<i64>,
    },
    DeleteCollection,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub resource: Resource,
    pub namespace: String,
    /// Empty for creations and collections.
    pub name: String,
    pub subresource: &'static str,
    pub action: Action,
    pub told: Told,
    /// HTTP codes of refusals that are as good as success here.
    pub forgiven: &'static [u16],
}

impl Write {
    pub fn new(resource: Resource, namespace: &str, name: &str, subresource: &'static str, action: Action) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { resource, namespace, name, subresource, action, told: Told::default(), forgiven: &[] }
    }

    fn on<K: Kind>(meta: &ObjectMeta, subresource: &'static str, action: Action) -> Self {
        Self::new(Resource::of::<K>(), object::namespace(meta), object::name(meta), subresource, action)
    }

    /// A new object; the server gives it its name if it has only a `generateName`.
    pub fn create<K: Kind>(object: &K) -> Self {
        Self::new(Resource::of::<K>(), object::namespace(object.metadata()), "", "", Action::Create(body(object)))
    }

    pub fn update<K: Kind>(object: &K) -> Self {
        Self::on::<K>(object.metadata(), "", Action::Update(body(object)))
    }

    pub fn status<K: Kind>(object: &K) -> Self {
        Self::update_part(object, "status")
    }

    pub fn update_part<K: Kind>(object: &K, subresource: &'static str) -> Self {
        Self::on::<K>(object.metadata(), subresource, Action::Update(body(object)))
    }

    /// A merge patch that only this very object takes.
    pub fn merge<K: Kind>(meta: &ObjectMeta, subresource: &'static str, patch: Value) -> Self {
        Self::on::<K>(meta, subresource, Action::MergePatch(with_uid(meta, patch)))
    }

    /// A strategic merge patch that only this very object takes.
    pub fn strategic<K: Kind>(meta: &ObjectMeta, subresource: &'static str, patch: Value) -> Self {
        Self::on::<K>(meta, subresource, Action::StrategicPatch(with_uid(meta, patch)))
    }

    pub fn delete<K: Kind>(meta: &ObjectMeta) -> Self {
        Self::delete_any(Resource::of::<K>(), meta)
    }

    pub fn delete_any(resource: Resource, meta: &ObjectMeta) -> Self {
        let action =
            Action::Delete { uid: meta.uid.clone(), resource_version: None, propagation: None, grace_seconds: None };
        Self::new(resource, object::namespace(meta), object::name(meta), "", action)
    }

    #[must_use]
    pub fn propagating(mut self, policy: &'static str) -> Self {
        if let Action::Delete { propagation, .. } = &mut self.action {
            *propagation = Some(policy);
        }
        self
    }

    #[must_use]
    pub fn with_grace(mut self, seconds: i64) -> Self {
        if let Action::Delete { grace_seconds, .. } = &mut self.action {
            *grace_seconds = Some(seconds);
        }
        self
    }

    /// Deletes the object only in the state that was seen.
    #[must_use]
    pub fn if_unchanged(mut self, meta: &ObjectMeta) -> Self {
        if let Action::Delete { resource_version, .. } = &mut self.action {
            resource_version.clone_from(&meta.resource_version);
        }
        self
    }

    #[must_use]
    pub fn told(mut self, done: Event, failed: Event) -> Self {
        self.told = Told { done: Some(done), failed: Some(failed) };
        self
    }

    #[must_use]
    pub fn told_done(mut self, done: Event) -> Self {
        self.told.done = Some(done);
        self
    }

    #[must_use]
    pub fn told_failed(mut self, failed: Event) -> Self {
        self.told.failed = Some(failed);
        self
    }

    #[must_use]
    pub fn forgiving(mut self, codes: &'static [u16]) -> Self {
        self.forgiven = codes;
        self
    }

    pub fn is_create(&self) -> bool {
        matches!(self.action, Action::Create(_))
    }

    pub fn is_delete(&self) -> bool {
        matches!(self.action, Action::Delete { .. })
    }

    /// What is sent, of the writes that send an object.
    pub fn body(&self) -> Option<&Value> {
        match &self.action {
            Action::Create(v)
            | Action::Update(v)
            | Action::MergePatch(v)
            | Action::StrategicPatch(v)
            | Action::Apply(v) => Some(v),
            Action::Delete { .. } | Action::DeleteCollection => None,
        }
    }
}

/// Kubernetes types always serialize: their maps have text keys.
fn body<K: Kind>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn with_uid(meta: &ObjectMeta, mut patch: Value) -> Value {
    if let (Some(uid), Some(patch)) = (&meta.uid, patch.as_object_mut()) {
        let metadata = patch.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("uid".into(), json!(uid));
        }
    }
    patch
}

/// A write that the server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub create: bool,
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// The namespace of the object is going away: nothing to be done about it.
    pub namespace_terminating: bool,
}

/// What came of a plan's writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub created: usize,
    pub deleted: usize,
    pub refusals: Vec<Refusal>,
}

impl Outcome {
    /// Why an object could not be made or removed, if one could not.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusals.first()
    }
}

//! Events as upstream records them: repeated ones are counted, similar ones combined, floods cut off.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event as ApiEvent, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    clock::{Clock, since},
    object::Resource,
    server::Server,
};
use crate::plan::{Action, Event, Write};

const PENDING_MAX: usize = 1000;
const REMEMBERED_MAX: usize = 4096;
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// Takes events without ever waiting; beyond a limit they are dropped.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<(&'static str, Event)>,
}

impl Recorder {
    /// The recorder and what must run for its events to be written.
    pub fn new(server: Server, clock: Clock) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(PENDING_MAX);
        (Self { sender }, run(server, clock, receiver))
    }

    pub fn record(&self, component: &'static str, event: Event) {
        if self.sender.try_send((component, event)).is_err() {
            tracing::debug!("an event was dropped: too many are waiting");
        }
    }
}

async fn run(server: Server, clock: Clock, mut receiver: mpsc::Receiver<(&'static str, Event)>) {
    let mut correlator = Correlator::default();
    while let Some((component, event)) = receiver.recv().await {
        let Some(write) = correlator.correlate(component, event, clock.now()) else {
            continue;
        };
        let result = match server.write(&write.write).await {
            // The event that was to be counted up has expired: it is written anew.
            Err(e) if e.code() == 404 && write.fallback.is_some() => match write.fallback {
                Some(create) => server.write(&create).await,
                None => Err(e),
            },
            other => other,
        };
        match result {
            Ok(answer) => correlator.written(&write.key, &answer),
            Err(error) => tracing::debug!(%error, "an event was not recorded"),
        }
    }
}

#[derive(Default)]
struct Correlator {
    seen: HashMap<String, Seen>,
    groups: HashMap<String, Group>,
    buckets: HashMap<String, Bucket>,
}

struct Seen {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Group {
    messages: BTreeSet<String>,
    last: Timestamp,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Correlated {
    key: String,
    write: Write,
    fallback: Option<Write>,
}

impl Correlator {
    fn correlate(&mut self, component: &'static str, event: Event, now: Timestamp) -> Option<Correlated> {
        self.bound();
        let about = &event.regarding;
        let object = format!(
            "{component}|{}|{}|{}|{}|{}",
            about.kind.as_deref().unwrap_or_default(),
            about.namespace.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default(),
            about.uid.as_deref().unwrap_or_default(),
            about.api_version.as_deref().unwrap_or_default(),
        );
        let group_key = format!("{object}|{}|{}", event.warning, event.reason);
        let group =
            self.groups.entry(group_key.clone()).or_insert_with(|| Group { messages: BTreeSet::new(), last: now });
        if since(now, group.last) > SIMILAR_WINDOW {
            group.messages.clear();
        }
        group.last = now;
        group.messages.insert(event.message.clone());
        let (key, message) = if group.messages.len() > SIMILAR_MAX {
            group.messages.pop_first();
            (group_key, format!("(combined from similar events): {}", event.message))
        } else {
            (format!("{group_key}|{}", event.message), event.message.clone())
        };
        if !self.take_token(object, now) {
            return None;
        }
        let known = self.seen.get(&key).map(|s| (s.name.clone(), s.count + 1, s.first));
        let (count, first) = known.as_ref().map_or((1, now), |(_, count, first)| (*count, *first));
        let api = api_event(component, &event, message, count, first, now);
        let namespace = api.metadata.namespace.clone().unwrap_or_default();
        let create = Write::create(&api);
        let write = match &known {
            None => Correlated { key, write: create, fallback: None },
            Some((name, ..)) => {
                let patch = json!({"count": count, "message": api.message, "lastTimestamp": api.last_timestamp});
                let action = Action::StrategicPatch(patch);
                let patch = Write::new(Resource::of::<ApiEvent>(), &namespace, name, "", action);
                Correlated { key, write: patch, fallback: Some(create) }
            }
        };
        Some(write)
    }

    fn written(&mut self, key: &str, answer: &serde_json::Value) {
        let Some(name) = answer["metadata"]["name"].as_str() else {
            return;
        };
        let count = answer["count"].as_i64().and_then(|c| i32::try_from(c).ok()).unwrap_or(1);
        let first = answer["firstTimestamp"].as_str().and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        self.seen.insert(key.to_owned(), Seen { name: name.to_owned(), count, first });
    }

    fn take_token(&mut self, object: String, now: Timestamp) -> bool {
        let bucket = self.buckets.entry(object).or_insert(Bucket { tokens: BURST, at: now });
        bucket.tokens = (bucket.tokens + since(now, bucket.at).as_secs_f64() / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }

    /// Forgetting only costs a fresh count.
    fn bound(&mut self) {
        if self.seen.len() > REMEMBERED_MAX {
            self.seen.clear();
        }
        if self.groups.len() > REMEMBERED_MAX {
            self.groups.clear();
        }
        if self.buckets.len() > REMEMBERED_MAX {
            self.buckets.clear();
        }
    }
}

fn api_event(
    component: &'static str,
    event: &Event,
    message: String,
    count: i32,
    first: Timestamp,
    now: Timestamp,
) -> ApiEvent {
    let about = event.regarding.clone();
    let namespace = about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
    let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    ApiEvent {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: ObjectReference { ..about },
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason.to_owned()),
        // Longer messages are refused.
        message: Some(message.chars().take(1024).collect()),
        count: Some(count),
        first_timestamp: Some(Time(first)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..ApiEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> Event {
        let about =
            ObjectReference { name: Some("a".into()), namespace: Some("n".into()), ..ObjectReference::default() };
        Event::normal(about, "Reason", message)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn repeated_events_are_counted() {
        let mut correlator = Correlator::default();
        let first = correlator.correlate("c", event("m"), now()).unwrap();
        correlator.written(&first.key, first.write.body().unwrap());
        let second = correlator.correlate("c", event("m"), now()).unwrap();
        assert!(!second.write.is_create());
        assert_eq!(second.write.body().unwrap()["count"], 2);
        assert!(second.fallback.is_some());
    }

    #[test]
    fn similar_events_are_combined_and_floods_cut_off() {
        let mut correlator = Correlator::default();
        let messages: Vec<_> = (0..30)
            .filter_map(|i| correlator.correlate("c", event(&format!("m{i}")), now()))
            .map(|c| c.write.body().unwrap()["message"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(messages.len(), 25);
        assert_eq!(messages[9], "m9");
        assert_eq!(messages[10], "(combined from similar events): m10");
    }
}

//! Carries out a plan: its steps in order, with preconditions, the answers laid over the caches.

use futures::future::join_all;
use serde_json::Value;

use super::{
    Caches,
    object::Key,
    record::Recorder,
    server::{Error, Server},
};
use crate::plan::{Event, Outcome, Plan, Refusal, Write};

/// Writes of one step that are under way at the same time.
const TOGETHER_MAX: usize = 32;

pub struct Executor<'a> {
    pub server: &'a Server,
    pub caches: &'a Caches,
    pub recorder: &'a Recorder,
    pub component: &'static str,
}

impl Executor<'_> {
    /// Makes the plan's writes; the first error is given beside what came of them.
    pub async fn execute(&self, plan: &Plan) -> (Outcome, Option<Error>) {
        for event in &plan.events {
            self.recorder.record(self.component, event.clone());
        }
        let mut outcome = Outcome::default();
        for step in &plan.steps {
            if let Err(error) = self.step(step, &mut outcome).await {
                return (outcome, Some(error));
            }
        }
        (outcome, None)
    }

    async fn step(&self, writes: &[Write], outcome: &mut Outcome) -> Result<(), Error> {
        let creations = writes.iter().all(Write::is_create);
        // One, two, four, …: a quota that is used up costs one refused request, not a thousand.
        let (mut size, mut from) = (if creations { 1 } else { TOGETHER_MAX }, 0);
        let mut first = None;
        while from < writes.len() && (first.is_none() || !creations) {
            let batch = &writes[from..writes.len().min(from + size)];
            let results = join_all(batch.iter().map(|write| self.write(write))).await;
            for (write, result) in batch.iter().zip(results) {
                note(write, &result, outcome);
                if let Err(error) = result {
                    first.get_or_insert(error);
                }
            }
            from += batch.len();
            size = (size * 2).min(TOGETHER_MAX);
        }
        first.map_or(Ok(()), Err)
    }

    /// Makes one write, tells of it, and brings the caches up to it.
    pub async fn write(&self, write: &Write) -> Result<(), Error> {
        match self.server.write(write).await {
            Ok(answer) => {
                let name = answer["metadata"]["name"].as_str().unwrap_or(&write.name).to_owned();
                self.acknowledge(write, answer);
                self.tell(write.told.done.as_ref(), &name, "");
                Ok(())
            }
            Err(error) if error.code() == 404 && write.is_delete() => {
                self.forget(write);
                Ok(())
            }
            Err(error) if write.forgiven.contains(&error.code()) => Ok(()),
            // Nothing can be made in a namespace that is going away, and nobody needs to be told.
            Err(error) if error.is_namespace_terminating() => Err(error),
            Err(error) => {
                self.tell(write.told.failed.as_ref(), &write.name, &error.to_string());
                Err(error)
            }
        }
    }

    fn tell(&self, event: Option<&Event>, name: &str, error: &str) {
        if let Some(event) = event {
            let message = event.message.replace("{name}", name).replace("{error}", error);
            self.recorder.record(self.component, Event { message, ..event.clone() });
        }
    }

    fn acknowledge(&self, write: &Write, answer: Value) {
        let Some(cache) = self.caches.any(&write.resource) else {
            return;
        };
        if write.is_delete() && is_gone(&answer) {
            return self.forget(write);
        }
        // Answers to subresources like an eviction are of other kinds.
        if answer["kind"].as_str() == Some(&*write.resource.kind) && !cache.acknowledge_json(answer) {
            tracing::debug!(resource = %write.resource.plural, "an answer could not be read");
        }
    }

    fn forget(&self, write: &Write) {
        let crate::plan::Action::Delete { uid: Some(uid), .. } = &write.action else {
            return;
        };
        if let Some(cache) = self.caches.any(&write.resource) {
            let namespace = if write.resource.namespaced { write.namespace.as_str() } else { "" };
            cache.acknowledge_gone_any(&Key::new(namespace, write.name.as_str()), uid);
        }
    }
}

/// Whether the answer to a deletion says that the object is gone, and not only marked.
fn is_gone(answer: &Value) -> bool {
    if answer["kind"] == "Status" {
        return true;
    }
    let meta = &answer["metadata"];
    let finalizers = meta["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    !finalizers && (meta["deletionTimestamp"].is_null() || meta["deletionGracePeriodSeconds"] == 0)
}

fn note(write: &Write, result: &Result<(), Error>, outcome: &mut Outcome) {
    match result {
        Ok(()) if write.is_create() => outcome.created += 1,
        Ok(()) if write.is_delete() => outcome.deleted += 1,
        Ok(()) => {}
        Err(error) => {
            let reason = if let Error::Refused(status) = error { status.reason.clone() } else { String::new() };
            outcome.refusals.push(Refusal {
                create: write.is_create(),
                code: error.code(),
                reason,
                message: error.to_string(),
                namespace_terminating: error.is_namespace_terminating(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gone_or_marked() {
        for (answer, gone) in [
            (json!({"kind": "Status", "status": "Success"}), true),
            (json!({"kind": "Pod", "metadata": {}}), true),
            (json!({"kind": "Pod", "metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}}), false),
            (json!({"kind": "Pod", "metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}}), true),
            (
                json!({"kind": "Pod", "metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0,
                    "finalizers": ["f"]}}),
                false,
            ),
        ] {
            assert_eq!(is_gone(&answer), gone, "{answer}");
        }
    }
}

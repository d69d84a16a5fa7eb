//! The condition `Dangling` of FlowSchemas: whether the priority level that one names is there.

use std::{sync::Weak, time::Duration};

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use serde_json::{Value, json};

use super::Flow;
use crate::{
    bootstrap::{
        ensure,
        flow::{CONSUMER, Objects},
    },
    pipeline::Apiserver,
};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The conditions that have to be written: the schema's name, and its status.
fn plan(objects: &Objects, now: Timestamp) -> Vec<(String, Value)> {
    let stale = |(name, schema): (&String, &FlowSchema)| {
        let level = &schema.spec.as_ref()?.priority_level_configuration.name;
        let quoted = crds::field::quote(level);
        let words = format!("This FlowSchema references the PriorityLevelConfiguration object named {quoted}");
        let (status, reason, message) = if objects.levels.contains_key(level) {
            ("False", "Found", format!("{words} and it exists"))
        } else {
            ("True", "NotFound", format!("{words} but there is no such object"))
        };
        let conditions = schema.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let known = conditions.iter().find(|condition| condition.type_.as_deref() == Some("Dangling"));
        let told = known.is_some_and(|condition| {
            let given = [&condition.status, &condition.reason, &condition.message].map(Option::as_deref);
            given == [Some(status), Some(reason), Some(message.as_str())]
        });
        let condition = json!({
            "type": "Dangling",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        (!told).then(|| (name.clone(), json!({"conditions": [condition]})))
    };
    objects.schemas.iter().filter_map(stale).collect()
}

/// Keeps the conditions right as long as the server lives.
pub fn start(server: Weak<Apiserver>) {
    drop(tokio::spawn(async move {
        while let Some(flow) = server.upgrade().map(|server| server.flow.clone()) {
            if !write_all(&server, &flow).await {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            // The server must not be kept alive by waiting for its end.
            let changed = flow.changed.notified();
            if tokio::time::timeout(RETRY * 30, changed).await.is_err() {
                tracing::trace!("no flow schema has changed");
            }
        }
    }));
}

/// False: something could not be written.
async fn write_all(server: &Weak<Apiserver>, flow: &Flow) -> bool {
    let Some(server) = server.upgrade() else { return true };
    let stale = plan(&flow.objects.lock(), server.world.now());
    let service = server.own_service();
    let mut all = true;
    for (name, status) in stale {
        let object =
            json!({"apiVersion": API_VERSION, "kind": "FlowSchema", "metadata": {"name": name}, "status": status});
        let path = format!("/apis/{API_VERSION}/flowschemas/{name}/status?fieldManager={CONSUMER}&force=true");
        // One that is gone needs no condition; one that somebody else writes is looked at again.
        if let Err(error) = ensure::send(&service, Method::PATCH, &path, Some(object)).await {
            tracing::warn!(name, %error, "the condition of a flow schema could not be written");
            all = false;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_told_yet_is_written() {
        let schema = json!({
            "metadata": {"name": "s"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 7},
        });
        let mut objects = Objects::default();
        objects.schemas.insert("s".into(), serde_json::from_value(schema.clone()).unwrap());
        let dangling = plan(&objects, Timestamp::UNIX_EPOCH);
        assert_eq!(dangling[0].1["conditions"][0]["status"], "True");
        let mut told = schema;
        told["status"] = dangling[0].1.clone();
        objects.schemas.insert("s".into(), serde_json::from_value(told).unwrap());
        assert!(plan(&objects, Timestamp::UNIX_EPOCH).is_empty());
        objects.levels.insert("l".into(), Default::default());
        let found = plan(&objects, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&found[0].1["conditions"][0]["status"], &found[0].1["conditions"][0]["reason"]),
            (&json!("False"), &json!("Found"))
        );
    }
}

//! The flow schemas and priority levels that upstream suggests, and those without which no request could be told.

use std::collections::BTreeMap;

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Keep, Kind, Wanted};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const LEVEL: Kind = (GROUP, "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration");
const SCHEMA: Kind = (GROUP, "v1", "flowschemas", "FlowSchema");
/// Who upstream says has written these, and found whether their levels are there.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
pub const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// These two are ours whatever their annotation says.
const MANDATORY: [&str; 2] = ["catch-all", "exempt"];

/// Priority levels and flow schemas by their names, as they are before anyone has stored them.
#[derive(Default)]
pub struct Objects {
    pub levels: BTreeMap<String, PriorityLevelConfiguration>,
    pub schemas: BTreeMap<String, FlowSchema>,
}

/// What there is of `these`; none: of everything that is suggested.
fn objects(these: Option<&[&str]>) -> Result<Objects, serde_json::Error> {
    fn read<T: DeserializeOwned>(text: &str, these: Option<&[&str]>) -> Result<BTreeMap<String, T>, serde_json::Error> {
        let specs: BTreeMap<String, Value> = serde_json::from_str(text)?;
        let wanted = specs.into_iter().filter(|(name, _)| these.is_none_or(|these| these.contains(&name.as_str())));
        let object = |(name, spec): (String, Value)| {
            let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
            Ok((name, object))
        };
        wanted.map(object).collect()
    }
    Ok(Objects {
        levels: read(include_str!("priority_levels.json"), these)?,
        schemas: read(include_str!("flow_schemas.json"), these)?,
    })
}

/// Without these no request could be told.
pub fn mandatory() -> Result<Objects, serde_json::Error> {
    objects(Some(&MANDATORY))
}

/// Everything that a new cluster has.
pub fn suggested() -> Result<Objects, serde_json::Error> {
    objects(None)
}

fn wanted(kind: Kind, name: &str, spec: &Value) -> Wanted {
    let object = json!({"metadata": {"annotations": {AUTOUPDATE: "true"}}, "spec": spec});
    Wanted::new(kind, "", name, object, Keep::Spec { always: MANDATORY.contains(&name) }).managed_by(PRODUCER)
}

pub fn priority_levels() -> Result<Vec<Wanted>, serde_json::Error> {
    let specs: BTreeMap<String, Value> = serde_json::from_str(include_str!("priority_levels.json"))?;
    Ok(specs.iter().map(|(name, spec)| wanted(LEVEL, name, spec)).collect())
}

pub fn flow_schemas() -> Result<Vec<Wanted>, serde_json::Error> {
    let specs: BTreeMap<String, Value> = serde_json::from_str(include_str!("flow_schemas.json"))?;
    let schema = |(name, spec): (&String, &Value)| {
        let level = &spec["priorityLevelConfiguration"]["name"];
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level} and it exists");
        let condition = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message});
        wanted(SCHEMA, name, spec).with_status(json!({"conditions": [condition]})).applied_by(CONSUMER)
    };
    Ok(specs.iter().map(schema).collect())
}

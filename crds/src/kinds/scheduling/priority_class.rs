//! PriorityClass (scheduling.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path},
    given::Text,
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, column},
    meta,
    pod::validate::one_of,
    table,
};

/// Above are the classes of the system.
pub const USER_MAX: i32 = 1_000_000_000;
pub const SYSTEM_PREFIX: &str = "system-";
/// The classes of the system, with their values.
pub const SYSTEM: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const POLICY: Path = Path::new("preemptionPolicy");

impl Kind for PriorityClass {
    const ABOUT: About = About {
        short_names: &["pc"],
        columns: &[
            NAME,
            column("Value", "integer", "", 0, Prose::Field("io.k8s.api.scheduling.v1.PriorityClass", "value")),
            column(
                "Global-Default",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.scheduling.v1.PriorityClass", "globalDefault"),
            ),
            AGE,
            column(
                "PreemptionPolicy",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.scheduling.v1.PriorityClass", "preemptionPolicy"),
            ),
        ],
        generation: Generation::Own,
        ..About::new("priorityclasses", "priorityclass")
    };

    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.metadata.generation = Some(1);
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.metadata.generation = old.metadata.generation;
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let name = self.metadata.name.text();
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = not_system(self, name) {
                let reserved = "priority class names with 'system-' prefix are reserved for system use only. error: ";
                errors.push(Error::forbidden(Path::new("metadata").child("name"), format!("{reserved}{why}")));
            }
        } else if self.value.unwrap_or(0) > USER_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.push(Error::forbidden(Path::new("value"), why));
        }
        if let Some(policy) = &self.preemption_policy {
            one_of(policy, &["PreemptLowerPriority", "Never"], &POLICY, errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        if self.value.unwrap_or(0) != old.value.unwrap_or(0) {
            errors.push(Error::forbidden(Path::new("value"), "may not be changed in an update."));
        }
        if self.preemption_policy != old.preemption_policy {
            errors.push(Error::invalid(POLICY, json!(self.preemption_policy), meta::IMMUTABLE));
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            json!(self.metadata.name),
            json!(self.value.unwrap_or(0)),
            json!(self.global_default.unwrap_or_default()),
            json!(table::age(&self.metadata, now)),
            json!(self.preemption_policy.text()),
        ]
    }
}

fn not_system(class: &PriorityClass, name: &str) -> Option<String> {
    match SYSTEM.iter().find(|(system, _)| *system == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, value)) if *value != class.value.unwrap_or(0) => {
            Some(format!("value of {name} PriorityClass must be {value}"))
        }
        Some(_) if class.global_default == Some(true) => {
            Some(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => None,
    }
}

//! Event (events.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Event as CoreEvent, events::v1::Event};
use serde_json::Value;

use crate::{
    field::Errors,
    kind::{About, Conversion, Kind, META, Prose, Request, column, text},
    kinds::core::event as core,
};

/// The same field in this group and in the core group, where events are stored.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

pub const CONVERSION: Conversion = Conversion {
    stored: ("", "v1"),
    to_stored: |event| rename(event, RENAMED.iter().copied()),
    from_stored: |event| {
        let mut event = rename(event, RENAMED.iter().map(|(here, there)| (*there, *here)));
        // The core group writes these even if they are empty.
        if let Some(fields) = event.as_object_mut() {
            fields.retain(|name, value| !(name.starts_with("reporting") && value == ""));
        }
        event
    },
};

fn rename(mut event: Value, names: impl Iterator<Item = (&'static str, &'static str)>) -> Value {
    if let Some(fields) = event.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
    }
    event
}

/// As it is stored.
fn core_event(event: &Event) -> CoreEvent {
    let stored = serde_json::to_value(event).map(CONVERSION.to_stored).map(|mut event| {
        event["apiVersion"] = "v1".into();
        event
    });
    stored.and_then(serde_json::from_value).unwrap_or_default()
}

impl Kind for Event {
    const ABOUT: About = About {
        short_names: &["ev"],
        columns: &[
            column("Last Seen", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Event", "lastTimestamp")),
            column("Type", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Event", "type")),
            column("Reason", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Event", "reason")),
            column("Object", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Event", "involvedObject")),
            column("Subobject", "string", "", 1, text("")),
            column("Source", "string", "", 1, Prose::Field("io.k8s.api.core.v1.Event", "source")),
            column("Message", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Event", "message")),
            column("First Seen", "string", "", 1, Prose::Field("io.k8s.api.core.v1.Event", "firstTimestamp")),
            column("Count", "string", "", 1, Prose::Field("io.k8s.api.core.v1.Event", "count")),
            column("Name", "string", "name", 1, Prose::Field(META, "name")),
        ],
        create_on_update: true,
        selectable: &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ..About::new("events", "event")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let event = core_event(self);
        core::validate(&event, "reportingController", errors);
        core::validate_strictly(&event, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let event = core_event(self);
        core::validate(&event, "reportingController", errors);
        core::validate_change(&event, &core_event(old), errors);
    }

    fn selectable(&self, path: &str) -> String {
        let there = match path {
            "reportingController" => "reportingComponent".to_owned(),
            path => path.replace("regarding.", "involvedObject."),
        };
        Kind::selectable(&core_event(self), &there)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        core_event(self).row(now)
    }
}

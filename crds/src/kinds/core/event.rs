//! Event (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

use crate::{
    duration, equal,
    field::{self, Error, Errors, Path, extend},
    given::Text,
    kind::{About, Kind, META, Prose, Request, column, text},
};

const TEXT_LENGTH_MAX: usize = 128;
const MESSAGE_LENGTH_MAX: usize = 1024;
const REFERENCE: &str = "ObjectReference";

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
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        checks_metadata: false,
        checks_changes: false,
        ..About::new("events", "event")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::path_segment(name)
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, "reportingComponent", errors);
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
    }

    fn selectable(&self, path: &str) -> String {
        let object = &self.involved_object;
        let component = self.source.as_ref().map_or("", |source| source.component.text());
        let reporter = self.reporting_component.text();
        match path {
            "involvedObject.kind" => object.kind.text(),
            "involvedObject.namespace" => object.namespace.text(),
            "involvedObject.name" => object.name.text(),
            "involvedObject.uid" => object.uid.text(),
            "involvedObject.apiVersion" => object.api_version.text(),
            "involvedObject.resourceVersion" => object.resource_version.text(),
            "involvedObject.fieldPath" => object.field_path.text(),
            "reason" => self.reason.text(),
            "reportingComponent" => reporter,
            "source" => first(component, reporter),
            "type" => self.type_.text(),
            _ => "",
        }
        .to_owned()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let since = |time: Option<Timestamp>| {
            time.map_or_else(|| "<unknown>".to_owned(), |time| duration::human(now.duration_since(time)))
        };
        let happened = self.event_time.as_ref().map(|time| time.0);
        let first_seen = since(self.first_timestamp.as_ref().map(|time| time.0).or(happened));
        let mut last_seen = self.last_timestamp.as_ref().map_or_else(|| first_seen.clone(), |time| since(Some(time.0)));
        let mut count = self.count.filter(|count| *count != 0).unwrap_or(1);
        if let Some(series) = &self.series {
            last_seen = since(series.last_observed_time.as_ref().map(|time| time.0));
            count = series.count.unwrap_or(0);
        }
        let object = &self.involved_object;
        let kind = object.kind.text().to_lowercase();
        let target = match object.name.text() {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            json!(last_seen),
            json!(self.type_.text()),
            json!(self.reason.text()),
            json!(target),
            json!(object.field_path.text()),
            json!(source(self)),
            json!(self.message.text().trim()),
            json!(first_seen),
            json!(count),
            json!(self.metadata.name),
        ]
    }
}

fn first<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a.is_empty() { b } else { a }
}

fn source(event: &Event) -> String {
    let none = Default::default();
    let source = event.source.as_ref().unwrap_or(&none);
    let component = first(source.component.text(), event.reporting_component.text());
    match first(source.host.text(), event.reporting_instance.text()) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}

/// What holds for the events of both groups; `reporter` is the field that names who reports.
pub fn validate(event: &Event, reporter: &str, errors: &mut Errors) {
    let (namespace, of) = (event.metadata.namespace.text(), event.involved_object.namespace.text());
    let is_new = event.event_time.is_some();
    let agrees = match (is_new, of) {
        (true, "") => ["default", "kube-system"].contains(&namespace),
        (true, _) => true,
        (false, "") => ["", "default"].contains(&namespace),
        (false, of) => of == namespace,
    };
    if !agrees {
        let path = Path::new("involvedObject");
        errors.push(Error::invalid(path.child("namespace"), of, "does not match event.namespace"));
    }
    if is_new {
        validate_new(event, reporter, errors);
    }
    extend(errors, Path::new("namespace"), namespace, field::dns_subdomain(namespace));
}

/// Events that tell the time they happened at tell who reports them, too.
fn validate_new(event: &Event, reporter: &str, errors: &mut Errors) {
    let (path, controller) = (Path::new(reporter), event.reporting_component.text());
    if controller.is_empty() {
        errors.push(Error::required(path, ""));
    }
    extend(errors, path, controller, field::qualified_name(controller));
    for (name, value) in
        [("reportingInstance", &event.reporting_instance), ("action", &event.action), ("reason", &event.reason)]
    {
        if value.text().is_empty() {
            errors.push(Error::required(Path::new(name), ""));
        }
        at_most(value.text(), TEXT_LENGTH_MAX, name, errors);
    }
    at_most(event.message.text(), MESSAGE_LENGTH_MAX, "message", errors);
}

fn at_most(value: &str, max: usize, name: &str, errors: &mut Errors) {
    if value.len() > max {
        errors.push(Error::invalid(Path::new(name), "", format!("can have at most {max} characters")));
    }
}

/// What holds for events that come in through their own group.
pub fn validate_strictly(event: &Event, errors: &mut Errors) {
    validate_series(event, errors);
    if event.event_time.is_none() {
        errors.push(Error::required(Path::new("eventTime"), ""));
    }
    let kind = event.type_.text();
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(Error::invalid(Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let has_source = event.source.as_ref().is_some_and(|s| !s.component.text().is_empty() || !s.host.text().is_empty());
    for (name, is_set) in [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.unwrap_or(0) != 0),
        ("source", has_source),
    ] {
        if is_set {
            errors.push(Error::invalid(Path::new(name), "", "needs to be unset"));
        }
    }
}

fn validate_series(event: &Event, errors: &mut Errors) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or(0) < 2 {
        errors.push(Error::invalid("series.count", "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(Error::required("series.lastObservedTime", ""));
    }
}

/// What may change of such events: how often it happened, and metadata.
pub fn validate_change(new: &Event, old: &Event, errors: &mut Errors) {
    if !equal::same(&new.series, &old.series) {
        validate_series(new, errors);
    }
    let path = Path::new;
    equal::immutable_struct(&new.involved_object, &old.involved_object, REFERENCE, path("involvedObject"), errors);
    equal::immutable(&new.reason, &old.reason, path("reason"), errors);
    equal::immutable(&new.message, &old.message, path("message"), errors);
    equal::immutable_struct(&new.source, &old.source, "EventSource", path("source"), errors);
    equal::immutable(&new.first_timestamp, &old.first_timestamp, path("firstTimestamp"), errors);
    equal::immutable(&new.last_timestamp, &old.last_timestamp, path("lastTimestamp"), errors);
    equal::immutable(&new.count, &old.count, path("count"), errors);
    // Upstream looks twice.
    equal::immutable(&new.reason, &old.reason, path("reason"), errors);
    equal::immutable(&new.type_, &old.type_, path("type"), errors);
    equal::immutable(&new.event_time, &old.event_time, path("eventTime"), errors);
    equal::immutable(&new.action, &old.action, path("action"), errors);
    equal::immutable_struct(&new.related, &old.related, REFERENCE, path("related"), errors);
    equal::immutable(&new.reporting_component, &old.reporting_component, path("reportingController"), errors);
    equal::immutable(&new.reporting_instance, &old.reporting_instance, path("reportingInstance"), errors);
}

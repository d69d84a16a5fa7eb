//! APIService (apiregistration.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
};
use serde_json::Value;

use crate::{
    duration,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{AGE, About, Kind, NAME, Request, Subresource, column, text},
    meta, syntax,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const PORT: i32 = 443;
const GROUP_PRIORITY_MAX: i32 = 20_000;
const VERSION_PRIORITY_MAX: i32 = 1000;

impl Kind for APIService {
    const ABOUT: About = About {
        categories: &["api-extensions"],
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Service", "string", "", 0, text("The reference to the service that hosts this API endpoint.")),
            column("Available", "string", "", 0, text("Whether this service is available.")),
            AGE,
        ],
        unconditional_update: false,
        storage_prefix: "apiregistration.k8s.io/apiservices",
        ..About::new("apiservices", "apiservice")
    };

    fn validate_name_of(name: &str, object: &Value) -> Vec<String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let required = format!("{}.{}", text("/spec/version"), text("/spec/group"));
        let wrong = field::path_segment(name);
        if !wrong.is_empty() || name == required {
            return wrong;
        }
        vec![format!("must be `spec.version+\".\"+spec.group`: {required:?}")]
    }

    fn set_defaults(&mut self) {
        if let Some(service) = self.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            service.port.get_or_insert(PORT);
        }
    }

    fn prepare_create(&mut self, request: &Request) {
        let is_local = self.spec.as_ref().is_none_or(|spec| spec.service.is_none());
        let now = meta::whole_seconds(request.now);
        let conditions = is_local.then(|| {
            vec![APIServiceCondition {
                type_: "Available".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(now),
                reason: Some("Local".to_owned()),
                message: Some("Local APIServices are always available".to_owned()),
            }]
        });
        self.status = Some(APIServiceStatus { conditions });
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(self.spec.as_ref().unwrap_or(&APIServiceSpec::default()), errors);
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_named(self, &|name| Self::validate_name_of(name, request.sent), errors);
        self.validate_create(request, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        let list = STATUS.child("conditions");
        let conditions = self.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
        for (i, condition) in conditions.iter().enumerate() {
            let (path, allowed) = (list.index(i), ["True", "False", "Unknown"]);
            if !allowed.contains(&condition.status.as_str()) {
                errors.push(Error::not_supported(path.child("status"), condition.status.as_str(), &allowed));
            }
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let service = self.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let service = service.map_or_else(|| "Local".into(), |s| format!("{}/{}", part(&s.namespace), part(&s.name)));
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let available = conditions.into_iter().find(|condition| condition.type_ == "Available").map(told);
        vec![
            self.metadata.name.clone().unwrap_or_default().into(),
            service.into(),
            available.unwrap_or_else(|| "Unknown".into()).into(),
            duration::since(self.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }
}

fn validate_spec(spec: &APIServiceSpec, errors: &mut Errors) {
    let (group, version) = (spec.group.text(), spec.version.text());
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(SPEC.child("group"), why));
    }
    if !group.is_empty() {
        extend(errors, SPEC.child("group"), group, field::dns_subdomain(group));
    }
    extend(errors, SPEC.child("version"), version, field::dns_1035_label(version));
    for (name, priority, max) in [
        ("groupPriorityMinimum", spec.group_priority_minimum, GROUP_PRIORITY_MAX),
        ("versionPriority", spec.version_priority, VERSION_PRIORITY_MAX),
    ] {
        if !(1..=max).contains(&priority) {
            let why = format!("must be positive and less than {max}");
            errors.push(Error::invalid(SPEC.child(name), priority, why));
        }
    }
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let (bundle_path, insecure_path) = (SPEC.child("caBundle"), SPEC.child("insecureSkipTLSVerify"));
    let is_insecure = spec.insecure_skip_tls_verify == Some(true);
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(bundle_path, format!("{bundle} bytes"), why));
        }
        if is_insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(insecure_path, true, why));
        }
        return;
    };
    let path = SPEC.child("service");
    for (name, value) in [("namespace", service.namespace.text()), ("name", service.name.text())] {
        if value.is_empty() {
            errors.push(Error::required(path.child(name), ""));
        }
    }
    let port = service.port.unwrap_or(PORT);
    let wrong = syntax::port_number(port.into());
    if !wrong.is_empty() {
        errors.push(Error::invalid(path.child("port"), port, format!("port is not valid: {}", wrong.join(", "))));
    }
    if is_insecure && bundle > 0 {
        errors.push(Error::invalid(insecure_path, true, "may not be true if caBundle is present"));
    }
}

/// Why it is not available, if it tells.
fn told(condition: &APIServiceCondition) -> String {
    let reason = condition.reason.as_deref().filter(|reason| !reason.is_empty() && condition.status != "True");
    reason.map_or_else(|| condition.status.clone(), |reason| format!("{} ({reason})", condition.status))
}

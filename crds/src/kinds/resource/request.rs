//! What a claim asks for: requests for devices, constraints among them, their configuration.

use std::collections::{HashMap, HashSet};

use k8s_openapi::{
    api::resource::v1::{
        DeviceClaim, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceToleration,
        ExactDeviceRequest, OpaqueDeviceConfiguration, ResourceClaimSpec,
    },
    apimachinery::pkg::runtime::RawExtension,
};
use serde_json::Value;

use super::name;
use crate::{
    cel::{Type, device},
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::Request,
    meta,
};

pub const REQUESTS_MAX: usize = 32;
pub const CONFIGURATIONS_MAX: usize = 32;
pub const SELECTORS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const PARAMETERS_LENGTH_MAX: usize = 10 << 10;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
const NO_SUCH_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Namespaces with this label set to `true` may use devices that are in use, with admin access.
pub const ADMIN_ACCESS_LABEL: &str = "resource.kubernetes.io/admin-access";

pub fn set_defaults(claim: &mut DeviceClaim) {
    let count = |mode: &mut Option<String>, count: &mut Option<i64>| {
        mode.or_set("ExactCount");
        if mode.text() == "ExactCount" && count.unwrap_or(0) == 0 {
            *count = Some(1);
        }
    };
    for request in claim.requests.iter_mut().flatten() {
        if let Some(exact) = &mut request.exactly {
            count(&mut exact.allocation_mode, &mut exact.count);
            default_tolerations(exact.tolerations.as_deref_mut());
        }
        for sub in request.first_available.iter_mut().flatten() {
            count(&mut sub.allocation_mode, &mut sub.count);
            default_tolerations(sub.tolerations.as_deref_mut());
        }
    }
}

pub fn default_tolerations(tolerations: Option<&mut [DeviceToleration]>) {
    tolerations.into_iter().flatten().for_each(|toleration| toleration.operator.or_set("Equal"));
}

/// What is wrong if admin access is asked for at this place.
pub fn refused_admin_access(path: Path) -> Error {
    let why =
        format!("admin access to devices requires the `{ADMIN_ACCESS_LABEL}: true` label on the containing namespace");
    Error::forbidden(path.child("adminAccess"), why)
}

pub fn validate_admin_access(spec: &ResourceClaimSpec, request: &Request, errors: &mut Errors) {
    let requests = spec.devices.iter().flat_map(|devices| devices.requests.items());
    let mut exact = requests.map(|request| request.exactly.as_ref().and_then(|exact| exact.admin_access));
    if let Some(i) = exact.position(|access| access == Some(true)).filter(|_| !request.is_admin_namespace) {
        errors.push(refused_admin_access(Path::new(&format!("spec.devices.requests[{i}]"))));
    }
}

/// The requests of a claim, and the names of their alternatives.
pub struct Names<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Names<'a> {
    pub fn of(claim: &'a DeviceClaim) -> Self {
        let mut names: HashMap<_, HashSet<_>> = HashMap::new();
        for request in claim.requests.items() {
            let alternatives = request.first_available.items().iter().map(|sub| sub.name.as_str());
            names.entry(request.name.as_str()).or_default().extend(alternatives);
        }
        Self(names)
    }

    fn has(&self, name: &str) -> bool {
        let (request, sub) = name.split_once('/').map_or((name, None), |(request, sub)| (request, Some(sub)));
        self.0.get(request).is_some_and(|subs| sub.is_none_or(|sub| subs.contains(sub)))
    }

    pub fn check(&self, name: &str, path: &Path, errors: &mut Errors) {
        let segments: Vec<_> = name.split('/').collect();
        if segments.len() > 2 {
            errors.push(Error::invalid(*path, name, NO_SUCH_REQUEST));
            return;
        }
        segments.into_iter().for_each(|segment| name::label(segment, path, errors));
        if !self.has(name) {
            errors.push(Error::invalid(*path, name, NO_SUCH_REQUEST));
        }
    }

    pub fn check_all(&self, names: &[String], path: &Path, errors: &mut Errors) {
        name::each(names, REQUESTS_MAX, String::clone, path, errors, |name, path, errors| {
            self.check(name, path, errors);
        });
    }
}

pub fn validate(claim: &DeviceClaim, path: &Path, errors: &mut Errors) {
    let names = Names::of(claim);
    let requests = claim.requests.items();
    let key = |request: &DeviceRequest| request.name.clone();
    name::each(requests, REQUESTS_MAX, key, &path.child("requests"), errors, validate_request);
    let (list, constraints) = (path.child("constraints"), claim.constraints.items());
    if field::at_most_items(constraints, CONSTRAINTS_MAX, &list, errors) {
        for (i, constraint) in constraints.iter().enumerate() {
            validate_constraint(constraint, &names, &list.index(i), errors);
        }
    }
    let (list, configurations) = (path.child("config"), claim.config.items());
    if field::at_most_items(configurations, CONFIGURATIONS_MAX, &list, errors) {
        for (i, configuration) in configurations.iter().enumerate() {
            let path = list.index(i);
            names.check_all(configuration.requests.items(), &path.child("requests"), errors);
            validate_configuration(configuration.opaque.as_ref(), &path, errors);
        }
    }
}

fn validate_request(request: &DeviceRequest, path: &Path, errors: &mut Errors) {
    name::label(&request.name, &path.child("name"), errors);
    let why = "exactly one of `exactly` or `firstAvailable` is required";
    let alternatives = request.first_available.items();
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => errors.push(Error::required(*path, why)),
        (Some(_), false) => {
            errors.push(Error::invalid(*path, Value::Null, format!("{why}, but multiple fields are set")));
        }
        (Some(exact), true) => validate_exact(exact, &path.child("exactly"), errors),
        (None, false) => {
            let key = |sub: &DeviceSubRequest| sub.name.clone();
            let list = path.child("firstAvailable");
            name::each(alternatives, ALTERNATIVES_MAX, key, &list, errors, |sub, path, errors| {
                name::label(&sub.name, &path.child("name"), errors);
                validate_exact(&exactly(sub), path, errors);
            });
        }
    }
}

/// An alternative is a request without administrators' access.
fn exactly(sub: &DeviceSubRequest) -> ExactDeviceRequest {
    ExactDeviceRequest {
        admin_access: None,
        allocation_mode: sub.allocation_mode.clone(),
        capacity: sub.capacity.clone(),
        count: sub.count,
        device_class_name: sub.device_class_name.clone(),
        selectors: sub.selectors.clone(),
        tolerations: sub.tolerations.clone(),
    }
}

fn validate_exact(request: &ExactDeviceRequest, path: &Path, errors: &mut Errors) {
    name::class(&request.device_class_name, &path.child("deviceClassName"), errors);
    validate_selectors(request.selectors.items(), &path.child("selectors"), errors);
    let (count_path, count) = (path.child("count"), request.count.unwrap_or(0));
    match request.allocation_mode.text() {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(count_path, count, why));
        }
        "ExactCount" if count <= 0 => errors.push(Error::invalid(count_path, count, "must be greater than zero")),
        "All" | "ExactCount" => {}
        other => errors.push(Error::not_supported(path.child("allocationMode"), other, &["All", "ExactCount"])),
    }
    let list = path.child("tolerations");
    for (i, toleration) in request.tolerations.items().iter().enumerate() {
        validate_toleration(toleration, &list.index(i), errors);
    }
}

pub fn validate_selectors(selectors: &[DeviceSelector], path: &Path, errors: &mut Errors) {
    if !field::at_most_items(selectors, SELECTORS_MAX, path, errors) {
        return;
    }
    for (i, selector) in selectors.iter().enumerate() {
        let path = path.index(i);
        let path = path.child("cel");
        match &selector.cel {
            None => errors.push(Error::required(path, "")),
            Some(cel) if cel.expression.len() > device::SELECTOR_LENGTH => {
                errors.push(Error::too_long(path.child("expression"), device::SELECTOR_LENGTH as i64));
            }
            Some(cel) => validate_expression(&cel.expression, path.child("expression"), errors),
        }
    }
}

/// An attribute has any type, so an expression that ends with one may be true.
fn validate_expression(source: &str, path: Path, errors: &mut Errors) {
    let program = match device::env().compile(source) {
        Ok(program) => program,
        Err(issues) => {
            errors.push(Error::invalid(path, source, format!("compilation failed: {issues}")));
            return;
        }
    };
    let ty = program.output();
    if !matches!(ty, Type::Bool | Type::Any) {
        let why = format!("must evaluate to bool or the unknown type, not {ty}");
        errors.push(Error::invalid(path, source, why));
    } else if let Some(why) = program.instantiation_error() {
        errors.push(Error::internal(path, format!("program instantiation failed: {why}")));
    } else if program.estimate(Some(&device::decl())).max > device::SELECTOR_LIMIT {
        errors.push(Error::forbidden(path, "too complex, exceeds cost limit"));
    }
}

fn validate_toleration(toleration: &DeviceToleration, path: &Path, errors: &mut Errors) {
    let (key, value, effect) = (toleration.key.text(), toleration.value.text(), toleration.effect.text());
    if !key.is_empty() {
        meta::label_name(key, path.child("key"), errors);
    }
    let value_path = path.child("value");
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" if !value.is_empty() => {
            errors.push(Error::invalid(value_path, value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => extend(errors, value_path, value, field::label_value(value)),
        "" => errors.push(Error::required(path.child("operator"), "")),
        other => errors.push(Error::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        validate_effect(effect, &path.child("effect"), errors);
    }
}

pub fn validate_effect(effect: &str, path: &Path, errors: &mut Errors) {
    if !EFFECTS.contains(&effect) {
        errors.push(Error::not_supported(*path, effect, EFFECTS));
    }
}

fn validate_constraint(constraint: &DeviceConstraint, names: &Names, path: &Path, errors: &mut Errors) {
    names.check_all(constraint.requests.items(), &path.child("requests"), errors);
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(attribute), _) => name::fully_qualified(attribute, &path.child("matchAttribute"), errors),
        (None, Some(attribute)) => name::fully_qualified(attribute, &path.child("distinctAttribute"), errors),
        (None, None) => {
            // The words are upstream's, though none is set.
            let why =
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(Error::required(*path, why));
        }
    }
}

pub fn validate_configuration(opaque: Option<&OpaqueDeviceConfiguration>, path: &Path, errors: &mut Errors) {
    let path = path.child("opaque");
    let Some(opaque) = opaque else {
        errors.push(Error::required(path, ""));
        return;
    };
    name::driver(&opaque.driver, &path.child("driver"), errors);
    validate_raw(&opaque.parameters, PARAMETERS_LENGTH_MAX, &path.child("parameters"), errors);
}

/// An object of any kind, of so many bytes at most.
pub fn validate_raw(raw: &RawExtension, max: usize, path: &Path, errors: &mut Errors) {
    match &raw.0 {
        Value::Null => errors.push(Error::required(*path, "")),
        value if value.to_string().len() > max => errors.push(Error::too_long(*path, max as i64)),
        Value::Object(_) => {}
        _ => errors.push(Error::invalid(*path, "<value omitted>", "must be a valid JSON object")),
    }
}

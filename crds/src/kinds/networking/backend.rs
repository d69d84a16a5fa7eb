//! Where an Ingress leads: its paths and backends.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend};
use serde_json::Value;

use super::reference;
use crate::{
    field::{self, Error, Errors, Path, extend, extend_number},
    given::Text,
    syntax,
};

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const BAD_SUFFIXES: &[&str] = &["/..", "/."];

/// `sent` is the same as it was sent: it tells a missing type from an empty one.
pub fn validate_path(rule: &HTTPIngressPath, sent: &Value, path: &Path, errors: &mut Errors) {
    let (text, text_path) = (rule.path.text(), path.child("path"));
    let is_absolute = text.starts_with('/');
    match rule.path_type.as_str() {
        "" if sent["pathType"].is_null() => {
            errors.push(Error::required(path.child("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !is_absolute {
                errors.push(Error::invalid(text_path, text, "must be an absolute path"));
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                errors.push(Error::invalid(text_path, text, format!("must not contain '{bad}'")));
            }
            for bad in BAD_SUFFIXES.iter().filter(|bad| text.ends_with(**bad)) {
                errors.push(Error::invalid(text_path, text, format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !is_absolute {
                errors.push(Error::invalid(text_path, text, "must be an absolute path"));
            }
        }
        other => errors.push(Error::not_supported(path.child("pathType"), other, PATH_TYPES)),
    }
    validate(&rule.backend, &path.child("backend"), errors);
}

pub fn validate(backend: &IngressBackend, path: &Path, errors: &mut Errors) {
    let service = match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(*path, "", "cannot set both resource and service backends"));
            return;
        }
        (Some(resource), None) => {
            let path = path.child("resource");
            reference::validate(resource.api_group.as_deref(), &resource.kind, &resource.name, &path, errors);
            return;
        }
        (None, None) => {
            errors.push(Error::invalid(*path, "", "resource or service backend is required"));
            return;
        }
        (None, Some(service)) => service,
    };
    let service_path = path.child("service");
    match service.name.as_str() {
        "" => errors.push(Error::required(service_path.child("name"), "")),
        name => extend(errors, service_path.child("name"), name, field::dns_label(name)),
    }
    let port_path = service_path.child("port");
    let port = service.port.as_ref();
    let (name, number) = (port.map_or("", |p| p.name.text()), port.and_then(|p| p.number).unwrap_or(0));
    match (name, number) {
        ("", 0) => errors.push(Error::required(*path, "port name or number is required")),
        (name, 0) => extend(errors, port_path.child("name"), name, syntax::port_name(name)),
        ("", number) => {
            extend_number(errors, port_path.child("number"), number.into(), syntax::port_number(number.into()));
        }
        _ => errors.push(Error::invalid(*path, "", "cannot set both port name & port number")),
    }
}

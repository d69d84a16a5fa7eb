//! Which kind a path is about, and whether the kind has that verb.

use std::sync::Arc;

use crds::kind::{Definition, Subresource, Verb};
use http::{Method, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;

use crate::{
    error::{ApiError, Result},
    registry::Table,
    request::RequestInfo,
};

pub enum Route {
    /// No resource: health, versions, discovery, …
    Path,
    Resource(Target),
}

/// The kind that a request is about. Names are in the request's info.
pub struct Target {
    pub definition: Arc<Definition>,
    pub subresource: Option<Subresource>,
}

pub fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
        .with_details(StatusDetails::default())
}

pub fn not_allowed() -> ApiError {
    let why = "the server does not allow this method on the requested resource";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", why).with_details(StatusDetails::default())
}

pub fn find(table: &Table, method: &Method, info: &RequestInfo) -> Result<Route> {
    if !info.is_resource || !table.has_group(&info.group) {
        return Ok(Route::Path);
    }
    let definition = table.resource(&info.group, &info.version, &info.resource).ok_or_else(not_found)?.clone();
    let is_namespace = info.group.is_empty() && info.resource == "namespaces";
    let misplaced = if definition.namespaced {
        info.namespace.is_empty() && !info.name.is_empty() && info.parts.len() > 1
    } else {
        !info.namespace.is_empty() && !is_namespace
    };
    if misplaced {
        return Err(not_found());
    }
    let subresource = match info.subresource.as_str() {
        "" => None,
        name => Some(*definition.subresource(name).ok_or_else(not_found)?),
    };
    if info.parts.len() > 3 && info.subresource != "proxy" {
        return Err(not_found());
    }
    let allowed = match &subresource {
        None => has_verb(&definition, method, info),
        Some(Subresource::Status | Subresource::Scale(_)) => matches!(info.verb.as_str(), "get" | "update" | "patch"),
        Some(Subresource::Other { verbs, .. }) => verbs.contains(&info.verb.as_str()),
    };
    if !allowed {
        return Err(not_allowed());
    }
    Ok(Route::Resource(Target { definition, subresource }))
}

fn has_verb(definition: &Definition, method: &Method, info: &RequestInfo) -> bool {
    let across_namespaces = definition.namespaced && info.namespace.is_empty();
    if across_namespaces && !matches!(info.verb.as_str(), "list" | "watch") {
        return false;
    }
    // A POST to an object's own path, and what is no verb at all.
    let on_object = info.parts.len() > 1;
    if (info.verb == "create" && on_object) || (matches!(*method, Method::PUT | Method::PATCH) && !on_object) {
        return false;
    }
    Verb::ALL.iter().any(|verb| verb.name() == info.verb && definition.verbs.contains(verb))
}

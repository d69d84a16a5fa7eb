//! Which kind a path is about, and whether the kind has that verb.

use std::sync::Arc;

use crds::kind::{Definition, Subresource, Verb};
use http::{Method, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;

use crate::{
    error::{ApiError, Result, Subject},
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
    let definition = match table.resource(&info.group, &info.version, &info.resource) {
        Some(definition) if definition.is_custom() => return custom(definition, info),
        Some(definition) => definition.clone(),
        // Groups of custom resources are nobody's: what is not known there is no path at all.
        None if !table.is_built_in(&info.group) => return Ok(Route::Path),
        None => return Err(not_found()),
    };
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
        name => Some(definition.subresource(name).ok_or_else(not_found)?.clone()),
    };
    if info.parts.len() > 3 && info.subresource != "proxy" {
        return Err(not_found());
    }
    let allowed = match &subresource {
        // As upstream's routes, but for those that pass on whatever it is.
        _ if *method == Method::HEAD && info.subresource != "proxy" => false,
        None => has_verb(&definition, method, info),
        Some(Subresource::Status | Subresource::Scale(_)) => matches!(info.verb.as_str(), "get" | "update" | "patch"),
        // The one method without a verb that upstream passes on.
        Some(Subresource::Other { name: "proxy", .. }) if *method == Method::OPTIONS => true,
        Some(Subresource::Other { verbs, .. }) => verbs.contains(&info.verb.as_str()),
    };
    if !allowed {
        return Err(match subresource {
            None if info.verb == "watch" && definition.verbs.contains(&Verb::List) => match info.verb_in_path {
                true => not_found(),
                // As upstream, the list knows that it is asked for what it is not good for.
                false => {
                    let on = Subject { group: &definition.gvk.group, resource: &definition.plural, name: "" };
                    ApiError::method_not_allowed(on, "watch")
                }
            },
            _ => not_allowed(),
        });
    }
    Ok(Route::Resource(Target { definition, subresource }))
}

/// Custom resources are routed by what a request is about, not by its path.
fn custom(definition: &Arc<Definition>, info: &RequestInfo) -> Result<Route> {
    let across_namespaces = matches!(info.verb.as_str(), "list" | "watch");
    let misplaced = if definition.namespaced {
        info.namespace.is_empty() && !across_namespaces
    } else {
        !info.namespace.is_empty()
    };
    if misplaced {
        return Ok(Route::Path);
    }
    let on = Subject { group: &definition.gvk.group, resource: &definition.plural, name: &info.name };
    let subresource = match info.subresource.as_str() {
        "" => None,
        name => Some(definition.subresource(name).ok_or_else(|| ApiError::not_found(on))?.clone()),
    };
    let allowed = match &subresource {
        None => Verb::ALL.iter().any(|verb| verb.name() == info.verb),
        Some(_) => matches!(info.verb.as_str(), "get" | "update" | "patch"),
    };
    if !allowed {
        return Err(ApiError::method_not_allowed(on, &info.verb));
    }
    if info.name.is_empty() && matches!(info.verb.as_str(), "update" | "patch") {
        return Err(ApiError::bad_request("name must be provided"));
    }
    Ok(Route::Resource(Target { definition: definition.clone(), subresource }))
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

//! NamespaceLifecycle: nothing is created in a namespace that is missing or terminating; some namespaces stay forever.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Deserialize;

use super::{Attributes, Operation, Plugin};
use crate::{
    cache::Object,
    error::{ApiError, Result, Subject},
    world::World,
};

/// Where they are kept.
const NAMESPACES: &str = "namespaces";
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[derive(Default)]
pub struct NamespaceLifecycle;

#[derive(Default, Deserialize)]
struct Phase {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

fn is_namespace(attributes: &Attributes) -> bool {
    attributes.group().is_empty() && attributes.resource() == "namespaces"
}

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        match attributes.operation {
            Operation::Delete => is_namespace(attributes) && IMMORTAL.contains(&attributes.name.as_str()),
            // A review must not tell whether a namespace exists.
            Operation::Create | Operation::Update => {
                !attributes.namespace.is_empty()
                    && !is_namespace(attributes)
                    && attributes.resource() != "localsubjectaccessreviews"
            }
            Operation::Connect => false,
        }
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if attributes.operation == Operation::Delete {
                let on = Subject { group: "", resource: "namespaces", name: &attributes.name };
                return Err(ApiError::forbidden(on, "this namespace may not be deleted"));
            }
            let namespace = current(&attributes.namespace, world).await?;
            match attributes.operation {
                Operation::Create if phase(&namespace)? == "Terminating" => Err(terminating(attributes)),
                _ => Ok(()),
            }
        })
    }
}

/// The cache's answer counts while it is up to date; otherwise the store is asked.
async fn current(namespace: &str, world: &World) -> Result<Arc<Object>> {
    let cached = world.cache.prefix(NAMESPACES).get("", namespace);
    match cached {
        Some(object) if world.cache.revision() >= world.store.revision().await.map_err(ApiError::from_store)? => {
            Ok(object)
        }
        _ => {
            let missing = || ApiError::not_found(Subject { group: "", resource: NAMESPACES, name: namespace });
            world.stored(NAMESPACES, "", namespace).await?.ok_or_else(missing)
        }
    }
}

fn phase(namespace: &Object) -> Result<String> {
    Ok(namespace.decode::<Phase>()?.status.phase)
}

fn terminating(attributes: &Attributes) -> ApiError {
    let namespace = &attributes.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = StatusCause {
        reason: Some("NamespaceTerminating".into()),
        message: Some(format!("namespace {namespace} is being terminated")),
        field: Some("metadata.namespace".into()),
    };
    attributes.forbidden(why).with_cause(cause)
}

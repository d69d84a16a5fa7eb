//! By which namespaces and objects a webhook or a policy is told apart from those it is not for.

use crds::selector::{Labels, Selector};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{
    cache::Object,
    error::{ApiError, Result, Subject},
    world::World,
};

#[derive(Clone, Debug)]
pub struct Selectors {
    namespaces: Selector,
    objects: Selector,
}

impl Selectors {
    /// A selector that is absent selects all.
    pub fn new(namespaces: Option<&LabelSelector>, objects: Option<&LabelSelector>) -> Self {
        let selector = |given: Option<&LabelSelector>| {
            given.map_or_else(Selector::everything, |given| Selector::from_object(Some(given)))
        };
        Self { namespaces: selector(namespaces), objects: selector(objects) }
    }

    /// Whether the object has the labels, or had them before.
    pub fn match_object(&self, attributes: &Attributes) -> bool {
        if self.objects.is_everything() {
            return true;
        }
        let matches = |object: &Value| self.objects.matches(&labels(object));
        attributes.object.as_ref().is_some_and(matches) || attributes.old.as_deref().is_some_and(matches)
    }

    /// Whether the namespace has the labels. Cluster-scoped objects are in all of them, but a Namespace in itself.
    pub async fn match_namespace(&self, attributes: &Attributes, world: &World) -> Result<bool> {
        let is_namespace = attributes.resource() == "namespaces";
        if self.namespaces.is_everything() || (attributes.namespace.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_namespace && attributes.subresource.is_empty() && written {
            let own = attributes.object.as_ref().map(labels).unwrap_or_default();
            return Ok(self.namespaces.matches(&own));
        }
        Ok(self.namespaces.matches(&namespace(&attributes.namespace, world).await?.labels))
    }
}

/// The namespace as the cache has it, or the store if the cache has none.
pub async fn namespace(name: &str, world: &World) -> Result<std::sync::Arc<Object>> {
    use crds::kind::Kind;
    if let Some(known) = world.cache.prefix(Namespace::ABOUT.storage_prefix).get("", name) {
        return Ok(known);
    }
    let live = world.stored(Namespace::ABOUT.storage_prefix, "", name).await?;
    live.ok_or_else(|| ApiError::not_found(Subject { group: "", resource: "namespaces", name }))
}

fn labels(object: &Value) -> Labels {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let texts = labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

//! What expressions see of a request.

use std::sync::Arc;

use crds::cel::{self, Bindings, Decl, Value, admission};
use serde_json::Value as Json;

use super::on_behalf::OnBehalf;
use crate::{
    admission::{Attributes, rule::Matched, select, version::convert_some, webhook},
    authorize::Authorize,
    error::Result,
    world::World,
};

/// The parts of a request in the version that was matched, ready to be bound.
pub struct Input {
    pub object: Option<Json>,
    pub old: Option<Json>,
    request: Json,
    namespace: Option<Json>,
    request_type: Arc<Decl>,
    namespace_type: Arc<Decl>,
}

impl Input {
    /// Without a namespace object, as match conditions of webhooks are.
    pub async fn new(attributes: &Attributes, matched: &Matched, world: &World) -> Result<Self> {
        let (from, to) = (&attributes.kind, &matched.kind);
        Ok(Self {
            object: convert_some(attributes.object.as_ref(), from, to, world).await?,
            old: convert_some(attributes.old.as_deref(), from, to, world).await?,
            request: webhook::request_of(attributes, matched)?,
            namespace: None,
            request_type: admission::request(),
            namespace_type: admission::namespace(),
        })
    }

    /// With the namespace that the object is in.
    pub async fn with_namespace(mut self, attributes: &Attributes, world: &World) -> Result<Self> {
        let is_namespace = attributes.kind.group.is_empty() && attributes.kind.kind == "Namespace";
        if !is_namespace && !attributes.namespace.is_empty() {
            self.namespace = Some(select::namespace(&attributes.namespace, world).await?.value()?);
        }
        Ok(self)
    }

    /// The values of all variables but those that a policy makes; `params` is none where there are no parameters.
    pub fn bindings<'a>(&'a self, params: Option<&'a Json>, authorizer: Option<&cel::Authorizer>) -> Bindings<'a> {
        let value = |json: Option<&'a Json>| json.map_or(Value::Null, Value::json);
        let namespace = self.namespace.as_ref();
        let mut bindings = Bindings::new()
            .bind("object", value(self.object.as_ref()))
            .bind("oldObject", value(self.old.as_ref()))
            .bind("params", value(params))
            .bind_outcome("request", Value::typed(&self.request, &self.request_type))
            .bind_outcome(
                "namespaceObject",
                namespace.map_or(Ok(Value::Null), |namespace| Value::typed(namespace, &self.namespace_type)),
            );
        if let Some(authorizer) = authorizer {
            let text = |name: &str| self.request[name].as_str().unwrap_or_default().to_owned();
            let resource = &self.request["requestResource"];
            let part = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
            let resource = cel::Resource {
                group: part("group"),
                resource: part("resource"),
                subresource: text("requestSubResource"),
                namespace: text("namespace"),
                name: text("name"),
                ..Default::default()
            };
            bindings = bindings.bind("authorizer", Value::Authorizer(authorizer.clone())).bind(
                "authorizer.requestResource",
                Value::ResourceCheck(Arc::new(authorizer.clone().request_resource(resource))),
            );
        }
        bindings
    }
}

/// The authorizer that expressions ask, on behalf of the request's user.
pub fn authorizer(authorizer: &Arc<dyn Authorize>, attributes: &Attributes) -> cel::Authorizer {
    cel::Authorizer::new(Arc::new(OnBehalf { authorizer: authorizer.clone(), user: attributes.user.clone() }))
}

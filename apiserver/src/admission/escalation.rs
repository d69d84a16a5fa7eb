//! Nobody grants more than they hold: the check of roles and bindings, which upstream makes when all plugins have
//! changed what they want to change.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::{
    authorize::{Authorizer, Resource, escalation, rbac},
    error::Result,
    world::World,
};

/// Not a plugin of upstream's: it cannot be switched off. It is last.
pub struct Escalation(pub Arc<Authorizer>);

impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.group() == rbac::GROUP && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let on = Resource {
                group: attributes.group(),
                version: attributes.version(),
                resource: attributes.resource(),
                subresource: &attributes.subresource,
                namespace: &attributes.namespace,
                // A create has its name in the body, which upstream does not look at here.
                name: if attributes.operation == Operation::Update { &attributes.name } else { "" },
                field_selector: &[],
            };
            let object = attributes.object.as_ref().unwrap_or(&Value::Null);
            escalation::check(&self.0, &attributes.user, &on, object, attributes.old.as_deref())
        })
    }
}

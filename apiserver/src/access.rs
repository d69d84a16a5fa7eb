//! The gate that every request passes, from the network or from within the process: who asks, and whether they may.

use std::sync::Arc;

use crds::{selector, user::User};
use serde_json::Value;

use crate::{
    auth::{Authenticator, Bound, Lookup, certificate::Peer, front_proxy::Proxy, impersonate},
    authorize::{Attributes, Authorize, Authorizer, Change, OBSERVED, Resource},
    cache::{Object, Observer},
    call::Call,
    error::{ApiError, Result, Subject},
    registry::Registry,
    request::RequestInfo,
    world::World,
};

/// Who calls from within the process; nothing from the network can carry this.
#[derive(Clone, Debug)]
pub struct Identity(pub Arc<User>);

pub struct Access {
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    impersonation: impersonate::Impersonation,
}

impl Access {
    pub fn new(authenticator: Authenticator, authorizer: Arc<Authorizer>) -> Self {
        Self { authenticator, authorizer, impersonation: Default::default() }
    }

    /// Finds out who calls, and puts it into the call.
    pub async fn authenticate(&self, call: &mut Call, world: &World) -> Result<()> {
        if let Some(Identity(user)) = call.extensions.get() {
            call.user = user.clone();
            return Ok(());
        }
        let now = world.now();
        if let (Some(front), Some(proxy)) = (&self.authenticator.front_proxy, call.extensions.get::<Proxy>())
            && let Some(user) = front.user(proxy, &mut call.headers, now)
        {
            call.user = Arc::new(user);
            return Ok(());
        }
        let peer = call.extensions.get::<Peer>().cloned().unwrap_or_default();
        let user = self.authenticator.authenticate(&peer, &call.headers, world, now).await?;
        if user.name == User::ANONYMOUS && !self.authenticator.admits_anonymous(&call.info.path) {
            return Err(ApiError::unauthorized());
        }
        call.user = user;
        Ok(())
    }

    /// Puts somebody else into the call, if it asks for that and may.
    pub fn impersonate(&self, call: &mut Call) -> Result<()> {
        let Some(wanted) = impersonate::wanted(&call.headers)? else { return Ok(()) };
        let user = {
            let fields = fields(&call.info);
            let attributes = attributes(&call.user, &call.info, &call.info.verb, &fields);
            self.impersonation.impersonate(&*self.authorizer, &wanted, &attributes)?
        };
        call.audit.impersonated(&user);
        call.user = Arc::new(user);
        Ok(())
    }

    pub async fn authorize(&self, call: &Call) -> Result<()> {
        let fields = fields(&call.info);
        let attributes = attributes(&call.user, &call.info, &call.info.verb, &fields);
        let decision = self.authorizer.ask(&attributes).await;
        if call.audit.is_on() {
            let told = if decision.allowed() { "allow" } else { "forbid" };
            call.audit.annotate("authorization.k8s.io/decision", told);
            call.audit.annotate("authorization.k8s.io/reason", decision.reason());
        }
        attributes.judge(decision)
    }

    /// Whether the caller may also do something else with the same object: `create` for an update that creates.
    pub fn may(&self, call: &Call, verb: &str) -> Result<()> {
        let fields = fields(&call.info);
        self.authorizer.require(&attributes(&call.user, &call.info, verb, &fields))
    }
}

fn fields(info: &RequestInfo) -> Vec<selector::FieldTerm> {
    info.field_selector.as_deref().and_then(|text| selector::parse_fields(text).ok()).unwrap_or_default()
}

fn attributes<'a>(
    user: &'a User,
    info: &'a RequestInfo,
    verb: &'a str,
    fields: &'a [selector::FieldTerm],
) -> Attributes<'a> {
    if !info.is_resource {
        return Attributes::path(user, verb, &info.path);
    }
    let resource = Resource {
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        field_selector: fields,
    };
    Attributes::resource(user, verb, resource)
}

/// What keeps the authorizer up to date with the objects that it decides by.
pub fn observer(authorizer: Arc<Authorizer>, registry: &Registry) -> Observer {
    let table = registry.table();
    let observed: Vec<(String, &'static str, &'static str)> = OBSERVED
        .iter()
        .filter_map(|(group, resource)| {
            let definition = table.all().iter().find(|d| d.gvk.group == *group && d.plural == *resource)?;
            Some((definition.storage_prefix.to_string(), *group, *resource))
        })
        .collect();
    Box::new(move |prefix, key, object| {
        let Some((_, group, resource)) = observed.iter().find(|(known, ..)| known == prefix) else { return };
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let value = object.and_then(|object| object.value().ok());
        let change = Change { group, resource, namespace, name, object: value.as_ref() };
        if let Err(error) = authorizer.observe(&change) {
            tracing::error!(%error, resource, namespace, name, "an object that authorization goes by cannot be read");
        }
    })
}

impl Lookup for World {
    async fn bound(&self, resource: &str, namespace: &str, name: &str) -> Option<Bound> {
        let definition = self.registry.resource("", "v1", resource)?;
        if let Some(object) = World::object(self, &definition, namespace, name) {
            return bound(&object);
        }
        let live = self.live(&definition, namespace, name).await.ok()??;
        bound(&live)
    }

    async fn object(&self, resource: &str, namespace: &str, name: &str) -> Result<Value> {
        let on = Subject { group: "", resource, name };
        let definition = self.registry.resource("", "v1", resource).ok_or_else(|| ApiError::not_found(on))?;
        let live = self.live(&definition, namespace, name).await?;
        live.ok_or_else(|| ApiError::not_found(on))?.value()
    }
}

fn bound(object: &Object) -> Option<Bound> {
    let value = if object.deleting { object.value().ok()? } else { Value::Null };
    let deleted_at = value.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
    Some(Bound { uid: object.uid.to_string(), deleted_at: deleted_at.and_then(|time| time.parse().ok()) })
}

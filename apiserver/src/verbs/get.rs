//! GET of one object.

use crds::kind::Verb;
use http::StatusCode;

use crate::{
    call::Call,
    codec::answer::Answer,
    components,
    custom::convert,
    error::{ApiError, Result, Subject},
    options::revision_or_500,
    pipeline::Apiserver,
    route::Target,
    write::Shown,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    let form = super::form(call, definition)?;
    // As upstream, which tells of a kind that nobody can create by its singular.
    let resource = if definition.verbs.contains(&Verb::Create) { &definition.plural } else { &definition.singular };
    let on = Subject { group: &definition.gvk.group, resource, name: &call.info.name };
    if let Some(made) = components::made(server, definition).await? {
        let found = made.into_iter().find(|object| object["metadata"]["name"] == *on.name);
        let object = Shown::Value(found.ok_or_else(|| ApiError::not_found(on))?);
        return super::shown(server, call, StatusCode::OK, form, definition, &object);
    }
    let asked = revision_or_500(call.query.first("resourceVersion").unwrap_or_default())?;
    let cache = &server.world.cache;
    match asked {
        None => cache.wait_until_current().await?,
        Some(revision) => cache.wait_for(revision).await?,
    };
    let namespace = call.info.namespace_of(definition);
    let object = server.world.object(definition, &namespace, on.name);
    if object.is_none() {
        cache.check_readable(&definition.storage_prefix, &namespace, Some(on.name)).await?;
    }
    let object = object.ok_or_else(|| ApiError::missing(on))?;
    convert::prepare(&server.world, [&object], definition).await?;
    super::shown(server, call, StatusCode::OK, form, definition, &Shown::Stored(object.form(definition)?))
}

//! GET of many objects.

use std::sync::Arc;

use crate::{
    cache::{
        Filter, Object,
        list::{Listing, PageRequest},
    },
    call::Call,
    codec::answer::Answer,
    components,
    custom::convert,
    error::{ApiError, Result},
    options::ListOptions,
    pipeline::Apiserver,
    route::Target,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    let form = super::form(call, definition)?;
    let options = ListOptions::from_query(&call.query, definition, false)?;
    let filter = filter(call, target, &options)?;
    if let Some(made) = components::made(server, definition).await? {
        let mut objects = made.iter().map(|object| Object::made(object).map(Arc::new)).collect::<Result<Vec<_>>>()?;
        objects.retain(|object| filter.matches(object));
        let listing = Listing { objects, revision: 0, next: None, remaining: None };
        return super::listed(server, call, form, definition, listing);
    }
    let page = PageRequest { limit: options.limit, token: options.token.clone(), freshness: options.freshness()? };
    if filter.selects_own() {
        let all = server.world.cache.kind(definition).list(&filter.namespace);
        convert::prepare(&server.world, &all, definition).await?;
    }
    let listing = server.world.cache.list(&filter, &page).await?;
    convert::prepare(&server.world, &listing.objects, definition).await?;
    let listing = listing.of(definition)?;
    super::listed(server, call, form, definition, listing)
}

/// What a list or watch selects. A name in the path counts like a field selector.
pub fn filter(call: &Call, target: &Target, options: &ListOptions) -> Result<Filter> {
    let info = &call.info;
    let by_path = info.parts.len() > 1 && !info.name.is_empty();
    let selected = options.fields.iter().find(|term| term.equal && term.path == "metadata.name");
    if by_path && !options.fields.is_empty() && selected.is_none_or(|term| term.value != info.name) {
        return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
    }
    Ok(Filter {
        definition: target.definition.clone(),
        namespace: info.namespace_of(&target.definition).into_owned(),
        name: by_path.then(|| info.name.clone()).or_else(|| selected.map(|term| term.value.clone())),
        labels: options.labels.clone(),
        fields: options.fields.clone(),
    })
}

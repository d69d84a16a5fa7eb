//! DELETE of many objects: each is deleted by itself, and the answer lists those that were found.

use std::sync::Arc;

use futures::future::{BoxFuture, try_join_all};

use crate::{
    cache::{
        Object,
        list::{Freshness, PageRequest},
    },
    call::Call,
    codec::answer::Answer,
    custom::convert,
    error::Result,
    options::{DeleteOptions, ListOptions, WriteOptions},
    pipeline::Apiserver,
    route::Target,
};

/// Deletions that run at a time.
const PARALLEL: usize = 8;

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    let form = super::form(call, definition)?;
    let list = ListOptions::from_query(&call.query, definition, false)?;
    let options = super::delete_options(call).await?;
    let filter = super::list::filter(call, target, &list)?;
    let page = PageRequest { limit: list.limit, token: list.token.clone(), freshness: Freshness::Latest };
    let listing = server.world.cache.list(&filter, &page).await?;
    let mut warnings = Vec::new();
    for batch in listing.objects.chunks(PARALLEL) {
        let deletions: Vec<BoxFuture<'_, Result<Vec<String>>>> =
            batch.iter().map(|object| delete(server, call, target, object.clone(), &options)).collect();
        warnings.extend(try_join_all(deletions).await?);
    }
    call.warnings.extend(warnings.into_iter().flatten());
    convert::prepare(&server.world, &listing.objects, definition).await?;
    super::listed(server, call, form, definition, listing.of(definition)?)
}

/// Deletes one of them; somebody else may have done so already.
fn delete<'a>(
    server: &'a Apiserver,
    call: &'a Call,
    target: &'a Target,
    object: Arc<Object>,
    options: &'a DeleteOptions,
) -> BoxFuture<'a, Result<Vec<String>>> {
    Box::pin(async move {
        let mut writer = super::writer(server, call, target, &object.name, WriteOptions::default());
        writer.namespace = &object.namespace;
        writer.is_one_of_many = true;
        match writer.delete(options).await {
            Err(error) if error.reason() != "NotFound" => Err(error),
            _ => Ok(writer.warnings),
        }
    })
}

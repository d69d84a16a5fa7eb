//! Lists: consistent, at least as new as asked for, or of an exact revision; whole or in pages.

use std::sync::Arc;

use crds::kind::Definition;
use store::{Revision, StoreError};

use super::{Cache, Filter, Object, ROOT, page};
use crate::error::{ApiError, Result};

/// How new a list has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As new as the store at the time of the request.
    Latest,
    /// Whatever there is (`resourceVersion=0`).
    Any,
    AtLeast(Revision),
    Exact(Revision),
}

#[derive(Clone, Debug)]
pub struct PageRequest {
    /// 0: everything.
    pub limit: usize,
    /// A continue token, or empty.
    pub token: String,
    pub freshness: Freshness,
}

pub struct Listing {
    pub objects: Vec<Arc<Object>>,
    pub revision: Revision,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
    /// How many objects follow; not known where a selector is used.
    pub remaining: Option<usize>,
}

impl Listing {
    /// The resourceVersion; what is made when it is asked for has none.
    pub fn version(&self) -> String {
        if self.revision == 0 { String::new() } else { self.revision.to_string() }
    }

    /// The same with the objects as a version of their kind shows them.
    pub fn of(mut self, definition: &Arc<Definition>) -> Result<Self> {
        if definition.is_custom() {
            self.objects = self.objects.iter().map(|object| object.form(definition)).collect::<Result<_>>()?;
        }
        Ok(self)
    }
}

const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
    a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
    the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl Cache {
    pub async fn list(&self, filter: &Filter, request: &PageRequest) -> Result<Listing> {
        if !request.token.is_empty() {
            let token = page::decode(&request.token)
                .map_err(|why| ApiError::bad_request(format!("invalid continue token: {why}")))?;
            if !matches!(request.freshness, Freshness::Latest | Freshness::Any) {
                let why = "specifying resource version is not allowed when using continue";
                return Err(ApiError::bad_request(why));
            }
            return match token.revision {
                Some(revision) => self.list_at(filter, revision, Some(token.after), request.limit).await,
                None => {
                    self.wait_until_current().await?;
                    self.list_now(filter, Some(token.after), request.limit)
                }
            };
        }
        let selected = filter.name.as_deref();
        self.check_readable(&filter.definition.storage_prefix, &filter.namespace, selected).await?;
        match request.freshness {
            Freshness::Latest => self.wait_until_current().await?,
            // As upstream: with resourceVersion=0 the limit does not count.
            Freshness::Any => return self.list_now(filter, None, 0),
            Freshness::AtLeast(revision) => self.wait_for(revision).await?,
            Freshness::Exact(revision) => return self.list_at(filter, revision, None, request.limit).await,
        };
        self.list_now(filter, None, request.limit)
    }

    fn list_now(&self, filter: &Filter, after: Option<String>, limit: usize) -> Result<Listing> {
        let applied = self.revision();
        let after = after.map(|after| below_prefix(filter, &after));
        let snapshot = self.kind(&filter.definition).snapshot(filter, after.as_deref(), limit, None);
        let Some(snapshot) = snapshot else { return Err(ApiError::internal("the cache gave no snapshot")) };
        let revision = applied.max(snapshot.revision);
        let next = snapshot.next.map(|key| page::encode(below_namespace(filter, &key), Some(revision)));
        let remaining = (next.is_some() && !filter.selects()).then_some(snapshot.remaining);
        Ok(Listing { objects: snapshot.objects, revision, next, remaining })
    }

    /// The kind as it was: from the cache if it has not changed since, otherwise from the store's history.
    async fn list_at(
        &self,
        filter: &Filter,
        revision: Revision,
        after: Option<String>,
        limit: usize,
    ) -> Result<Listing> {
        self.wait_for(revision).await?;
        let below = after.as_ref().map(|after| below_prefix(filter, after));
        let kind = self.kind(&filter.definition);
        if let Some(snapshot) = kind.snapshot(filter, below.as_deref(), limit, Some(revision)) {
            let next = snapshot.next.map(|key| page::encode(below_namespace(filter, &key), Some(revision)));
            let remaining = (next.is_some() && !filter.selects()).then_some(snapshot.remaining);
            return Ok(Listing { objects: snapshot.objects, revision, next, remaining });
        }
        let prefix = match filter.namespace.as_str() {
            "" => format!("{ROOT}{}/", filter.definition.storage_prefix),
            namespace => format!("{ROOT}{}/{namespace}/", filter.definition.storage_prefix),
        };
        let mut last = after.as_ref().map(|after| format!("{prefix}{after}"));
        let mut listing = Listing { objects: Vec::new(), revision, next: None, remaining: None };
        loop {
            let wanted = if limit == 0 { 0 } else { limit - listing.objects.len() };
            let page = self.store.range(&prefix, last.as_deref(), wanted, Some(revision)).await;
            let page = page.map_err(|error| compacted(error, after.as_deref()))?;
            last = page.entries.last().map(|e| e.key.clone()).or(last);
            for entry in &page.entries {
                let object = Arc::new(Object::new(entry)?);
                if filter.matches(&object) {
                    listing.objects.push(object);
                }
            }
            if !page.more || page.entries.is_empty() {
                return Ok(listing);
            }
            if limit > 0 && listing.objects.len() >= limit {
                let key = last.as_deref().and_then(|key| key.strip_prefix(&prefix)).unwrap_or_default();
                listing.next = Some(page::encode(key, Some(revision)));
                listing.remaining = (!filter.selects()).then_some(page.remaining as usize);
                return Ok(listing);
            }
        }
    }
}

/// Tokens are relative to what is listed: a namespace, or the kind.
fn below_namespace<'a>(filter: &Filter, key: &'a str) -> &'a str {
    match filter.namespace.as_str() {
        "" => key,
        namespace => key.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key),
    }
}

fn below_prefix(filter: &Filter, after: &str) -> String {
    if filter.namespace.is_empty() { after.to_owned() } else { format!("{}/{after}", filter.namespace) }
}

fn compacted(error: StoreError, after: Option<&str>) -> ApiError {
    match (error, after) {
        (StoreError::Compacted { .. }, None) => ApiError::expired(TOO_OLD),
        (StoreError::Compacted { .. }, Some(after)) => {
            ApiError::expired(INCONSISTENT).with_continue(page::encode(after, None))
        }
        (error, _) => ApiError::from_store(error),
    }
}

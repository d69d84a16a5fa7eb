//! Encryption at rest: what is kept of a resource, as an EncryptionConfiguration says, at the border to the store.
//!
//! The form of the bytes is upstream's, so that either server reads what the other has written.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use crds::kinds;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use store::{Entry, Event, Op, Outcome, Page, Result, Revision, Store, StoreError, Txn};

use crate::cache::split_key;

pub mod cipher;
pub mod config;
pub mod transform;

pub use config::{ConfigError, Configuration};
pub use transform::Transformer;

struct Inner {
    store: Arc<dyn Store>,
    configuration: Configuration,
    /// The group and plural of what is kept below a prefix.
    built_in: HashMap<&'static str, (&'static str, &'static str)>,
}

/// A store whose values are encrypted. Values that cannot be decrypted are an error where one is asked for; ranges
/// and watches give them as they are stored, so that the others can still be read.
#[derive(Clone)]
pub struct EncryptedStore(Arc<Inner>);

impl EncryptedStore {
    pub fn new(store: Arc<dyn Store>, configuration: Configuration) -> Self {
        Self(Arc::new(Inner::new(store, configuration)))
    }

    fn event(&self, mut event: Event) -> Event {
        for entry in event.value.iter_mut().chain(event.previous.iter_mut()) {
            self.0.decrypt_if_possible(entry);
        }
        event
    }
}

impl Inner {
    fn new(store: Arc<dyn Store>, configuration: Configuration) -> Self {
        let mut built_in: HashMap<&str, (&str, &str)> = HashMap::new();
        for kind in kinds::all() {
            let named = (&*kind.gvk.group, &*kind.plural);
            let known = built_in.entry(&kind.storage_prefix).or_insert(named);
            // Events are of two groups, and kept under the name of the older one.
            *known = (*known).min(named);
        }
        Self { store, configuration, built_in }
    }

    fn transformer(&self, key: &str) -> &Transformer {
        let Some((prefix, _)) = split_key(key) else { return Configuration::PLAIN };
        match self.built_in.get(prefix) {
            Some((group, plural)) => self.configuration.of(group, plural),
            // Everything else is custom, and kept as `group/plural`.
            None => prefix.split_once('/').map_or(Configuration::PLAIN, |(g, p)| self.configuration.of(g, p)),
        }
    }

    fn decrypt(&self, entry: &mut Entry) -> Result<bool> {
        let read = self.transformer(&entry.key).read(&entry.key, &entry.value);
        let read = read.map_err(|why| StoreError::Unreadable { key: entry.key.clone(), why })?;
        if let Some(plain) = read.plain {
            entry.value = plain;
        }
        Ok(read.stale)
    }

    /// Left as it is if it cannot be decrypted: whoever decodes it will say so.
    fn decrypt_if_possible(&self, entry: &mut Entry) {
        if let Err(error) = self.decrypt(entry) {
            tracing::error!(key = entry.key, %error, "a value cannot be decrypted");
        }
    }

    fn encrypt(&self, txn: &mut Txn) -> Result<()> {
        for op in &mut txn.ops {
            let Op::Put { key, value, .. } = op else { continue };
            if let Some(hidden) = self.transformer(key).write(key, value).map_err(|what| failed(&what))? {
                *value = hidden;
            }
        }
        Ok(())
    }
}

fn failed(what: &str) -> StoreError {
    StoreError::Failed { what: what.to_owned(), source: None }
}

impl Store for EncryptedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        async move {
            let Some(mut entry) = self.0.store.get(key).await? else { return Ok(None) };
            self.0.decrypt(&mut entry)?;
            Ok(Some(entry))
        }
        .boxed()
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Page>> {
        async move {
            let mut page = self.0.store.range(prefix, after, limit, at).await?;
            page.entries.iter_mut().for_each(|entry| self.0.decrypt_if_possible(entry));
            Ok(page)
        }
        .boxed()
    }

    fn txn(&self, mut txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        async move {
            self.0.encrypt(&mut txn)?;
            let mut outcome = self.0.store.txn(txn).await?;
            if let Outcome::Conflict(entries) = &mut outcome {
                for entry in entries.iter_mut().flatten() {
                    self.0.decrypt(entry)?;
                }
            }
            Ok(outcome)
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Vec<Event>>>>> {
        async move {
            let this = self.clone();
            let events = self.0.store.watch(prefix, after).await?;
            let decrypted = events.map(move |batch| Ok(batch?.into_iter().map(|event| this.event(event)).collect()));
            Ok(decrypted.boxed())
        }
        .boxed()
    }

    fn is_stale<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<bool>> {
        async move {
            let Some(mut stored) = self.0.store.get(&entry.key).await? else { return Ok(false) };
            // Whoever was faster has written it anew.
            Ok(stored.modified == entry.modified && self.0.decrypt(&mut stored)?)
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.0.store.compact(revision)
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        self.0.store.revision()
    }

    fn is_reachable(&self) -> bool {
        self.0.store.is_reachable()
    }

    fn size_bytes(&self) -> Option<u64> {
        self.0.store.size_bytes()
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Revision>> {
        self.0.store.oldest()
    }
}

/// What a value says after it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// None: it was not encrypted.
    pub plain: Option<Bytes>,
    /// A write would be in another form: with another key, or encrypted at all.
    pub stale: bool,
}

#[cfg(test)]
mod tests;

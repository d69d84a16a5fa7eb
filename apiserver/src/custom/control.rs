//! What follows from a definition: one after the other, whenever one has changed.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use crds::{
    kind::Gvk,
    kinds::apiextensions::condition::{ESTABLISHED, NAMES_ACCEPTED, is_true},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{CustomKinds, finalize, service, status};
use crate::{
    bootstrap::ensure::{self, EnsureError},
    pipeline::Apiserver,
};

/// Before something that has failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The part of the server that does what definitions ask for.
#[derive(Clone)]
pub(super) struct Control {
    pub server: Weak<Apiserver>,
    pub kinds: Arc<CustomKinds>,
    /// Definitions whose instances are being deleted.
    finalizing: Arc<Mutex<HashSet<String>>>,
    /// Groups and versions that were registered with APIServices.
    pub registered: Arc<Mutex<BTreeSet<(String, String)>>>,
}

/// Runs until the server is gone.
pub async fn run(server: Weak<Apiserver>, kinds: Arc<CustomKinds>) {
    let control = Control { server, kinds, finalizing: Arc::default(), registered: Arc::default() };
    loop {
        let mut failed = BTreeSet::new();
        for name in control.kinds.next().await {
            let Some(server) = control.server.upgrade() else { return };
            if let Err(error) = control.look_at(&server, &name).await {
                tracing::warn!(%error, name, "a CustomResourceDefinition is not dealt with yet");
                failed.insert(name);
            }
        }
        if !failed.is_empty() {
            let kinds = control.kinds.clone();
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                failed.iter().for_each(|name| kinds.again(name));
            });
        }
    }
}

impl Control {
    async fn look_at(&self, server: &Arc<Apiserver>, name: &str) -> Result<(), EnsureError> {
        let group = name.split_once('.').map(|(_, group)| group).unwrap_or_default();
        let Some(definition) = self.kinds.definition(name) else {
            // Its names are free now.
            self.group_again(group, name);
            return service::register(self, server, group).await;
        };
        service::register(self, server, group).await?;
        if finalize::is_due(&definition) {
            self.finalize(name);
            return Ok(());
        }
        let group = self.kinds.group(group);
        let now = server.world.now();
        let mut next = status::names(&definition, &group, now);
        let names = next.is_some();
        if next.is_none() && is_true(&definition, NAMES_ACCEPTED) && !is_true(&definition, ESTABLISHED) {
            next = status::established(&definition, now);
        }
        let next = next.or_else(|| status::structural(&definition, now)).or_else(|| status::approved(&definition, now));
        let Some(next) = next else { return Ok(()) };
        let written = write_status(server, name, &next).await?;
        if written && names {
            self.group_again(&definition.spec.group, name);
        }
        // What was written comes back as a change; what somebody else has written, too.
        Ok(())
    }

    /// Names may have become free, or been taken.
    fn group_again(&self, group: &str, but: &str) {
        for other in self.kinds.group(group) {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            if name != but {
                self.kinds.again(name);
            }
        }
    }

    /// Deleting instances takes its time: others do not wait for it.
    fn finalize(&self, name: &str) {
        if !self.finalizing.lock().insert(name.to_owned()) {
            return;
        }
        let (control, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let done = finalize::finalize(&control, &name).await;
            control.finalizing.lock().remove(&name);
            if let Err(error) = done {
                tracing::warn!(%error, name, "the instances of a CustomResourceDefinition are not gone yet");
                tokio::time::sleep(RETRY).await;
            }
            // Whatever has changed meanwhile is looked at now.
            control.kinds.again(&name);
        });
    }
}

pub(super) const GROUP: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Writes a definition with its status; false if somebody else was faster.
pub(super) async fn write_status<T: serde::Serialize>(
    server: &Arc<Apiserver>,
    name: &str,
    definition: &T,
) -> Result<bool, EnsureError> {
    let mut body = serde_json::to_value(definition)?;
    let gvk =
        Gvk { group: "apiextensions.k8s.io".into(), version: "v1".into(), kind: "CustomResourceDefinition".into() };
    body["kind"] = gvk.kind.clone().into();
    body["apiVersion"] = gvk.api_version().into();
    let path = format!("{GROUP}/{name}/status");
    let answer: Option<Value> = ensure::send(&server.own_service(), http::Method::PUT, &path, Some(body)).await?;
    Ok(answer.is_some())
}

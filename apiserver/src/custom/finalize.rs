//! The end of a definition: its instances go first.

use std::{sync::Arc, time::Duration};

use crds::{
    kind::Definition,
    kinds::apiextensions::{
        condition::{self, ESTABLISHED, TERMINATING},
        custom_resource_definition::FINALIZER,
    },
    user::User,
};
use futures::{StreamExt, future::try_join_all};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::control::{Control, write_status};
use crate::{
    admission::Chain,
    bootstrap::ensure::EnsureError,
    cache::{Filter, watcher::From},
    error::ApiError,
    options::{DeleteOptions, WriteOptions},
    pipeline::Apiserver,
    write::Writer,
};

/// Deletions that run at a time.
const PARALLEL: usize = 8;
/// How long instances may take to go before the definition says that they still have not.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    #[error(transparent)]
    Write(#[from] EnsureError),
    #[error("instances cannot be deleted: {0}")]
    Delete(ApiError),
    #[error("instances remain")]
    Remain,
}

/// Whether a definition waits for its instances to be deleted.
pub fn is_due(definition: &CustomResourceDefinition) -> bool {
    let metadata = &definition.metadata;
    metadata.deletion_timestamp.is_some() && metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// Deletes the instances, waits for their end, and lets the definition go. Done, too, where somebody else has changed
/// the definition meanwhile: that is looked at anew.
pub async fn finalize(control: &Control, name: &str) -> Result<(), FinalizeError> {
    let Some(server) = control.server.upgrade() else { return Ok(()) };
    let Some(definition) = control.kinds.definition(name).filter(|definition| is_due(definition)) else {
        return Ok(());
    };
    let begun = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
    if !tell(&server, name, &definition, begun, false).await? {
        return Ok(());
    }
    if !condition::is_true(&definition, ESTABLISHED) {
        let never = ("False", "NeverEstablished", "resource was never established");
        return finish(control, &server, name, never, true).await;
    }
    if let Some(kind) = control.kinds.stored(name) {
        if let Err(error) = delete_all(&server, &kind).await {
            let why = format!("could not issue all deletes: {error}");
            finish(control, &server, name, ("True", "InstanceDeletionFailed", &why), false).await?;
            return Err(FinalizeError::Delete(error));
        }
        if !is_emptied(&server, &kind).await.map_err(FinalizeError::Delete)? {
            let why = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
            finish(control, &server, name, ("True", "InstanceDeletionCheck", why), false).await?;
            return Err(FinalizeError::Remain);
        }
    }
    finish(control, &server, name, ("False", "InstanceDeletionCompleted", "removed all instances"), true).await
}

/// Status, reason and message.
type Terminating<'a> = (&'a str, &'a str, &'a str);

async fn tell(
    server: &Arc<Apiserver>,
    name: &str,
    definition: &CustomResourceDefinition,
    (status, reason, message): Terminating<'_>,
    lets_go: bool,
) -> Result<bool, EnsureError> {
    let mut next = definition.clone();
    condition::set(&mut next, condition::condition(TERMINATING, status, reason, message), server.world.now());
    if lets_go && let Some(finalizers) = &mut next.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    write_status(server, name, &next).await
}

/// The same on the definition as it is now, which the deletions have not changed but others may have.
async fn finish(
    control: &Control,
    server: &Arc<Apiserver>,
    name: &str,
    terminating: Terminating<'_>,
    lets_go: bool,
) -> Result<(), FinalizeError> {
    server.world.cache.wait_until_current().await.map_err(FinalizeError::Delete)?;
    if let Some(definition) = control.kinds.definition(name).filter(|definition| is_due(definition)) {
        tell(server, name, &definition, terminating, lets_go).await?;
    }
    Ok(())
}

/// As upstream: without asking admission.
async fn delete_all(server: &Arc<Apiserver>, kind: &Arc<Definition>) -> Result<(), ApiError> {
    server.world.cache.wait_until_current().await?;
    let (admission, user) = (Chain::new(Vec::new()), Arc::new(User::named("system:apiserver", &[User::MASTERS])));
    let options = DeleteOptions::default();
    for batch in server.world.cache.kind(kind).list("").chunks(PARALLEL) {
        let deletions = batch.iter().map(|object| async {
            let mut writer = Writer {
                world: &server.world,
                admission: &admission,
                definition: kind.clone(),
                subresource: "",
                namespace: &object.namespace,
                name: &object.name,
                is_one_of_many: true,
                user: user.clone(),
                options: WriteOptions::default(),
                manager: "kube-apiserver".to_owned(),
                scale: None,
                tracks_fields: false,
                verb: "delete",
                authorizer: &server.access.authorizer,
                warnings: Vec::new(),
                audit: Default::default(),
            };
            match writer.delete(&options).await {
                Err(error) if error.reason() != "NotFound" => Err(error),
                _ => Ok(()),
            }
        });
        try_join_all(deletions).await?;
    }
    Ok(())
}

/// Waits until no instance is left; false if some are still there after a while.
async fn is_emptied(server: &Arc<Apiserver>, kind: &Arc<Definition>) -> Result<bool, ApiError> {
    let end = tokio::time::Instant::now() + WAIT_MAX;
    let cache = &server.world.cache;
    loop {
        let mut watch = cache.watch(Filter::all(kind.clone(), ""), From::Now).await?;
        cache.wait_until_current().await?;
        while !cache.kind(kind).is_empty() {
            match tokio::time::timeout_at(end, watch.changes.next()).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Ok(false),
            }
        }
        if cache.kind(kind).is_empty() {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= end {
            return Ok(false);
        }
    }
}

//! Brings the bootstrap objects about, through the same pipeline that clients go through.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Cluster, Wanted, Write, gone, network, waves};
use crate::{pipeline::Apiserver, server::InProcess};

/// Requests that are under way at once.
const CONCURRENT: usize = 64;
/// Somebody else may write the same objects: another API server that starts.
const WRITES_MAX: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    #[error("the bootstrap objects of this build are damaged")]
    Facts(#[from] serde_json::Error),
    #[error("{method} {path} was answered {code}: {message}")]
    Refused { method: Method, path: String, code: StatusCode, message: String },
    #[error("the answer to {method} {path} cannot be read: {why}")]
    Unreadable { method: Method, path: String, why: String },
    #[error("{path} is changed by somebody else all the time")]
    Contended { path: String },
}

/// Makes all objects that a cluster must have, and brings those that are there up to date.
pub async fn ensure(apiserver: &Arc<Apiserver>, cluster: &Cluster, now: Timestamp) -> Result<(), EnsureError> {
    let service = apiserver.own_service();
    let kinds = apiserver.world.registry.table();
    let [first, second] = waves(cluster, &kinds, now)?;
    for wave in [first, second, gone(&kinds)] {
        let wave = stream::iter(wave).map(|wanted| {
            let service = service.clone();
            async move { ensure_one(&service, &wanted, now).await }
        });
        wave.buffer_unordered(CONCURRENT).try_collect::<()>().await?;
    }
    Ok(())
}

/// Brings the endpoints of the `kubernetes` Service up to date.
pub async fn endpoints(apiserver: &Arc<Apiserver>, cluster: &Cluster) -> Result<(), EnsureError> {
    let service = apiserver.own_service();
    for wanted in network::kubernetes(cluster) {
        ensure_one(&service, &wanted, apiserver.world.now()).await?;
    }
    Ok(())
}

async fn ensure_one(service: &InProcess, wanted: &Wanted, now: Timestamp) -> Result<(), EnsureError> {
    let (collection, manager) = (wanted.collection(), wanted.manager);
    let path = format!("{collection}/{}", wanted.name);
    let there = || send(service, Method::GET, &path, None);
    let mut existing = there().await?;
    for _ in 0..WRITES_MAX {
        let (method, target, body) = match wanted.plan(existing.as_ref(), now) {
            None => return Ok(()),
            Some(Write::Create(object)) => (Method::POST, format!("{collection}?fieldManager={manager}"), object),
            Some(Write::Update(object)) => (Method::PUT, format!("{path}?fieldManager={manager}"), object),
            Some(Write::UpdateStatus(object)) => (Method::PUT, format!("{path}/status"), object),
            Some(Write::ApplyStatus(applier, object)) => {
                (Method::PATCH, format!("{path}/status?fieldManager={applier}&force=true"), object)
            }
            Some(Write::Delete) => (Method::DELETE, path.clone(), precondition(existing.as_ref())),
        };
        let (creates, deletes) = (method == Method::POST, method == Method::DELETE);
        let sent = send(service, method, &target, Some(body)).await;
        if deletes {
            sent?;
            existing = None;
            continue;
        }
        existing = match sent {
            Ok(Some(object)) => Some(object),
            Ok(None) => there().await?,
            // Whoever was faster has what the object takes from a shared range: that is not told as a conflict.
            Err(refused @ EnsureError::Refused { .. }) if creates => match there().await? {
                Some(object) => Some(object),
                None => return Err(refused),
            },
            Err(error) => return Err(error),
        };
    }
    Err(EnsureError::Contended { path })
}

fn precondition(existing: Option<&Value>) -> Value {
    let uid = existing.map(|object| &object["metadata"]["uid"]);
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}})
}

/// The object in the answer; none if it is not there, or somebody was faster.
pub(crate) async fn send(
    service: &InProcess,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Option<Value>, EnsureError> {
    let unreadable = |why: String| EnsureError::Unreadable { method: method.clone(), path: path.to_owned(), why };
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let form = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(header::CONTENT_TYPE, form)
        .header(header::USER_AGENT, "kube-apiserver")
        .body(Full::new(body))
        .map_err(|e| unreadable(e.to_string()))?;
    let Ok(answer) = service.clone().oneshot(request).await;
    let code = answer.status();
    if matches!(code, StatusCode::NOT_FOUND | StatusCode::CONFLICT) {
        return Ok(None);
    }
    let body = answer.into_body().collect().await.map_err(|e| unreadable(e.to_string()))?.to_bytes();
    let value: Value = serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))?;
    if !code.is_success() {
        let message = value["message"].as_str().unwrap_or_default().to_owned();
        return Err(EnsureError::Refused { method: method.clone(), path: path.to_owned(), code, message });
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests;

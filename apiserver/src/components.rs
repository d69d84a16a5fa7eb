//! ComponentStatuses, which nobody stores: what the parts of the control plane say when they are asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crds::kind::{Definition, Kind};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use k8s_openapi::{
    api::core::v1::{ComponentCondition, ComponentStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use crate::{
    backend::{Address, Backend, Trust},
    codec::answer,
    error::{ApiError, Result},
    pipeline::Apiserver,
};

/// Those that are asked over HTTPS, on this machine, as upstream does, and their ports.
const SERVERS: [(&str, u16); 2] = [("controller-manager", 10257), ("scheduler", 10259)];
const STORE: &str = "etcd-0";
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Of what a component says, as upstream's prober.
const WORDS_BYTES_MAX: usize = 10 << 10;

/// The components that this server knows of without asking.
#[derive(Default)]
pub struct Components {
    within: AtomicBool,
}

impl Components {
    /// The controllers and the scheduler run in this process: they live as long as it does.
    pub fn run_within(&self) {
        self.within.store(true, Ordering::Release);
    }
}

/// The objects of a kind that are made when they are asked for; none for the other kinds, which are stored.
pub async fn made(server: &Apiserver, definition: &Arc<Definition>) -> Result<Option<Vec<Value>>> {
    if definition.plural != ComponentStatus::ABOUT.plural || !definition.gvk.group.is_empty() {
        return Ok(None);
    }
    let within = server.components.within.load(Ordering::Acquire);
    let servers = SERVERS.map(|(name, port)| async move {
        let told = if within { Ok("ok".to_owned()) } else { ask(port).await };
        status(name, told)
    });
    let reachable = server.world.store.is_reachable();
    let store = if reachable { Ok("ok".to_owned()) } else { Err("the store is not reachable".to_owned()) };
    let statuses = futures::future::join_all(servers).await.into_iter().chain([status(STORE, store)]);
    let values = statuses.map(|status| serde_json::to_value(&status).map(|status| answer::named(status, definition)));
    Ok(Some(values.collect::<std::result::Result<_, _>>().map_err(ApiError::internal)?))
}

fn status(name: &str, told: std::result::Result<String, String>) -> ComponentStatus {
    let condition = ComponentCondition {
        type_: "Healthy".to_owned(),
        status: if told.is_ok() { "True" } else { "False" }.to_owned(),
        message: Some(told.unwrap_or_else(|why| why)),
        error: None,
    };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ComponentStatus { metadata, conditions: Some(vec![condition]) }
}

/// What a component says of its health; an error says why it has none.
async fn ask(port: u16) -> std::result::Result<String, String> {
    let address = Address { host: "127.0.0.1".to_owned(), port };
    let url = format!("https://{address}/healthz");
    let failed = |why: String| format!("Get \"{url}\": {why}");
    let asked = async {
        // Its certificate is its own.
        let backend = Backend::new("localhost", &Trust::Insecure, None).map_err(|error| failed(error.0))?;
        let body = Empty::<Bytes>::new().map_err(Into::into).boxed_unsync();
        let request = Request::get("/healthz").body(body).map_err(|error| failed(error.to_string()))?;
        let answer = backend.send(&address, &address.to_string(), request).await.map_err(|error| failed(error.0))?;
        let (code, body) = (answer.status(), Limited::new(answer.into_body(), WORDS_BYTES_MAX));
        let words = body.collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
        if code >= StatusCode::OK && code < StatusCode::BAD_REQUEST {
            return Ok(String::from_utf8_lossy(&words).into_owned());
        }
        Err(format!("HTTP probe failed with statuscode: {}", code.as_u16()))
    };
    let timed_out = |_| failed("context deadline exceeded".to_owned());
    tokio::time::timeout(WAIT_MAX, asked).await.map_err(timed_out)?
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_not_healthy() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let why =
            format!("Get \"https://127.0.0.1:{port}/healthz\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        let told = ask(port).await;
        assert_eq!(told, Err(why.clone()));
        let condition = status("scheduler", told).conditions.unwrap().remove(0);
        assert_eq!((condition.status.as_str(), condition.message), ("False", Some(why)));
    }
}

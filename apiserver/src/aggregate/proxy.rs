//! A request passed on to the server that its group and version belong to, and the answer passed back.

use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{Aggregator, Remote, remote::set_user};
use crate::{
    backend::CallError,
    call::Call,
    codec::{
        answer::{self, Answer},
        body::{Body, Relay},
    },
    connect::{forward, header as headers},
    server,
    world::World,
};

/// Discovery is asked by many, who would all wait.
const DISCOVERY_WAIT_MAX: Duration = Duration::from_secs(5);

impl Aggregator {
    /// Passes a request on; it is authorized.
    pub async fn answer(&self, world: &World, call: &mut Call, remote: &Remote) -> Answer {
        match remote.is_available {
            true => forwarded(world, call, remote).await.unwrap_or_else(|(code, why)| plain(code, &why)),
            false => unavailable(),
        }
    }
}

fn unavailable() -> Answer {
    plain(StatusCode::SERVICE_UNAVAILABLE, "service unavailable")
}

/// As Go's server answers with an error's text.
fn plain(code: StatusCode, text: &str) -> Answer {
    answer::text(code, format!("{text}\n"))
}

type Failed = (StatusCode, String);

async fn forwarded(world: &World, call: &mut Call, remote: &Remote) -> Result<Answer, Failed> {
    let backend = remote.backend().map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()))?;
    let Ok(address) = remote.service.resolve(world) else { return Ok(unavailable()) };
    let upgrades = headers::is_upgrade(&call.headers);
    let client = call.extensions.remove::<OnUpgrade>().filter(|_| upgrades);
    let mut request = Request::new(call.body.get_mut().take().unwrap_or_else(empty));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.uri.path_and_query().cloned().map(http::Uri::from).unwrap_or_default();
    *request.headers_mut() = outgoing(call, upgrades);
    let is_discovery = !call.info.is_resource && call.info.path.trim_matches('/').split('/').count() == 3;
    let host = address.to_string();
    let sending = backend.send(&address, &host, request);
    let sent = match is_discovery {
        true => tokio::time::timeout(DISCOVERY_WAIT_MAX, sending)
            .await
            .unwrap_or_else(|_| Err(CallError("context deadline exceeded".to_owned()))),
        false => sending.await,
    };
    let unreached = |why: CallError| {
        let what = if upgrades { "error dialing backend" } else { "error trying to reach service" };
        (StatusCode::SERVICE_UNAVAILABLE, format!("{what}: {why}"))
    };
    let mut answer = sent.map_err(unreached)?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let why = || (StatusCode::SERVICE_UNAVAILABLE, "request connection cannot be hijacked".to_owned());
        let client = client.ok_or_else(why)?;
        let backend = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            if let Err(error) = forward::join(client, backend).await {
                tracing::debug!(%error, "a stream ended");
            }
        });
        return Ok(answer.map(|_| Body::Relay(Relay::new(empty()))));
    }
    Ok(returned(answer))
}

fn outgoing(call: &Call, upgrades: bool) -> http::HeaderMap {
    let mut outgoing = call.headers.clone();
    headers::remove_credentials(&mut outgoing);
    if !upgrades {
        headers::remove_hop(&mut outgoing);
    }
    // Told anew for the other server.
    outgoing.remove(header::HOST);
    let client = call.extensions.get::<server::Remote>().map(|remote| remote.0.ip());
    headers::add_forwarded_for(&mut outgoing, client);
    if let Ok(id) = HeaderValue::from_str(&call.audit_id) {
        outgoing.insert("audit-id", id);
    }
    set_user(&mut outgoing, &call.user);
    outgoing
}

fn returned(mut answer: Response<Incoming>) -> Answer {
    headers::remove_hop(answer.headers_mut());
    headers::remove_cors(answer.headers_mut());
    answer.map(|body| Body::Relay(Relay::new(body.map_err(Into::into).boxed_unsync())))
}

fn empty() -> UnsyncBoxBody<bytes::Bytes, crate::call::BoxError> {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

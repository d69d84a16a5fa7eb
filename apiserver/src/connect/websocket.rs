//! A body that is read over a WebSocket: each piece a message, for browsers, which cannot read streams otherwise.

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::SinkExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{BoxError, Relay, empty};
use crate::error::{ApiError, Result};

/// What clients may ask for; the second is for those that know only text.
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// The answer as it is, or over a WebSocket if the request asks for one.
pub(super) fn perhaps<B>(mut request: Request<B>, answer: Response<Relay>) -> Result<Response<Relay>> {
    if !is_asked(request.headers()) || !answer.status().is_success() {
        return Ok(answer);
    }
    let asked = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let asked: Vec<&str> = asked.flat_map(|value| value.split(',')).map(str::trim).collect();
    let protocol = asked.iter().find_map(|wanted| [BINARY, BASE64].into_iter().find(|known| known == wanted));
    if protocol.is_none() && !asked.is_empty() {
        return Err(ApiError::bad_request(format!("none of the requested protocols is served: {}", asked.join(", "))));
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| ApiError::bad_request("a WebSocket needs a Sec-WebSocket-Key"))?;
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(ApiError::internal)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| ApiError::unknown("request connection cannot be hijacked"))?;

    let mut switched = Response::new(empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = switched.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let as_text = protocol == Some(BASE64);
    tokio::spawn(async move {
        if let Err(error) = send(upgrade, answer.into_body(), as_text).await {
            tracing::debug!(%error, "a stream over a WebSocket ended");
        }
    });
    Ok(switched)
}

async fn send(upgrade: OnUpgrade, mut body: Relay, as_text: bool) -> std::result::Result<(), BoxError> {
    let upgraded = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        let message = match as_text {
            true => Message::text(BASE64_STANDARD.encode(&bytes)),
            false => Message::binary(bytes),
        };
        socket.send(message).await?;
    }
    Ok(socket.close(None).await?)
}

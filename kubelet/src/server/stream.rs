//! Exec, attach and port-forward: the runtime streams, and here its streams are brought to the client.
//!
//! A runtime's streaming server speaks SPDY. A client that speaks it too is connected through, byte for byte; the
//! channel protocols of WebSocket clients are translated, and a WebSocket that carries SPDY is unwrapped.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tracing::{debug, trace};

use super::{
    Answer, Refusal,
    channel::{MESSAGE_MAX, Protocol, Wanted},
    full, query, text, translate,
};
use crate::{agent::Agent, pod::table::Entry, runtime};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

fn bad(message: &str) -> Answer {
    text(StatusCode::BAD_REQUEST, message)
}

pub async fn exec(agent: &Arc<Agent>, id: String, request: Request<Incoming>) -> Answer {
    let values = query(request.uri());
    let wanted = Wanted::parse(&values);
    if !wanted.any() {
        return bad("you must specify at least 1 of stdin, stdout, stderr");
    }
    let cmd = values.into_iter().filter(|(name, _)| name == "command").map(|(_, value)| value).collect();
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let url = agent.runtime.exec(cri::ExecRequest { container_id: id, cmd, tty, stdin, stdout, stderr }).await;
    connect(url, request, wanted).await
}

pub async fn attach(agent: &Arc<Agent>, id: String, request: Request<Incoming>) -> Answer {
    let wanted = Wanted::parse(&query(request.uri()));
    if !wanted.any() {
        return bad("you must specify at least 1 of stdin, stdout, stderr");
    }
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let url = agent.runtime.attach(cri::AttachRequest { container_id: id, tty, stdin, stdout, stderr }).await;
    connect(url, request, wanted).await
}

pub async fn port_forward(agent: &Arc<Agent>, entry: &Entry, request: Request<Incoming>) -> Answer {
    let Some(sandbox) = entry.sandbox.clone() else { return text(StatusCode::NOT_FOUND, "the pod has no sandbox") };
    let ports = query(request.uri()).into_iter().filter(|(n, _)| n == "port" || n == "ports");
    let ports: Vec<i32> =
        ports.flat_map(|(_, v)| v.split(',').filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect();
    let url = agent.runtime.port_forward(cri::PortForwardRequest { pod_sandbox_id: sandbox, port: ports }).await;
    let url = match parse(url) {
        Ok(url) => url,
        Err(refusal) => return *refusal,
    };
    if is_websocket(request.headers()) && protocols(request.headers()).iter().any(|p| p == TUNNEL) {
        return tunnel(url, request).await;
    }
    through(url, request).await
}

async fn connect(url: runtime::Result<String>, request: Request<Incoming>, wanted: Wanted) -> Answer {
    let url = match parse(url) {
        Ok(url) => url,
        Err(refusal) => return *refusal,
    };
    if is_websocket(request.headers()) { translate(url, request, wanted).await } else { through(url, request).await }
}

fn parse(url: runtime::Result<String>) -> Result<Uri, Refusal> {
    let failed = |message: String| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, message));
    let url = url.map_err(|e| match e.is_not_found() {
        true => Box::new(text(StatusCode::NOT_FOUND, e.message)),
        false => failed(e.message),
    })?;
    url.parse().map_err(|e| failed(format!("the runtime answered with the address {url:?}: {e}")))
}

fn has(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    has(headers, header::CONNECTION, "upgrade") && has(headers, header::UPGRADE, "websocket")
}

fn protocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Asks the runtime's streaming server to change over to another protocol.
async fn upgrade(url: &Uri, headers: HeaderMap) -> Result<(Response<Incoming>, Option<Upgraded>), String> {
    let host = url.host().ok_or("the runtime's address has no host")?;
    let port = url.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|e| e.to_string())?;
    let handshake = hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a connection to the runtime broke");
        }
    });
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::post(path).body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    *request.headers_mut() = headers;
    if is_websocket(request.headers()) {
        *request.method_mut() = http::Method::GET;
    }
    let host = HeaderValue::from_str(url.authority().map_or("", |a| a.as_str())).map_err(|e| e.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    let mut answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok((answer, None));
    }
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(|e| e.to_string())?;
    Ok((answer, Some(TokioIo::new(upgraded))))
}

/// Connects a client that speaks what the runtime speaks.
async fn through(url: Uri, mut request: Request<Incoming>) -> Answer {
    if !has(request.headers(), header::CONNECTION, "upgrade") {
        return bad("Upgrade request required");
    }
    let client = hyper::upgrade::on(&mut request);
    let mut headers = request.headers().clone();
    // Who the client is has been settled here.
    headers.remove(header::AUTHORIZATION);
    match upgrade(&url, headers).await {
        Ok((answer, Some(mut server))) => {
            tokio::spawn(async move {
                let Ok(client) = client.await else { return };
                let copied = copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
                debug!(ended = copied.is_ok(), "a stream is over");
            });
            let mut switched = Response::new(full(Bytes::new()));
            *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *switched.headers_mut() = answer.headers().clone();
            switched
        }
        Ok((answer, None)) => text(answer.status(), "the runtime refuses to stream"),
        Err(message) => text(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

/// Agrees to speak WebSocket.
fn agree(request: &mut Request<Incoming>, protocol: &str) -> Result<(Answer, OnUpgrade), Refusal> {
    let key =
        request.headers().get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Box::new(bad("missing Sec-WebSocket-Key")))?;
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|e| Box::new(bad(&e.to_string())))?;
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        let name = HeaderValue::from_str(protocol).map_err(|e| Box::new(bad(&e.to_string())))?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok((answer, hyper::upgrade::on(request)))
}

async fn socket(client: OnUpgrade) -> Option<WebSocketStream<Upgraded>> {
    let io = TokioIo::new(client.await.ok()?);
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
    Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
}

fn spdy_headers(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    headers
}

/// A WebSocket whose messages are pieces of a SPDY connection.
async fn tunnel(url: Uri, mut request: Request<Incoming>) -> Answer {
    let server = match upgrade(&url, spdy_headers("portforward.k8s.io")).await {
        Ok((_, Some(server))) => server,
        Ok((answer, None)) => return text(answer.status(), "the runtime refuses to stream"),
        Err(message) => return text(StatusCode::INTERNAL_SERVER_ERROR, message),
    };
    let (answer, client) = match agree(&mut request, TUNNEL) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let Some(socket) = socket(client).await else { return };
        let (mut out, mut messages) = socket.split();
        let (mut from, mut to) = tokio::io::split(server);
        let up = async {
            while let Some(Ok(message)) = messages.next().await {
                let Message::Binary(data) = message else { continue };
                // What the runtime has said before it took no more is still to be read.
                if let Err(error) = to.write_all(&data).await {
                    trace!(%error, "the runtime takes no more");
                }
            }
        };
        let down = async {
            let mut piece = vec![0; 32 << 10];
            while let Ok(read) = from.read(&mut piece).await {
                let data = Bytes::copy_from_slice(&piece[..read]);
                if read == 0 || out.send(Message::Binary(data)).await.is_err() {
                    break;
                }
            }
        };
        let has_gone = tokio::select! { () = up => true, () = down => false };
        if !has_gone && let Err(error) = translate::goodbye(&mut out, messages).await {
            debug!(error, "a tunnel broke");
        }
    });
    answer
}

/// A client of one of the channel protocols.
async fn translate(url: Uri, mut request: Request<Incoming>, wanted: Wanted) -> Answer {
    let Some(protocol) = Protocol::choose(&protocols(request.headers())) else {
        return bad("unable to upgrade: none of the offered protocols is supported");
    };
    let server = match upgrade(&url, spdy_headers("v4.channel.k8s.io")).await {
        Ok((_, Some(server))) => server,
        Ok((answer, None)) => return text(answer.status(), "the runtime refuses to stream"),
        Err(message) => return text(StatusCode::INTERNAL_SERVER_ERROR, message),
    };
    let (answer, client) = match agree(&mut request, protocol.name) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let Some(socket) = socket(client).await else { return };
        if let Err(error) = translate::relay(protocol, wanted, socket, server).await {
            debug!(error, "a stream broke");
        }
    });
    answer
}

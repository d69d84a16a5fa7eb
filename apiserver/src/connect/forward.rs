//! One request passed on over a connection of its own, and its answer passed back; upgraded, bytes both ways.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header as names};
use http_body_util::{BodyExt, Empty, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    BoxError, Relay,
    dial::{self, Dialer},
    empty, header, html, path,
    place::Place,
};
use crate::error::{ApiError, Result};

/// A request on its way to a place.
pub(super) struct Hop {
    pub place: Place,
    pub client: Option<IpAddr>,
    pub kind: Kind,
}

pub(super) enum Kind {
    /// exec, attach, port-forward: nothing but an upgrade.
    Stream,
    /// Any request; links in what comes back are led through the proxy again.
    Proxy {
        /// The path up to `/proxy`, decoded.
        base: String,
        /// The path behind it.
        suffix: String,
    },
}

/// Answers of a kubelet that are told as errors are read up to here.
const ERROR_BYTES_MAX: usize = 50_000;
/// What is under way to a client when its stream ends has so long to arrive.
const LINGER: Duration = Duration::from_secs(60);

impl Hop {
    pub async fn forward<B>(self, dialer: &Dialer, request: Request<B>) -> Result<Response<Relay>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if header::is_upgrade(request.headers()) {
            return self.upgrade(dialer, request).await;
        }
        match &self.kind {
            Kind::Stream => Err(ApiError::bad_request("Upgrade request required")),
            Kind::Proxy { base, suffix } => {
                let browses = request.method() == Method::GET || request.method() == Method::HEAD;
                if suffix.is_empty() && browses {
                    return redirected(base, request.uri().query());
                }
                self.proxy(dialer, request, base, suffix).await
            }
        }
    }

    async fn proxy(
        &self,
        dialer: &Dialer,
        request: Request<Relay>,
        base: &str,
        suffix: &str,
    ) -> Result<Response<Relay>> {
        let (mut parts, body) = request.into_parts();
        header::remove_credentials(&mut parts.headers);
        header::remove_hop(&mut parts.headers);
        header::add_forwarded_for(&mut parts.headers, self.client);
        if let Ok(uri) = HeaderValue::from_str(&path::with_query(&format!("{base}{suffix}"), None)) {
            parts.headers.insert("x-forwarded-uri", uri);
        }
        // Links in a page can only be changed in plain text.
        let accepts = parts.headers.get(names::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accepts.contains("text/html") {
            parts.headers.remove(names::ACCEPT_ENCODING);
        }
        let host = parts.headers.get(names::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let unreachable = |why: String| ApiError::unavailable(format!("error trying to reach service: {why}"));
        let outgoing = self.outgoing(parts, body)?;
        let answer = send(dialer, &self.place, outgoing).await.map_err(unreachable)?;
        let links = html::Links { base: base.to_owned(), hosts: [self.place.authority(), host] };
        Ok(returned(answer, links))
    }

    async fn upgrade(self, dialer: &Dialer, request: Request<Relay>) -> Result<Response<Relay>> {
        let (mut parts, _) = request.into_parts();
        let client = parts.extensions.remove::<OnUpgrade>();
        header::remove_credentials(&mut parts.headers);
        header::add_forwarded_for(&mut parts.headers, self.client);
        let outgoing = self.outgoing(parts, empty())?;
        let unreachable = |why: String| ApiError::unknown(format!("error dialing backend: {why}"));
        let mut answer = send(dialer, &self.place, outgoing).await.map_err(unreachable)?;
        let code = answer.status();
        if code != StatusCode::SWITCHING_PROTOCOLS {
            if code.as_u16() < 400 {
                return Err(ApiError::unknown(format!("invalid upgrade response: status code {}", code.as_u16())));
            }
            header::remove_hop(answer.headers_mut());
            return Ok(answer.map(relay));
        }
        let client = client.ok_or_else(|| ApiError::unknown("request connection cannot be hijacked"))?;
        let backend = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            if let Err(error) = join(client, backend).await {
                tracing::debug!(%error, "a stream ended");
            }
        });
        Ok(answer.map(|_| empty()))
    }

    fn outgoing(&self, parts: http::request::Parts, body: Relay) -> Result<Request<Relay>> {
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = self
            .place
            .path_and_query
            .parse()
            .map_err(|error| ApiError::bad_request(format!("the path cannot be passed on: {error}")))?;
        *request.headers_mut() = parts.headers;
        // The client's host, if HTTP/1.1 told one: servers behind the proxy may go by it.
        let authority = HeaderValue::from_str(&self.place.authority()).map_err(ApiError::internal)?;
        request.headers_mut().entry(names::HOST).or_insert(authority);
        Ok(request)
    }
}

/// As upstream: a browser needs the slash, or relative links would miss the proxy.
fn redirected(path: &str, query: Option<&str>) -> Result<Response<Relay>> {
    let location = path::with_query(&format!("{path}/"), query);
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(names::LOCATION, HeaderValue::from_str(&location).map_err(ApiError::internal)?);
    Ok(answer)
}

/// What a proxied server has answered, as the client sees it.
fn returned(mut answer: Response<Incoming>, links: html::Links) -> Response<Relay> {
    header::remove_hop(answer.headers_mut());
    header::remove_cors(answer.headers_mut());
    if let Some(location) = answer.headers().get(names::LOCATION).and_then(|location| location.to_str().ok()) {
        if let Ok(location) = HeaderValue::from_str(&links.through(location)) {
            answer.headers_mut().insert(names::LOCATION, location);
        }
        return answer.map(relay);
    }
    let kind = answer.headers().get(names::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_page = kind.split(';').next().unwrap_or_default().trim() == "text/html";
    let is_plain = answer.headers().get(names::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity");
    if !is_page || !is_plain {
        return answer.map(relay);
    }
    // Its length changes.
    answer.headers_mut().remove(names::CONTENT_LENGTH);
    answer.map(|body| html::rewritten(relay(body), links))
}

fn relay(body: Incoming) -> Relay {
    body.map_err(Into::into).boxed_unsync()
}

/// Over a connection of its own, which ends with the answer.
async fn send(
    dialer: &Dialer,
    place: &Place,
    request: Request<Relay>,
) -> std::result::Result<Response<Incoming>, String> {
    let stream = dialer.dial(place).await.map_err(|error| dial::told(place, &error))?;
    let (mut sender, connection) = http1::handshake::<_, UnsyncBoxBody<Bytes, BoxError>>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a backend's connection ended");
        }
    });
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// Bytes both ways, until one side has ended: as upstream, the other is then closed, whatever it still had to say. What
/// a backend has said before it ended reaches the client whole.
pub(crate) async fn join(client: OnUpgrade, backend: OnUpgrade) -> std::result::Result<(), BoxError> {
    let (client, backend) = tokio::try_join!(client, backend)?;
    Ok(both_ways(TokioIo::new(client), TokioIo::new(backend)).await?)
}

async fn both_ways<C, B>(client: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_backend, mut to_backend) = tokio::io::split(backend);
    let relayed = tokio::select! {
        asked = ask(&mut from_client, &mut to_backend) => asked,
        answered = tokio::io::copy(&mut from_backend, &mut to_client) => answered.map(|_| ()),
    };
    // Both, so that TLS says goodbye.
    let (to_client, to_backend) = tokio::join!(to_client.shutdown(), to_backend.shutdown());
    // A connection that is closed with something unread is reset, and what the client has not yet received is lost.
    let heard = timeout(LINGER, tokio::io::copy(&mut from_client, &mut tokio::io::sink())).await;
    relayed.and(to_client).and(to_backend).and(heard?.map(|_| ()))
}

/// What a client says, until it says nothing more. A backend that takes no more may still have said something that is
/// on its way, and is no end.
async fn ask<C, B>(client: &mut C, backend: &mut B) -> io::Result<()>
where
    C: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
{
    let mut piece = vec![0; 8 << 10];
    loop {
        let read = client.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        let taken = async {
            backend.write_all(&piece[..read]).await?;
            backend.flush().await
        };
        if let Err(error) = taken.await {
            tracing::trace!(%error, "a backend takes no more");
        }
    }
}

/// A log from a kubelet, as it comes.
pub(super) async fn fetch_log(dialer: &Dialer, place: &Place, pod: &str) -> Result<Response<Relay>> {
    let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *request.uri_mut() = place.path_and_query.parse().map_err(ApiError::internal)?;
    let authority = HeaderValue::from_str(&place.authority()).map_err(ApiError::internal)?;
    request.headers_mut().insert(names::HOST, authority);
    let unreachable = |why| ApiError::unknown(format!("Get \"{}\": {why}", place.url()));
    let answer = send(dialer, place, request).await.map_err(unreachable)?;
    let code = answer.status();
    if (StatusCode::OK..=StatusCode::PARTIAL_CONTENT).contains(&code) {
        return Ok(Response::new(relay(answer.into_body())));
    }
    let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    Err(refused(code, pod, &text))
}

/// The kubelet's refusal in upstream's words.
fn refused(code: StatusCode, pod: &str, text: &str) -> ApiError {
    let (reason, why) = match code {
        StatusCode::INTERNAL_SERVER_ERROR => return ApiError::internal(text),
        StatusCode::BAD_REQUEST => return ApiError::bad_request(text),
        StatusCode::NOT_FOUND => ("NotFound", "the server could not find the requested resource".to_owned()),
        StatusCode::UNAUTHORIZED => {
            ("Unauthorized", "the server has asked for the client to provide credentials".to_owned())
        }
        StatusCode::FORBIDDEN => ("Forbidden", text.to_owned()),
        StatusCode::SERVICE_UNAVAILABLE => {
            ("ServiceUnavailable", "the server is currently unable to handle the request".to_owned())
        }
        code if code.is_server_error() => {
            let quoted = crds::field::quote(text);
            ("InternalError", format!("an error on the server ({quoted}) has prevented the request from succeeding"))
        }
        code => {
            let code = code.as_u16();
            ("", format!("the server responded with the status code {code} but did not return more information"))
        }
    };
    let details =
        StatusDetails { kind: Some("pods/log".into()), name: Some(pod.to_owned()), ..StatusDetails::default() };
    ApiError::new(code, reason, format!("{why} ( pods/log {pod})")).with_details(details)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_a_backend_said_before_it_ended_reaches_the_client() {
        let (mut client, near) = duplex(1024);
        let (far, mut backend) = duplex(1 << 20);
        backend.write_all(&[1; 1 << 20]).await.unwrap();
        drop(backend);
        // It cannot be told anything any more, which is noticed at once.
        client.write_all(b"more").await.unwrap();
        let joined = tokio::spawn(both_ways(near, far));
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), 1 << 20);
        drop(client);
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_ends_ends_its_backend() {
        let (mut client, near) = duplex(1024);
        let (far, mut backend) = duplex(1024);
        let joined = tokio::spawn(both_ways(near, far));
        client.write_all(b"last").await.unwrap();
        drop(client);
        let mut heard = Vec::new();
        backend.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last");
        drop(backend);
        joined.await.unwrap().unwrap();
    }
}

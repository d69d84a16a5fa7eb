//! Connections to backends, and what Go's client says of those that fail.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::TokioIo,
};
use rustls::{ClientConfig, InvalidMessage, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::CallError;

/// Until the connection stands, TLS included.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// Makes connections to any address for one server name.
#[derive(Clone)]
pub struct Connector {
    server_name: Arc<str>,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(server_name: &str, tls: Arc<ClientConfig>) -> Self {
        Self { server_name: server_name.into(), tls: TlsConnector::from(tls) }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, CallError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let name = ServerName::try_from(self.server_name.to_string());
        let name = name.map_err(|_| CallError(format!("invalid server name {:?}", self.server_name)))?;
        let dialed = timeout(DIAL_MAX, async {
            let addresses = lookup_host((host, uri.port_u16().unwrap_or(443))).await;
            let addresses: Vec<_> =
                addresses.map_err(|_| CallError(format!("dial tcp: lookup {host}: no such host")))?.collect();
            let stream = TcpStream::connect(addresses.as_slice()).await;
            let stream = stream.map_err(|error| CallError(unreached(&authority, &error)))?;
            stream.set_nodelay(true).map_err(|error| CallError(error.to_string()))?;
            self.tls.connect(name, stream).await.map_err(|error| CallError(refused(&error)))
        });
        let timed_out = |_| CallError(unreached(&authority, &io::ErrorKind::TimedOut.into()));
        dialed.await.map_err(timed_out)?.map(|stream| TokioIo::new(Stream(stream)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Why no connection could be made, as Go's dialer tells it.
pub fn unreached(authority: &str, error: &io::Error) -> String {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let why = match error.kind() {
        ConnectionRefused => "connect: connection refused".to_owned(),
        HostUnreachable => "connect: no route to host".to_owned(),
        NetworkUnreachable => "connect: network is unreachable".to_owned(),
        TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {authority}: {why}")
}

/// Why the handshake failed.
fn refused(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::General(why)) => format!("tls: failed to verify certificate: {why}"),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Some(other) => format!("remote error: tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None if error.kind() == io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        None => error.to_string(),
    }
}

/// Why a request got no answer.
pub(super) fn told(error: &legacy::Error) -> CallError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<CallError>() {
            return known.clone();
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_incomplete_message() || e.is_closed()) {
            return CallError("EOF".to_owned());
        }
        last = error.to_string();
        cause = error.source();
    }
    CallError(last)
}

/// A connection, as hyper's client wants it.
pub struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! The listener: TLS, HTTP/1.1 and HTTP/2, and one warp filter that hands every request to the pipeline.

mod gather;
mod streams;
pub mod threads;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use crds::user::User;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming as HyperIncoming, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceBuilder;
use warp::{Filter, Reply};

use self::{gather::Gathering, streams::Streams, threads::Threads};
use crate::{
    access::Identity,
    auth::{
        certificate::{Peer, Trust},
        front_proxy::Proxy,
    },
    call::{BoxError, Incoming},
    codec::body::{Body, Listens},
    pipeline::Apiserver,
};

const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
const HEADERS_WAIT_MAX: Duration = Duration::from_secs(32);
/// As upstream's HTTP/2: small windows make many watches on one connection wait for one another.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 25 << 20;
const STREAMS_MAX: u32 = 10_000;
/// Clients end watches by resetting their streams, many at a time.
const RESETS_MAX: usize = 10_000;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long requests may run on after the server was told to stop; watches are ended at once.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// From which address a connection comes.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// TLS with our certificate, that asks for the client's and takes none as well.
pub fn tls(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    trust: &Trust,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(trust.handshake())
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until `stop` resolves, then lets requests end.
pub async fn serve(
    apiserver: Arc<Apiserver>,
    listener: TcpListener,
    tls: ServerConfig,
    trust: Arc<Trust>,
    threads: Arc<Threads>,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                let connection = Connection {
                    apiserver: apiserver.clone(),
                    acceptor: acceptor.clone(),
                    trust: trust.clone(),
                    remote,
                };
                let graceful = graceful.watcher();
                // It is told of what arrives where it was accepted, until it is taken from there.
                match stream.into_std() {
                    Ok(stream) => threads.serve(connection.serve(stream, graceful)),
                    Err(error) => tracing::debug!(%error, %remote, "a connection cannot be passed on"),
                }
            }
            Err(error) => {
                // Most often too many open files: some will be closed soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    apiserver.health.stop();
    apiserver.world.cache.end_watches();
    if tokio::time::timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

struct Connection {
    apiserver: Arc<Apiserver>,
    acceptor: TlsAcceptor,
    trust: Arc<Trust>,
    remote: SocketAddr,
}

impl Connection {
    /// None: the client does not speak TLS, and was told so, as Go's server does.
    async fn handshake(&self, mut stream: TcpStream) -> std::io::Result<Option<TlsStream<TcpStream>>> {
        let mut begin = [0; 5];
        stream.peek(&mut begin).await?;
        if [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"].contains(&&begin) {
            stream.write_all(NOT_TLS).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        self.acceptor.accept(stream).await.map(Some)
    }

    async fn serve(self, stream: std::net::TcpStream, graceful: hyper_util::server::graceful::Watcher) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, remote = %self.remote, "a connection cannot be taken on"),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let stream = match tokio::time::timeout(HANDSHAKE_WAIT_MAX, self.handshake(stream)).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return tracing::debug!(remote = %self.remote, "a client spoke HTTP without TLS"),
            Ok(Err(error)) => return tracing::debug!(%error, remote = %self.remote, "TLS handshake failed"),
            Err(_) => return tracing::debug!(remote = %self.remote, "TLS handshake took too long"),
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = self.trust.peer(chain, self.apiserver.world.now());
        let front_proxy = &self.apiserver.access.authenticator.front_proxy;
        let proxy = front_proxy.as_ref().and_then(|front| front.recognize(chain, self.apiserver.world.now()));
        let remote = Remote(self.remote);
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<HyperIncoming>| {
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(remote);
                proxy.clone().map(|proxy| request.extensions_mut().insert(proxy));
                request
            })
            .service(warp::service(filter(self.apiserver)));
        let (streams, listeners) = streams::streams();
        let builder = builder(streams);
        let stream = Gathering::new(stream);
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream.handle()), TowerToHyperService::new(service));
        if let Err(error) = gather::in_turns(listeners.beside(graceful.watch(connection.into_owned())), stream).await {
            tracing::debug!(%error, remote = %self.remote, "a connection broke");
        }
    }
}

fn builder(streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WAIT_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(KEEP_ALIVE);
    builder
}

/// The one filter: it takes every request apart for the pipeline.
fn filter(
    apiserver: Arc<Apiserver>,
) -> impl Filter<Extract = (warp::reply::Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    warp::any()
        .map(move || apiserver.clone())
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::ext::optional::<Proxy>())
        .and(warp::ext::optional::<Remote>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(
            |apiserver: Arc<Apiserver>,
             method: Method,
             path: warp::path::FullPath,
             query: String,
             headers: HeaderMap,
             peer: Option<Peer>,
             proxy: Option<Proxy>,
             remote: Option<Remote>,
             upgrade: Option<OnUpgrade>,
             body| {
                // On the heap: HTTP/2 moves the future of a request several times, and keeps its room for as long as
                // the answer is being sent.
                Box::pin(async move {
                    let mut request = Request::new(incoming(body));
                    *request.method_mut() = method;
                    let uri = if query.is_empty() {
                        path.as_str().parse()
                    } else {
                        format!("{}?{query}", path.as_str()).parse()
                    };
                    if let Ok(uri) = uri {
                        *request.uri_mut() = uri;
                    }
                    *request.headers_mut() = headers;
                    let extensions = request.extensions_mut();
                    peer.map(|peer| extensions.insert(peer));
                    proxy.map(|proxy| extensions.insert(proxy));
                    remote.map(|remote| extensions.insert(remote));
                    upgrade.map(|upgrade| extensions.insert(upgrade));
                    reply(apiserver.serve(request).await)
                })
            },
        )
}

fn incoming<B: Buf>(body: impl futures::Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Incoming {
    let frames = body.map_ok(|mut data| Frame::data(data.copy_to_bytes(data.remaining()))).map_err(BoxError::from);
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn reply(answer: Response<Body>) -> warp::reply::Response {
    let (parts, body) = answer.into_parts();
    if parts.extensions.get::<Listens>().is_some() {
        streams::listen();
    }
    let mut response = match body {
        Body::Empty => warp::reply::Response::default(),
        Body::Full(bytes) => warp::reply::Response::new(bytes.into()),
        Body::Relay(relay) => warp::reply::stream(relay).into_response(),
        Body::Chunks(chunks) => warp::reply::stream(chunks.map(Ok::<Bytes, Infallible>)).into_response(),
    };
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    *response.extensions_mut() = parts.extensions;
    response
}

/// The server as a service for clients in this process: no socket, no TLS, the same pipeline.
#[derive(Clone)]
pub struct InProcess {
    apiserver: Arc<Apiserver>,
    identity: Identity,
    agent: Option<HeaderValue>,
}

impl InProcess {
    /// The same with a User-Agent, which is the default manager of the fields that are written.
    #[must_use]
    pub fn called(self, agent: &'static str) -> Self {
        Self { agent: Some(HeaderValue::from_static(agent)), ..self }
    }
}

impl Apiserver {
    /// A service whose requests are made by this user.
    pub fn service(self: &Arc<Self>, user: User) -> InProcess {
        InProcess { apiserver: self.clone(), identity: Identity(Arc::new(user)), agent: None }
    }

    /// A service for what the server does by itself.
    pub fn own_service(self: &Arc<Self>) -> InProcess {
        self.service(User::named("system:apiserver", &[User::MASTERS, User::AUTHENTICATED]))
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.extensions_mut().insert(this.identity);
        if let Some(agent) = this.agent {
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        }
        Box::pin(async move { Ok(this.apiserver.serve(request).await) })
    }
}

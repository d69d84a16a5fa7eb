//! The kubelet API: what a pod does, its logs and its streams, for those who may.

mod authenticate;
mod authorize;
mod channel;
mod log;
mod metric;
mod route;
mod spdy;
mod stat;
mod stream;
mod tls;
mod translate;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};
use tracing::debug;

pub(crate) use self::stat::usages;
use self::{authenticate::Authenticator, authorize::Authorizer};
use crate::agent::Agent;

/// How many connections there may be at once, and how long a handshake may take.
const CONNECTIONS_MAX: usize = 4096;
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Answer = Response<Body>;
/// An answer that ends a request early.
type Refusal = Box<Answer>;

/// What answers a request.
struct Server {
    agent: Arc<Agent>,
    authenticator: Authenticator,
    authorizer: Authorizer,
}

/// Listens and serves in tasks of their own. Answers with where.
pub async fn start(agent: Arc<Agent>, tasks: &mut JoinSet<()>) -> Result<SocketAddr, ServeError> {
    let address = SocketAddr::new(agent.config.address, agent.config.port);
    let listen = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let identity = tls::Identity::load(&agent)?;
    let config = tls::server(&agent, &identity)?;
    tasks.spawn(tls::keep_fresh(agent.clone(), identity));
    let server = Arc::new(Server {
        authenticator: Authenticator::new(agent.clone()),
        authorizer: Authorizer::new(agent.clone()),
        agent,
    });
    tasks.spawn(accept(server, listener, config));
    Ok(address)
}

async fn accept(server: Arc<Server>, listener: TcpListener, config: Arc<rustls::ServerConfig>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _place = place;
            let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let certificates = stream.get_ref().1.peer_certificates().map(|c| c.to_vec()).unwrap_or_default();
            let certificates = Arc::new(certificates);
            let service = hyper::service::service_fn(move |request| {
                let (server, certificates) = (server.clone(), certificates.clone());
                async move { Ok::<_, std::convert::Infallible>(server.answer(request, &certificates).await) }
            });
            let served =
                Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                debug!(%error, "a connection broke");
            }
        });
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, certificates: &[tls::Certificate]) -> Answer {
        let Some(user) = self.authenticator.user(&request, certificates).await else {
            return text(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        if let Err(message) = self.authorizer.check(&user, request.method(), request.uri().path()).await {
            return text(StatusCode::FORBIDDEN, message);
        }
        route::answer(&self.agent, request).await
    }
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed_unsync()
}

fn text(status: StatusCode, message: impl Into<String>) -> Answer {
    typed(status, "text/plain; charset=utf-8", message.into())
}

fn typed(status: StatusCode, kind: &'static str, data: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(data));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(data) => typed(StatusCode::OK, "application/json", data),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The values of a query, decoded.
fn query(uri: &http::Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or("").split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// `%41` and `+` as what they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [a, b, more @ ..]) => match u8::from_str_radix(&String::from_utf8_lossy(&[*a, *b]), 16) {
                Ok(byte) => {
                    bytes.push(byte);
                    rest = more;
                }
                Err(_) => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let uri = "/exec/n/p/c?command=sh&command=-c&command=echo+%22a%26b%22&tty=1&x=%zz".parse().unwrap();
        let values: Vec<_> = query(&uri).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(values, ["command=sh", "command=-c", "command=echo \"a&b\"", "tty=1", "x=%zz"]);
    }
}

//! Servers that this one calls over HTTPS: webhooks and aggregated API servers.
//!
//! Where a Service is reached is asked anew for every request ([`resolve`]), so that a connection is only used again
//! for an endpoint that still stands behind the Service.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};

pub mod dial;
pub mod resolve;
mod trust;

pub use resolve::{Address, ServicePort};
pub use trust::Trust;
pub(crate) use trust::system;

use crate::pki::Identity;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// As upstream's client: connections to one endpoint that are kept for later, and for how long.
const IDLE_MAX: usize = 25;
const IDLE_WAIT_MAX: Duration = Duration::from_secs(90);

/// Why no answer came, in the words of Go's client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// The client of one server: its trust, its name, its connections.
#[derive(Clone)]
pub struct Backend {
    client: legacy::Client<dial::Connector, Body>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl Backend {
    /// `server_name` is whom the certificate must be for; `identity` is whom we say we are.
    pub fn new(server_name: &str, trust: &Trust, identity: Option<&Identity>) -> Result<Self, CallError> {
        let tls = trust.client(identity)?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_WAIT_MAX)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .set_host(false)
            .build(dial::Connector::new(server_name, Arc::new(tls)));
        Ok(Self { client })
    }

    /// Sends a request, whose URI is a path and a query, to this address; `host` is what it is told it is called.
    pub async fn send(
        &self,
        address: &Address,
        host: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("https://{address}{path}").parse().map_err(|e| CallError(format!("parse: {e}")))?;
        *request.uri_mut() = uri;
        let host = HeaderValue::from_str(host).map_err(|e| CallError(format!("http: invalid Host header: {e}")))?;
        request.headers_mut().insert(header::HOST, host);
        self.client.request(request).await.map_err(|error| dial::told(&error))
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! A request on its way through the server.

use std::{future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use crds::user::User;
use futures::future::{BoxFuture, FutureExt};
use http::{Extensions, HeaderMap, Method, Uri, header};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::{
    audit::Record,
    error::{ApiError, Result},
    flow::Row,
    request::{Query, RequestInfo},
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request that has not been read yet.
pub type Incoming = UnsyncBoxBody<Bytes, BoxError>;

/// Bodies beyond this are refused.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// For how long a body that nobody wants is taken, so that its sender comes to see the answer.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// How much of it is read in that time.
const DRAINED_BYTES_MAX: usize = 16 << 20;

pub struct Call {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub query: Query,
    pub info: RequestInfo,
    /// Anonymous until the user is known.
    pub user: Arc<User>,
    /// Behind a lock only so that a call can be shared; nobody waits for it.
    pub body: parking_lot::Mutex<Option<Incoming>>,
    /// What the connection gave along: the client's certificate and address, the way to upgrade.
    pub extensions: Extensions,
    /// `Warning` headers of the answer.
    pub warnings: Vec<String>,
    pub audit_id: String,
    /// What the audit log is told.
    pub audit: Record,
    /// It has not got past authorization.
    pub is_refused: bool,
    /// By what flow control has judged it.
    pub flow: Option<Arc<Row>>,
}

impl Call {
    pub fn new(request: http::Request<Incoming>) -> Self {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::new(&parts.method, &parts.uri, &query);
        let audit_id = parts.headers.get("audit-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let audit_id = audit_id.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            query,
            info,
            user: Arc::new(User::named(User::ANONYMOUS, &[User::UNAUTHENTICATED])),
            body: parking_lot::Mutex::new(Some(body)),
            extensions: parts.extensions,
            warnings: Vec::new(),
            is_refused: false,
            audit_id,
            audit: Record::default(),
            flow: None,
        }
    }

    pub fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The whole body.
    pub fn read_body(&mut self) -> BoxFuture<'static, Result<Bytes>> {
        let body = self.body.get_mut().take();
        Box::pin(async move {
            let Some(mut body) = body else { return Ok(Bytes::new()) };
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| ApiError::bad_request(format!("the body could not be read: {e}")))?;
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > BODY_BYTES_MAX {
                    drain(body);
                    return Err(ApiError::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}")));
                }
                whole.extend_from_slice(&data);
            }
            Ok(whole.freeze())
        })
    }

    /// Takes what is left of the body.
    pub fn drain(&mut self) {
        if let Some(body) = self.body.get_mut().take() {
            drain(body);
        }
    }

    /// Under which name fields are owned: as asked for, or the first part of the client's user agent.
    pub fn manager(&self, asked: &str) -> String {
        if !asked.is_empty() {
            return asked.to_owned();
        }
        let agent = self.header(header::USER_AGENT);
        let name: String = agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        if name.is_empty() { "unknown".to_owned() } else { name.chars().take(128).collect() }
    }
}

/// Takes a body beside the answer: one that is dropped breaks its stream off, and the sender may not see the answer.
fn drain(mut body: Incoming) {
    let mut taken = Box::pin(async move {
        let mut size = 0;
        while size <= DRAINED_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else { return };
            size += frame.data_ref().map_or(0, Bytes::len);
        }
        // Its sender has to wait, and has time to see the answer.
        future::pending().await
    });
    // Most requests have no body, or all of it has come.
    if taken.as_mut().now_or_never().is_none() {
        tokio::spawn(tokio::time::timeout(DRAIN_MAX, taken));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// So many pieces of a MiB each, after which the sender waits for an answer.
    fn call(pieces: usize) -> Call {
        let pieces = stream::iter(vec![Bytes::from_static(&[b' '; 1 << 20]); pieces]);
        let frames = pieces.chain(stream::pending()).map(|data| Ok::<_, Infallible>(Frame::data(data)));
        let body = StreamBody::new(frames).map_err(|never| match never {});
        Call::new(http::Request::new(BodyExt::boxed_unsync(body)))
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_before_its_end() {
        for pieces in [4, 40] {
            let error = call(pieces).read_body().await.unwrap_err();
            assert_eq!(error.status().code, Some(413));
        }
    }
}

//! A request on its way through the server.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crds::user::User;
use futures::future::BoxFuture;
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
/// For how long a body that nobody wants is read.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(1);
/// A body that is too large is read so far, so that its sender comes to see the answer.
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
            let size = read(&mut body, |data, size| {
                if size <= BODY_BYTES_MAX {
                    whole.extend_from_slice(data);
                }
            });
            let size = size.await.map_err(|e| ApiError::bad_request(format!("the body could not be read: {e}")))?;
            if size > BODY_BYTES_MAX {
                return Err(ApiError::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}")));
            }
            Ok(whole.freeze())
        })
    }

    /// Reads what is left of the body, so that its sender comes to see a refusal and not a stream that is broken off.
    pub async fn drain(&mut self) {
        let Some(mut body) = self.body.get_mut().take() else { return };
        // Who sends more slowly than that has time to see the answer.
        tokio::time::timeout(DRAIN_MAX, read(&mut body, |_, _| {})).await.ok();
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

/// Reads a body as far as any is read, handing over each piece with the size up to its end; gives the size of all.
async fn read(body: &mut Incoming, mut take: impl FnMut(&[u8], usize)) -> std::result::Result<usize, BoxError> {
    let mut size = 0;
    while size <= DRAINED_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame?.into_data() else { continue };
        size += data.len();
        take(&data, size);
    }
    Ok(size)
}

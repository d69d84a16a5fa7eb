//! Calls to other servers over HTTPS: those that a kubeconfig names, and issuers of tokens.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

use crate::{backend::system, codec::yaml, connect::Unverified};

/// Answers beyond this are refused.
const ANSWER_BYTES_MAX: usize = 3 << 20;
const TRIES_MAX: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("{path} cannot be read")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kubeconfig is not valid: {0}")]
    Kubeconfig(String),
    #[error("certificates or keys cannot be used: {0}")]
    Tls(String),
    #[error("{method} {url}: {why}")]
    Call { method: Method, url: String, why: String },
    #[error("{method} {url}: the server answered {code}")]
    Refused { method: Method, url: String, code: StatusCode },
}

/// Whom to believe, and who we are.
#[derive(Default)]
pub struct Trust {
    /// PEM; none: the authorities of this machine.
    pub authorities: Option<String>,
    pub insecure: bool,
    /// PEM, of the certificate chain and of the key.
    pub identity: Option<(String, String)>,
}

impl Trust {
    fn tls(&self) -> Result<ClientConfig, OutboundError> {
        let wrong = |e: &dyn std::fmt::Display| OutboundError::Tls(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| wrong(&e))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some((certificates, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong(&e))?;
        builder.with_client_auth_cert(chain.map_err(|e| wrong(&e))?, key).map_err(|e| wrong(&e))
    }

    fn roots(&self) -> Result<RootCertStore, OutboundError> {
        let wrong = |e: &dyn std::fmt::Display| OutboundError::Tls(e.to_string());
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
                }
            }
            None => drop(roots.add_parsable_certificates(system().iter().cloned())),
        }
        Ok(roots)
    }
}

/// A server that is called.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Outbound {
    pub fn new(trust: &Trust, timeout: Duration) -> Result<Self, OutboundError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(trust.tls()?).https_or_http().enable_all_versions();
        let client = Client::builder(TokioExecutor::new()).build(connector.build());
        Ok(Self { client, authorization: None, timeout })
    }

    async fn call(&self, method: Method, url: &str, body: Bytes) -> Result<Bytes, OutboundError> {
        let failed = |why: String| OutboundError::Call { method: method.clone(), url: url.to_owned(), why };
        let mut request = Request::builder().method(method.clone()).uri(url).header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|e| failed(e.to_string()))?;
        let answered = tokio::time::timeout(self.timeout, async {
            let answer = self.client.request(request).await.map_err(|e| failed(told(&e)))?;
            let (code, body) = (answer.status(), Limited::new(answer.into_body(), ANSWER_BYTES_MAX));
            let bytes = body.collect().await.map_err(|e| failed(e.to_string()))?.to_bytes();
            if code.is_success() {
                return Ok(bytes);
            }
            Err(OutboundError::Refused { method: method.clone(), url: url.to_owned(), code })
        });
        answered.await.unwrap_or_else(|_| Err(failed("context deadline exceeded".to_owned())))
    }

    pub async fn get(&self, url: &str) -> Result<Value, OutboundError> {
        let bytes = self.call(Method::GET, url, Bytes::new()).await?;
        let not_json =
            |e: serde_json::Error| OutboundError::Call { method: Method::GET, url: url.to_owned(), why: e.to_string() };
        serde_json::from_slice(&bytes).map_err(not_json)
    }
}

/// With its causes: the outermost error says little.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A server that reviews are sent to, as a kubeconfig says.
#[derive(Clone)]
pub struct Reviewer {
    outbound: Outbound,
    url: String,
}

impl Reviewer {
    pub fn read(kubeconfig: &Path, timeout: Duration) -> Result<Self, OutboundError> {
        let text = read(kubeconfig)?;
        let file = yaml::parse(text.as_bytes()).map_err(|e| OutboundError::Kubeconfig(e.to_string()))?.value;
        let folder = kubeconfig.parent().unwrap_or(Path::new("."));
        Self::of(&file, folder, timeout)
    }

    /// `folder`: what relative paths are relative to.
    fn of(file: &Value, folder: &Path, timeout: Duration) -> Result<Self, OutboundError> {
        let missing = |what: &str| OutboundError::Kubeconfig(format!("{what} is missing"));
        let name = file["current-context"].as_str().unwrap_or_default();
        // With one context, it need not be said that it is the current one.
        let context = named(file, "contexts", name).or_else(|| file["contexts"].get(0));
        let context = context.map(|context| &context["context"]).ok_or_else(|| missing("the current context"))?;
        let part = |list: &str, of: &str| named(file, list, context[of].as_str().unwrap_or_default());
        let cluster = part("clusters", "cluster").map(|c| &c["cluster"]).ok_or_else(|| missing("the cluster"))?;
        let user = part("users", "user").map_or(&Value::Null, |user| &user["user"]);
        let url = cluster["server"].as_str().ok_or_else(|| missing("the server"))?.to_owned();
        let identity = (pem(user, "client-certificate", folder)?, pem(user, "client-key", folder)?);
        let trust = Trust {
            authorities: pem(cluster, "certificate-authority", folder)?,
            insecure: cluster["insecure-skip-tls-verify"].as_bool().unwrap_or_default(),
            identity: if let (Some(certificate), Some(key)) = identity { Some((certificate, key)) } else { None },
        };
        let mut outbound = Outbound::new(&trust, timeout)?;
        let token = match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => Some(token.to_owned()),
            (None, Some(path)) => Some(read(&folder.join(path))?.trim().to_owned()),
            (None, None) => None,
        };
        let basic = user["username"].as_str().map(|name| {
            let both = format!("{name}:{}", user["password"].as_str().unwrap_or_default());
            format!("Basic {}", BASE64_STANDARD.encode(both))
        });
        let authorization = token.map(|token| format!("Bearer {token}")).or(basic);
        outbound.authorization = authorization.and_then(|text| HeaderValue::from_str(&text).ok());
        Ok(Self { outbound, url })
    }

    /// Sends a review and gives the answer; tries again while the server is not to be had.
    pub async fn review(&self, review: &Value) -> Result<Value, OutboundError> {
        let body = Bytes::from(review.to_string());
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES_MAX {
            match self.outbound.call(Method::POST, &self.url, body.clone()).await {
                Ok(answer) => return self.read_answer(&answer),
                Err(error) if !is_passing(&error) => return Err(error),
                Err(error) => tracing::debug!(%error, "a review is sent again"),
            }
            tokio::time::sleep(wait).await;
            wait = wait * 3 / 2;
        }
        let answer = self.outbound.call(Method::POST, &self.url, body).await?;
        self.read_answer(&answer)
    }

    fn read_answer(&self, answer: &[u8]) -> Result<Value, OutboundError> {
        let wrong = |e: serde_json::Error| OutboundError::Call {
            method: Method::POST,
            url: self.url.clone(),
            why: e.to_string(),
        };
        serde_json::from_slice(answer).map_err(wrong)
    }
}

/// As upstream: what may be otherwise the next time.
fn is_passing(error: &OutboundError) -> bool {
    match error {
        OutboundError::Refused { code, .. } => code.is_server_error() || *code == StatusCode::TOO_MANY_REQUESTS,
        OutboundError::Call { why, .. } => why.contains("connection"),
        _ => false,
    }
}

fn named<'a>(file: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    file[list].as_array()?.iter().find(|item| item["name"].as_str() == Some(name))
}

/// `field-data` in base64, or the file that `field` names.
fn pem(of: &Value, field: &str, folder: &Path) -> Result<Option<String>, OutboundError> {
    if let Some(data) = of[format!("{field}-data")].as_str() {
        let bytes = BASE64_STANDARD.decode(data).map_err(|e| OutboundError::Kubeconfig(e.to_string()))?;
        return String::from_utf8(bytes).map(Some).map_err(|e| OutboundError::Kubeconfig(e.to_string()));
    }
    of[field].as_str().map(|path| read(&folder.join(path))).transpose()
}

fn read(path: &Path) -> Result<String, OutboundError> {
    std::fs::read_to_string(path).map_err(|source| OutboundError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests;

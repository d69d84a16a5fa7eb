//! Probing by an HTTP request. Certificates are not checked: a probe asks for health, not for identity.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Finding, tcp};

/// How much of an answer is read, in bytes.
const BODY_MAX: usize = 10 << 10;

/// One request, worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    pub secure: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Get {
    /// A request to the pod, unless the action names another host.
    pub fn of(action: &HTTPGetAction, port: u16, pod_ip: &str, agent: &str) -> Self {
        let given = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
        let mut headers: Vec<_> =
            action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
        for (name, value) in [("User-Agent", format!("kube-{agent}/1.36")), ("Accept", "*/*".into())] {
            if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                headers.push((name.into(), value));
            }
        }
        let path = given(&action.path).unwrap_or_default();
        Self {
            secure: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: given(&action.host).unwrap_or_else(|| pod_ip.to_owned()),
            port,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: headers.into_iter().filter(|(_, v)| !v.is_empty()).collect(),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", tcp::address(&self.host, self.port), self.path)
    }
}

pub async fn probe(get: &Get, patience: Duration) -> Finding {
    match tokio::time::timeout(patience, send(get, patience)).await {
        Err(_) => Finding::Failure(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            get.url()
        )),
        Ok(Err(message)) => Finding::Failure(format!("Get \"{}\": {message}", get.url())),
        Ok(Ok(status)) => judge(status),
    }
}

/// Redirects count as success: where they lead is not the container's own health.
fn judge(status: u16) -> Finding {
    match status {
        200..300 => Finding::Success,
        300..400 => Finding::Warning(format!("Probe terminated redirects, Response status code: {status}")),
        _ => Finding::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// The status of the answer; also what a lifecycle hook does.
pub async fn send(get: &Get, patience: Duration) -> Result<u16, String> {
    let stream = tcp::connect(&get.host, get.port, patience).await?;
    if !get.secure {
        return exchange(get, stream).await;
    }
    let name = ServerName::try_from(get.host.clone()).map_err(|e| e.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(trusting()).connect(name, stream).await.map_err(|e| e.to_string())?;
    exchange(get, stream).await
}

async fn exchange<S>(get: &Get, stream: S) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(&get.path);
    if !get.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, tcp::address(&get.host, get.port));
    }
    for (name, value) in &get.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await;
    let status = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // Reading some of the body lets the server finish; what it says does not matter.
            let rest = Limited::new(answer.into_body(), BODY_MAX).collect().await;
            tracing::trace!(read = rest.is_ok(), status, "probed");
            Ok(status)
        }
        Err(error) if error.is_incomplete_message() => Err("EOF".into()),
        Err(error) => Err(error.to_string()),
    };
    driver.abort();
    status
}

fn trusting() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap_or_else(|_| rustls::ClientConfig::builder());
    let verifier = Arc::new(Trusting(schemes));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Takes any certificate.
#[derive(Debug)]
pub(crate) struct Trusting(pub(crate) Vec<SignatureScheme>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn answers_and_refusals() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            for status in ["200 OK", "302 Found", "500 No"] {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..read]).starts_with("GET /x HTTP/1.1\r\n"));
                stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            }
        });
        let action = HTTPGetAction { path: Some("x".into()), ..Default::default() };
        let get = Get::of(&action, port, "127.0.0.1", "probe");
        let patience = Duration::from_secs(5);
        assert_eq!(probe(&get, patience).await, Finding::Success);
        assert!(matches!(probe(&get, patience).await, Finding::Warning(_)));
        assert_eq!(probe(&get, patience).await, Finding::Failure("HTTP probe failed with statuscode: 500".into()));
        task.await.unwrap();
        let url = get.url();
        let refused = format!("Get \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(probe(&get, patience).await, Finding::Failure(refused));
    }
}

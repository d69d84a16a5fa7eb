//! A small HTTPS server on loopback, and calls of it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Address, Backend, Trust};

/// What a server answers to the path, the headers and the body of a request.
pub(crate) type Serve = Arc<dyn Fn(&http::request::Parts, &[u8]) -> Response<Full<Bytes>> + Send + Sync>;

/// A server whose certificate an authority of its own has signed.
pub(crate) struct Stub {
    pub address: SocketAddr,
    /// PEM
    pub authority: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    pub async fn start(names: &[&str], serve: Serve) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer: Issuer<'_, KeyPair> = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let der: CertificateDer<'static> = certificate.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, serve) = (acceptor.clone(), serve.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let serve = serve.clone();
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            Ok::<_, Infallible>(serve(&parts, &body))
                        }
                    });
                    // A client that goes away is no failure of the test.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, authority, task }
    }
}

#[tokio::test]
async fn certificates_are_verified_as_go_does() {
    let hello: Serve = Arc::new(|parts, _| Response::new(Full::from(parts.uri.path().to_owned())));
    let stub = Stub::start(&["a.example.com"], hello.clone()).await;
    let other = Stub::start(&["a.example.com"], hello).await;
    let bundle = |stub: &Stub| Trust::Bundle(stub.authority.clone().into_bytes());
    let told = async |name: &str, trust: &Trust| {
        let backend = Backend::new(name, trust, None).unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port: stub.address.port() };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().uri("/x?y").body(body).unwrap();
        match backend.send(&address, "h", request).await {
            Ok(answer) => String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(told("a.example.com", &bundle(&stub)).await, "/x");
    assert_eq!(told("whoever", &Trust::Insecure).await, "/x");
    for (name, trust, want) in [
        ("a.example.com", bundle(&other), "x509: certificate signed by unknown authority"),
        ("b.example.com", bundle(&stub), "x509: certificate is valid for a.example.com, not b.example.com"),
    ] {
        assert_eq!(told(name, &trust).await, format!("tls: failed to verify certificate: {want}"));
    }
}

#[tokio::test]
async fn nobody_listens() {
    let backend = Backend::new("h", &Trust::Insecure, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let sent = backend.send(&Address { host: "127.0.0.1".to_owned(), port }, "h", Request::new(body)).await;
    assert_eq!(sent.unwrap_err().0, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
}

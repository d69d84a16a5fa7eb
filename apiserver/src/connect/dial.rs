//! Connections to kubelets, pods and services: TCP, and TLS with the trust that the place asks for.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::place::{self, Place, Trust};
use crate::{
    backend,
    error::{ApiError, Result},
    pki::Identity,
};

/// Until the connection stands, TLS included.
const DIAL_MAX: Duration = Duration::from_secs(30);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Dialer {
    kubelet: TlsConnector,
    unverified_kubelet: TlsConnector,
    anyone: TlsConnector,
}

impl Dialer {
    pub fn new(identity: &Identity, kubelet_roots: Option<RootCertStore>) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let unknowing = || Unverified::new(provider.clone());
        let builder = || {
            let builder = ClientConfig::builder_with_provider(provider.clone());
            builder.with_safe_default_protocol_versions().map_err(ApiError::internal)
        };
        let known = |builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>| {
            let (certificate, key) =
                identity.der().ok_or_else(|| ApiError::internal("the kubelet client's key is no PEM"))?;
            let config = builder.with_client_auth_cert(vec![certificate], key).map_err(ApiError::internal)?;
            Ok::<_, ApiError>(TlsConnector::from(Arc::new(config)))
        };
        let unverified =
            || Ok::<_, ApiError>(builder()?.dangerous().with_custom_certificate_verifier(Arc::new(unknowing())));
        let kubelet = match kubelet_roots {
            Some(roots) => known(builder()?.with_root_certificates(roots))?,
            None => known(unverified()?)?,
        };
        let anyone = TlsConnector::from(Arc::new(unverified()?.with_no_client_auth()));
        Ok(Self { kubelet, unverified_kubelet: known(unverified()?)?, anyone })
    }

    pub async fn dial(&self, place: &Place) -> io::Result<Box<dyn Stream>> {
        let dialed = timeout(DIAL_MAX, self.connect(place)).await;
        dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect(&self, place: &Place) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
        stream.set_nodelay(true)?;
        let tls = match place.trust {
            Trust::Plain => return Ok(Box::new(stream)),
            Trust::Kubelet => &self.kubelet,
            Trust::UnverifiedKubelet => &self.unverified_kubelet,
            Trust::Anyone => &self.anyone,
        };
        let name = ServerName::try_from(place.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// In the words of Go's dialer.
pub(super) fn told(place: &Place, error: &io::Error) -> String {
    backend::dial::unreached(&place.authority(), error)
}

/// As upstream: no node may lead the proxy back to the control plane's own machine.
pub(super) async fn check_proxyable(host: &str) -> Result<()> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return if place::is_global_unicast(address) { Ok(()) } else { Err(place::not_allowed()) };
    }
    let found = lookup_host((host, 0)).await;
    let found = found.map_err(|error| ApiError::bad_request(format!("lookup {host}: {error}")))?;
    let all: Vec<_> = found.map(|address| address.ip()).collect();
    match all.iter().all(|address| place::is_global_unicast(*address)) {
        _ if all.is_empty() => Err(ApiError::bad_request("no addresses for hostname")),
        true => Ok(()),
        false => Err(place::not_allowed()),
    }
}

/// Accepts every certificate; the handshake's signature must still be right.
#[derive(Debug)]
pub(crate) struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl Unverified {
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! The certificate of the kubelet API: given, or made here until the cluster has signed one.

use std::{io, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tracing::{debug, info};

use crate::agent::Agent;

pub type Certificate = CertificateDer<'static>;

/// How often the state of a request or the age of a certificate is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const REVIEW: Duration = Duration::from_secs(600);

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {message}")]
    File { path: String, message: String },
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot use the certificate")]
    Use(#[from] rustls::Error),
    #[error("cannot check client certificates: {0}")]
    Clients(String),
    #[error("cannot store the certificate")]
    Store(#[from] io::Error),
}

/// The certificate that is shown now; it is replaced while connections come and go.
#[derive(Clone)]
pub struct Identity {
    current: Arc<ArcSwap<CertifiedKey>>,
    /// Not given by the administrator, so it is ours to renew.
    own: bool,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified(chain: Vec<Certificate>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, message: String| TlsError::File { path: path.display().to_string(), message };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(|e| failed(certificate, e.to_string()))?.collect();
    let chain = chain.map_err(|e| failed(certificate, e.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| failed(key, e.to_string()))?;
    certified(chain, key)
}

impl Identity {
    /// What was given; else what the cluster signed before; else one that is signed by itself.
    pub fn load(agent: &Agent) -> Result<Self, TlsError> {
        let of = |key, own| Self { current: Arc::new(ArcSwap::from_pointee(key)), own };
        if let Some((certificate, key)) = &agent.config.tls {
            return Ok(of(read(certificate, key)?, false));
        }
        let (certificate, key) = paths(agent);
        if let Ok(stored) = read(&certificate, &key)
            && life(&stored).is_some_and(|(_, end)| end > agent.clock.now().as_second())
        {
            return Ok(of(stored, true));
        }
        let key = KeyPair::generate()?;
        let made = params(agent)?.self_signed(&key)?;
        let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(of(certified(vec![made.der().clone()], secret.into())?, true))
    }
}

fn paths(agent: &Agent) -> (std::path::PathBuf, std::path::PathBuf) {
    let dir = agent.config.pki_dir();
    (dir.join("kubelet-server.crt"), dir.join("kubelet-server.key"))
}

/// The names under which the node is reached, for the subject that the signer wants.
fn params(agent: &Agent) -> Result<CertificateParams, TlsError> {
    let name = &agent.config.node_name;
    let mut params = CertificateParams::new(vec![name.clone()])?;
    for ip in agent.host().ips.iter().filter_map(|ip| ip.parse().ok()) {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Client certificates of the cluster's authority are asked for, but nobody must have one.
pub fn server(agent: &Agent, identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut roots = RootCertStore::empty();
    for certificate in &agent.config.client_ca {
        roots.add(CertificateDer::from(certificate.clone()))?;
    }
    let builder = if roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|e| TlsError::Clients(e.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Beginning and end of a certificate, in seconds since 1970.
fn life(key: &CertifiedKey) -> Option<(i64, i64)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn is_self_signed(key: &CertifiedKey) -> bool {
    let parsed = key.cert.first().and_then(|c| x509_parser::parse_x509_certificate(c).ok());
    parsed.is_none_or(|(_, c)| c.issuer() == c.subject())
}

/// Has the cluster sign a certificate while there is none of it, or when four fifths of one's life have passed.
pub async fn keep_fresh(agent: Arc<Agent>, identity: Identity) {
    if !identity.own {
        return std::future::pending().await;
    }
    loop {
        let key = identity.current.load_full();
        let now = agent.clock.now().as_second();
        let aged = life(&key).is_none_or(|(start, end)| now > start + (end - start) / 5 * 4);
        if is_self_signed(&key) || aged {
            match request(&agent).await {
                Ok(fresh) => {
                    info!("the cluster signed the certificate of the kubelet API");
                    identity.current.store(Arc::new(fresh));
                }
                Err(message) => debug!(message, "no certificate of the cluster's yet"),
            }
        }
        tokio::time::sleep(REVIEW).await;
    }
}

async fn request(agent: &Agent) -> Result<CertifiedKey, String> {
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let params = params(agent).map_err(|e| e.to_string())?;
    let signing = params.serialize_request(&key).and_then(|r| r.pem()).map_err(|e| e.to_string())?;
    let api: Api<CertificateSigningRequest> = Api::all(agent.client.clone());
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".into()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(signing.into_bytes()),
            signer_name: "kubernetes.io/kubelet-serving".into(),
            usages: Some(vec!["digital signature".into(), "server auth".into()]),
            ..Default::default()
        },
        status: None,
    };
    let made = api.create(&PostParams::default(), &wanted).await.map_err(|e| e.to_string())?;
    let name = made.metadata.name.unwrap_or_default();
    loop {
        tokio::time::sleep(PATIENCE).await;
        let status = api.get(&name).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        if let Some(bad) = status.conditions.iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))
        {
            return Err(format!("the request was {}: {}", bad.type_, bad.message.clone().unwrap_or_default()));
        }
        if let Some(certificate) = status.certificate {
            return store(agent, &certificate.0, &key).map_err(|e| e.to_string());
        }
    }
}

fn store(agent: &Agent, pem: &[u8], key: &KeyPair) -> Result<CertifiedKey, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|e| TlsError::File { path: "the signed certificate".into(), message: e.to_string() })?;
    let made = certified(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    let (certificate_path, key_path) = paths(agent);
    agent.system.create_dir(&agent.config.pki_dir(), 0o700)?;
    agent.system.write(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    agent.system.write(&certificate_path, pem, 0o644)?;
    Ok(made)
}

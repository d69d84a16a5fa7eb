//! Client certificates: any may be shown in the handshake, and is judged once, when the connection is made.
//!
//! A certificate that nobody trusts does not end the handshake: upstream answers such clients with a 401, which they
//! understand better.

use std::{fmt::Write, sync::Arc};

use crds::user::User;
use jiff::Timestamp;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use super::{CREDENTIAL_ID, with_authenticated};

/// The subject's attribute that upstream reads a uid from.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("a certificate of the client authorities cannot be read: {0}")]
    Pem(String),
    #[error("the client authorities cannot be used")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who showed itself on a connection.
#[derive(Clone, Debug, Default)]
pub enum Peer {
    /// No certificate, or one that names nobody.
    #[default]
    Nobody,
    Known {
        user: Arc<User>,
        until: Timestamp,
    },
    /// The certificate does not hold, for this reason.
    Refused(String),
}

impl Peer {
    /// The user, if its certificate (still) holds.
    pub(super) fn user(&self, now: Timestamp) -> Result<Option<Arc<User>>, &str> {
        match self {
            Self::Nobody => Ok(None),
            Self::Known { user, until } if now <= *until => Ok(Some(Arc::clone(user))),
            Self::Known { .. } => Err("the certificate has expired"),
            Self::Refused(why) => Err(why),
        }
    }
}

/// The authorities whose client certificates are believed.
pub struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// `authorities`: PEM, one or more.
    pub fn new(authorities: &str) -> Result<Self, TrustError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            let certificate = certificate.map_err(|e| TrustError::Pem(e.to_string()))?;
            roots.add(certificate).map_err(|e| TrustError::Unusable(Box::new(e)))?;
        }
        let hints = roots.subjects();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        Ok(Self { verifier: verifier.map_err(|e| TrustError::Unusable(Box::new(e)))?, hints, provider })
    }

    /// For rustls: asks for a certificate, and takes any whose key the client holds.
    pub fn handshake(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyCertificate { hints: self.hints.clone(), provider: Arc::clone(&self.provider) })
    }

    /// The common name of a client's certificate that holds, and until when.
    pub fn common_name(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Option<(String, Timestamp)> {
        let (own, intermediates) = chain.split_first()?;
        let seconds = u64::try_from(now.as_second()).ok()?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier.verify_client_cert(own, intermediates, at).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(own).ok()?;
        let name = certificate.subject().iter_common_name().last()?.as_str().ok()?.to_owned();
        let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
        Some((name, until))
    }

    /// Judges the certificates that a client showed, its own first.
    pub fn peer(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Peer {
        let [own, intermediates @ ..] = chain else { return Peer::Nobody };
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        if let Err(why) = self.verifier.verify_client_cert(own, intermediates, at) {
            return Peer::Refused(why.to_string());
        }
        read(own).unwrap_or_else(Peer::Refused)
    }
}

fn read(der: &CertificateDer) -> Result<Peer, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|e| e.to_string())?;
    let Some(user) = user(&certificate, der)? else { return Ok(Peer::Nobody) };
    let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|e| e.to_string())?;
    Ok(Peer::Known { user: Arc::new(user), until })
}

/// Common name and organizations are name and groups.
fn user(certificate: &X509Certificate, der: &CertificateDer) -> Result<Option<User>, String> {
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue| attribute.as_str().unwrap_or_default().to_owned();
    let subject = certificate.subject();
    let Some(name) = subject.iter_common_name().last().map(text).filter(|n| !n.is_empty()) else { return Ok(None) };
    let uids: Vec<_> =
        subject.iter_attributes().filter(|a| a.attr_type().to_id_string() == UID_OID).map(|a| a.as_str()).collect();
    let uid = match uids.as_slice() {
        [] => String::new(),
        [Ok(uid)] if !uid.is_empty() => (*uid).to_owned(),
        [Ok(_)] => return Err("UID cannot be an empty string".to_owned()),
        [Err(_)] => return Err("unable to parse UID into a string".to_owned()),
        _ => return Err("expected 1 UID, but found multiple".to_owned()),
    };
    let mut id = "X509SHA256=".to_owned();
    for byte in Sha256::digest(der) {
        write!(id, "{byte:02x}").map_err(|e| e.to_string())?;
    }
    let groups = subject.iter_organization().map(text).collect();
    let extra = [(CREDENTIAL_ID.to_owned(), vec![id])].into();
    Ok(Some(with_authenticated(User { name, uid, groups, extra })))
}

#[derive(Debug)]
struct AnyCertificate {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

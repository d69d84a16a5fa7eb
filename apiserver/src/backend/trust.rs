//! Which certificates of other servers are believed: as Go verifies them, and told in its words.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::CallError;
use crate::{connect::Unverified, pki::Identity};

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Of these authorities, PEM; none: of those that this machine knows.
    Bundle(Vec<u8>),
    /// Anyone's.
    Insecure,
}

impl Trust {
    pub(super) fn client(&self, identity: Option<&Identity>) -> Result<ClientConfig, CallError> {
        let provider = Arc::new(ring::default_provider());
        let told = |error: Error| CallError(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(told)?;
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Insecure => Arc::new(Unverified::new(provider)),
            Self::Bundle(bundle) => Arc::new(Known::new(bundle, provider)?),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        match identity {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => {
                let (certificate, key) =
                    identity.der().ok_or_else(|| CallError("the client's key is no PEM".into()))?;
                builder.with_client_auth_cert(vec![certificate], key).map_err(told)
            }
        }
    }
}

/// The authorities of this machine, read once.
pub(crate) fn system() -> &'static [CertificateDer<'static>] {
    static KNOWN: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of this machine's certificate authorities cannot be read");
        }
        found.certs
    })
}

/// Certificates of these authorities, and those that stand among them.
#[derive(Debug)]
struct Known {
    /// None where there are no authorities at all.
    chains: Option<Arc<WebPkiServerVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
    /// Verifies what is signed in a handshake, whoever's certificate it is.
    signatures: Unverified,
}

impl Known {
    fn new(bundle: &[u8], provider: Arc<CryptoProvider>) -> Result<Self, CallError> {
        let authorities = if bundle.is_empty() {
            system().to_vec()
        } else {
            let all: Vec<_> = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect();
            if all.is_empty() {
                let why = "unable to load root certificates: unable to parse bytes as PEM block";
                return Err(CallError(why.into()));
            }
            all
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let chains = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Some(builder.build().map_err(|error| CallError(error.to_string()))?)
        };
        Ok(Self { chains, authorities, signatures: Unverified::new(provider) })
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        // As in Go: a certificate that is itself in the bundle needs no issuer, and may be an authority's own.
        if self.authorities.contains(certificate) {
            check_validity(certificate, now)?;
            return verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
        }
        let Some(chains) = &self.chains else { return Err(CertificateError::UnknownIssuer.into()) };
        chains.verify_server_cert(certificate, intermediates, name, ocsp, now).map(drop)
    }
}

fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (now, validity) = (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), parsed.validity());
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// What Go says of a certificate that it does not believe.
fn words(error: &Error, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> String {
    let parsed = X509Certificate::from_der(certificate).ok().map(|(_, parsed)| parsed);
    let validity = parsed.as_ref().map(|parsed| parsed.validity());
    let time = |seconds: i64| Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
    let now = time(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match error {
        // Another authority of the same name is unknown as well.
        Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            let end = time(validity.map_or(0, |validity| validity.not_after.timestamp()));
            format!("x509: certificate has expired or is not yet valid: current time {now} is after {end}")
        }
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            let begin = time(validity.map_or(0, |validity| validity.not_before.timestamp()));
            format!("x509: certificate has expired or is not yet valid: current time {now} is before {begin}")
        }
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            let name = name.to_str();
            match parsed.map(|parsed| names(&parsed)).unwrap_or_default() {
                Names::Common => "x509: certificate relies on legacy Common Name field, use SANs instead".to_owned(),
                Names::None => format!("x509: certificate is not valid for any names, but wanted to match {name}"),
                Names::These(all) => format!("x509: certificate is valid for {all}, not {name}"),
            }
        }
        other => format!("x509: {other}"),
    }
}

#[derive(Default)]
enum Names {
    #[default]
    None,
    /// None but in the subject.
    Common,
    These(String),
}

fn names(certificate: &X509Certificate<'_>) -> Names {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    });
    let all = names.collect::<Vec<_>>().join(", ");
    match all.as_str() {
        "" if certificate.subject().iter_common_name().next().is_some() => Names::Common,
        "" => Names::None,
        _ => Names::These(all),
    }
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, name, ocsp, now);
        verified.map_err(|error| Error::General(words(&error, end_entity, name, now)))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

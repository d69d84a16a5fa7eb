//! The cluster's keys and certificates: made once under the data directory, renewed before they expire.
//!
//! The files are named as kubeadm's are. A restart finds what is there and changes nothing, unless a certificate is
//! near its end, lacks a name that the server now has, or belongs to another key or authority.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

mod file;
mod kubeconfig;

const AUTHORITY_DAYS: u64 = 3650;
const CERTIFICATE_DAYS: u64 = 365;
/// A certificate with less than this left is made anew.
const RENEW_DAYS: u64 = 30;
const DAY_SECONDS: u64 = 86_400;
/// Clocks of machines differ a little.
const BACKDATE_SECONDS: u64 = 300;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is damaged: {why}; restore it, or delete it to have it made anew")]
    Damaged { path: PathBuf, why: String },
    #[error("cannot make the certificate of {subject}")]
    Issue {
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
}

type Result<T> = std::result::Result<T, PkiError>;

/// What the API server is called: the names that its certificate is good for, beside those that are always there.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub host: String,
    /// Further DNS names.
    pub dns: Vec<String>,
    /// Where it is advertised.
    pub addresses: Vec<IpAddr>,
    /// The first address of the service range: the `kubernetes` Service.
    pub service_ip: Option<IpAddr>,
    /// `cluster.local`
    pub cluster_domain: String,
}

impl Names {
    fn all(&self) -> Vec<String> {
        let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("kubernetes.default.svc.{}", self.cluster_domain), self.host.clone()])
            .chain(self.dns.iter().cloned())
            .chain([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| ip.to_string()))
            .chain(self.addresses.iter().chain(&self.service_ip).map(IpAddr::to_string))
            .filter(|name| !name.is_empty() && !name.ends_with('.'))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Whom a client certificate names: the user and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub name: String,
    /// Written as the organization; only one group fits.
    pub group: Option<String>,
}

impl Subject {
    pub fn new(name: impl Into<String>, group: Option<&str>) -> Self {
        Self { name: name.into(), group: group.map(str::to_owned) }
    }

    /// May do everything; not bound by RBAC.
    pub fn admin() -> Self {
        Self::new("admin", Some(crds::user::User::MASTERS))
    }

    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), Some("system:nodes"))
    }

    pub fn controller_manager() -> Self {
        Self::new("system:kube-controller-manager", None)
    }

    pub fn scheduler() -> Self {
        Self::new("system:kube-scheduler", None)
    }

    pub fn proxy() -> Self {
        Self::new("system:kube-proxy", None)
    }

    /// What the API server is to kubelets, which ask it back whether it may.
    fn kubelet_client() -> Self {
        Self::new("kube-apiserver-kubelet-client", Some(crds::user::User::MASTERS))
    }

    /// What the API server is to extension API servers, so that they trust its `X-Remote-*` headers.
    fn front_proxy_client() -> Self {
        Self::new("front-proxy-client", None)
    }
}

/// A certificate and its key, both PEM. The key is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Identity {
    /// As rustls wants it; none if the texts are no PEM.
    pub fn der(&self) -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?;
        Some((certificate, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()?))
    }
}

/// Who signs certificates.
pub struct Authority {
    /// PEM
    pub certificate: String,
    /// PEM, PKCS #8
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
    key_id: Vec<u8>,
}

impl Authority {
    /// What others are told to trust.
    pub fn der(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()
    }
}

/// All keys and certificates of one cluster's API server.
pub struct Pki {
    dir: PathBuf,
    /// Signs servers and clients of the cluster.
    pub authority: Authority,
    /// Signs the one client that extension API servers trust to name users.
    pub front_proxy: Authority,
    pub serving: Identity,
    pub kubelet_client: Identity,
    pub front_proxy_client: Identity,
    /// Signs the tokens of service accounts (ECDSA P-256, PKCS #8 PEM).
    pub token_key: String,
}

impl Pki {
    /// Opens the directory, and makes what is missing or must be renewed.
    pub fn open(dir: &Path, names: &Names, now: Timestamp) -> Result<Self> {
        file::make_dir(dir)?;
        let authority = authority(dir, "ca", "kubernetes", now)?;
        let front_proxy = authority_of_front_proxy(dir, now)?;
        let serving = Wanted { server: names.all(), ..Wanted::client(&Subject::new("kube-apiserver", None)) };
        Ok(Self {
            dir: dir.to_owned(),
            serving: stored(dir, "apiserver", &authority, &serving, now)?,
            kubelet_client: stored(
                dir,
                "apiserver-kubelet-client",
                &authority,
                &Wanted::client(&Subject::kubelet_client()),
                now,
            )?,
            front_proxy_client: stored(
                dir,
                "front-proxy-client",
                &front_proxy,
                &Wanted::client(&Subject::front_proxy_client()),
                now,
            )?,
            token_key: token_key(dir)?,
            authority,
            front_proxy,
        })
    }

    /// A new certificate for a client of the API server; it is not kept.
    pub fn issue(&self, subject: &Subject, now: Timestamp) -> Result<Identity> {
        self.authority.issue(&Wanted::client(subject), &new_key()?, now)
    }

    /// The client certificate that is kept under this file name, made or renewed when needed.
    pub fn client(&self, file_name: &str, subject: &Subject, now: Timestamp) -> Result<Identity> {
        stored(&self.dir, file_name, &self.authority, &Wanted::client(subject), now)
    }

    /// A kubelet's own serving certificate: it answers the API server's calls under these names and addresses.
    pub fn kubelet_serving(&self, node: &str, names: &[String], now: Timestamp) -> Result<Identity> {
        let wanted = Wanted { server: names.to_vec(), ..Wanted::client(&Subject::node(node)) };
        self.authority.issue(&wanted, &new_key()?, now)
    }

    /// A kubeconfig with everything inside it.
    pub fn kubeconfig(&self, user: &str, identity: &Identity, server: &str) -> String {
        kubeconfig::render(user, identity, &self.authority.certificate, server)
    }

    /// Writes a kubeconfig that only the owner may read.
    pub fn write_kubeconfig(&self, path: &Path, user: &str, identity: &Identity, server: &str) -> Result<()> {
        file::write_private(path, self.kubeconfig(user, identity, server).as_bytes())
    }
}

/// What a certificate must say.
struct Wanted {
    subject: Subject,
    /// DNS names and addresses; none: no server.
    server: Vec<String>,
}

impl Wanted {
    fn client(subject: &Subject) -> Self {
        Self { subject: subject.clone(), server: Vec::new() }
    }

    fn params(&self, now: Timestamp) -> std::result::Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(self.server.clone())?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(group) = &self.subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.subject.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let usage = if self.server.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        };
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        last(&mut params, now, CERTIFICATE_DAYS);
        Ok(params)
    }

    /// Whether a certificate that is there may stay.
    fn is_met_by(&self, certificate: &str, key: &KeyPair, authority: &Authority, now: Timestamp) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else { return false };
        let Ok((_, read)) = x509_parser::parse_x509_certificate(&der) else { return false };
        let ends = read.validity().not_after.timestamp();
        let renew_at = now.as_second().saturating_add((RENEW_DAYS * DAY_SECONDS).cast_signed());
        ends > renew_at
            && read.public_key().raw == key.subject_public_key_info()
            && authority_key_id(&read) == Some(authority.key_id.as_slice())
            && read.subject().iter_common_name().any(|cn| cn.as_str() == Ok(self.subject.name.as_str()))
            && self.has_all_names(&read)
    }

    fn has_all_names(&self, read: &x509_parser::certificate::X509Certificate) -> bool {
        let mut there: Vec<String> = Vec::new();
        if let Ok(Some(names)) = read.subject_alternative_name() {
            there.extend(names.value.general_names.iter().filter_map(general_name));
        }
        self.server.iter().all(|name| there.contains(name))
    }
}

fn general_name(name: &x509_parser::extensions::GeneralName) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}

fn authority_key_id<'a>(read: &x509_parser::certificate::X509Certificate<'a>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension;
    read.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|k| k.0),
        _ => None,
    })
}

fn last(params: &mut CertificateParams, now: Timestamp, days: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_seconds = u64::try_from(now.as_second()).unwrap_or(0);
    params.not_before = epoch + Duration::from_secs(now_seconds.saturating_sub(BACKDATE_SECONDS));
    params.not_after = epoch + Duration::from_secs(now_seconds.saturating_add(days * DAY_SECONDS));
}

impl Authority {
    fn read(certificate: String, key: KeyPair) -> std::result::Result<Self, String> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| e.to_string())?;
        let (_, read) = x509_parser::parse_x509_certificate(&der).map_err(|e| e.to_string())?;
        if read.public_key().raw != key.subject_public_key_info() {
            return Err("it does not belong to its key".to_owned());
        }
        let key_id = read.iter_extensions().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let key_id = key_id.ok_or("it has no subject key identifier")?;
        let key_text = key.serialize_pem();
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| e.to_string())?;
        Ok(Self { certificate, key: key_text, issuer, key_id })
    }

    fn issue(&self, wanted: &Wanted, key: &KeyPair, now: Timestamp) -> Result<Identity> {
        let subject = || wanted.subject.name.clone();
        let params = wanted.params(now).map_err(|source| PkiError::Issue { subject: subject(), source })?;
        let signed = params.signed_by(key, &self.issuer);
        let signed = signed.map_err(|source| PkiError::Issue { subject: subject(), source })?;
        Ok(Identity { certificate: signed.pem(), key: key.serialize_pem() })
    }
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(PkiError::Key)
}

/// The key of this file, made if it is missing.
fn key(path: &Path) -> Result<KeyPair> {
    if let Some(text) = file::read(path)? {
        return KeyPair::from_pem(&text).map_err(|e| PkiError::Damaged { path: path.to_owned(), why: e.to_string() });
    }
    let key = new_key()?;
    file::write_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn authority_of_front_proxy(dir: &Path, now: Timestamp) -> Result<Authority> {
    authority(dir, "front-proxy-ca", "front-proxy-ca", now)
}

/// An authority is never renewed by itself: all that trust it would have to be told.
fn authority(dir: &Path, file_name: &str, name: &str, now: Timestamp) -> Result<Authority> {
    let key = key(&dir.join(format!("{file_name}.key")))?;
    let path = dir.join(format!("{file_name}.crt"));
    let certificate = match file::read(&path)? {
        Some(text) => text,
        None => {
            let issue = |source| PkiError::Issue { subject: name.to_owned(), source };
            let params = authority_params(name, now).map_err(issue)?;
            let text = params.self_signed(&key).map_err(issue)?.pem();
            file::write(&path, text.as_bytes())?;
            text
        }
    };
    Authority::read(certificate, key).map_err(|why| PkiError::Damaged { path, why })
}

fn authority_params(name: &str, now: Timestamp) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    last(&mut params, now, AUTHORITY_DAYS);
    Ok(params)
}

/// The identity of these files; the key stays, the certificate is made anew when it must be.
fn stored(dir: &Path, file_name: &str, authority: &Authority, wanted: &Wanted, now: Timestamp) -> Result<Identity> {
    let key = key(&dir.join(format!("{file_name}.key")))?;
    let path = dir.join(format!("{file_name}.crt"));
    if let Some(certificate) = file::read(&path)?
        && wanted.is_met_by(&certificate, &key, authority, now)
    {
        return Ok(Identity { certificate, key: key.serialize_pem() });
    }
    let identity = authority.issue(wanted, &key, now)?;
    file::write(&path, identity.certificate.as_bytes())?;
    Ok(identity)
}

/// ECDSA, not RSA as kubeadm's: it is made in no time, and tokens stay short. Its public half is written for others.
fn token_key(dir: &Path) -> Result<String> {
    let key = key(&dir.join("sa.key"))?;
    let public = dir.join("sa.pub");
    if file::read(&public)?.as_deref() != Some(key.public_key_pem().as_str()) {
        file::write(&public, key.public_key_pem().as_bytes())?;
    }
    Ok(key.serialize_pem())
}

#[cfg(test)]
mod tests;

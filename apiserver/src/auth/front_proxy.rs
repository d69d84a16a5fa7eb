//! A proxy in front of this server: it tells in headers whom it has authenticated, and shows a certificate of its own.

use std::path::PathBuf;

use crds::user::User;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::{
    certificate::{Trust, TrustError},
    impersonate::unescape,
    with_authenticated,
};

/// Flags `--requestheader-*`.
#[derive(Clone, Debug)]
pub struct Options {
    /// PEM; none: the authority of the data directory.
    pub client_ca_file: Option<PathBuf>,
    /// Common names; none: whoever the authority has signed.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_headers_prefixes: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_ca_file: None,
            allowed_names: vec!["front-proxy-client".to_owned()],
            username_headers: vec!["x-remote-user".to_owned()],
            uid_headers: vec!["x-remote-uid".to_owned()],
            group_headers: vec!["x-remote-group".to_owned()],
            extra_headers_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }
}

/// A connection is a front proxy's.
#[derive(Clone, Debug)]
pub struct Proxy {
    until: Timestamp,
}

pub struct FrontProxy {
    trust: Trust,
    options: Options,
}

impl FrontProxy {
    /// `authorities`: PEM, sign the proxies' certificates.
    pub fn new(authorities: &str, mut options: Options) -> Result<Self, TrustError> {
        let headers = [&mut options.username_headers, &mut options.uid_headers, &mut options.group_headers];
        for names in headers.into_iter().chain([&mut options.extra_headers_prefixes]) {
            names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        }
        Ok(Self { trust: Trust::new(authorities)?, options })
    }

    /// Whether the certificates of a connection are a proxy's.
    pub fn recognize(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Option<Proxy> {
        let (name, until) = self.trust.common_name(chain, now)?;
        let allowed = &self.options.allowed_names;
        (allowed.is_empty() || allowed.contains(&name)).then_some(Proxy { until })
    }

    /// Whom the proxy speaks for; its headers are taken away, so that nobody reads them as somebody's own.
    pub fn user(&self, proxy: &Proxy, headers: &mut HeaderMap, now: Timestamp) -> Option<User> {
        if now > proxy.until {
            return None;
        }
        let all = |headers: &HeaderMap, names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
        };
        let first = |names: &[String]| all(headers, names).into_iter().find(|value| !value.is_empty());
        let name = first(&self.options.username_headers)?;
        let mut user = User {
            name,
            uid: first(&self.options.uid_headers).unwrap_or_default(),
            groups: all(headers, &self.options.group_headers),
            ..User::default()
        };
        let mut used: Vec<HeaderName> = Vec::new();
        for prefix in &self.options.extra_headers_prefixes {
            for header in headers.keys() {
                let Some(key) = header.as_str().strip_prefix(prefix.as_str()) else { continue };
                user.extra.entry(unescape(key)).or_default().extend(all(headers, &[header.to_string()]));
                used.push(header.clone());
            }
        }
        let Options { username_headers, uid_headers, group_headers, .. } = &self.options;
        for name in username_headers.iter().chain(uid_headers).chain(group_headers) {
            headers.remove(name.as_str());
        }
        used.iter().for_each(|header| drop(headers.remove(header)));
        Some(with_authenticated(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_tell_whom_the_proxy_speaks_for() {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
        let named = |name: &str| {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let key = rcgen::KeyPair::generate().unwrap();
            vec![parameters.signed_by(&key, &authority).unwrap().der().clone()]
        };
        let proxy = FrontProxy::new(&authority.pem(), Options::default()).unwrap();
        let now = Timestamp::now();
        assert!(proxy.recognize(&named("somebody"), now).is_none());
        assert!(proxy.recognize(&[], now).is_none());
        let connection = proxy.recognize(&named("front-proxy-client"), now).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "alice"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-acme.com%2fproject", "p"),
            ("accept", "x"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let user = proxy.user(&connection, &mut headers, now).unwrap();
        assert_eq!((user.name.as_str(), user.groups.join(" ").as_str()), ("alice", "a b system:authenticated"));
        assert_eq!(user.extra["acme.com/project"], ["p"]);
        assert_eq!(headers.len(), 1);
        assert!(proxy.user(&connection, &mut headers, now).is_none());
    }
}

//! Makes and verifies the tokens of service accounts, and tells others how to verify them.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::token::Claims;
use crate::authorize::quote_list;

/// How long verifiers may keep the keys, as upstream says in `Cache-Control`.
pub const CACHE_CONTROL: &str = "public, max-age=3600";
pub const KEYS_CONTENT_TYPE: &str = "application/jwk-set+json";

#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error("a key for service account tokens cannot be read: {0}")]
    Key(String),
    #[error("a token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A key that tokens are verified with.
struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
    /// As others are told of it.
    public: Jwk,
}

/// A public key as a JSON Web Key, in the order in which upstream tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Jwk {
    #[serde(rename = "use")]
    usage: &'static str,
    kty: &'static str,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    alg: &'static str,
    #[serde(flatten)]
    numbers: Numbers,
}

/// The numbers of a key, in Base64.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Numbers {
    Rsa { n: String, e: String },
    Curve { x: String, y: String },
}

/// `/openid/v1/jwks`
#[derive(Serialize)]
pub struct Keys<'a> {
    keys: Vec<&'a Jwk>,
}

/// `/.well-known/openid-configuration`
#[derive(Serialize)]
pub struct Configuration<'a> {
    issuer: &'a str,
    jwks_uri: &'a str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
}

/// The issuer of service account tokens.
pub struct Issuer {
    urls: Vec<String>,
    audiences: Vec<String>,
    signing: EncodingKey,
    header: Header,
    verifying: Vec<VerifyingKey>,
    /// Where [`Issuer::keys`] is served.
    keys_url: String,
}

/// A token whose signature and audience are right; whether it still holds is for [`Claims::check`] to say.
pub struct Verified {
    pub claims: Claims,
    pub user: std::sync::Arc<crds::user::User>,
    /// Those that were asked for and that the token is made for.
    pub audiences: Vec<String>,
}

impl Issuer {
    /// `urls`: who we are; the first signs, all are accepted. `audiences`: who we are to tokens; none: the issuer.
    /// `key`: PEM, signs. `older_keys`: PEM, of private or public keys whose tokens are accepted too.
    pub fn new(urls: &[String], audiences: &[String], key: &str, older_keys: &[String]) -> Result<Self, IssuerError> {
        let wrong = |e: &dyn std::fmt::Display| IssuerError::Key(e.to_string());
        let own = verifying_key(key)?;
        let signing = match own.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(key.as_bytes()),
            _ => EncodingKey::from_ec_pem(key.as_bytes()),
        };
        let header = Header { kid: Some(own.public.kid.clone()), typ: None, ..Header::new(own.algorithm) };
        let mut verifying = vec![own];
        for key in older_keys {
            verifying.push(verifying_key(key)?);
        }
        let audiences = if audiences.is_empty() { urls.get(..1).unwrap_or_default() } else { audiences };
        Ok(Self {
            urls: urls.to_vec(),
            audiences: audiences.to_vec(),
            signing: signing.map_err(|e| wrong(&e))?,
            header,
            verifying,
            keys_url: String::new(),
        })
    }

    /// Tells verifiers to fetch the keys there.
    pub fn with_keys_url(mut self, url: impl Into<String>) -> Self {
        self.keys_url = url.into();
        self
    }

    /// Whether others can be told how to verify tokens: only an issuer that is a URL can be asked.
    pub fn is_discoverable(&self) -> bool {
        self.url().starts_with("https://") && !self.url().contains(['?', '#'])
    }

    /// Who we are to tokens.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn url(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    /// The audiences that were asked for and that we are.
    pub fn common(&self, asked: &[String]) -> Vec<String> {
        intersect(asked, &self.audiences)
    }

    pub fn sign(&self, mut claims: Claims) -> Result<String, IssuerError> {
        self.url().clone_into(&mut claims.iss);
        jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(IssuerError::Sign)
    }

    /// None: another's token, or none at all. The error is upstream's.
    pub fn verify(&self, token: &str, asked: &[String]) -> Result<Option<Verified>, String> {
        let Ok(unchecked) = jsonwebtoken::dangerous::insecure_decode::<Claims>(token) else { return Ok(None) };
        if !self.urls.contains(&unchecked.claims.iss) {
            return Ok(None);
        }
        let kid = unchecked.header.kid.as_deref().unwrap_or_default();
        let keys = self.verifying.iter().filter(|key| kid.is_empty() || key.public.kid == kid);
        let mut failure = "invalid signature, no keys found".to_owned();
        for key in keys {
            let mut validation = Validation::new(key.algorithm);
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            validation.validate_aud = false;
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(decoded) => return self.accept(decoded.claims, asked).map(Some),
                Err(_) => failure = "go-jose/go-jose: error in cryptographic primitive".to_owned(),
            }
        }
        Err(failure)
    }

    fn accept(&self, claims: Claims, asked: &[String]) -> Result<Verified, String> {
        // A token without an audience is for the API server alone.
        let own = if claims.aud.is_empty() { &self.audiences } else { &claims.aud };
        let audiences = intersect(asked, own);
        if audiences.is_empty() {
            let (own, asked) = (quote_list(own), quote_list(asked));
            return Err(format!("token audiences {own} is invalid for the target audiences {asked}"));
        }
        let user = claims.user().into();
        Ok(Verified { claims, user, audiences })
    }

    pub fn configuration(&self) -> Configuration<'_> {
        let algorithms: BTreeSet<_> = self.verifying.iter().map(|key| key.public.alg).collect();
        Configuration {
            issuer: self.url(),
            jwks_uri: &self.keys_url,
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: algorithms.into_iter().collect(),
        }
    }

    pub fn keys(&self) -> Keys<'_> {
        Keys { keys: self.verifying.iter().map(|key| &key.public).collect() }
    }
}

fn intersect(asked: &[String], own: &[String]) -> Vec<String> {
    asked.iter().filter(|a| own.contains(a)).cloned().collect()
}

/// The blocks of a PEM file, each by itself.
pub fn split_keys(pem: &str) -> Vec<String> {
    let (mut keys, mut key) = (Vec::new(), String::new());
    for line in pem.lines() {
        key.push_str(line);
        key.push('\n');
        if line.starts_with("-----END ") {
            keys.push(std::mem::take(&mut key));
        }
    }
    keys
}

fn verifying_key(pem: &str) -> Result<VerifyingKey, IssuerError> {
    let wrong = |e: &dyn std::fmt::Display| IssuerError::Key(e.to_string());
    let info = match SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()) {
        Ok(public) => public.to_vec(),
        Err(_) => KeyPair::from_pem(pem).map_err(|e| wrong(&e))?.subject_public_key_info(),
    };
    // Upstream derives the id so that it gives nothing away of the key.
    let id = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&info));
    let (_, parsed) = SubjectPublicKeyInfo::from_der(&info).map_err(|e| wrong(&e))?;
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    match parsed.parsed().map_err(|e| wrong(&e))? {
        PublicKey::RSA(rsa) => {
            let trimmed = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>();
            let (n, e) = (trimmed(rsa.modulus), trimmed(rsa.exponent));
            let numbers = Numbers::Rsa { n: text(&n), e: text(&e) };
            let public = Jwk { usage: "sig", kty: "RSA", kid: id, crv: None, alg: "RS256", numbers };
            Ok(VerifyingKey { algorithm: Algorithm::RS256, key: DecodingKey::from_rsa_raw_components(&n, &e), public })
        }
        PublicKey::EC(point) => {
            let point = point.data().strip_prefix(&[4]).ok_or_else(|| wrong(&"a compressed point"))?;
            let (x, y) = point.split_at(point.len() / 2);
            let (algorithm, name, curve) = match x.len() {
                32 => (Algorithm::ES256, "ES256", "P-256"),
                48 => (Algorithm::ES384, "ES384", "P-384"),
                _ => return Err(wrong(&"a curve that is not supported")),
            };
            let (x, y) = (text(x), text(y));
            let key = DecodingKey::from_ec_components(&x, &y).map_err(|e| wrong(&e))?;
            let numbers = Numbers::Curve { x, y };
            let public = Jwk { usage: "sig", kty: "EC", kid: id, crv: Some(curve), alg: name, numbers };
            Ok(VerifyingKey { algorithm, key, public })
        }
        _ => Err(wrong(&"a kind of key that is not supported")),
    }
}

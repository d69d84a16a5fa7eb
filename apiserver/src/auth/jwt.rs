//! Tokens of issuers outside of the cluster (OpenID Connect): verified with the keys that the issuer publishes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use crds::{field::quote, user::User};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::with_authenticated;
use crate::outbound::{Outbound, OutboundError, Trust};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys are fetched anew for an unknown one, but not more often than this.
const REFRESH_SECONDS_MIN: i64 = 10;
/// As upstream's verifier: a token may be this much younger than its `nbf`.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 300;

type Claims = Map<String, Value>;

/// How the claims of an issuer's tokens become a user.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub issuer: String,
    /// None: below the issuer's URL.
    pub discovery_url: Option<String>,
    /// PEM; none: the authorities of this machine.
    pub authorities: Option<String>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub username_claim: String,
    pub username_prefix: String,
    /// Empty: no groups.
    pub groups_claim: String,
    pub groups_prefix: String,
    /// Empty: no uid.
    pub uid_claim: String,
    pub required_claims: BTreeMap<String, String>,
}

/// Those that upstream takes, as far as they can be verified here.
pub const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

#[derive(Default)]
struct Keys {
    /// None: they were not to be had yet.
    set: Option<Arc<JwkSet>>,
    /// When they were asked for last, in seconds.
    asked: Option<i64>,
}

/// The authenticator of one issuer's tokens.
pub struct JwtAuthenticator {
    configuration: Configuration,
    outbound: Outbound,
    /// Held while they are fetched, so that they are fetched once.
    keys: Mutex<Keys>,
}

impl JwtAuthenticator {
    pub fn new(configuration: Configuration) -> Result<Self, OutboundError> {
        let trust = Trust { authorities: configuration.authorities.clone(), ..Trust::default() };
        Ok(Self { outbound: Outbound::new(&trust, TIMEOUT)?, configuration, keys: Mutex::default() })
    }

    /// None: another's token, or none at all. The error is upstream's.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Option<User>, String> {
        if issuer(token).as_deref() != Some(self.configuration.issuer.as_str()) {
            return Ok(None);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|e| format!("oidc: verify token: {e}"))?;
        if !self.configuration.algorithms.contains(&header.alg) {
            let why = "oidc: id token signed with unsupported algorithm";
            return Err(format!("oidc: verify token: {why}, got {}", quote(&format!("{:?}", header.alg))));
        }
        let kid = header.kid.as_deref().unwrap_or_default();
        let (known, asked) = self.keys(None, now).await?;
        let mut claims = signed(token, kid, header.alg, &known);
        if claims.is_none() {
            let (newer, _) = self.keys(Some(asked), now).await?;
            claims = signed(token, kid, header.alg, &newer);
        }
        let failed = "oidc: verify token: failed to verify signature: failed to verify id token signature";
        let claims = claims.ok_or(failed)?;
        self.configuration.check(&claims, now.as_second())?;
        self.configuration.user(&claims).map(|user| Some(with_authenticated(user)))
    }

    /// The issuer's keys, and when they were asked for. `not_from`: those of then will not do.
    async fn keys(&self, not_from: Option<i64>, now: Timestamp) -> Result<(Arc<JwkSet>, i64), String> {
        let mut keys = self.keys.lock().await;
        let asked = keys.asked.unwrap_or(i64::MIN);
        let wanted = keys.set.is_none() || not_from == Some(asked);
        if wanted && now.as_second().saturating_sub(asked) >= REFRESH_SECONDS_MIN {
            keys.asked = Some(now.as_second());
            match self.fetch().await {
                Ok(set) => keys.set = Some(Arc::new(set)),
                Err(error) => tracing::warn!(%error, issuer = self.configuration.issuer, "keys cannot be fetched"),
            }
        }
        let set = keys.set.clone().ok_or("oidc: authenticator not initialized")?;
        Ok((set, keys.asked.unwrap_or(i64::MIN)))
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let issuer = &self.configuration.issuer;
        let below = || format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let url = self.configuration.discovery_url.clone().unwrap_or_else(below);
        let document = self.outbound.get(&url).await.map_err(|e| e.to_string())?;
        if document["issuer"].as_str() != Some(issuer) {
            let got = document["issuer"].as_str().unwrap_or_default();
            return Err(format!("issuer did not match: expected {}, got {}", quote(issuer), quote(got)));
        }
        let keys = document["jwks_uri"].as_str().ok_or("the discovery document has no jwks_uri")?;
        let set = self.outbound.get(keys).await.map_err(|e| e.to_string())?;
        // A key of a kind that is not known here does not make the others useless.
        let keys = set["keys"].as_array().into_iter().flatten();
        Ok(JwkSet { keys: keys.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok()).collect() })
    }
}

/// Who a token says that it is from, unchecked.
fn issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims["iss"].as_str().map(str::to_owned)
}

/// The claims, if one of the keys has signed them.
fn signed(token: &str, kid: &str, algorithm: Algorithm, keys: &JwkSet) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let matching = keys.keys.iter().filter(|key| kid.is_empty() || key.common.key_id.as_deref() == Some(kid));
    matching.filter_map(|key| DecodingKey::from_jwk(key).ok()).find_map(|key| {
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation).ok()?;
        Some(decoded.claims)
    })
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

impl Configuration {
    /// Whether the token is for us and holds now.
    fn check(&self, claims: &Claims, now: i64) -> Result<(), String> {
        let audiences = claims.get("aud").and_then(texts).unwrap_or_default();
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            let (want, got) = (crate::authorize::quote_list(&self.audiences), crate::authorize::quote_list(&audiences));
            return Err(format!("oidc: verify token: oidc: expected audience in {want} got {got}"));
        }
        let time = |claim: &str| claims.get(claim).and_then(Value::as_f64).map(|seconds| seconds as i64);
        let told = |at: i64| Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default();
        let expiry = time("exp").unwrap_or_default();
        if expiry < now {
            return Err(format!("oidc: verify token: oidc: token is expired (Token Expiry: {})", told(expiry)));
        }
        if let Some(not_before) = time("nbf").filter(|at| now + NOT_BEFORE_LEEWAY_SECONDS < *at) {
            let at = told(not_before);
            return Err(format!(
                "oidc: verify token: oidc: current time {} before the nbf (not before) time: {at}",
                told(now)
            ));
        }
        Ok(())
    }

    fn user(&self, claims: &Claims) -> Result<User, String> {
        let claim = &self.username_claim;
        let name = claims.get(claim).and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("oidc: parse username claims {}: claim not present", quote(claim)))?;
        if claim == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: it is no bool".to_owned()),
            }
        }
        let groups = match claims.get(&self.groups_claim).filter(|_| !self.groups_claim.is_empty()) {
            None => Vec::new(),
            Some(groups) => {
                texts(groups).ok_or_else(|| format!("oidc: parse groups claim {}", quote(&self.groups_claim)))?
            }
        };
        let uid = match self.uid_claim.as_str() {
            "" => String::new(),
            claim => {
                let uid = claims.get(claim).and_then(Value::as_str);
                uid.ok_or_else(|| format!("oidc: parse uid claim {}: claim not present", quote(claim)))?.to_owned()
            }
        };
        for (claim, want) in &self.required_claims {
            let got =
                claims.get(claim).ok_or_else(|| format!("oidc: required claim {claim} not present in ID token"))?;
            let got = got.as_str().ok_or_else(|| format!("oidc: parse claim {claim}: it is no text"))?;
            if got != want {
                return Err(format!("oidc: required claim {claim} value does not match. Got = {got}, want = {want}"));
            }
        }
        Ok(User {
            name: format!("{}{name}", self.username_prefix),
            uid,
            groups: groups.iter().map(|group| format!("{}{group}", self.groups_prefix)).collect(),
            ..User::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration() -> Configuration {
        Configuration {
            issuer: "https://issuer".into(),
            audiences: vec!["us".into(), "them".into()],
            username_claim: "email".into(),
            username_prefix: "oidc:".into(),
            groups_claim: "groups".into(),
            groups_prefix: "oidc:".into(),
            required_claims: [("hd".to_owned(), "example.com".to_owned())].into(),
            ..Configuration::default()
        }
    }

    fn claims(with: Value) -> Claims {
        let mut claims = json!({
            "iss": "https://issuer", "aud": ["x", "us"], "exp": 1000, "email": "a@example.com", "hd": "example.com",
            "groups": ["dev", "ops"],
        });
        for (name, value) in with.as_object().unwrap() {
            claims[name] = value.clone();
        }
        serde_json::from_value(claims).unwrap()
    }

    #[test]
    fn claims_become_a_user() {
        let it = configuration();
        let user = it.user(&claims(json!({}))).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("oidc:a@example.com", vec!["oidc:dev".to_owned(), "oidc:ops".to_owned()])
        );
        let one = it.user(&claims(json!({"groups": "dev", "email_verified": true}))).unwrap();
        assert_eq!(one.groups, ["oidc:dev"]);
        for (with, want) in [
            (json!({"email_verified": false}), "oidc: email not verified"),
            (json!({"groups": 7}), "oidc: parse groups claim \"groups\""),
            (
                json!({"hd": "evil.com"}),
                "oidc: required claim hd value does not match. Got = evil.com, want = example.com",
            ),
            (json!({"email": 7}), "oidc: parse username claims \"email\": claim not present"),
        ] {
            assert_eq!(it.user(&claims(with)).unwrap_err(), want);
        }
    }

    #[test]
    fn tokens_hold_for_us_and_for_a_time() {
        let it = configuration();
        assert_eq!(it.check(&claims(json!({})), 1000), Ok(()));
        assert!(it.check(&claims(json!({})), 1001).unwrap_err().contains("token is expired"));
        assert!(
            it.check(&claims(json!({"aud": "y"})), 1)
                .unwrap_err()
                .contains("expected audience in [\"us\" \"them\"] got [\"y\"]")
        );
        assert!(it.check(&claims(json!({"nbf": 900})), 100).unwrap_err().contains("before the nbf"));
        assert_eq!(it.check(&claims(json!({"nbf": 400})), 100), Ok(()));
    }
}

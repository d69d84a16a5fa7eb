//! Who makes a request: client certificates, bearer tokens, or nobody; and whom it says to be.

use std::{future::Future, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use crds::user::User;
use http::{
    HeaderMap,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::error::{ApiError, Result};

pub mod bootstrap_token;
pub mod certificate;
pub mod config;
pub mod front_proxy;
pub mod impersonate;
pub mod issuer;
pub mod jwt;
pub mod review;
pub mod static_token;
pub mod token;
pub mod token_cache;
pub mod token_request;
pub mod webhook;

use certificate::Peer;

/// The key of `extra` that tells credentials of one user apart.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// A token may come as a WebSocket protocol, for browsers cannot set headers.
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// What must be known of an object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    pub uid: String,
    pub deleted_at: Option<Timestamp>,
}

/// How authentication sees the cluster.
pub trait Lookup: Send + Sync {
    /// An object of the core group (`serviceaccounts`, `pods`, `nodes`, `secrets`). Whoever has a cache looks there
    /// first, and asks the store before it says that there is none.
    fn bound(&self, resource: &str, namespace: &str, name: &str) -> impl Future<Output = Option<Bound>> + Send;

    /// The whole object, as the store has it; NotFound if there is none.
    fn object(&self, resource: &str, namespace: &str, name: &str) -> impl Future<Output = Result<Value>> + Send;
}

/// Whom a token stands for, and for which of the audiences that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Bearer {
    pub user: Arc<User>,
    pub audiences: Vec<String>,
}

/// The authenticators of an API server.
pub struct Authenticator {
    pub issuer: issuer::Issuer,
    pub static_tokens: static_token::StaticTokens,
    /// Whether Secrets of type `bootstrap.kubernetes.io/token` count.
    pub bootstrap_tokens: bool,
    /// Whether requests without credentials are let through to authorization.
    pub anonymous: bool,
    /// If given, only to these paths.
    pub anonymous_paths: Option<Vec<String>>,
    /// Of tokens from outside of the cluster.
    pub issuers: Vec<jwt::JwtAuthenticator>,
    pub webhook: Option<webhook::WebhookTokens>,
    pub front_proxy: Option<front_proxy::FrontProxy>,
    cache: token_cache::TokenCache,
    nobody: Arc<User>,
}

impl Authenticator {
    pub fn new(issuer: issuer::Issuer) -> Self {
        Self {
            issuer,
            static_tokens: static_token::StaticTokens::default(),
            bootstrap_tokens: false,
            anonymous: true,
            anonymous_paths: None,
            issuers: Vec::new(),
            webhook: None,
            front_proxy: None,
            cache: token_cache::TokenCache::default(),
            nobody: Arc::new(User::named(User::ANONYMOUS, &[User::UNAUTHENTICATED])),
        }
    }

    /// The user of a request. Whoever shows credentials that do not hold is refused, not taken for nobody.
    pub async fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        lookup: &impl Lookup,
        now: Timestamp,
    ) -> Result<Arc<User>> {
        let certificate = peer.user(now);
        if let Ok(Some(user)) = certificate {
            return Ok(user);
        }
        match bearer_token(headers) {
            Ok(Some(token)) => match self.token(&token, self.issuer.audiences(), lookup, now).await {
                Ok(Some(bearer)) => Ok(bearer.user),
                Ok(None) | Err(_) => Err(ApiError::unauthorized()),
            },
            Ok(None) if certificate.is_ok() && self.anonymous => Ok(Arc::clone(&self.nobody)),
            Ok(None) | Err(_) => Err(ApiError::unauthorized()),
        }
    }

    /// Whoever shows no credentials.
    fn nobody(&self, audiences: &[String]) -> Bearer {
        Bearer { user: Arc::clone(&self.nobody), audiences: audiences.to_vec() }
    }

    /// The bearer of a token that says nothing of audiences: it is for the API server alone.
    fn for_us(&self, user: Arc<User>, audiences: &[String]) -> Option<Bearer> {
        let audiences = self.issuer.common(audiences);
        (!audiences.is_empty()).then_some(Bearer { user, audiences })
    }

    /// Whom this token stands for; none if no authenticator knows it. The error tells why one that knows it refuses.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        lookup: &impl Lookup,
        now: Timestamp,
    ) -> std::result::Result<Option<Bearer>, String> {
        if let Some(user) = self.static_tokens.find(token) {
            return Ok(self.for_us(user, audiences));
        }
        if self.bootstrap_tokens
            && let Some(user) = bootstrap_token::find(token, lookup, now).await
        {
            return Ok(self.for_us(user, audiences));
        }
        let mut refusals = Vec::new();
        match self.service_account(token, audiences, lookup, now).await {
            Ok(None) => {}
            Ok(Some(bearer)) => return Ok(Some(bearer)),
            Err(why) => refusals.push(why),
        }
        for issuer in &self.issuers {
            match issuer.verify(token, now).await {
                Ok(None) => {}
                Ok(Some(user)) => return Ok(self.for_us(Arc::new(user), audiences)),
                Err(why) => refusals.push(why),
            }
        }
        if let Some(webhook) = &self.webhook {
            match webhook.find(token, audiences, self.issuer.audiences(), now).await {
                Ok(None) => {}
                Ok(Some(bearer)) => return Ok(Some(bearer)),
                Err(why) => refusals.push(why),
            }
        }
        if refusals.is_empty() { Ok(None) } else { Err(refusals.join(", ")) }
    }

    /// Whether somebody without credentials may ask for this path.
    pub fn admits_anonymous(&self, path: &str) -> bool {
        self.anonymous_paths.as_ref().is_none_or(|paths| paths.iter().any(|known| known == path))
    }

    async fn service_account(
        &self,
        token: &str,
        audiences: &[String],
        lookup: &impl Lookup,
        now: Timestamp,
    ) -> std::result::Result<Option<Bearer>, String> {
        let verified = match self.cache.get(token, audiences, now) {
            Some(verified) => verified,
            None => {
                let Some(verified) = self.issuer.verify(token, audiences)? else { return Ok(None) };
                let verified = Arc::new(verified);
                self.cache.put(token, audiences, &verified, now);
                verified
            }
        };
        // What a token is bound to is looked up each time: it dies with its pod.
        verified.claims.check(lookup, now).await?;
        Ok(Some(Bearer { user: Arc::clone(&verified.user), audiences: verified.audiences.clone() }))
    }
}

/// The group that all who are known are in, unless they are said to be unknown.
fn with_authenticated(mut user: User) -> User {
    if user.name != User::ANONYMOUS && !user.is_in(User::AUTHENTICATED) && !user.is_in(User::UNAUTHENTICATED) {
        user.groups.push(User::AUTHENTICATED.to_owned());
    }
    user
}

/// Other schemes, as Basic, count as no credentials.
fn bearer_token(headers: &HeaderMap) -> std::result::Result<Option<String>, &'static str> {
    let authorization = headers.get(AUTHORIZATION).map(|v| String::from_utf8_lossy(v.as_bytes()).trim().to_owned());
    if let Some(authorization) = authorization {
        let mut parts = authorization.splitn(3, ' ');
        let scheme = parts.next().unwrap_or_default();
        if let Some(token) = parts.next().filter(|t| !t.is_empty() && scheme.eq_ignore_ascii_case("bearer")) {
            return Ok(Some(token.to_owned()));
        }
    }
    websocket_token(headers)
}

fn websocket_token(headers: &HeaderMap) -> std::result::Result<Option<String>, &'static str> {
    let upgrade = headers.get(http::header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrade {
        return Ok(None);
    }
    let listed = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|v| v.to_str().ok());
    let protocols: Vec<&str> = listed.flat_map(|v| v.split(',')).map(str::trim).collect();
    let tokens: Vec<_> = protocols.iter().filter_map(|p| p.strip_prefix(WEBSOCKET_TOKEN)).collect();
    match tokens.as_slice() {
        [] | [""] => Ok(None),
        [encoded] if protocols.len() > 1 => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| "the token is not in base64")?;
            String::from_utf8(bytes).map(Some).map_err(|_| "the token is no text")
        }
        [_] => Err("a protocol beside the token is missing"),
        _ => Err("several tokens"),
    }
}

#[cfg(test)]
mod tests;

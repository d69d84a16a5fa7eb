//! Who asks: by a certificate of the cluster's authority, or by a token that the cluster knows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{Request, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::tls::Certificate;
use crate::agent::Agent;

/// How long a token that was found good is believed, and how many are remembered.
const MEMORY: Duration = Duration::from_secs(120);
const MEMORY_MAX: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
}

pub struct Authenticator {
    agent: Arc<Agent>,
    /// By digest: tokens themselves are not kept.
    tokens: Mutex<HashMap<[u8; 32], (User, Instant)>>,
}

impl Authenticator {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, tokens: Mutex::default() }
    }

    /// The user, `None` for nobody.
    pub async fn user<B>(&self, request: &Request<B>, certificates: &[Certificate]) -> Option<User> {
        if let Some(user) = certificates.first().and_then(subject) {
            return Some(user);
        }
        let token = request.headers().get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()?.strip_prefix("Bearer "));
        match token {
            Some(token) => self.token(token.trim()).await,
            None if self.agent.config.anonymous_auth => {
                Some(User { name: "system:anonymous".into(), uid: None, groups: vec!["system:unauthenticated".into()] })
            }
            None => None,
        }
    }

    async fn token(&self, token: &str) -> Option<User> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some((user, _)) = self.tokens.lock().get(&digest).filter(|(_, until)| *until > Instant::now()) {
            return Some(user.clone());
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..Default::default() };
        let api: Api<TokenReview> = Api::all(self.agent.client.clone());
        let status = api.create(&PostParams::default(), &review).await.ok()?.status?;
        let found = status.user.filter(|_| status.authenticated == Some(true))?;
        let user =
            User { name: found.username.unwrap_or_default(), uid: found.uid, groups: found.groups.unwrap_or_default() };
        let mut tokens = self.tokens.lock();
        tokens.retain(|_, (_, until)| *until > Instant::now());
        if tokens.len() < MEMORY_MAX {
            tokens.insert(digest, (user.clone(), Instant::now() + MEMORY));
        }
        Some(user)
    }
}

/// A certificate that TLS has verified names its user in the common name, the groups as organizations.
fn subject(certificate: &Certificate) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned);
    Some(User { name, uid: None, groups: groups.chain(["system:authenticated".to_owned()]).collect() })
}

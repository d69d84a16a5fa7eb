//! Another server, over TLS, in this process; and what asks it: reviews of tokens and access, keys of issuers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crds::user::User;
use hyper::service::service_fn;
use hyper_util::{rt::TokioIo, server::conn::auto};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    auth::{
        issuer::Issuer,
        jwt::{ALGORITHMS, Configuration, JwtAuthenticator},
        token::Claims,
        webhook as tokens,
    },
    authorize::{Attributes, webhook as access},
};

/// Answers requests by their path and body; counts them.
struct Other {
    url: String,
    authority: String,
    asked: Arc<AtomicU32>,
}

impl Other {
    async fn start(answer: impl Fn(&str, &str, Value) -> Value + Send + Sync + 'static) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![own.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let (acceptor, answer, counted, own_url) =
            (TlsAcceptor::from(Arc::new(tls)), Arc::new(answer), asked.clone(), url.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (answer, counted, url) = (answer.clone(), counted.clone(), own_url.clone());
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (answer, counted, url) = (answer.clone(), counted.clone(), url.clone());
                    async move {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let said = answer(&url, &path, serde_json::from_slice(&body).unwrap_or_default());
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(said.to_string()))))
                    }
                });
                tokio::spawn(async move {
                    drop(
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await,
                    );
                });
            }
        });
        Self { url, authority: authority.pem(), asked }
    }

    fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let file = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": format!("{}/review", self.url), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        std::fs::write(folder.join("ca.pem"), &self.authority).unwrap();
        let path = folder.join("kubeconfig");
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_token_of_another_issuer_is_verified_with_its_keys() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let issuer = Issuer::new(&["x".to_owned()], &[], &key, &[]).unwrap();
    let keys = serde_json::to_value(issuer.keys()).unwrap();
    let other = Other::start(move |url, path, _| match path {
        "/.well-known/openid-configuration" => json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
        _ => keys.clone(),
    });
    let other = other.await;
    let signer = Issuer::new(std::slice::from_ref(&other.url), &[], &key, &[]).unwrap();
    let now = Timestamp::now();
    let claims = |audience: &str| Claims {
        aud: vec![audience.into()],
        exp: Some(now.as_second() + 60),
        sub: "alice".into(),
        ..Claims::default()
    };
    let authenticator = JwtAuthenticator::new(Configuration {
        issuer: other.url.clone(),
        authorities: Some(other.authority.clone()),
        audiences: vec!["us".into()],
        algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        username_claim: "sub".into(),
        username_prefix: "x:".into(),
        ..Configuration::default()
    });
    let authenticator = authenticator.unwrap();
    for _ in 0..2 {
        let user = authenticator.verify(&signer.sign(claims("us")).unwrap(), now).await.unwrap().unwrap();
        assert_eq!(user.name, "x:alice");
    }
    assert_eq!(other.asked(), 2, "the document and the keys, once");
    assert!(authenticator.verify(&signer.sign(claims("them")).unwrap(), now).await.is_err());
    let forger = KeyPair::generate().unwrap().serialize_pem();
    let forger = Issuer::new(std::slice::from_ref(&other.url), &[], &forger, &[]).unwrap();
    assert!(authenticator.verify(&forger.sign(claims("us")).unwrap(), now).await.is_err());
    assert_eq!(other.asked(), 2, "nobody makes us ask all the time");
    assert_eq!(authenticator.verify("no.token", now).await, Ok(None));
}

#[tokio::test]
async fn reviews_are_sent_and_their_answers_kept() {
    let other = Other::start(|_, _, review| match review["kind"].as_str() {
        Some("TokenReview") if review["spec"]["token"] == "good" => {
            json!({"status": {"authenticated": true, "user": {"username": "alice"}}})
        }
        Some("TokenReview") => json!({"status": {"authenticated": false}}),
        _ => json!({"status": {"allowed": review["spec"]["user"] == "alice", "reason": "as it likes"}}),
    });
    let other = other.await;
    let folder = tempfile::tempdir().unwrap();
    let config_file = other.kubeconfig(folder.path());
    let options =
        tokens::Options { config_file: config_file.clone(), version: "v1".into(), cache_ttl: Duration::from_secs(60) };
    let (webhook, us, now) = (tokens::WebhookTokens::new(&options).unwrap(), ["us".to_owned()], Timestamp::now());
    for _ in 0..2 {
        let bearer = webhook.find("good", &us, &us, now).await.unwrap().unwrap();
        assert_eq!(bearer.user.name, "alice");
        assert_eq!(webhook.find("bad", &us, &us, now).await, Ok(None));
    }
    assert_eq!(other.asked(), 2);
    let authorizer = access::WebhookAuthorizer::new(&access::Options::new(config_file)).unwrap();
    for (name, want) in [("alice", true), ("bob", false), ("alice", true)] {
        let user = User::named(name, &[]);
        let decision = authorizer.decide(&Attributes::path(&user, "get", "/x")).await;
        assert_eq!((decision.allowed(), decision.reason().as_str()), (want, "as it likes"));
    }
    assert_eq!(other.asked(), 4);
}

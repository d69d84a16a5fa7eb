//! An authorizer elsewhere, that is asked with SubjectAccessReviews; its answers are kept for a while.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Attributes, Decision, Target, Why};
use crate::outbound::{OutboundError, Reviewer};

const ENTRIES_MAX: usize = 8192;
/// What is longer is not worth keeping.
const KEY_BYTES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A kubeconfig.
    pub config_file: PathBuf,
    /// Of `authorization.k8s.io`: `v1` or `v1beta1`.
    pub version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub timeout: Duration,
    /// Whether nobody is allowed anything when no answer is to be had; else the next authorizer decides.
    pub denies_on_failure: bool,
}

impl Options {
    pub fn new(config_file: PathBuf) -> Self {
        Self {
            config_file,
            version: "v1beta1".to_owned(),
            authorized_ttl: Duration::from_secs(5 * 60),
            unauthorized_ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            denies_on_failure: false,
        }
    }
}

#[derive(Clone)]
pub struct WebhookAuthorizer(Arc<Inner>);

struct Inner {
    reviewer: Reviewer,
    options: Options,
    /// By the spec that was asked with; until when it holds.
    answers: Mutex<HashMap<String, (Instant, Decision)>>,
}

impl WebhookAuthorizer {
    pub fn new(options: &Options) -> Result<Self, OutboundError> {
        let reviewer = Reviewer::read(&options.config_file, options.timeout)?;
        Ok(Self(Arc::new(Inner { reviewer, options: options.clone(), answers: Mutex::default() })))
    }

    pub async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(attributes, &self.0.options.version);
        self.0.ask(spec).await
    }

    /// From where nobody can wait but the whole thread.
    pub fn decide_now(&self, attributes: &Attributes) -> Decision {
        let spec = spec(attributes, &self.0.options.version);
        if let Some(known) = self.0.known(&spec.to_string()) {
            return known;
        }
        let inner = self.0.clone();
        let multi = Handle::try_current().ok().filter(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        match multi {
            Some(handle) => tokio::task::block_in_place(|| handle.block_on(inner.ask(spec))),
            None => {
                tracing::error!("the authorization webhook cannot be waited for here");
                self.0.failed()
            }
        }
    }
}

impl Inner {
    fn failed(&self) -> Decision {
        if self.options.denies_on_failure { Decision::Deny(String::new()) } else { Decision::NoOpinion(String::new()) }
    }

    fn known(&self, key: &str) -> Option<Decision> {
        let answers = self.answers.lock();
        answers.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, decision)| decision.clone())
    }

    async fn ask(&self, spec: Value) -> Decision {
        let key = spec.to_string();
        if let Some(known) = self.known(&key) {
            return known;
        }
        let review = json!({
            "apiVersion": format!("authorization.k8s.io/{}", self.options.version),
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": spec,
        });
        let decision = match self.reviewer.review(&review).await {
            Ok(review) => read(&review["status"]),
            Err(error) => {
                tracing::error!(%error, "access cannot be reviewed");
                return self.failed();
            }
        };
        let ttl = if decision.allowed() { self.options.authorized_ttl } else { self.options.unauthorized_ttl };
        if key.len() <= KEY_BYTES_MAX && !ttl.is_zero() {
            self.keep(key, Instant::now() + ttl, decision.clone());
        }
        decision
    }

    fn keep(&self, key: String, until: Instant, decision: Decision) {
        let mut answers = self.answers.lock();
        if answers.len() >= ENTRIES_MAX {
            let now = Instant::now();
            answers.retain(|_, (until, _)| now < *until);
        }
        if answers.len() >= ENTRIES_MAX {
            answers.clear();
        }
        answers.insert(key, (until, decision));
    }
}

/// What a `status` says.
fn read(status: &Value) -> Decision {
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    match (status["denied"] == true, status["allowed"] == true) {
        (true, _) => Decision::Deny(reason),
        (false, true) => Decision::Allow(Why::Told(reason)),
        (false, false) => Decision::NoOpinion(reason),
    }
}

/// The `spec` of a review; what is empty is left out.
fn spec(attributes: &Attributes, version: &str) -> Value {
    let texts = |pairs: &[(&str, &str)]| -> Value {
        let given = pairs.iter().filter(|(_, text)| !text.is_empty());
        given.map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect::<Map<_, _>>().into()
    };
    let user = attributes.user;
    let mut spec = texts(&[("user", &user.name), ("uid", &user.uid)]);
    if !user.groups.is_empty() {
        let name = if version == "v1beta1" { "group" } else { "groups" };
        spec[name] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    match attributes.target {
        Target::Path(path) => {
            spec["nonResourceAttributes"] = texts(&[("path", path), ("verb", attributes.verb)]);
        }
        Target::Resource(on) => {
            spec["resourceAttributes"] = texts(&[
                ("namespace", on.namespace),
                ("verb", attributes.verb),
                ("group", on.group),
                ("version", on.version),
                ("resource", on.resource),
                ("subresource", on.subresource),
                ("name", on.name),
            ]);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use crds::user::User;

    use super::*;
    use crate::authorize::Resource;

    #[test]
    fn what_is_asked_and_what_is_answered() {
        let user = User::named("alice", &["g"]);
        let on = Resource { version: "v1", resource: "pods", namespace: "n", ..Resource::default() };
        let asked = spec(&Attributes::resource(&user, "list", on), "v1");
        let attributes = json!({"namespace": "n", "verb": "list", "version": "v1", "resource": "pods"});
        assert_eq!(asked, json!({"user": "alice", "groups": ["g"], "resourceAttributes": attributes}));
        assert_eq!(spec(&Attributes::path(&user, "get", "/x"), "v1beta1")["group"], json!(["g"]));
        for (status, want) in [
            (json!({"allowed": true, "reason": "r"}), (true, "r")),
            (json!({"allowed": true, "denied": true, "reason": "d"}), (false, "d")),
            (json!({"allowed": false}), (false, "")),
        ] {
            let decision = read(&status);
            assert_eq!((decision.allowed(), decision.reason().as_str()), want);
        }
    }
}

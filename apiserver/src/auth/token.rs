//! The tokens of service accounts: what one claims, and whether what it is bound to is still there.

use crds::user::User;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Bound, CREDENTIAL_ID, Lookup, with_authenticated};

/// Clocks may differ by so much.
const LEEWAY_SECONDS: i64 = 60;

/// A name and the uid that it had when the token was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kubernetes {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    /// Seconds; a token that is used later should have been replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    pub exp: Option<i64>,
    pub iat: Option<i64>,
    pub iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    pub nbf: Option<i64>,
    pub sub: String,
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(from)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

impl Claims {
    /// The user that the token stands for.
    pub fn user(&self) -> User {
        let Kubernetes { namespace, node, pod, serviceaccount, .. } = &self.kubernetes;
        let mut user = User {
            name: format!("system:serviceaccount:{namespace}:{}", serviceaccount.name),
            uid: serviceaccount.uid.clone(),
            groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
            ..User::default()
        };
        let mut tell = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
            }
        };
        if let Some(pod) = pod.as_ref().filter(|p| !p.name.is_empty() && !p.uid.is_empty()) {
            tell("pod-name", &pod.name);
            tell("pod-uid", &pod.uid);
        }
        if let Some(node) = node.as_ref().filter(|n| !n.name.is_empty()) {
            tell("node-name", &node.name);
            tell("node-uid", &node.uid);
        }
        if let Some(jti) = self.jti.as_ref().filter(|j| !j.is_empty()) {
            user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={jti}")]);
        }
        with_authenticated(user)
    }

    /// Whether the token holds now; the error is upstream's.
    pub async fn check(&self, lookup: &impl Lookup, now: Timestamp) -> Result<(), String> {
        self.check_times(now.as_second())?;
        let Kubernetes { namespace, node, pod, secret, serviceaccount, .. } = &self.kubernetes;
        let gone = |at: Option<Timestamp>| at.is_some_and(|at| at.as_second() < now.as_second() - LEEWAY_SECONDS);

        let name = &serviceaccount.name;
        let account = lookup.bound("serviceaccounts", namespace, name).await;
        let account = account.ok_or_else(|| format!("serviceaccounts {} not found", crds::field::quote(name)))?;
        if account.uid != serviceaccount.uid {
            return Err(format!("service account UID ({}) does not match claim ({})", account.uid, serviceaccount.uid));
        }
        if gone(account.deleted_at) {
            return Err(format!("service account {namespace}/{name} has been deleted"));
        }
        // A pod's token names its node, too, but does not depend on it.
        let node = node.as_ref().filter(|_| pod.is_none());
        let bound = [
            ("secrets", "secret", namespace.as_str(), secret.as_ref()),
            ("pods", "pod", namespace, pod.as_ref()),
            ("nodes", "node", "", node),
        ];
        for (resource, noun, namespace, reference) in bound {
            let Some(reference) = reference else { continue };
            let found = lookup.bound(resource, namespace, &reference.name).await;
            check_bound(found, reference, noun, gone)?;
        }
        Ok(())
    }

    fn check_times(&self, now: i64) -> Result<(), String> {
        let told = if self.nbf.is_some_and(|nbf| now + LEEWAY_SECONDS < nbf) {
            "service account token is not valid yet"
        } else if self.exp.is_some_and(|exp| now - LEEWAY_SECONDS > exp) {
            "service account token has expired"
        } else if self.iat.is_some_and(|iat| now + LEEWAY_SECONDS < iat) {
            "service account token is issued in the future"
        } else {
            return Ok(());
        };
        Err(told.to_owned())
    }
}

fn check_bound(
    found: Option<Bound>,
    reference: &Reference,
    noun: &str,
    gone: impl Fn(Option<Timestamp>) -> bool,
) -> Result<(), String> {
    let invalidated = "service account token has been invalidated";
    let found = found.ok_or(invalidated)?;
    if found.uid != reference.uid {
        let (is, was) = (&found.uid, &reference.uid);
        return Err(format!("{noun} UID ({is}) does not match service account {noun} ref claim ({was})"));
    }
    if gone(found.deleted_at) { Err(invalidated.to_owned()) } else { Ok(()) }
}

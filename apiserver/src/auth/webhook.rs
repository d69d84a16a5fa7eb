//! Tokens that another server is asked about, with TokenReviews; its answers are kept for a while.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use crds::user::User;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Bearer, with_authenticated};
use crate::outbound::{OutboundError, Reviewer};

const ENTRIES_MAX: usize = 32_768;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Options {
    /// A kubeconfig.
    pub config_file: PathBuf,
    /// Of `authentication.k8s.io`: `v1` or `v1beta1`.
    pub version: String,
    pub cache_ttl: Duration,
}

type Key = [u8; 32];
type Answer = Result<Option<Bearer>, String>;

pub struct WebhookTokens {
    reviewer: Reviewer,
    version: String,
    ttl_seconds: i64,
    /// Keyed by a digest, so that no token stays in memory; with the second in which it was asked for.
    answers: Mutex<HashMap<Key, (i64, Answer)>>,
}

fn key(token: &str, audiences: &[String]) -> Key {
    let mut digest = Sha256::new();
    for text in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

impl WebhookTokens {
    pub fn new(options: &Options) -> Result<Self, OutboundError> {
        Ok(Self {
            reviewer: Reviewer::read(&options.config_file, TIMEOUT)?,
            version: options.version.clone(),
            ttl_seconds: i64::try_from(options.cache_ttl.as_secs()).unwrap_or(i64::MAX),
            answers: Mutex::default(),
        })
    }

    /// Whom the other server takes the token for. `own`: who we are, if it does not say for whom the token is.
    pub async fn find(&self, token: &str, audiences: &[String], own: &[String], now: Timestamp) -> Answer {
        let key = key(token, audiences);
        let fresh = |since: i64| (0..self.ttl_seconds).contains(&now.as_second().saturating_sub(since));
        if let Some((_, answer)) = self.answers.lock().get(&key).filter(|(since, _)| fresh(*since)) {
            return answer.clone();
        }
        let review = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token, "audiences": audiences},
        });
        let reviewed = self.reviewer.review(&review).await;
        let status = match reviewed {
            Ok(mut review) => review["status"].take(),
            Err(error) => {
                tracing::error!(%error, "a token cannot be reviewed");
                return Err(error.to_string());
            }
        };
        let answer = read(&status, audiences, own);
        let mut answers = self.answers.lock();
        if answers.len() >= ENTRIES_MAX {
            answers.retain(|_, (since, _)| fresh(*since));
        }
        if answers.len() >= ENTRIES_MAX {
            answers.clear();
        }
        answers.insert(key, (now.as_second(), answer.clone()));
        answer
    }
}

/// What a `status` says.
fn read(status: &Value, asked: &[String], own: &[String]) -> Answer {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = texts(&status["audiences"]);
    let held = if told.is_empty() { own } else { &told };
    let audiences: Vec<String> = asked.iter().filter(|audience| held.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        return Ok(None);
    }
    if status["authenticated"] != true {
        return match status["error"].as_str().unwrap_or_default() {
            "" => Ok(None),
            why => Err(why.to_owned()),
        };
    }
    let user = &status["user"];
    let extra = user["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values)));
    let user = User {
        name: text(&user["username"]),
        uid: text(&user["uid"]),
        groups: texts(&user["groups"]),
        extra: extra.collect(),
    };
    Ok(Some(Bearer { user: Arc::new(with_authenticated(user)), audiences }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let us = ["us".to_owned()];
        let user = json!({"username": "a", "uid": "u", "groups": ["g"], "extra": {"k": ["v"]}});
        let known = read(&json!({"authenticated": true, "user": user}), &us, &us).unwrap().unwrap();
        assert_eq!(
            (known.user.name.as_str(), &known.user.groups[0], &known.user.extra["k"]),
            ("a", &"g".to_owned(), &vec!["v".to_owned()])
        );
        assert_eq!(read(&json!({"authenticated": true, "user": user, "audiences": ["them"]}), &us, &us), Ok(None));
        assert_eq!(read(&json!({"authenticated": false}), &us, &us), Ok(None));
        assert_eq!(read(&json!({"error": "no"}), &us, &us), Err("no".to_owned()));
    }
}

//! TokenReview and SelfSubjectReview: whom a token stands for, and who I am.

use crds::user::User;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Authenticator, Lookup};
use crate::error::{ApiError, Result};

const UNKNOWN: &str = "invalid bearer token";

/// Answers a TokenReview.
pub async fn token(
    authenticator: &Authenticator,
    lookup: &impl Lookup,
    mut review: Value,
    now: Timestamp,
) -> Result<Value> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = review["spec"]["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let asked: Vec<String> = asked.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let audiences = if asked.is_empty() { authenticator.issuer.audiences() } else { &asked };
    let answer = match read_as_header(token) {
        Some(token) => authenticator.token(&token, audiences, lookup, now).await,
        // Whoever shows no token is nobody, and upstream says so here, too.
        None if authenticator.anonymous => Ok(Some(authenticator.nobody(audiences))),
        None => Ok(None),
    };
    review["status"] = match answer {
        Ok(Some(bearer)) if bearer.audiences.is_empty() => {
            return Err(ApiError::internal("authentication system is not audience aware"));
        }
        Ok(Some(bearer)) => {
            json!({"authenticated": true, "user": info(&bearer.user), "audiences": bearer.audiences})
        }
        Ok(None) => json!({"error": UNKNOWN, "user": {}}),
        // Upstream's own loopback authenticator is asked first, and its refusal is told, too.
        Err(why) => json!({"error": format!("[{UNKNOWN}, {why}]"), "user": {}}),
    };
    Ok(review)
}

/// Upstream puts the token into a header and has that read: only its first word counts.
fn read_as_header(token: &str) -> Option<String> {
    let token = token.trim_end();
    token.split(' ').next().filter(|word| !word.is_empty()).map(str::to_owned)
}

/// Answers a SelfSubjectReview of this user.
pub fn own(user: &User, now: Timestamp) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "SelfSubjectReview",
        "metadata": {"creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
        "status": {"userInfo": info(user)},
    })
}

/// A user as `UserInfo`: what is empty is left out.
pub fn info(user: &User) -> Value {
    let mut info = Map::new();
    let mut tell = |field: &str, value: Value, given: bool| {
        if given {
            info.insert(field.to_owned(), value);
        }
    };
    tell("username", user.name.as_str().into(), !user.name.is_empty());
    tell("uid", user.uid.as_str().into(), !user.uid.is_empty());
    tell("groups", json!(user.groups), !user.groups.is_empty());
    tell("extra", json!(user.extra), !user.extra.is_empty());
    info.into()
}

//! Bootstrap tokens: Secrets of kube-system that let a machine join. `abcdef.0123456789abcdef`

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::user::User;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Lookup, with_authenticated};

const GROUP: &str = "system:bootstrappers";

/// Whom the token stands for, if its Secret says that it may be used for authentication.
pub async fn find(token: &str, lookup: &impl Lookup, now: Timestamp) -> Option<Arc<User>> {
    let (id, secret) = parse(token)?;
    let object = lookup.object("secrets", "kube-system", &format!("bootstrap-token-{id}")).await.ok()?;
    user(&object, id, secret, now).map(Arc::new)
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn user(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<User> {
    let data = |key: &str| {
        let bytes = BASE64_STANDARD.decode(object["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let right = Sha256::digest(data("token-secret")?) == Sha256::digest(secret)
        && object["type"] == "bootstrap.kubernetes.io/token"
        && object["metadata"]["deletionTimestamp"].is_null()
        && data("token-id").as_deref() == Some(id)
        && data("usage-bootstrap-authentication").as_deref() == Some("true");
    let ended = data("expiration").is_some_and(|at| at.parse::<Timestamp>().map_or(true, |at| at <= now));
    if !right || ended {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups").unwrap_or_default().split(',').map(str::trim).filter(|g| !g.is_empty()) {
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(with_authenticated(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() }))
}

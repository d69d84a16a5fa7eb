//! Credentials for registries, from the secrets that a pod names.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::name::repository;

/// What one registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    pub username: String,
    pub password: String,
    pub token: String,
}

impl std::fmt::Debug for Auth {
    /// Secrets are not printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Tells credentials apart without keeping them.
    pub fn fingerprint(&self) -> String {
        let text = [&self.username, &self.password, &self.token].map(|t| format!("{}:{t}", t.len())).concat();
        Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl From<Auth> for cri::AuthConfig {
    fn from(auth: Auth) -> Self {
        Self { username: auth.username, password: auth.password, identity_token: auth.token, ..Default::default() }
    }
}

/// The credentials that fit an image, those for the longest path first.
pub fn lookup(secrets: &[Arc<Secret>], image: &str) -> Vec<Auth> {
    let (registry, path) = repository(image);
    let mut fitting: Vec<(usize, Auth)> = Vec::new();
    for secret in secrets {
        for (place, auth) in entries(secret) {
            if fits(&place, &registry, &path) && !fitting.iter().any(|(_, a)| *a == auth) {
                fitting.push((place.len(), auth));
            }
        }
    }
    fitting.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> Vec<(String, Auth)> {
    let data = secret.data.as_ref();
    let parse = |key: &str| -> Option<Value> { serde_json::from_slice(&data?.get(key)?.0).ok() };
    let all = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => parse(".dockerconfigjson").map(|mut v| v["auths"].take()),
        Some("kubernetes.io/dockercfg") => parse(".dockercfg"),
        _ => None,
    };
    let Some(Value::Object(all)) = all else { return Vec::new() };
    all.into_iter().filter_map(|(place, entry)| Some((place, auth(&entry)?))).collect()
}

fn auth(entry: &Value) -> Option<Auth> {
    let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if let Some(encoded) = entry["auth"].as_str().filter(|a| !a.is_empty()) {
        let plain = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, secret) = plain.split_once(':')?;
        (username, password) = (user.into(), secret.trim_end_matches('\0').into());
    }
    Some(Auth { username, password, token: text("identitytoken") })
}

/// Whether a key of the configuration (a host, maybe with a path, maybe a URL, maybe `*.host`) covers an image.
fn fits(place: &str, registry: &str, path: &str) -> bool {
    let place = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, below) = place.split_once('/').unwrap_or((place, ""));
    let below = if matches!(below, "v1" | "v2") { "" } else { below };
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let same = host == registry || hub.contains(&host) && hub.contains(&registry) || wildcard(host, registry);
    same && (below.is_empty() || path == below || path.strip_prefix(below).is_some_and(|r| r.starts_with('/')))
}

fn wildcard(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len()
        && pattern.iter().zip(&host).all(|(p, h)| match p.split_once('*') {
            Some((before, after)) => {
                h.len() >= before.len() + after.len() && h.starts_with(before) && h.ends_with(after)
            }
            None => p == h,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places() {
        for (place, image, want) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("r.io", "r.io/a/b:1", true),
            ("r.io/a", "r.io/a/b", true),
            ("r.io/a", "r.io/ab", false),
            ("*.r.io", "x.r.io/a", true),
            ("*.r.io", "r.io/a", false),
            ("other", "r.io/a", false),
        ] {
            let config = json!({"auths": {place: {"auth": STANDARD.encode("u:p:q")}}}).to_string();
            let secret: Secret = serde_json::from_value(json!({"type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": STANDARD.encode(config)}}))
            .unwrap();
            let found = lookup(&[Arc::new(secret)], image);
            assert_eq!(found.len(), usize::from(want), "{place} {image}");
            if want {
                assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("u", "p:q"));
            }
        }
    }
}

//! A kubeconfig with its certificates inside.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::Identity;

/// One cluster, one user, one context. It is JSON, which is YAML too.
pub fn render(user: &str, identity: &Identity, authority: &str, server: &str) -> String {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "keelson",
            "cluster": {"server": server, "certificate-authority-data": encode(authority)},
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": encode(&identity.certificate),
                "client-key-data": encode(&identity.key),
            },
        }],
        "contexts": [{"name": "keelson", "context": {"cluster": "keelson", "user": user}}],
        "current-context": "keelson",
    });
    format!("{config:#}\n")
}

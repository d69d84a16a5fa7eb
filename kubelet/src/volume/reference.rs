//! The objects that a pod refers to, which must be known before it can start.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::TokenKey;
use crate::pod::PodExt;

/// How long a token lives if its projection does not say.
const TOKEN_SECONDS: i64 = 3600;

/// Names of objects in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    pub tokens: BTreeSet<TokenKey>,
    pub claims: BTreeSet<String>,
}

/// All that volumes, environments and image pulls refer to.
pub fn of(pod: &Pod) -> References {
    let mut all = References::default();
    let spec = pod.spec();
    all.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    for (_, c) in pod.containers() {
        for source in c.env_from.iter().flatten() {
            all.config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            all.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            all.config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            all.secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        all.config_maps.extend(volume.config_map.iter().map(|c| c.name.clone()));
        all.secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        all.claims.extend(claim(pod, volume));
        let Some(projected) = &volume.projected else { continue };
        for source in projected.sources.iter().flatten() {
            all.config_maps.extend(source.config_map.iter().map(|c| c.name.clone()));
            all.secrets.extend(source.secret.iter().map(|s| s.name.clone()));
            all.tokens.extend(source.service_account_token.iter().map(token));
        }
    }
    all.config_maps.retain(|n| !n.is_empty());
    all.secrets.retain(|n| !n.is_empty());
    all
}

pub fn token(t: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection) -> TokenKey {
    (t.audience.clone().unwrap_or_default(), t.expiration_seconds.unwrap_or(TOKEN_SECONDS))
}

/// The claim behind a volume; a generic ephemeral volume's is named after pod and volume.
pub fn claim(pod: &Pod, volume: &Volume) -> Option<String> {
    let own = volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name));
    volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone()).or(own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_is_named() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "a"}}],
                "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                {"configMap": {"name": "root"}}]}}, {"name": "e", "ephemeral": {}},
                {"name": "w", "persistentVolumeClaim": {"claimName": "data"}}],
        }}))
        .unwrap();
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            of(&pod),
            References {
                config_maps: set(&["b", "root"]),
                secrets: set(&["a", "pull"]),
                tokens: [(String::new(), 600)].into(),
                claims: set(&["data", "p-e"]),
            }
        );
    }
}

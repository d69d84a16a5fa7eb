//! What the fuzz targets share: kinds, and inputs of several parts.

use crds::kind::Gvk;
use serde_json::{Value, json};

/// Kinds whose types have lists with keys, sets, maps, quantities, times and bytes.
pub fn kind(choice: u8) -> Gvk {
    let (group, version, kind) = match choice % 6 {
        0 => ("", "v1", "Pod"),
        1 => ("apps", "v1", "Deployment"),
        2 => ("", "v1", "Service"),
        3 => ("", "v1", "Secret"),
        4 => ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
        _ => ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    };
    Gvk { group: group.into(), version: version.into(), kind: kind.into() }
}

/// An input's first byte, and what follows.
pub fn choice(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// Two parts, which a zero byte parts.
pub fn parts(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    (&input[..at], input.get(at + 1..).unwrap_or_default())
}

/// An object that patches find something in.
pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"app": "a"}, "finalizers": ["a/b", "c/d"]},
        "spec": {
            "containers": [
                {"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": [{"name": "A", "value": "1"}]},
                {"name": "b", "image": "b:1", "resources": {"limits": {"cpu": "100m"}}},
            ],
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    })
}

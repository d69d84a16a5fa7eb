//! Static pods: what the files of a folder say, and how they are shown in the API.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::{
    api::core::v1::{Node, Pod, Toleration},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use sha2::{Digest, Sha256};

use super::{CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE, PodExt};
use crate::system::System;

/// All pods of a folder, by uid. A file that cannot be read as a pod is reported and left out.
pub fn read(system: &dyn System, folder: &Path, node: &str) -> BTreeMap<String, Pod> {
    let files = system.list(folder).unwrap_or_default();
    let visible = files.iter().filter(|f| f.file_name().is_some_and(|n| !n.to_string_lossy().starts_with('.')));
    let mut pods = BTreeMap::new();
    for file in visible {
        let data = system.read(file).unwrap_or_default();
        match parse(&data, &file.to_string_lossy(), node) {
            Ok(pod) => _ = pods.insert(pod.uid().to_owned(), pod),
            Err(error) => tracing::warn!(file = %file.display(), error, "a manifest is no pod"),
        }
    }
    pods
}

/// A pod of this node: its name ends in the node's, its uid follows from its content and place.
fn parse(data: &[u8], source: &str, node: &str) -> Result<Pod, String> {
    let mut pod: Pod = serde_norway::from_slice(data).map_err(|e| e.to_string())?;
    let name = pod.metadata.name.clone().filter(|n| !n.is_empty()).ok_or("the pod has no name")?;
    let spec = pod.spec.as_mut().filter(|s| !s.containers.is_empty()).ok_or("the pod has no containers")?;
    spec.node_name = Some(node.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.enable_service_links.get_or_insert(true);
    // A static pod stays whatever befalls its node.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    });
    let digest = Sha256::digest([data, source.as_bytes(), node.as_bytes()].concat());
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    pod.metadata.name = Some(format!("{name}-{node}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    pod.metadata.uid.get_or_insert_with(|| hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH.into(), hash);
    annotations.insert(CONFIG_SOURCE.into(), "file".into());
    Ok(pod)
}

/// What stands for a static pod in the API.
pub fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.remove(CONFIG_SEEN);
    if let Some(hash) = pod.annotation(CONFIG_HASH) {
        annotations.insert(CONFIG_MIRROR.into(), hash.into());
    }
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_mirrors() {
        let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: x}\n";
        let pod = parse(text, "/m/web.yaml", "node-1").unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-node-1", "default"));
        assert!(pod.is_static() && !pod.is_mirror());
        assert_ne!(pod.uid(), parse(&[text.as_slice(), b"\n"].concat(), "/m/web.yaml", "node-1").unwrap().uid());
        let mirror = mirror(&pod, &Node::default());
        assert_eq!(mirror.annotation(CONFIG_MIRROR), pod.annotation(CONFIG_HASH));
        assert!(mirror.is_mirror() && mirror.metadata.uid.is_none());
        assert!(parse(b"kind: Pod", "x", "n").is_err());
    }
}

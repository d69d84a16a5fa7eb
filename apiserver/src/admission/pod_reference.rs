//! Which other objects of the API a pod refers to; the kubelet's own pods may refer to none.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, PodSpec, Volume};

type Env<'a> = (&'a Option<Vec<EnvVar>>, &'a Option<Vec<EnvFromSource>>);

fn env(spec: &PodSpec) -> impl Iterator<Item = Env<'_>> {
    let regular = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| (&c.env, &c.env_from));
    regular.chain(spec.ephemeral_containers.iter().flatten().map(|c| (&c.env, &c.env_from)))
}

/// Whether a pod refers to secrets: to pull images, in the environment of containers, in volumes of any sort.
pub fn secrets(spec: &PodSpec) -> bool {
    let pulls = spec.image_pull_secrets.iter().flatten().next().is_some();
    pulls
        || env(spec).any(|(env, from)| {
            let keys = env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
            keys.into_iter().any(|from| from.secret_key_ref.is_some())
                || from.iter().flatten().any(|s| s.secret_ref.is_some())
        })
        || spec.volumes.iter().flatten().any(has_secret)
}

fn has_secret(volume: &Volume) -> bool {
    let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
    // Of drivers' volumes each has its own reference to credentials.
    volume.secret.is_some()
        || volume.azure_file.is_some()
        || projected.into_iter().flatten().any(|source| source.secret.as_ref().is_some_and(|s| !s.name.is_empty()))
        || volume.cephfs.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.cinder.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.flex_volume.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.rbd.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.scale_io.as_ref().is_some_and(|v| v.secret_ref.name.as_str() != "")
        || volume.iscsi.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.storageos.as_ref().is_some_and(|v| v.secret_ref.is_some())
        || volume.csi.as_ref().is_some_and(|v| v.node_publish_secret_ref.is_some())
}

fn config_maps(spec: &PodSpec) -> bool {
    env(spec).any(|(env, from)| {
        let keys = env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        keys.into_iter().any(|from| from.config_map_key_ref.is_some())
            || from.iter().flatten().any(|source| source.config_map_ref.is_some())
    }) || spec.volumes.iter().flatten().any(|volume| {
        let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
        volume.config_map.is_some() || projected.into_iter().flatten().any(|source| source.config_map.is_some())
    })
}

/// The kind of the first reference that is found, in upstream's words.
pub fn any(spec: &PodSpec) -> Option<&'static str> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    if secrets(spec) {
        return Some("secrets");
    }
    if config_maps(spec) {
        return Some("configmaps");
    }
    if spec.resource_claims.iter().flatten().next().is_some() {
        return Some("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(by_volume)
}

fn by_volume(volume: &Volume) -> Option<&'static str> {
    if volume.csi.is_some() {
        return Some("csidrivers (via CSI volumes)");
    }
    if volume.glusterfs.is_some() {
        return Some("endpoints (via glusterFS volumes)");
    }
    if volume.persistent_volume_claim.is_some() {
        return Some("persistentvolumeclaims");
    }
    if volume.ephemeral.is_some() {
        return Some("persistentvolumeclaims (via ephemeral volumes)");
    }
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.into_iter().find_map(|source| {
        if source.service_account_token.is_some() {
            Some("serviceaccounts (via projected volumes)")
        } else if source.cluster_trust_bundle.is_some() {
            Some("clustertrustbundles")
        } else {
            source.pod_certificate.is_some().then_some("podcertificates")
        }
    })
}

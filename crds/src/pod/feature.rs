//! Fields of features that v1.36 has switched off unless asked for: they are dropped, as if they were not there.

use k8s_openapi::api::core::v1::{PodSpec, PodStatus};

use super::container;

pub fn drop_disabled(spec: &mut PodSpec) {
    spec.scheduling_group = None;
    let projected = spec.volumes.iter_mut().flatten().filter_map(|v| v.projected.as_mut());
    for source in projected.flat_map(|p| p.sources.iter_mut().flatten()) {
        source.cluster_trust_bundle = None;
        source.pod_certificate = None;
    }
    container::change(spec, |container| {
        let Some(lifecycle) = &mut container.lifecycle else {
            return;
        };
        if lifecycle.stop_signal.take().is_some() && lifecycle.post_start.is_none() && lifecycle.pre_stop.is_none() {
            container.lifecycle = None;
        }
    });
}

pub fn drop_disabled_status(status: &mut PodStatus) {
    status.node_allocatable_resource_claim_statuses = None;
    let lists =
        [&mut status.container_statuses, &mut status.init_container_statuses, &mut status.ephemeral_container_statuses];
    for mount in
        lists.into_iter().flat_map(|list| list.iter_mut().flatten()).flat_map(|s| s.volume_mounts.iter_mut().flatten())
    {
        mount.volume_status = None;
    }
}

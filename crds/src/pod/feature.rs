//! Fields of features that v1.36 has switched off unless asked for: they are dropped, as if they were not there, unless
//! what is stored has them.

use k8s_openapi::api::core::v1::{PodSpec, PodStatus, VolumeProjection};

use super::container;

/// `old` is what is stored; none: it is new.
pub fn drop_disabled(spec: &mut PodSpec, old: Option<&PodSpec>) {
    if old.is_none_or(|old| old.scheduling_group.is_none()) {
        spec.scheduling_group = None;
    }
    let (bundles, certificates) = (
        projects(old, |source| source.cluster_trust_bundle.is_some()),
        projects(old, |source| source.pod_certificate.is_some()),
    );
    let projected = spec.volumes.iter_mut().flatten().filter_map(|v| v.projected.as_mut());
    for source in projected.flat_map(|p| p.sources.iter_mut().flatten()) {
        source.cluster_trust_bundle.take_if(|_| !bundles);
        source.pod_certificate.take_if(|_| !certificates);
    }
    if !has_stop_signals(old) {
        drop_stop_signals(spec);
    }
}

fn projects(spec: Option<&PodSpec>, what: impl Fn(&VolumeProjection) -> bool) -> bool {
    let volumes = spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten());
    let projected = volumes.filter_map(|volume| volume.projected.as_ref());
    projected.flat_map(|projected| projected.sources.iter().flatten()).any(what)
}

fn has_stop_signals(spec: Option<&PodSpec>) -> bool {
    let Some(spec) = spec else { return false };
    container::all(spec).any(|seen| seen.container.lifecycle.as_ref().is_some_and(|own| own.stop_signal.is_some()))
}

fn drop_stop_signals(spec: &mut PodSpec) {
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

//! The restricted level: the baseline, and the habits of hardened pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;

use super::{
    baseline::bad_seccomp,
    check::{Subject, Violation, containers, plural, quoted, setters, violation},
};

pub fn privilege_escalation_8(s: &Subject) -> Option<Violation> {
    let bad = s.bad_contexts(|context| context.and_then(|c| c.allow_privilege_escalation) != Some(false));
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    violation("allowPrivilegeEscalation != false", detail)
}

pub fn privilege_escalation_25(s: &Subject) -> Option<Violation> {
    if s.is_windows() { None } else { privilege_escalation_8(s) }
}

pub fn capabilities_22(s: &Subject) -> Option<Violation> {
    let keeping = s.bad_contexts(|context| {
        let mut dropped =
            context.and_then(|c| c.capabilities.as_ref()).into_iter().flat_map(|c| c.drop.iter().flatten());
        !dropped.any(|capability| capability == "ALL")
    });
    let mut forbidden = BTreeSet::new();
    let adding = s.bad_contexts(|context| {
        let added = context.and_then(|c| c.capabilities.as_ref()).into_iter().flat_map(|c| c.add.iter().flatten());
        let others: Vec<_> = added.filter(|capability| *capability != "NET_BIND_SERVICE").cloned().collect();
        let is_bad = !others.is_empty();
        forbidden.extend(others);
        is_bad
    });
    let keeping = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    let adding = (!adding.is_empty()).then(|| {
        format!("{} must not include {} in securityContext.capabilities.add", containers(&adding), quoted(&forbidden))
    });
    let details: Vec<_> = keeping.into_iter().chain(adding).collect();
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub fn capabilities_25(s: &Subject) -> Option<Violation> {
    if s.is_windows() { None } else { capabilities_22(s) }
}

pub fn volumes(s: &Subject) -> Option<Violation> {
    let bad = s.spec.volumes.iter().flatten().filter_map(|volume| Some((&volume.name, restricted_type(volume)?)));
    let (names, types): (Vec<_>, BTreeSet<_>) = bad.unzip();
    if names.is_empty() {
        return None;
    }
    let (volumes, uses) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let kinds = plural("restricted volume type", "restricted volume types", types.len());
    violation("restricted volume types", format!("{volumes} {} {uses} {kinds} {}", quoted(names), quoted(types)))
}

fn restricted_type(v: &Volume) -> Option<&'static str> {
    let allowed = v.config_map.is_some()
        || v.csi.is_some()
        || v.downward_api.is_some()
        || v.empty_dir.is_some()
        || v.ephemeral.is_some()
        || v.image.is_some()
        || v.persistent_volume_claim.is_some()
        || v.projected.is_some()
        || v.secret.is_some();
    if allowed {
        return None;
    }
    let known = [
        (v.host_path.is_some(), "hostPath"),
        (v.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (v.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (v.git_repo.is_some(), "gitRepo"),
        (v.nfs.is_some(), "nfs"),
        (v.iscsi.is_some(), "iscsi"),
        (v.glusterfs.is_some(), "glusterfs"),
        (v.rbd.is_some(), "rbd"),
        (v.flex_volume.is_some(), "flexVolume"),
        (v.cinder.is_some(), "cinder"),
        (v.cephfs.is_some(), "cephfs"),
        (v.flocker.is_some(), "flocker"),
        (v.fc.is_some(), "fc"),
        (v.azure_file.is_some(), "azureFile"),
        (v.vsphere_volume.is_some(), "vsphereVolume"),
        (v.quobyte.is_some(), "quobyte"),
        (v.azure_disk.is_some(), "azureDisk"),
        (v.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (v.portworx_volume.is_some(), "portworxVolume"),
        (v.scale_io.is_some(), "scaleIO"),
        (v.storageos.is_some(), "storageos"),
    ];
    Some(known.into_iter().find(|(is, _)| *is).map_or("unknown", |(_, name)| name))
}

pub fn run_as_non_root_0(s: &Subject) -> Option<Violation> {
    let of_pod = s.pod_context().and_then(|context| context.run_as_non_root);
    let explicit = s.bad_contexts(|context| context.and_then(|c| c.run_as_non_root) == Some(false));
    let who = setters(of_pod == Some(false), &explicit);
    if !who.is_empty() {
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = s.bad_contexts(|context| context.and_then(|c| c.run_as_non_root).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
    violation("runAsNonRoot != true", detail)
}

pub fn run_as_non_root_35(s: &Subject) -> Option<Violation> {
    if s.has_user_namespace() { None } else { run_as_non_root_0(s) }
}

pub fn run_as_user_23(s: &Subject) -> Option<Violation> {
    let pod = s.pod_context().and_then(|context| context.run_as_user) == Some(0);
    let bad = s.bad_contexts(|context| context.and_then(|c| c.run_as_user) == Some(0));
    let who = setters(pod, &bad);
    if who.is_empty() { None } else { violation("runAsUser=0", format!("{who} must not set runAsUser=0")) }
}

pub fn run_as_user_35(s: &Subject) -> Option<Violation> {
    if s.has_user_namespace() { None } else { run_as_user_23(s) }
}

pub fn seccomp_19(s: &Subject) -> Option<Violation> {
    if let Some(bad) = bad_seccomp(s) {
        return Some(bad);
    }
    let of_pod = s.pod_context().is_some_and(|context| context.seccomp_profile.is_some());
    let silent = s.bad_contexts(|context| context.is_none_or(|c| c.seccomp_profile.is_none()));
    if of_pod || silent.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}

pub fn seccomp_25(s: &Subject) -> Option<Violation> {
    if s.is_windows() { None } else { seccomp_19(s) }
}

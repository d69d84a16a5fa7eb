//! The names of a StatefulSet's pods: the set's name and an ordinal.

use crds::owner;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, PodTemplateSpec},
};

use super::volume;
use crate::{
    history, pod,
    runtime::object::{label, name, namespace},
};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of a pod that is named like one of the set's.
pub fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = name(&pod.metadata).rsplit_once('-')?;
    (parent == set).then(|| ordinal.parse().ok())?.filter(|o| *o >= 0)
}

pub fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start).unwrap_or(0)
}

pub fn revision(pod: &Pod) -> &str {
    label(&pod.metadata, history::HASH_LABEL).unwrap_or_default()
}

/// Whether a pod carries the labels of its identity.
pub fn is_kept(pod: &Pod) -> bool {
    label(&pod.metadata, POD_NAME) == Some(name(&pod.metadata))
}

pub fn set_labels(pod: &mut Pod, ordinal: i32) {
    let name = name(&pod.metadata).to_owned();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name);
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
}

/// The pod of an ordinal, made from the template of a revision.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let meta = &set.metadata;
    let reference = owner::controller_reference::<StatefulSet>(meta);
    let mut pod = pod::from_template(template, namespace(meta), name(meta), reference);
    let own_name = format!("{}-{ordinal}", name(meta));
    pod.metadata.generate_name = Some(format!("{}-", name(meta)));
    pod.metadata.name = Some(own_name.clone());
    set_labels(&mut pod, ordinal);
    history::stamp(&mut pod.metadata, revision);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(own_name);
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|n| !n.is_empty());
    volume::mount(set, ordinal, spec);
    pod
}

//! THE TABLE: every built-in kind. A new kind is one file in `kinds/<group>/` and its row here.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use k8s_openapi::{
    api, apiextensions_apiserver::pkg::apis::apiextensions as extensions,
    kube_aggregator::pkg::apis::apiregistration as registration,
};

use crate::kind::Definition;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apiserverinternal;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

/// In the order of discovery: groups by upstream's priority, resources by name.
pub static KINDS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    vec![
        Definition::of::<api::core::v1::Binding>(),
        Definition::of::<api::core::v1::ComponentStatus>(),
        Definition::of::<api::core::v1::ConfigMap>(),
        Definition::of::<api::core::v1::Endpoints>(),
        Definition::of::<api::core::v1::Event>(),
        Definition::of::<api::core::v1::LimitRange>(),
        Definition::of::<api::core::v1::Namespace>(),
        Definition::of::<api::core::v1::Node>(),
        Definition::of::<api::core::v1::PersistentVolumeClaim>(),
        Definition::of::<api::core::v1::PersistentVolume>(),
        Definition::of::<api::core::v1::Pod>(),
        Definition::of::<api::core::v1::PodTemplate>(),
        Definition::of::<api::core::v1::ReplicationController>(),
        Definition::of::<api::core::v1::ResourceQuota>(),
        Definition::of::<api::core::v1::Secret>(),
        Definition::of::<api::core::v1::ServiceAccount>(),
        Definition::of::<api::core::v1::Service>(),
        Definition::of::<registration::v1::APIService>(),
        Definition::of::<api::apps::v1::ControllerRevision>(),
        Definition::of::<api::apps::v1::DaemonSet>(),
        Definition::of::<api::apps::v1::Deployment>(),
        Definition::of::<api::apps::v1::ReplicaSet>(),
        Definition::of::<api::apps::v1::StatefulSet>(),
        Definition::of::<api::events::v1::Event>().with_conversion(events::event::CONVERSION),
        Definition::of::<api::authentication::v1::SelfSubjectReview>(),
        Definition::of::<api::authentication::v1::TokenReview>(),
        Definition::of::<api::authorization::v1::LocalSubjectAccessReview>(),
        Definition::of::<api::authorization::v1::SelfSubjectAccessReview>(),
        Definition::of::<api::authorization::v1::SelfSubjectRulesReview>(),
        Definition::of::<api::authorization::v1::SubjectAccessReview>(),
        Definition::of::<api::autoscaling::v2::HorizontalPodAutoscaler>(),
        Definition::of::<api::autoscaling::v1::HorizontalPodAutoscaler>()
            .with_conversion(autoscaling::horizontal_pod_autoscaler_v1::CONVERSION),
        Definition::of::<api::batch::v1::CronJob>(),
        Definition::of::<api::batch::v1::Job>(),
        Definition::of::<api::certificates::v1::CertificateSigningRequest>(),
        Definition::of::<api::networking::v1::IngressClass>(),
        Definition::of::<api::networking::v1::Ingress>(),
        Definition::of::<api::networking::v1::IPAddress>(),
        Definition::of::<api::networking::v1::NetworkPolicy>(),
        Definition::of::<api::networking::v1::ServiceCIDR>(),
        Definition::of::<api::policy::v1::PodDisruptionBudget>(),
        Definition::of::<api::rbac::v1::ClusterRoleBinding>(),
        Definition::of::<api::rbac::v1::ClusterRole>(),
        Definition::of::<api::rbac::v1::RoleBinding>(),
        Definition::of::<api::rbac::v1::Role>(),
        Definition::of::<api::storage::v1::CSIDriver>(),
        Definition::of::<api::storage::v1::CSINode>(),
        Definition::of::<api::storage::v1::CSIStorageCapacity>(),
        Definition::of::<api::storage::v1::StorageClass>(),
        Definition::of::<api::storage::v1::VolumeAttachment>(),
        Definition::of::<api::storage::v1::VolumeAttributesClass>(),
        Definition::of::<api::admissionregistration::v1::MutatingAdmissionPolicy>(),
        Definition::of::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>(),
        Definition::of::<api::admissionregistration::v1::MutatingWebhookConfiguration>(),
        Definition::of::<api::admissionregistration::v1::ValidatingAdmissionPolicy>(),
        Definition::of::<api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>(),
        Definition::of::<api::admissionregistration::v1::ValidatingWebhookConfiguration>(),
        Definition::of::<extensions::v1::CustomResourceDefinition>(),
        Definition::of::<api::scheduling::v1::PriorityClass>(),
        Definition::of::<api::coordination::v1::Lease>(),
        Definition::of::<api::node::v1::RuntimeClass>(),
        Definition::of::<api::discovery::v1::EndpointSlice>(),
        Definition::of::<api::resource::v1::DeviceClass>(),
        Definition::of::<api::resource::v1::ResourceClaim>(),
        Definition::of::<api::resource::v1::ResourceClaimTemplate>(),
        Definition::of::<api::resource::v1::ResourceSlice>(),
        Definition::of::<api::flowcontrol::v1::FlowSchema>(),
        Definition::of::<api::flowcontrol::v1::PriorityLevelConfiguration>(),
    ]
});

/// The rest of the table: versions that are not general yet, and kinds that have only such. They are served if they are
/// turned on; what is stored of them is read in any case. There are no feature gates: a kind that upstream has behind one
/// needs no more than being turned on, and fields that are behind one of their own are off, as upstream has them by default.
pub static OFF: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    vec![
        Definition::version_of::<api::networking::v1::IPAddress>("v1beta1"),
        Definition::version_of::<api::networking::v1::ServiceCIDR>("v1beta1"),
        Definition::version_of::<api::storage::v1::VolumeAttributesClass>("v1beta1"),
        Definition::of::<api::certificates::v1beta1::ClusterTrustBundle>(),
        Definition::of::<api::certificates::v1beta1::PodCertificateRequest>(),
        Definition::version_of::<api::certificates::v1beta1::ClusterTrustBundle>("v1alpha1"),
        Definition::of::<api::coordination::v1beta1::LeaseCandidate>(),
        Definition::version_of::<api::coordination::v1beta1::LeaseCandidate>("v1alpha2"),
        Definition::version_of::<api::admissionregistration::v1::MutatingAdmissionPolicy>("v1beta1"),
        Definition::version_of::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>("v1beta1"),
        Definition::version_of::<api::admissionregistration::v1::MutatingAdmissionPolicy>("v1alpha1"),
        Definition::version_of::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>("v1alpha1"),
        Definition::version_of::<api::resource::v1::DeviceClass>("v1beta1"),
        Definition::converted::<api::resource::v1::ResourceClaim>(
            "v1beta1",
            resource::v1beta1::claim_to_v1,
            resource::v1beta1::claim_from_v1,
        ),
        Definition::converted::<api::resource::v1::ResourceClaimTemplate>(
            "v1beta1",
            resource::v1beta1::template_to_v1,
            resource::v1beta1::template_from_v1,
        ),
        Definition::converted::<api::resource::v1::ResourceSlice>(
            "v1beta1",
            resource::v1beta1::slice_to_v1,
            resource::v1beta1::slice_from_v1,
        ),
        Definition::version_of::<api::resource::v1::DeviceClass>("v1beta2"),
        Definition::version_of::<api::resource::v1::ResourceClaim>("v1beta2"),
        Definition::version_of::<api::resource::v1::ResourceClaimTemplate>("v1beta2"),
        Definition::version_of::<api::resource::v1::ResourceSlice>("v1beta2"),
        Definition::version_of::<api::resource::v1alpha3::DeviceTaintRule>("v1beta2"),
        Definition::of::<api::resource::v1alpha3::DeviceTaintRule>(),
        Definition::of::<api::resource::v1alpha3::ResourcePoolStatusRequest>(),
        Definition::of::<api::apiserverinternal::v1alpha1::StorageVersion>(),
        Definition::of::<api::scheduling::v1alpha2::PodGroup>(),
        Definition::of::<api::scheduling::v1alpha2::Workload>(),
        Definition::of::<api::storagemigration::v1beta1::StorageVersionMigration>(),
    ]
});

/// The whole table, in the order of discovery.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    KINDS.iter().chain(OFF.iter())
}

/// Whether there are kinds of this group here.
pub fn has_group(group: &str) -> bool {
    static GROUPS: LazyLock<HashSet<&str>> = LazyLock::new(|| all().map(|definition| &*definition.gvk.group).collect());
    GROUPS.contains(group)
}

/// The kind of this name.
pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    static INDEX: LazyLock<HashMap<(&str, &str, &str), &Definition>> = LazyLock::new(|| {
        all()
            .map(|definition| ((&*definition.gvk.group, &*definition.gvk.version, &*definition.gvk.kind), definition))
            .collect()
    });
    INDEX.get(&(group, version, kind)).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::schema::{self, Shape, decode, sample};
    use crate::version::{Level, level};

    /// What a version says with all of its fields can be said in the version that is stored, and comes back.
    #[test]
    fn versions_are_converted_without_a_loss() {
        let schema = schema::builtin();
        let full = |definition: &Definition| {
            let (_, ty) = definition.facts.get().expect("the type is known");
            let mut object = sample::full(schema, &Shape::Object(ty), &mut Vec::new());
            object["apiVersion"] = definition.gvk.api_version().into();
            object["kind"] = definition.gvk.kind.as_ref().into();
            object
        };
        let unknown = |definition: &Definition, mut object: Value| {
            object["apiVersion"] = definition.gvk.api_version().into();
            let (_, ty) = definition.facts.get().expect("the type is known");
            decode::value(schema, ty, &object).expect("decodes").strict
        };
        for off in OFF.iter() {
            assert_eq!(off.facts.get().map(|facts| facts.1), schema.id(&off.schema_name), "{:?}", off.gvk);
            assert_ne!(level(&off.gvk.version), Some(Level::General), "{:?} is on", off.gvk);
            let Some(conversion) = off.conversion else { continue };
            let stored = all()
                .find(|d| (&*d.gvk.group, &*d.gvk.version) == conversion.stored && d.gvk.kind == off.gvk.kind)
                .expect("the stored version is in the table");
            assert_eq!(stored.storage_prefix, off.storage_prefix);
            let (old, new) = (full(off), full(stored));
            let there = (conversion.to_stored)(old.clone());
            assert_eq!(unknown(stored, there.clone()), [""; 0], "{:?}", off.gvk);
            assert_eq!((conversion.from_stored)(there), old);
            let back = (conversion.from_stored)(new.clone());
            assert_eq!(unknown(off, back.clone()), [""; 0], "{:?}", off.gvk);
            assert_eq!((conversion.to_stored)(back), new);
        }
    }
}

//! THE TABLE: every built-in kind. A new kind is one file in `kinds/<group>/` and its row here.

use std::sync::LazyLock;

use k8s_openapi::{
    api, apiextensions_apiserver::pkg::apis::apiextensions as extensions,
    kube_aggregator::pkg::apis::apiregistration as registration,
};

use crate::kind::Definition;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
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

//! The kinds of the certificates group.

pub mod certificate_signing_request;
pub mod cluster_trust_bundle;
pub mod key;
pub mod pem;
pub mod pod_certificate_request;

//! The kinds of the certificates group.

pub mod certificate_signing_request;
pub mod cluster_trust_bundle;
pub mod pem;

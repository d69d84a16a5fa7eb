//! SelfSubjectAccessReview (authorization.k8s.io/v1).

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;

use crate::kind::{About, Kind, Verb};

impl Kind for SelfSubjectAccessReview {
    const ABOUT: About =
        About { verbs: Verb::CREATE_ONLY, ..About::new("selfsubjectaccessreviews", "selfsubjectaccessreview") };
}

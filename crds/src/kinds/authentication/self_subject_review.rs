//! SelfSubjectReview (authentication.k8s.io/v1).

use k8s_openapi::api::authentication::v1::SelfSubjectReview;

use crate::kind::{About, Kind, Verb};

impl Kind for SelfSubjectReview {
    const ABOUT: About = About { verbs: Verb::CREATE_ONLY, ..About::new("selfsubjectreviews", "selfsubjectreview") };
}

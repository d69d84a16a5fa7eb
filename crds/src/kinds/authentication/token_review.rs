//! TokenReview (authentication.k8s.io/v1).

use k8s_openapi::api::authentication::v1::TokenReview;

use crate::kind::{About, Kind, Verb};

impl Kind for TokenReview {
    const ABOUT: About = About { verbs: Verb::CREATE_ONLY, ..About::new("tokenreviews", "tokenreview") };
}

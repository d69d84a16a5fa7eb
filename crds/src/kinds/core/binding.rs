//! Binding (core/v1).

use k8s_openapi::api::core::v1::Binding;

use crate::kind::{About, Kind, Verb};

impl Kind for Binding {
    const ABOUT: About = About { verbs: Verb::CREATE_ONLY, ..About::new("bindings", "binding") };
}

//! Role (rbac.authorization.k8s.io/v1).

use k8s_openapi::api::rbac::v1::Role;

use super::rule;
use crate::{
    field::{self, Errors, Path},
    given::Items,
    kind::{About, Kind, Request},
    meta,
};

impl Kind for Role {
    const ABOUT: About = About { create_on_update: true, checks_changes: false, ..About::new("roles", "role") };

    fn validate_name(name: &str) -> Vec<String> {
        field::path_segment(name)
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        rule::validate(self.rules.items(), true, &Path::new("rules"), errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
    }
}

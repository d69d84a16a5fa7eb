//! ClusterRoleBinding (rbac.authorization.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use serde_json::{Value, json};

use super::subject;
use crate::{
    field::{self, Errors},
    given::Items,
    kind::{AGE, About, Kind, NAME, Request, column, text},
    meta, table,
};

impl Kind for ClusterRoleBinding {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "Role",
                "string",
                "",
                0,
                text(
                    "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
                ),
            ),
            AGE,
            column("Users", "string", "", 1, text("Users in the clusterRoleBinding")),
            column("Groups", "string", "", 1, text("Groups in the clusterRoleBinding")),
            column("ServiceAccounts", "string", "", 1, text("ServiceAccounts in the clusterRoleBinding")),
        ],
        create_on_update: true,
        checks_changes: false,
        ..About::new("clusterrolebindings", "clusterrolebinding")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::path_segment(name)
    }

    fn set_defaults(&mut self) {
        subject::set_defaults(&mut self.role_ref, &mut self.subjects);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        subject::validate(&self.role_ref, &["ClusterRole"], self.subjects.items(), false, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
        subject::role_is_kept(&self.role_ref, &old.role_ref, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let [users, groups, accounts] = subject::cells(self.subjects.items());
        vec![
            json!(self.metadata.name),
            json!(format!("{}/{}", self.role_ref.kind, self.role_ref.name)),
            json!(table::age(&self.metadata, now)),
            json!(users),
            json!(groups),
            json!(accounts),
        ]
    }
}

//! ResourceClaim (resource.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use serde_json::{Value, json};

use super::{allocation, request};
use crate::{
    equal,
    field::{Errors, Path},
    given::Items,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request, Subresource, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for ResourceClaim {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "State",
                "string",
                "",
                0,
                text("A summary of the current state (allocated, pending, reserved, etc.)."),
            ),
            AGE,
        ],
        delete_answer: DeleteAnswer::Object,
        // The right to ask for admin access is told before it.
        checks_metadata: false,
        checks_changes: false,
        ..About::new("resourceclaims", "resourceclaim")
    };

    fn set_defaults(&mut self) {
        self.spec.devices.iter_mut().for_each(request::set_defaults);
        let allocation = self.status.as_mut().and_then(|status| status.allocation.as_mut());
        let results = allocation.and_then(|allocation| allocation.devices.as_mut()?.results.as_mut());
        for result in results.into_iter().flatten() {
            request::default_tolerations(result.tolerations.as_deref_mut());
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(ResourceClaimStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
        if let Some(status) = &mut self.status {
            allocation::forget_deallocated(status, old.status.as_ref());
        }
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        request::validate_admin_access(&self.spec, request, errors);
        meta::create_of(self, errors);
        let none = Default::default();
        request::validate(self.spec.devices.as_ref().unwrap_or(&none), &SPEC.child("devices"), errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        meta::update_of(self, old, errors);
        equal::immutable_struct(&self.spec, &old.spec, "io.k8s.api.resource.v1.ResourceClaimSpec", SPEC, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        allocation::validate_admin_access(self, old, request, errors);
        allocation::validate_rights(self, old, request, errors);
        meta::update_of(self, old, errors);
        allocation::validate(self, old, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(state(self)), json!(table::age(&self.metadata, now))]
    }
}

fn state(claim: &ResourceClaim) -> String {
    let is_deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.as_ref();
    let is_allocated = status.is_some_and(|status| status.allocation.is_some());
    let is_reserved = status.is_some_and(|status| !status.reserved_for.items().is_empty());
    let states = [
        ("deleted", is_deleted),
        ("pending", !is_allocated && !is_deleted),
        ("allocated", is_allocated),
        ("reserved", is_allocated && is_reserved),
    ];
    states.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

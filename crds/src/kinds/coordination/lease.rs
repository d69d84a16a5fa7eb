//! Lease (coordination.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path, not_negative},
    given::Text,
    kind::{AGE, About, Kind, NAME, Prose, Request, column},
    table,
};

impl Kind for Lease {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Holder", "string", "", 0, Prose::Field("io.k8s.api.coordination.v1.LeaseSpec", "holderIdentity")),
            AGE,
        ],
        create_on_update: true,
        unconditional_update: false,
        ..About::new("leases", "lease")
    };

    /// Coordinated leader election is off by default.
    fn prepare_create(&mut self, _request: &Request) {
        if let Some(spec) = &mut self.spec {
            (spec.strategy, spec.preferred_holder) = (None, None);
        }
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        let none = Default::default();
        let old = old.spec.as_ref().unwrap_or(&none);
        if let Some(spec) = &mut self.spec {
            spec.strategy = spec.strategy.take().filter(|_| old.strategy.is_some());
            spec.preferred_holder = spec.preferred_holder.take().filter(|_| old.preferred_holder.is_some());
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let Some(spec) = &self.spec else { return };
        let path = Path::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.push(Error::invalid(path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        not_negative(spec.lease_transitions.unwrap_or(0), path.child("leaseTransitions"), errors);
        if !spec.preferred_holder.text().is_empty() && spec.strategy.text().is_empty() {
            let why = "may only be specified if `strategy` is defined";
            errors.push(Error::forbidden(path.child("preferredHolder"), why));
        }
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("");
        vec![json!(self.metadata.name), json!(holder), json!(table::age(&self.metadata, now))]
    }
}

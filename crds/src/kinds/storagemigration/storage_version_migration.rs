//! StorageVersionMigration (storagemigration.k8s.io/v1beta1).

use k8s_openapi::api::storagemigration::v1beta1::{
    StorageVersionMigration, StorageVersionMigrationSpec, StorageVersionMigrationStatus,
};

use crate::{
    condition, equal,
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    kind::{About, Kind, Request, Subresource},
    meta,
};

const RESOURCE: Path = Path::new("spec.resource");
const STATUS: Path = Path::new("status");
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

impl Kind for StorageVersionMigration {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        unconditional_update: false,
        ..About::new("storageversionmigrations", "storageversionmigration")
    };

    fn prepare_create(&mut self, _request: &Request) {
        self.status = None;
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let none = StorageVersionMigrationSpec::default();
        let named = &self.spec.as_ref().unwrap_or(&none).resource;
        let (path, resource) = (RESOURCE.child("resource"), named.resource.as_str());
        if resource.is_empty() {
            errors.push(Error::required(path, "resource is required to be set"));
        } else {
            joined(field::dns_1035_label(resource), path, resource, errors);
        }
        if !named.group.is_empty() {
            joined(field::dns_subdomain(&named.group), RESOURCE.child("group"), &named.group, errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
        equal::immutable(&self.spec, &old.spec, Path::new("spec"), errors);
    }

    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let none = StorageVersionMigrationStatus::default();
        let (new, old) = (self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
        let (version, path) = (new.resource_version.text(), STATUS.child("resourceVersion"));
        if !version.is_empty()
            && let Some(why) = wrong_resource_version(version)
        {
            errors.push(Error::invalid(path, version, why));
        }
        let (conditions, at) = (new.conditions.as_ref(), STATUS.child("conditions"));
        condition::validate(new.conditions.items(), &at, errors);
        if !old.resource_version.text().is_empty() && old.resource_version.text() != version {
            errors.push(Error::invalid(path, version, meta::IMMUTABLE));
        }
        let mut wrong = |why: &str| errors.push(Error::wrong(at, why));
        if condition::is_true(conditions, SUCCEEDED) && condition::is_true(conditions, FAILED) {
            wrong("Both success and failed conditions cannot be true at the same time");
        }
        for (kind, why) in [
            (SUCCEEDED, "Success condition cannot be set to false once it is true"),
            (FAILED, "Failed condition cannot be set to false once it is true"),
        ] {
            if condition::is_true(old.conditions.as_ref(), kind) && !condition::is_true(conditions, kind) {
                wrong(why);
            }
        }
    }
}

/// Upstream tells all that is wrong with a name at once.
fn joined(wrong: Vec<String>, path: Path, value: &str, errors: &mut Errors) {
    if !wrong.is_empty() {
        errors.push(Error::invalid(path, value, wrong.join(",")));
    }
}

/// A resourceVersion is a whole number that does not begin with 0.
fn wrong_resource_version(version: &str) -> Option<String> {
    let is_right = !version.starts_with('0') && version.bytes().all(|b| b.is_ascii_digit());
    (!is_right).then(|| format!("resource version is not well formed: {version}"))
}

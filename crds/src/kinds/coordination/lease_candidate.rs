//! LeaseCandidate (coordination.k8s.io/v1beta1).

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1beta1::{LeaseCandidate, LeaseCandidateSpec};
use serde_json::{Value, json};

use crate::{
    cel::library::semver::Semver,
    equal,
    field::{self, Error, Errors, Path},
    given::Text,
    kind::{AGE, About, Kind, NAME, Prose, Request, column, text},
    table,
};

const OLDEST: &str = "OldestEmulationVersion";
const SPEC: Path = Path::new("spec");
const NO_VERSION: &str = "must be a valid semantic version";

impl Kind for LeaseCandidate {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "LeaseName",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.coordination.v1alpha2.LeaseCandidateSpec", "leaseName"),
            ),
            column("BinaryVersion", "string", "", 0, text("")),
            column("EmulationVersion", "string", "", 0, text("")),
            AGE,
        ],
        create_on_update: true,
        unconditional_update: false,
        selectable: &["spec.leaseName"],
        ..About::new("leasecandidates", "leasecandidate")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(&self.spec, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate(&self.spec, errors);
        equal::immutable(&self.spec.lease_name, &old.spec.lease_name, SPEC.child("leaseName"), errors);
    }

    fn selectable(&self, path: &str) -> String {
        if path == "spec.leaseName" { self.spec.lease_name.clone() } else { String::new() }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        vec![
            json!(self.metadata.name),
            json!(spec.lease_name),
            json!(spec.binary_version),
            json!(spec.emulation_version.text()),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate(spec: &LeaseCandidateSpec, errors: &mut Errors) {
    if spec.lease_name.is_empty() {
        errors.push(Error::required(SPEC.child("leaseName"), ""));
    }
    let mut version = |text: &str, name: &'static str| match Semver::parse(text) {
        Ok(version) => Some(version),
        Err(_) => {
            errors.push(Error::invalid(SPEC.child(name), text, NO_VERSION));
            None
        }
    };
    let emulated = spec.emulation_version.text();
    let emulation = (!emulated.is_empty()).then(|| version(emulated, "emulationVersion")).flatten();
    let binary = (!spec.binary_version.is_empty()).then(|| version(&spec.binary_version, "binaryVersion")).flatten();
    if spec.binary_version.is_empty() {
        errors.push(Error::required(SPEC.child("binaryVersion"), ""));
    }
    if let (Some(binary), Some(emulation)) = (&binary, &emulation)
        && binary.cmp(emulation).is_lt()
    {
        let why = "must be greater than or equal to `emulationVersion`";
        errors.push(Error::invalid(SPEC.child("binaryVersion"), spec.binary_version.as_str(), why));
    }
    let (strategy, path) = (spec.strategy.as_str(), SPEC.child("strategy"));
    if strategy.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if strategy == OLDEST && emulation.is_none() {
        let why = "must be specified when `strategy` is 'OldestEmulationVersion'";
        errors.push(Error::required(SPEC.child("emulationVersion"), why));
    }
    // Upstream says the name of the field twice.
    let path = path.child("strategy");
    if strategy.contains('/') {
        field::extend(errors, path, strategy, field::qualified_name(strategy));
    } else if strategy != OLDEST {
        errors.push(Error::not_supported(path, strategy, &[OLDEST]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_strategies() {
        let told = |binary: &str, emulation: Option<&str>, strategy: &str| {
            let mut errors = Errors::new();
            let spec = LeaseCandidateSpec {
                binary_version: binary.to_owned(),
                emulation_version: emulation.map(str::to_owned),
                lease_name: "l".to_owned(),
                strategy: strategy.to_owned(),
                ..LeaseCandidateSpec::default()
            };
            validate(&spec, &mut errors);
            errors.iter().map(|error| format!("{}: {}", error.field, error.body())).collect::<Vec<_>>()
        };
        assert_eq!(told("1.36.0", Some("1.35.0"), OLDEST), [""; 0]);
        assert_eq!(told("1.36.0", None, "example.com/own"), [""; 0]);
        assert_eq!(
            told("1.36", Some("1.35.0"), "Other"),
            [
                "spec.binaryVersion: Invalid value: \"1.36\": must be a valid semantic version",
                "spec.strategy.strategy: Unsupported value: \"Other\": supported values: \"OldestEmulationVersion\"",
            ]
        );
        assert_eq!(
            told("1.34.0", Some("1.35.0"), OLDEST),
            ["spec.binaryVersion: Invalid value: \"1.34.0\": must be greater than or equal to `emulationVersion`"]
        );
    }
}

//! ClusterTrustBundle (certificates.k8s.io/v1beta1).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use serde_json::{Value, json};
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

use super::certificate_signing_request::validate_signer;
use crate::{
    equal,
    field::{self, Error, Errors, Path},
    given::Text,
    kind::{About, Kind, NAME, Prose, Request, column},
    table,
};

const SPEC: Path = Path::new("spec");
const BUNDLE_BYTES_MAX: usize = 1 << 20;
/// What is shown in place of a bundle.
const OMITTED: &str = "<value omitted>";

impl Kind for ClusterTrustBundle {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "SignerName",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.certificates.v1beta1.ClusterTrustBundleSpec", "signerName"),
            ),
        ],
        unconditional_update: false,
        selectable: &["spec.signerName"],
        ..About::new("clustertrustbundles", "clustertrustbundle")
    };

    /// Which names are right depends on the signer.
    fn validate_name(_name: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_name(self, errors);
        validate_bundle(&self.spec.trust_bundle, SPEC.child("trustBundle"), errors);
    }

    /// What has not changed is not looked at again.
    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        validate_name(self, errors);
        if self.spec.trust_bundle != old.spec.trust_bundle {
            validate_bundle(&self.spec.trust_bundle, SPEC.child("trustBundle"), errors);
        }
        let signer = |bundle: &Self| bundle.spec.signer_name.text().to_owned();
        equal::immutable(&signer(self), &signer(old), SPEC.child("signerName"), errors);
    }

    fn selectable(&self, path: &str) -> String {
        if path == "spec.signerName" { self.spec.signer_name.text().to_owned() } else { String::new() }
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(table::or_none(self.spec.signer_name.text()))]
    }
}

fn validate_name(bundle: &ClusterTrustBundle, errors: &mut Errors) {
    let (name, signer) = (bundle.metadata.name.text(), bundle.spec.signer_name.text());
    let prefix = format!("{}:", signer.replace('/', ":"));
    let wrong = match name.strip_prefix(&prefix) {
        _ if signer.is_empty() && name.contains(':') => {
            vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()]
        }
        _ if signer.is_empty() => field::dns_subdomain(name),
        Some(rest) => field::dns_subdomain(rest),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    };
    field::extend(errors, Path::new("metadata").child("name"), name, wrong);
    if !signer.is_empty() {
        validate_signer(signer, &SPEC.child("signerName"), errors);
    }
}

/// One certificate of an authority at least, none of them twice, and nothing else.
fn validate_bundle(text: &str, path: Path, errors: &mut Errors) {
    if text.len() > BUNDLE_BYTES_MAX {
        errors.push(Error::too_long(path, BUNDLE_BYTES_MAX as i64));
        return;
    }
    let mut wrong = Vec::new();
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (at, block) in Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok).enumerate() {
        if block.label != "CERTIFICATE" {
            wrong.push(format!("entry {at} has bad block type: {}", block.label));
            continue;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else {
            wrong.push(format!("entry {at} does not parse as X.509"));
            continue;
        };
        if !certificate.is_ca() {
            wrong.push(format!("entry {at} does not have the CA bit set"));
            continue;
        }
        places.entry(block.contents).or_default().push(at);
    }
    // Where a block is wrong, what is missing or there twice may be that one.
    if wrong.is_empty() {
        if places.is_empty() {
            wrong.push("at least one trust anchor must be provided".to_owned());
        }
        for places in places.values().filter(|places| places.len() > 1) {
            let places: Vec<_> = places.iter().map(usize::to_string).collect();
            wrong.push(format!("duplicate trust anchor (indices [{}])", places.join(" ")));
        }
    }
    errors.extend(wrong.into_iter().map(|why| Error::invalid(path, OMITTED, why)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_their_signer() {
        let told = |name: &str, signer: Option<&str>| {
            let mut errors = Errors::new();
            let mut bundle = ClusterTrustBundle::default();
            (bundle.metadata.name, bundle.spec.signer_name) = (Some(name.to_owned()), signer.map(str::to_owned));
            validate_name(&bundle, &mut errors);
            errors.iter().map(|error| error.body()).collect::<Vec<_>>()
        };
        assert_eq!(told("a", None), [""; 0]);
        assert_eq!(told("example.com:signer:a", Some("example.com/signer")), [""; 0]);
        assert_eq!(
            told("a", Some("example.com/signer")),
            [
                "Invalid value: \"a\": ClusterTrustBundle for signerName example.com/signer must be named with prefix example.com:signer:"
            ]
        );
        assert_eq!(
            told("x:a", None),
            ["Invalid value: \"x:a\": ClusterTrustBundle without signer name must not have \":\" in its name"]
        );
    }

    #[test]
    fn a_bundle_has_certificates_of_authorities() {
        let told = |text: &str| {
            let mut errors = Errors::new();
            validate_bundle(text, SPEC.child("trustBundle"), &mut errors);
            errors.iter().map(|error| error.body()).collect::<Vec<_>>()
        };
        let block = |label: &str| format!("-----BEGIN {label}-----\naGVsbG8=\n-----END {label}-----\n");
        let none = "Invalid value: \"<value omitted>\": at least one trust anchor must be provided";
        assert_eq!(told(""), [none]);
        assert_eq!(
            told(&(block("PRIVATE KEY") + &block("CERTIFICATE"))),
            [
                "Invalid value: \"<value omitted>\": entry 0 has bad block type: PRIVATE KEY",
                "Invalid value: \"<value omitted>\": entry 1 does not parse as X.509",
            ]
        );
    }
}

//! CertificateSigningRequest (certificates.k8s.io/v1).

use std::{collections::HashSet, hash::Hash};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use serde_json::{Value, json};

use super::pem;
use crate::{
    duration,
    field::{self, Error, Errors, Path, extend, quote},
    given::{Items, Text},
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column},
    meta, schema, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SECONDS_MIN: i32 = 600;
const FOR_APPROVAL: &[&str] = &["Approved", "Denied"];
/// Conditions that can only be true, and stay once they are there.
const LASTING: &[&str] = &["Approved", "Denied", "Failed"];
const SIGNER_LENGTH_MAX: usize = 253 + 1 + 253 + 63 + 1;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Kind for CertificateSigningRequest {
    const ABOUT: About = About {
        short_names: &["csr"],
        subresources: &[
            Subresource::Other {
                name: "approval",
                kind: ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
                verbs: &["get", "patch", "update"],
            },
            Subresource::Status,
        ],
        columns: &[
            NAME,
            AGE,
            column(
                "SignerName",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec", "signerName"),
            ),
            column(
                "Requestor",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec", "request"),
            ),
            column(
                "RequestedDuration",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec", "expirationSeconds"),
            ),
            column(
                "Condition",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.certificates.v1beta1.CertificateSigningRequestStatus", "conditions"),
            ),
        ],
        selectable: &["spec.signerName"],
        checks_changes: false,
        ..About::new("certificatesigningrequests", "certificatesigningrequest")
    };

    fn validate_name(_name: &str) -> Vec<String> {
        Vec::new()
    }

    /// Who asks is not the client's to say.
    fn prepare_create(&mut self, request: &Request) {
        let user = request.user;
        self.spec.username = Some(user.name.clone());
        self.spec.uid = Some(user.uid.clone()).filter(|uid| !uid.is_empty());
        self.spec.groups = Some(user.groups.clone());
        self.spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
        self.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, request: &Request) {
        self.spec.clone_from(&old.spec);
        let status = self.status.get_or_insert_default();
        let old = old.status.clone().unwrap_or_default();
        if request.subresource == "approval" {
            status.certificate = old.certificate;
        } else {
            FOR_APPROVAL.iter().for_each(|kind| keep_conditions(status, old.conditions.items(), kind));
        }
        set_times(status, old.conditions.items(), request.now);
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        validate_request(self, None, request.sent, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate_request(self, Some(old), request.sent, errors);
        validate_change(self, old, request.subresource, errors);
        meta::update_of(self, old, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_update(old, request, errors);
    }

    fn selectable(&self, path: &str) -> String {
        if path == "spec.signerName" { self.spec.signer_name.clone() } else { String::new() }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let seconds = self.spec.expiration_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
        vec![
            json!(self.metadata.name),
            json!(table::age(&self.metadata, now)),
            json!(table::or_none(&self.spec.signer_name)),
            json!(self.spec.username.text()),
            json!(seconds.map_or_else(|| "<none>".to_owned(), duration::human)),
            json!(condition(self)),
        ]
    }
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default()
}

fn certificate(request: &CertificateSigningRequest) -> &[u8] {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    count(request, kind) > 0
}

fn count(request: &CertificateSigningRequest, kind: &str) -> usize {
    conditions(request).iter().filter(|c| c.type_ == kind).count()
}

fn condition(request: &CertificateSigningRequest) -> String {
    let mut shown = match (has(request, "Denied"), has(request, "Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has(request, "Failed") {
        shown.push_str(",Failed");
    }
    if !certificate(request).is_empty() {
        shown.push_str(",Issued");
    }
    shown
}

/// Conditions of this type stay as they were, unless their number changes, which validation refuses.
fn keep_conditions(
    status: &mut CertificateSigningRequestStatus,
    old: &[CertificateSigningRequestCondition],
    kind: &str,
) {
    let old: Vec<_> = old.iter().filter(|c| c.type_ == kind).collect();
    let new: Vec<_> = status.conditions.iter_mut().flatten().filter(|c| c.type_ == kind).collect();
    if new.len() == old.len() {
        new.into_iter().zip(old).for_each(|(new, old)| new.clone_from(old));
    }
}

fn set_times(status: &mut CertificateSigningRequestStatus, old: &[CertificateSigningRequestCondition], now: Timestamp) {
    let now = meta::whole_seconds(now);
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_update_time.get_or_insert_with(|| now.clone());
        if condition.last_transition_time.is_some() {
            continue;
        }
        let mut same = old.iter().filter(|c| c.type_ == condition.type_ && c.status == condition.status);
        let before = same.find_map(|c| c.last_transition_time.clone());
        condition.last_transition_time = Some(before.unwrap_or_else(|| now.clone()));
    }
}

/// What was stored before a rule was there is let be: rules that `old` breaks are not checked.
fn validate_request(
    new: &CertificateSigningRequest,
    old: Option<&CertificateSigningRequest>,
    sent: &Value,
    errors: &mut Errors,
) {
    validate_spec(&new.spec, old.map(|old| &old.spec), sent, errors);
    validate_conditions(conditions(new), old.map(conditions).unwrap_or_default(), errors);
    let kept =
        old.is_some_and(|old| certificate(old) == certificate(new) || pem::certificates(certificate(old)).is_err());
    if let Err(why) = pem::certificates(certificate(new))
        && !kept
    {
        errors.push(Error::invalid(STATUS.child("certificate"), "<certificate data>", why));
    }
}

fn validate_spec(
    spec: &CertificateSigningRequestSpec,
    old: Option<&CertificateSigningRequestSpec>,
    sent: &Value,
    errors: &mut Errors,
) {
    if let Err(why) = pem::request(&spec.request.0) {
        let bytes = &spec.request.0;
        let is_given = sent.pointer("/spec/request").is_some_and(Value::is_string);
        let shown = if is_given { json!(schema::time::text(bytes)) } else { Value::Null };
        errors.push(Error::invalid(SPEC.child("request"), shown, why));
    }
    let (path, usages) = (SPEC.child("usages"), spec.usages.items());
    if usages.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let old_usages = old.map(|old| old.usages.items()).unwrap_or_default();
    let is_known = |usage: &String| USAGES.contains(&usage.as_str());
    for (i, usage) in usages.iter().enumerate().filter(|(_, usage)| !is_known(usage)) {
        if old_usages.iter().all(is_known) {
            errors.push(Error::not_supported(path.index(i), usage.as_str(), USAGES));
        }
    }
    if repeated(old_usages).next().is_none() {
        errors.extend(repeated(usages).map(|(i, usage)| Error::duplicate(path.index(i), usage.as_str())));
    }
    let (path, signer) = (SPEC.child("signerName"), spec.signer_name.as_str());
    if signer == LEGACY_SIGNER && old.is_none_or(|old| old.signer_name != LEGACY_SIGNER) {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(path, signer, why));
    } else {
        validate_signer(signer, &path, errors);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < SECONDS_MIN) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(SPEC.child("expirationSeconds"), seconds, why));
    }
}

/// Where a value comes that was there before.
fn repeated<T: Copy + Eq + Hash>(values: impl IntoIterator<Item = T>) -> impl Iterator<Item = (usize, T)> {
    let mut seen = HashSet::new();
    values.into_iter().enumerate().filter(move |(_, value)| !seen.insert(*value))
}

pub fn validate_signer(signer: &str, path: &Path, errors: &mut Errors) {
    if signer.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(*path, signer, why));
        return;
    };
    if domain.len() > 253 {
        errors.push(Error::too_long(*path, 253));
    }
    labels(domain, field::dns_label, path, errors);
    if !domain.contains('.') {
        errors.push(Error::invalid(*path, domain, "should be a domain with at least two segments separated by dots"));
    }
    labels(rest, field::dns_subdomain, path, errors);
    if signer.len() > SIGNER_LENGTH_MAX {
        errors.push(Error::too_long(*path, SIGNER_LENGTH_MAX as i64));
    }
}

/// Tells of the first label that is wrong.
fn labels(text: &str, wrong: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    let mut checked = text.split('.').map(|label| (label, wrong(label)));
    if let Some((label, wrong)) = checked.find(|(_, wrong)| !wrong.is_empty()) {
        let wrong = wrong.into_iter().map(|why| format!("validating label {}: {why}", quote(label)));
        extend(errors, *path, text, wrong.collect());
    }
}

fn validate_conditions(
    conditions: &[CertificateSigningRequestCondition],
    old: &[CertificateSigningRequestCondition],
    errors: &mut Errors,
) {
    let list = STATUS.child("conditions");
    let was = |kind: &str| old.iter().any(|c| c.type_ == kind);
    let may_repeat = repeated(old.iter().map(|c| &c.type_)).next().is_some();
    let may_be_both = was("Approved") && was("Denied");
    let mut seen = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let (path, kind) = (list.index(i), condition.type_.as_str());
        if kind.is_empty() && !was("") {
            errors.push(Error::required(path.child("type"), ""));
        }
        let allowed: &[&str] = if LASTING.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match condition.status.as_str() {
            "" => errors.push(Error::required(path.child("status"), "")),
            status if !allowed.contains(&status) => {
                errors.push(Error::not_supported(path.child("status"), status, allowed));
            }
            _ => {}
        }
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !may_be_both && !opposite.is_empty() && seen.contains(opposite) {
            errors.push(Error::invalid(list, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(kind) && !may_repeat {
            errors.push(Error::duplicate(path.child("type"), kind));
        }
    }
}

fn validate_change(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    subresource: &str,
    errors: &mut Errors,
) {
    let path = STATUS.child("conditions");
    for kind in LASTING.iter().filter(|kind| count(new, kind) < count(old, kind)) {
        errors.push(Error::forbidden(path, format!("updates may not remove a condition of type {kind:?}")));
    }
    if subresource != "approval" {
        for kind in FOR_APPROVAL.iter().filter(|kind| count(new, kind) > count(old, kind)) {
            errors.push(Error::forbidden(path, format!("updates may not add a condition of type {kind:?}")));
        }
    }
    if certificate(new) == certificate(old) {
        return;
    }
    let path = STATUS.child("certificate");
    if subresource != "status" {
        errors.push(Error::forbidden(path, "updates may not set certificate content"));
    } else if !certificate(old).is_empty() {
        errors.push(Error::forbidden(path, "updates may not modify existing certificate content"));
    }
}

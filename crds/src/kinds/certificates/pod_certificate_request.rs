//! PodCertificateRequest (certificates.k8s.io/v1beta1).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus},
};
use serde_json::{Value, json};
use x509_parser::{
    certificate::X509Certificate, certification_request::X509CertificationRequest, extensions::GeneralName, pem::Pem,
    prelude::FromDer, x509::SubjectPublicKeyInfo,
};

use super::{
    certificate_signing_request::validate_signer,
    key::{self, Weakness},
};
use crate::{
    condition, equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{About, Kind, NAME, Prose, Request, Subresource, column, text},
    meta, schema, syntax, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const SPEC_TYPE: &str = "io.k8s.api.certificates.v1beta1.PodCertificateRequestSpec";
const ISSUED: &str = "Issued";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const UID_LENGTH_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 10 << 10;
const CHAIN_BYTES_MAX: usize = 100 << 10;
const DAY_SECONDS: i32 = 24 * 60 * 60;
const SECONDS_MIN: i32 = 60 * 60;
const SECONDS_MAX: i32 = 91 * DAY_SECONDS;
/// How far the clocks of a signer and of the server may be apart.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// So long before and after a refresh the certificate is good.
const REFRESH_MARGIN: SignedDuration = SignedDuration::from_mins(10);
const CERTIFICATE: &str = "CERTIFICATE";
const NO_REQUEST: &str = "must be a valid PKCS#10 CSR";
const NO_KEY: &str = "must be a valid PKIX-serialized public key";
const UNKNOWN_KEY: &str = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";

impl Kind for PodCertificateRequest {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("PodName", "string", "", 0, Prose::Field(SPEC_TYPE, "podName")),
            column("ServiceAccountName", "string", "", 0, Prose::Field(SPEC_TYPE, "serviceAccountName")),
            column("NodeName", "string", "", 0, Prose::Field(SPEC_TYPE, "nodeName")),
            column("SignerName", "string", "", 0, Prose::Field(SPEC_TYPE, "signerName")),
            column("State", "string", "", 0, text("Is the request Pending, Issued, Denied, or Failed?")),
            column("UnverifiedUserAnnotations", "string", "", 0, Prose::Field(SPEC_TYPE, "unverifiedUserAnnotations")),
        ],
        unconditional_update: false,
        selectable: &["spec.signerName", "spec.podName", "spec.nodeName"],
        ..About::new("podcertificaterequests", "podcertificaterequest")
    };

    fn set_defaults(&mut self) {
        self.spec.max_expiration_seconds.get_or_insert(DAY_SECONDS);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(PodCertificateRequestStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(&self.spec, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        equal::immutable_struct(&self.spec, &old.spec, SPEC_TYPE, SPEC, errors);
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        let none = PodCertificateRequestStatus::default();
        let (new, old) = (self.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
        let mut wrong = Errors::new();
        validate_conditions(new, &mut wrong);
        if wrong.is_empty() {
            validate_change(new, old, &self.spec, request.now, &mut wrong);
        }
        errors.append(&mut wrong);
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "spec.signerName" => self.spec.signer_name.clone(),
            "spec.podName" => self.spec.pod_name.clone(),
            "spec.nodeName" => self.spec.node_name.clone(),
            _ => String::new(),
        }
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let conditions = self.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
        let state = conditions.iter().map(|c| c.type_.as_str()).rfind(|kind| [ISSUED, DENIED, FAILED].contains(kind));
        vec![
            json!(self.metadata.name),
            json!(spec.pod_name),
            json!(spec.service_account_name),
            json!(spec.node_name),
            json!(spec.signer_name),
            json!(state.unwrap_or("Pending")),
            json!(table::labels(spec.unverified_user_annotations.as_ref())),
        ]
    }
}

fn bytes(given: Option<&ByteString>) -> &[u8] {
    given.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
}

/// A key of Kubernetes' own signers lives for a day at most.
fn is_of_kubernetes(signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

fn validate_spec(spec: &PodCertificateRequestSpec, errors: &mut Errors) {
    validate_signer(&spec.signer_name, &SPEC.child("signerName"), errors);
    if let Some(annotations) = &spec.unverified_user_annotations {
        let path = SPEC.child("unverifiedUserAnnotations");
        for key in annotations.keys() {
            syntax::domain_key(&key.to_lowercase(), &path, errors);
        }
        meta::annotations_size(annotations, path, errors);
    }
    for (name, named, uid, identity) in [
        ("podName", &spec.pod_name, "podUID", &spec.pod_uid),
        ("serviceAccountName", &spec.service_account_name, "serviceAccountUID", &spec.service_account_uid),
        ("nodeName", &spec.node_name, "nodeUID", &spec.node_uid),
    ] {
        extend(errors, SPEC.child(name), named, field::dns_subdomain(named));
        if identity.is_empty() {
            errors.push(Error::invalid(SPEC.child(uid), "", "must not be empty"));
        }
        if identity.len() > UID_LENGTH_MAX {
            errors.push(Error::too_long(SPEC.child(uid), UID_LENGTH_MAX as i64));
        }
    }
    let Some(seconds) = spec.max_expiration_seconds else {
        errors.push(Error::required(SPEC.child("maxExpirationSeconds"), "must be set"));
        return;
    };
    let max = if is_of_kubernetes(&spec.signer_name) { DAY_SECONDS } else { SECONDS_MAX };
    if !(SECONDS_MIN..=max).contains(&seconds) {
        let why = format!("must be in the range [{SECONDS_MIN}, {max}]");
        errors.push(Error::invalid(SPEC.child("maxExpirationSeconds"), seconds, why));
    }
    let (request, public) = (spec.stub_pkc_s10_request.0.as_slice(), bytes(spec.pkix_public_key.as_ref()));
    let proof = bytes(spec.proof_of_possession.as_ref());
    match (request.is_empty(), public.is_empty(), proof.is_empty()) {
        (false, true, true) => validate_request(request, errors),
        (true, false, false) => validate_key(public, proof, &spec.pod_uid, errors),
        _ => {
            let why = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            errors.push(Error::wrong(SPEC, why));
        }
    }
}

/// False: it is too long, and nothing more is looked at.
fn is_short(bytes: &[u8], path: Path, errors: &mut Errors) -> bool {
    if bytes.len() > KEY_BYTES_MAX {
        errors.push(Error::too_long(path, KEY_BYTES_MAX as i64));
    }
    bytes.len() <= KEY_BYTES_MAX
}

fn weak_modulus(bits: usize, path: Path) -> Error {
    Error::invalid(path, format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096")
}

/// What the request says is not looked at, only what key it is for.
fn validate_request(der: &[u8], errors: &mut Errors) {
    let path = SPEC.child("stubPKCS10Request");
    if !is_short(der, path, errors) {
        return;
    }
    let Some(request) = parse_request(der) else {
        errors.push(Error::wrong(path, NO_REQUEST));
        return;
    };
    let why = match key::check(&request.certification_request_info.subject_pki) {
        Ok(()) if request.verify_signature().is_ok() => return,
        Ok(()) => Error::wrong(path, "invalid signature"),
        Err(Weakness::Malformed) => Error::wrong(path, NO_REQUEST),
        Err(Weakness::Curve(name)) => {
            Error::invalid(path, format!("curve {name}"), "elliptic public keys must use curve P256, P384, or P521")
        }
        Err(Weakness::Modulus(bits)) => weak_modulus(bits, path),
        Err(Weakness::Unknown) => Error::wrong(path, UNKNOWN_KEY),
    };
    errors.push(why);
}

fn parse_request(der: &[u8]) -> Option<X509CertificationRequest<'_>> {
    X509CertificationRequest::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, request)| request)
}

/// The older way: a key, and the pod's uid signed with it.
fn validate_key(der: &[u8], proof: &[u8], uid: &str, errors: &mut Errors) {
    let (path, proof_path) = (SPEC.child("pkixPublicKey"), SPEC.child("proofOfPossession"));
    if !is_short(der, path, errors) || !is_short(proof, proof_path, errors) {
        return;
    }
    let shown = || schema::time::text(der);
    let Some(key) = key::parse(der) else {
        errors.push(Error::invalid(path, shown(), NO_KEY));
        return;
    };
    let why = match key::check(&key) {
        Ok(()) if key::has_signed(&key, uid.as_bytes(), proof) => return,
        Ok(()) => Error::wrong(proof_path, "could not verify proof-of-possession signature"),
        Err(Weakness::Malformed) => Error::invalid(path, shown(), NO_KEY),
        Err(Weakness::Curve(name)) => {
            Error::invalid(path, format!("curve {name}"), "elliptic public keys must use curve P256 or P384")
        }
        Err(Weakness::Modulus(bits)) => weak_modulus(bits, path),
        Err(Weakness::Unknown) => Error::invalid(path, shown(), UNKNOWN_KEY),
    };
    errors.push(why);
}

/// One of the known conditions at most, and it is true.
fn validate_conditions(status: &PodCertificateRequestStatus, errors: &mut Errors) {
    let (list, mut is_told) = (STATUS.child("conditions"), false);
    for (i, condition) in status.conditions.items().iter().enumerate() {
        // Upstream has a dot before the index.
        let index = format!("[{i}]");
        let (path, kind) = (list.child(&index), condition.type_.as_str());
        if ![ISSUED, DENIED, FAILED].contains(&kind) {
            errors.push(Error::not_supported(path.child("type"), kind, &[ISSUED, DENIED, FAILED]));
            continue;
        }
        if is_told {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(Error::invalid(path.child("type"), kind, why));
        }
        is_told = true;
        if condition.status != "True" {
            errors.push(Error::not_supported(path.child("status"), condition.status.as_str(), &["True"]));
        }
    }
    condition::validate(status.conditions.items(), &list, errors);
}

/// A request is answered once.
fn validate_change(
    new: &PodCertificateRequestStatus,
    old: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
    now: Timestamp,
    errors: &mut Errors,
) {
    let has = |status: &PodCertificateRequestStatus, kind| condition::is_true(status.conditions.as_ref(), kind);
    if [ISSUED, DENIED, FAILED].iter().any(|kind| has(old, kind)) {
        if !equal::same(new, old) {
            errors.push(Error::wrong(STATUS, "immutable after PodCertificateRequest is issued, denied, or failed"));
        }
    } else if has(new, DENIED) || has(new, FAILED) {
        let wanted = PodCertificateRequestStatus { conditions: new.conditions.clone(), ..Default::default() };
        if !equal::same(new, &wanted) {
            let why = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.push(Error::wrong(STATUS, why));
        }
    } else if has(new, ISSUED) {
        validate_issued(new, spec, now, errors);
    } else if !equal::same(new, old) {
        let why = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        errors.push(Error::wrong(STATUS, why));
    }
}

/// The certificate is what was asked for, and what the status says of it.
fn validate_issued(
    status: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
    now: Timestamp,
    errors: &mut Errors,
) {
    let (chain, path) = (status.certificate_chain.text(), STATUS.child("certificateChain"));
    if chain.len() > CHAIN_BYTES_MAX {
        errors.push(Error::too_long(path, CHAIN_BYTES_MAX as i64));
        return;
    }
    let wrong = |why: &str| Error::invalid(path, chain, why);
    let mut blocks = Pem::iter_from_buffer(chain.as_bytes()).filter_map(Result::ok);
    let Some(first) = blocks.next() else {
        errors.push(wrong("issued certificate chain must contain at least one certificate"));
        return;
    };
    if first.label != CERTIFICATE {
        errors.push(wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
        return;
    }
    let Ok(([], leaf)) = X509Certificate::from_der(&first.contents) else {
        errors.push(wrong("leaf certificate does not parse as valid X.509"));
        return;
    };
    validate_names(&leaf, &path, errors);
    match is_for(&leaf, spec) {
        Ok(true) => {}
        Ok(false) => {
            errors.push(wrong("leaf certificate was not issued to the requested public key"));
            return;
        }
        Err(error) => {
            errors.push(error);
            return;
        }
    }
    let before = errors.len();
    validate_times(status, &leaf, spec.max_expiration_seconds.unwrap_or(DAY_SECONDS), now, errors);
    if errors.len() > before {
        return;
    }
    for block in blocks {
        if block.label != CERTIFICATE {
            // Upstream's spelling.
            errors.push(wrong("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
            return;
        }
        if X509Certificate::from_der(&block.contents).is_err() {
            errors.push(wrong("intermediate certificate does not parse as valid X.509"));
            return;
        }
    }
}

fn validate_names(leaf: &X509Certificate, path: &Path, errors: &mut Errors) {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = || names.iter().flat_map(|names| &names.value.general_names);
    for name in names().filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None }) {
        for (is, why) in [
            (name.is_empty(), "leaf certificate should not contain empty DNSName"),
            (name.contains(".."), "leaf certificate's DNSName should not contain '..'"),
            (
                name.starts_with('.') || name.ends_with('.'),
                "leaf certificate's DNSName should not start or end with '.'",
            ),
        ] {
            if is {
                errors.push(Error::invalid(*path, name, why));
            }
        }
    }
    for name in names().filter_map(|name| if let GeneralName::RFC822Name(name) = name { Some(*name) } else { None }) {
        let is_address = name.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !is_address || name.contains(char::is_whitespace) {
            errors.push(Error::invalid(*path, name, "leaf certificate should not contain invalid EmailAddress"));
        }
    }
}

/// Whether the certificate is for the key of the request.
fn is_for(leaf: &X509Certificate, spec: &PodCertificateRequestSpec) -> Result<bool, Error> {
    let same = |key: &SubjectPublicKeyInfo| key::same(key, &leaf.tbs_certificate.subject_pki);
    if !spec.stub_pkc_s10_request.0.is_empty() {
        let request = parse_request(&spec.stub_pkc_s10_request.0)
            .ok_or_else(|| Error::wrong(SPEC.child("stubPKCS10Request"), NO_REQUEST))?;
        return Ok(same(&request.certification_request_info.subject_pki));
    }
    let key = key::parse(bytes(spec.pkix_public_key.as_ref()))
        .ok_or_else(|| Error::wrong(SPEC.child("pkixPublicKey"), NO_KEY))?;
    Ok(same(&key))
}

fn validate_times(
    status: &PodCertificateRequestStatus,
    leaf: &X509Certificate,
    seconds_max: i32,
    now: Timestamp,
    errors: &mut Errors,
) {
    let consistent = "must be present and consistent with the issued certificate";
    let in_range = "must be present and in the range [notbefore+10min, notafter-10min]";
    let (begin, end, refresh) = (&status.not_before, &status.not_after, &status.begin_refresh_at);
    let (Some(begin), Some(end), Some(refresh)) = (begin, end, refresh) else {
        for (name, is_missing, why) in [
            ("notBefore", begin.is_none(), consistent),
            ("notAfter", end.is_none(), consistent),
            ("beginRefreshAt", refresh.is_none(), in_range),
        ] {
            if is_missing {
                errors.push(Error::required(STATUS.child(name), why));
            }
        }
        return;
    };
    let (begin, end, refresh) = (begin.0, end.0, refresh.0);
    let validity = leaf.validity();
    let (leaf_begin, leaf_end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let lifetime = leaf_end - leaf_begin;
    let time = |name: &'static str, time: Timestamp, why: &str| {
        Error::invalid(STATUS.child(name), meta::whole_seconds(time).0.to_string(), why)
    };
    let live =
        |why: String| Error::invalid(STATUS.child("certificateChain"), lifetime.saturating_mul(1_000_000_000), why);
    // The first one that is wrong is told.
    let wrong = if begin.as_second() != leaf_begin {
        time("notBefore", begin, "must be set to the NotBefore time encoded in the leaf certificate")
    } else if now.duration_since(begin).abs() >= SKEW {
        time("notBefore", begin, "must be set to within 5 minutes of kube-apiserver's current time")
    } else if end.as_second() != leaf_end {
        time("notAfter", end, "must be set to the NotAfter time encoded in the leaf certificate")
    } else if lifetime < SECONDS_MIN.into() {
        live("leaf certificate lifetime must be >= 1 hour".to_owned())
    } else if lifetime > seconds_max.into() {
        live(format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({seconds_max})"))
    } else if refresh.duration_since(begin) < REFRESH_MARGIN {
        time("beginRefreshAt", refresh, "must be at least 10 minutes after status.notBefore")
    } else if end.duration_since(refresh) < REFRESH_MARGIN {
        time("beginRefreshAt", refresh, "must be at least 10 minutes before status.notAfter")
    } else {
        return;
    };
    errors.push(wrong);
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::user::User;

    /// A request for a P-256 key, and the key; a uid that is signed with it. The others are of other keys.
    const REQUEST: &str = "MIG6MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFco54l9O5HqjoEHEOPw0EkxG7BbEn1AJYjv8izEJsPGSzP54OU2\
        lPfPK+sH8ARwptWEmx6L7EZXOOpplLZcPvKgADAKBggqhkjOPQQDAgNIADBFAiEAtCmoyfcb4yj0WfYQVgMgmrkYVt2In1MCpNH7\
        kT9rIiQCIB+zse9NSdVXtRWXbgniPviHyVYNvWihEly2p816XvKB";
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVyjniX07keqOgQcQ4/DQSTEbsFsSfUAliO/yLMQmw8ZLM/ng5TaU988r6wfwBHCm\
        1YSbHovsRlc46mmUtlw+8g==";
    const PROOF: &str =
        "MEUCIBRQyrIcBfvA7/EbBcmAKO/QbT/CNFIOAXHnxoY/i4HnAiEAifbwXroxwV2ai38rPTucyAFzk9+kFcEEHZEeZaOZP8w=";
    const SMALL_REQUEST: &str = "MIGnMFcCAQAwADBOMBAGByqGSM49AgEGBSuBBAAhAzoABHUUSE4LmfpSIINcqDceKtd0lv3YSvJJy12R7ts055ODsOfCxdXbLtZZ\
        5FO1MaDE6k6yN61whFgloAAwCgYIKoZIzj0EAwIDQAAwPQIdANOL6nZtrjSASwJ5Hq8Qz6R8HLFUQLDcZyU9BCECHCIYbcNqLe0b\
        /Z3GXLuqSu9ZF5E1tAuAqksxalE=";
    const ED25519_KEY: &str = "MCowBQYDK2VwAyEAFmkmMmuJsMimTdJ+CGhL4T9gwHUaiFoZfISR3kOf7NM=";
    const ED25519_PROOF: &str =
        "CXS7pOQqrARE5JcJtss11/dSbF2hKdUlEa764ruBd0SwD8fRgj+KnZik0jq3Ynh1nGHGpTiPpcEeNuhhVHn9Aw==";
    /// For the P-256 key, two hours from the beginning of 2026.
    const ISSUED_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBKzCBsaADAgECAgEBMAoGCCqGSM49BAMCMAAwHhcNMjYwMTAxMDAwMDAwWhcN\n\
        MjYwMTAxMDIwMDAwWjAAMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVyjniX07\n\
        keqOgQcQ4/DQSTEbsFsSfUAliO/yLMQmw8ZLM/ng5TaU988r6wfwBHCm1YSbHovs\n\
        Rlc46mmUtlw+8qMcMBowGAYDVR0RBBEwD4INYS5leGFtcGxlLmNvbTAKBggqhkjO\n\
        PQQDAgNpADBmAjEA1EsruhHE2XmC7p+Oop+Nu/tiXe8uzKhIPe8cbe9xcMbiDkEm\n\
        Z7EIQTh5TaNTCz0oAjEAzvQObMVqcCR4g2XWHDbWjkTtm2eKYxnMT+ku70eR9D9w\n\
        eOMaUFtbV2QKI4HjB+t+\n\
        -----END CERTIFICATE-----\n";
    const NOW: &str = "2026-01-01T00:01:00Z";

    fn spec(own: Value) -> PodCertificateRequestSpec {
        let mut spec = json!({"signerName": "example.com/s", "podName": "p", "podUID": "uid-1", "serviceAccountName": "s",
            "serviceAccountUID": "u", "nodeName": "n", "nodeUID": "u", "maxExpirationSeconds": DAY_SECONDS});
        for (name, value) in own.as_object().unwrap() {
            spec[name] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn told(errors: &Errors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        let mut tampered = STANDARD.decode(REQUEST).unwrap();
        *tampered.last_mut().unwrap() ^= 1;
        let one =
            "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        let request = "stubPKCS10Request";
        for (own, want) in [
            (json!({request: REQUEST}), vec![]),
            (json!({request: KEY}), vec!["spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"]),
            (
                json!({request: STANDARD.encode(tampered)}),
                vec!["spec.stubPKCS10Request: Invalid value: invalid signature"],
            ),
            (
                json!({request: SMALL_REQUEST}),
                vec![
                    "spec.stubPKCS10Request: Invalid value: \"curve P-224\": elliptic public keys must use curve P256, P384, or P521",
                ],
            ),
            (json!({}), vec![one]),
            (json!({request: REQUEST, "pkixPublicKey": KEY}), vec![one]),
            (json!({"pkixPublicKey": KEY, "proofOfPossession": PROOF}), vec![]),
            (json!({"pkixPublicKey": ED25519_KEY, "proofOfPossession": ED25519_PROOF}), vec![]),
            (
                json!({"pkixPublicKey": KEY, "proofOfPossession": PROOF, "podUID": "uid-2"}),
                vec!["spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature"],
            ),
            (
                json!({"pkixPublicKey": "eA==", "proofOfPossession": PROOF}),
                vec!["spec.pkixPublicKey: Invalid value: \"eA==\": must be a valid PKIX-serialized public key"],
            ),
            (
                json!({request: REQUEST, "signerName": "kubernetes.io/s", "maxExpirationSeconds": 86_401}),
                vec!["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"],
            ),
            (
                json!({request: REQUEST, "maxExpirationSeconds": 3599, "podUID": "", "nodeUID": "u".repeat(129)}),
                vec![
                    "spec.podUID: Invalid value: \"\": must not be empty",
                    "spec.nodeUID: Too long: may not be more than 128 bytes",
                    "spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]",
                ],
            ),
            (
                json!({request: REQUEST, "unverifiedUserAnnotations": {"": "", "Own": "", "example.com/a": ""}}),
                vec![
                    "spec.unverifiedUserAnnotations: Required value",
                    "spec.unverifiedUserAnnotations: Invalid value: \"own\": must be a domain-prefixed key (such as \"acme.io/foo\")",
                ],
            ),
        ] {
            let mut errors = Errors::new();
            validate_spec(&spec(own), &mut errors);
            assert_eq!(told(&errors), want);
        }
    }

    fn condition(kind: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": NOW})
    }

    /// What is wrong with a status that follows another.
    fn changed(spec: &PodCertificateRequestSpec, new: &Value, old: &Value) -> Vec<String> {
        let of = |status: &Value| PodCertificateRequest {
            spec: spec.clone(),
            status: Some(serde_json::from_value(status.clone()).unwrap()),
            ..PodCertificateRequest::default()
        };
        let (user, mut errors) = (User::default(), Errors::new());
        let request = Request { user: &user, now: NOW.parse().unwrap(), subresource: "status", sent: &Value::Null };
        of(new).validate_subresource(&of(old), &request, &mut errors);
        told(&errors)
    }

    #[test]
    fn a_request_is_answered_once() {
        let spec = spec(json!({"stubPKCS10Request": REQUEST}));
        let none = json!({});
        let told = |new: Value| changed(&spec, &new, &none);
        assert_eq!(told(json!({"conditions": [condition(DENIED)]})), [""; 0]);
        assert_eq!(
            told(json!({"certificateChain": "x"})),
            [
                "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\""
            ]
        );
        assert_eq!(
            told(json!({"certificateChain": "x", "conditions": [condition(FAILED)]})),
            [
                "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest"
            ]
        );
        assert_eq!(
            told(json!({"conditions": [condition(ISSUED), condition(DENIED), condition("Other")]})),
            [
                "status.conditions.[1].type: Invalid value: \"Denied\": There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
                "status.conditions.[2].type: Unsupported value: \"Other\": supported values: \"Issued\", \"Denied\", \"Failed\"",
            ]
        );
        let denied = json!({"conditions": [condition(DENIED)]});
        assert_eq!(changed(&spec, &denied, &denied), [""; 0]);
        assert_eq!(
            changed(&spec, &none, &denied),
            ["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"]
        );
    }

    #[test]
    fn what_is_issued_is_what_was_asked_for() {
        let asked = spec(json!({"stubPKCS10Request": REQUEST}));
        let other = spec(json!({"pkixPublicKey": ED25519_KEY, "proofOfPossession": ED25519_PROOF}));
        let short = spec(json!({"stubPKCS10Request": REQUEST, "maxExpirationSeconds": 3600}));
        let issued = |chain: &str, [begin, end, refresh]: [&str; 3]| {
            json!({"conditions": [condition(ISSUED)], "certificateChain": chain, "notBefore": begin, "notAfter": end,
                "beginRefreshAt": refresh})
        };
        let (begin, middle, end) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z");
        let times = [begin, end, middle];
        let key = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        let chain = format!("{ISSUED_CERTIFICATE}{key}");
        for (spec, status, want) in [
            (&asked, issued(ISSUED_CERTIFICATE, times), ""),
            (
                &asked,
                issued("x", times),
                "status.certificateChain: issued certificate chain must contain at least one certificate",
            ),
            (
                &asked,
                issued(key, times),
                "status.certificateChain: issued certificate chain must consist entirely of CERTIFICATE PEM blocks",
            ),
            (
                &asked,
                issued(&chain, times),
                "status.certificateChain: issued certificate chain must consist entirely of CERTFICATE PEM blocks",
            ),
            (
                &other,
                issued(ISSUED_CERTIFICATE, times),
                "status.certificateChain: leaf certificate was not issued to the requested public key",
            ),
            (
                &short,
                issued(ISSUED_CERTIFICATE, times),
                "status.certificateChain: leaf certificate lifetime must be <= spec.maxExpirationSeconds (3600)",
            ),
            (
                &asked,
                issued(ISSUED_CERTIFICATE, [middle, end, middle]),
                "status.notBefore: must be set to the NotBefore time encoded in the leaf certificate",
            ),
            (
                &asked,
                issued(ISSUED_CERTIFICATE, [begin, middle, middle]),
                "status.notAfter: must be set to the NotAfter time encoded in the leaf certificate",
            ),
            (
                &asked,
                issued(ISSUED_CERTIFICATE, [begin, end, "2026-01-01T00:09:59Z"]),
                "status.beginRefreshAt: must be at least 10 minutes after status.notBefore",
            ),
            (
                &asked,
                issued(ISSUED_CERTIFICATE, [begin, end, end]),
                "status.beginRefreshAt: must be at least 10 minutes before status.notAfter",
            ),
        ] {
            let told = changed(spec, &status, &json!({}));
            let (field, why) = want.split_once(": ").unwrap_or_default();
            let is_told = told.iter().all(|told| told.starts_with(field) && told.ends_with(why));
            assert!(is_told && told.len() == usize::from(!want.is_empty()), "{want}: {told:?}");
        }
    }

    #[test]
    fn the_last_known_condition_is_the_state() {
        let state = |conditions: Value| {
            let request = PodCertificateRequest {
                status: serde_json::from_value(json!({"conditions": conditions})).unwrap(),
                ..PodCertificateRequest::default()
            };
            request.row(Timestamp::UNIX_EPOCH)[5].clone()
        };
        assert_eq!(state(json!([])), "Pending");
        assert_eq!(state(json!([condition(FAILED), condition("Other")])), FAILED);
    }
}

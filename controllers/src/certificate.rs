//! Approves, signs and clears away CertificateSigningRequests.

pub mod issue;
pub mod request;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

use crate::{
    config::Signer,
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        clock::{self, after},
        object::Key,
        server::Error,
    },
};
use request::{Request, Rule};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

fn find<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn certificate(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    csr.status.as_ref().and_then(|s| s.certificate.as_ref()).map(|c| c.0.as_slice()).filter(|c| !c.is_empty())
}

fn with_condition(
    csr: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut updated = csr.clone();
    updated.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        },
    );
    updated
}

/// A kubelet's request for a client certificate that the requestor may have.
#[derive(Debug)]
pub struct Approvable {
    pub csr: Arc<CertificateSigningRequest>,
    pub message: &'static str,
    pub now: Timestamp,
}

/// Permission that stands for approval, and what is said then; the first is only for a node's own certificate.
const PERMISSIONS: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];

#[derive(Default)]
pub struct CertificateApprovingController;

impl Controller for CertificateApprovingController {
    const NAME: &'static str = "certificatesigningrequest-approving";
    const ACCOUNT: &'static str = "certificate-controller";
    const COMPONENT: &'static str = "certificate-approving-controller";
    type Observed = Approvable;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<CertificateSigningRequest>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Approvable>, Error> {
        let Some(csr) = view.caches.get::<CertificateSigningRequest>().get(key) else {
            return Ok(None);
        };
        let decided = certificate(&csr).is_some() || find(&csr, APPROVED).is_some() || find(&csr, DENIED).is_some();
        if decided || csr.spec.signer_name != request::KUBELET_CLIENT {
            return Ok(None);
        }
        let Ok(parsed) = Request::parse(&csr.spec.request.0) else {
            return Ok(None);
        };
        let usages = csr.spec.usages.as_deref().unwrap_or_default();
        if Rule::KubeletClient.check(&parsed, usages).is_err() {
            return Ok(None);
        }
        let own = csr.spec.username.as_deref() == parsed.common_name.as_deref();
        for (permission, message) in PERMISSIONS.into_iter().skip(usize::from(!own)) {
            if is_permitted(view, &csr, permission).await? {
                return Ok(Some(Approvable { csr, message, now: view.now }));
            }
        }
        Ok(None)
    }

    fn plan(&self, seen: &Approvable) -> Plan {
        let approved = with_condition(&seen.csr, APPROVED, "AutoApproved", seen.message, seen.now);
        Plan::of(Write::update_part(&approved, "approval"))
    }
}

/// Asks whether the requestor may create such certificates.
async fn is_permitted(view: &View, csr: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
    let spec = &csr.spec;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "version": "*", "verb": "create",
            "resource": "certificatesigningrequests", "subresource": subresource}}});
    let answer: Value = view.server.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await?;
    Ok(answer["status"]["allowed"] == true)
}

/// An approved request that has no certificate yet.
#[derive(Debug)]
pub struct Signable {
    pub csr: Arc<CertificateSigningRequest>,
    pub rule: Rule,
    pub signer: Signer,
    pub duration: Duration,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct CertificateSigningController;

impl Controller for CertificateSigningController {
    const NAME: &'static str = "certificatesigningrequest-signing";
    const ACCOUNT: &'static str = "certificate-controller";
    const COMPONENT: &'static str = "certificate-signing-controller";
    type Observed = Signable;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<CertificateSigningRequest>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Signable>, Error> {
        let Some(signer) = view.config.signer.clone() else {
            return Ok(None);
        };
        let approved = view.caches.get::<CertificateSigningRequest>().get(key).filter(|csr| {
            let refused = find(csr, DENIED).is_some() || find(csr, FAILED).is_some();
            find(csr, APPROVED).is_some() && !refused && certificate(csr).is_none()
        });
        let Some((csr, rule)) = approved.and_then(|csr| Some((csr.clone(), Rule::of(&csr.spec.signer_name)?))) else {
            return Ok(None);
        };
        Ok(Some(Signable { csr, rule, signer, duration: view.config.certificate_duration, now: view.now }))
    }

    fn plan(&self, seen: &Signable) -> Plan {
        let csr = &*seen.csr;
        let signed = Request::parse(&csr.spec.request.0)
            .map_err(|e| ("SigningError", e))
            .and_then(|request| {
                let usages = csr.spec.usages.as_deref().unwrap_or_default();
                seen.rule.check(&request, usages).map_err(|e| ("SignerValidationFailure", e))?;
                Ok(request)
            })
            .map(|request| issue::issue(seen, &request));
        match signed {
            Err((reason, message)) => {
                let failed = with_condition(csr, FAILED, reason, &message, seen.now);
                Plan::of(Write::status(&failed))
            }
            Ok(Ok(pem)) => {
                let mut updated = csr.clone();
                updated.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
                Plan::of(Write::status(&updated))
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a certificate could not be signed");
                Plan::default().again_after(Duration::from_secs(60))
            }
        }
    }
}

/// A request that may be old enough to go.
#[derive(Debug)]
pub struct Clearable {
    pub csr: Arc<CertificateSigningRequest>,
    pub now: Timestamp,
}

const DECIDED_SECONDS: i64 = 3600;
const PENDING_SECONDS: i64 = 24 * 3600;

#[derive(Default)]
pub struct CertificateCleanerController;

impl Controller for CertificateCleanerController {
    const NAME: &'static str = "certificatesigningrequest-cleaner";
    const ACCOUNT: &'static str = "certificate-controller";
    const COMPONENT: &'static str = "certificate-cleaner-controller";
    type Observed = Clearable;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<CertificateSigningRequest>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Clearable>, Error> {
        let csr = view.caches.get::<CertificateSigningRequest>().get(key);
        Ok(csr.map(|csr| Clearable { csr, now: view.now }))
    }

    fn plan(&self, seen: &Clearable) -> Plan {
        let Some(end) = end_of(&seen.csr) else {
            return Plan::default();
        };
        if clock::until(seen.now, end).is_zero() {
            return Plan::of(Write::delete::<CertificateSigningRequest>(&seen.csr.metadata));
        }
        Plan::default().again_at(seen.now, end)
    }
}

/// When a request is of no use any more: an hour after it was decided and answered, a day after it was made.
fn end_of(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let at = |kind: &str| find(csr, kind)?.last_update_time.as_ref().map(|t| t.0);
    let issued = certificate(csr);
    if let Some(expiry) = issued.and_then(issue::expiry) {
        return Some(at(APPROVED).map_or(expiry, |t| after(t, DECIDED_SECONDS).min(expiry)));
    }
    if let Some(time) = at(DENIED).or_else(|| at(FAILED)) {
        return Some(after(time, DECIDED_SECONDS));
    }
    let since = at(APPROVED).or_else(|| csr.metadata.creation_timestamp.as_ref().map(|t| t.0))?;
    Some(after(since, PENDING_SECONDS))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::pod::tests::now;

    fn authority() -> Signer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        Signer { certificate_pem, key_pem: key.serialize_pem() }
    }

    fn csr(common_name: &str, organization: &str, signer: &str, usages: &[&str]) -> CertificateSigningRequest {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": signer, "usages": usages},
            "status": {"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T00:09:00Z"}]}}))
        .unwrap();
        csr.spec.request = ByteString(pem.into_bytes());
        csr
    }

    fn sign(csr: CertificateSigningRequest) -> CertificateSigningRequest {
        let rule = Rule::of(&csr.spec.signer_name).unwrap();
        let duration = Duration::from_secs(3600);
        let seen = Signable { csr: Arc::new(csr), rule, signer: authority(), duration, now: now() };
        let plan = CertificateSigningController.plan(&seen);
        serde_json::from_value(plan.writes().next().unwrap().body().unwrap().clone()).unwrap()
    }

    #[test]
    fn signed_as_asked() {
        let usages = ["digital signature", "client auth"];
        let signed = sign(csr("system:node:a", "system:nodes", request::KUBELET_CLIENT, &usages));
        let pem = certificate(&signed).unwrap().to_vec();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let (rest, parsed) = X509Certificate::from_der(&pem.contents).unwrap();
        assert!(rest.is_empty());
        assert_eq!(parsed.subject().to_string(), "CN=system:node:a, O=system:nodes");
        assert_eq!(parsed.issuer().to_string(), "CN=ca");
        assert_eq!(parsed.validity().not_after.timestamp(), now().as_second() + 3600);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(parsed.key_usage().unwrap().unwrap().value.digital_signature());
        assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
    }

    #[test]
    fn refused() {
        for (organization, usages, want) in [
            ("others", &["digital signature", "client auth"][..], "organization"),
            ("system:nodes", &["server auth"], "usages"),
        ] {
            let failed = sign(csr("system:node:a", organization, request::KUBELET_CLIENT, usages));
            let condition = find(&failed, FAILED).unwrap();
            assert_eq!(condition.reason.as_deref(), Some("SignerValidationFailure"));
            assert!(condition.message.as_ref().unwrap().contains(want), "{condition:?}");
        }
    }

    #[test]
    fn cleared_away() {
        let mut pending = csr("a", "b", request::CLIENT, &["client auth"]);
        let hours =
            |csr: &CertificateSigningRequest| (end_of(csr).unwrap().as_second() - now().as_second()) as f64 / 3600.0;
        assert!((hours(&pending) - 24.0).abs() < 0.2);
        let issued = sign(pending.clone());
        assert!((hours(&issued) - 1.0).abs() < 0.2);
        pending.status = None;
        let lone = CertificateCleanerController.plan(&Clearable { csr: Arc::new(pending), now: after(now(), 90_000) });
        assert!(lone.writes().next().unwrap().is_delete());
    }
}

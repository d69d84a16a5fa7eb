//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign requests for
//! certificates, and what nobody may request.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use crds::field::{self, quote};
use futures::future::BoxFuture;
use serde_json::Value;
use x509_parser::{certification_request::X509CertificationRequest, pem::Pem, prelude::FromDer};

use super::{Attributes, Operation, Plugin, edit};
use crate::{
    authorize::{self, Authorize, Resource},
    error::{ApiError, Result},
    world::World,
};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const POD_REQUESTS: &str = "podcertificaterequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

pub struct CertificateApproval {
    authorizer: Arc<dyn Authorize>,
}

impl CertificateApproval {
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer }
    }
}

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update && attributes.is(GROUP, REQUESTS, "approval")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // The stored signer counts, whatever the request says.
            let signer = signer(attributes.old.as_deref());
            if may(&*self.authorizer, attributes, "approve", signer) {
                return Ok(());
            }
            let signer = quote(signer);
            Err(attributes.forbidden(format!("user not permitted to approve requests with signerName {signer}")))
        })
    }
}

pub struct CertificateSigning {
    authorizer: Arc<dyn Authorize>,
}

impl CertificateSigning {
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer }
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        let signs = |requests| attributes.is(GROUP, requests, "status");
        attributes.operation == Operation::Update && (signs(REQUESTS) || signs(POD_REQUESTS))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (new, old) = (attributes.object.as_ref(), attributes.old.as_deref());
            let at = |request: Option<&Value>, pointer: &str| {
                let value = request.and_then(|request| request.pointer(pointer)).cloned().unwrap_or_default();
                if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value }
            };
            let same = |pointer: &str| at(new, pointer) == at(old, pointer);
            if attributes.resource() == POD_REQUESTS {
                // Upstream asks where it validates, which is no admission, and tells it as what is wrong with the object.
                let signer = signer(old);
                if same("/status") || may(&*self.authorizer, attributes, "sign", signer) {
                    return Ok(());
                }
                let (user, signer) = (quote(&attributes.user.name), quote(signer));
                let why = format!("User {user} is not permitted to \"sign\" for signer {signer}");
                let error = field::Error::forbidden("spec.signerName", why);
                return Err(ApiError::invalid(GROUP, &attributes.kind.kind, &attributes.name, &[error]));
            }
            if same("/status/certificate") && same("/status/conditions") {
                return Ok(());
            }
            let signer = signer(old);
            if may(&*self.authorizer, attributes, "sign", signer) {
                return Ok(());
            }
            let signer = quote(signer);
            Err(attributes.forbidden(format!("user not permitted to sign requests with signerName {signer}")))
        })
    }
}

#[derive(Default)]
pub struct CertificateSubjectRestriction;

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is(GROUP, REQUESTS, "")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(request) = &attributes.object else { return Ok(()) };
            if signer(Some(request)) != CLIENT_SIGNER {
                return Ok(());
            }
            let subject =
                subject(request).map_err(|why| attributes.forbidden(format!("failed to parse CSR: {why}")))?;
            if !subject.organizations.iter().any(|group| group == MASTERS) {
                return Ok(());
            }
            Err(attributes.forbidden(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed")))
        })
    }
}

fn signer(request: Option<&Value>) -> &str {
    request.map_or("", |request| edit::text(request, "/spec/signerName"))
}

/// Whether the user has this verb on the signer, or on all signers of its domain.
fn may(authorizer: &dyn Authorize, attributes: &Attributes, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let all = format!("{domain}/*");
    [signer, &all].into_iter().any(|name| {
        let on = Resource { group: GROUP, version: "*", resource: "signers", name, ..Resource::default() };
        authorizer.decide(&authorize::Attributes::resource(&attributes.user, verb, on)).allowed()
    })
}

/// Whom a certificate is requested for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CertificateSubject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// The subject of the PEM request within a CertificateSigningRequest.
pub fn subject(request: &Value) -> std::result::Result<CertificateSubject, String> {
    let pem = STANDARD.decode(edit::text(request, "/spec/request")).map_err(|e| e.to_string())?;
    let block = Pem::iter_from_buffer(&pem).next().and_then(std::result::Result::ok);
    let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
    let name = &parsed.certification_request_info.subject;
    let texts = |attribute: &x509_parser::x509::AttributeTypeAndValue| attribute.as_str().map(str::to_owned).ok();
    Ok(CertificateSubject {
        common_name: name.iter_common_name().filter_map(texts).last().unwrap_or_default(),
        organizations: name.iter_organization().filter_map(texts).collect(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    #[test]
    fn subjects() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "system:node:n");
        params.distinguished_name.push(DnType::OrganizationName, MASTERS);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = json!({"spec": {"request": STANDARD.encode(pem)}});
        let expected = CertificateSubject { common_name: "system:node:n".into(), organizations: vec![MASTERS.into()] };
        assert_eq!(subject(&request), Ok(expected));
        assert!(subject(&json!({"spec": {"request": STANDARD.encode("hello")}})).is_err());
    }
}

//! What a request asks for, and what each of Kubernetes' own signers demands of it.

use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    pem::parse_x509_pem,
    prelude::FromDer as _,
};

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// A parsed request; what goes into the certificate is kept as it was encoded.
#[derive(Debug, Default)]
pub struct Request {
    pub subject: Vec<u8>,
    pub public_key: Vec<u8>,
    /// The extension's value, if there are alternative names.
    pub alternative_names: Option<Vec<u8>>,
    pub common_name: Option<String>,
    pub organizations: Vec<String>,
    pub dns_names: usize,
    pub addresses: usize,
    pub emails: usize,
    pub uris: usize,
}

impl Request {
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, pem) = parse_x509_pem(pem).map_err(|e| format!("PEM block type must be CERTIFICATE REQUEST: {e}"))?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| e.to_string())?;
        let info = &csr.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let mut request = Self {
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            common_name: info.subject.iter_common_name().find_map(text),
            organizations: info.subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(extensions) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in extensions.extensions.iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
                request.alternative_names = Some(extension.value.to_vec());
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    names.general_names.iter().for_each(|name| request.count(name));
                }
            }
        }
        Ok(request)
    }

    const fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(_) => self.dns_names += 1,
            GeneralName::IPAddress(_) => self.addresses += 1,
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            _ => {}
        }
    }
}

/// What a signer signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Client,
    KubeletClient,
    KubeletServing,
    Anything,
}

impl Rule {
    /// None for signers that are not ours.
    pub fn of(signer: &str) -> Option<Self> {
        Some(match signer {
            CLIENT => Self::Client,
            KUBELET_CLIENT => Self::KubeletClient,
            KUBELET_SERVING => Self::KubeletServing,
            LEGACY => Self::Anything,
            _ => return None,
        })
    }

    /// Why the signer does not sign this, if it does not.
    pub fn check(self, request: &Request, usages: &[String]) -> Result<(), String> {
        match self {
            Self::Anything => Ok(()),
            Self::Client => {
                let allowed = ["digital signature", "key encipherment", "client auth"];
                let fine = usages.iter().all(|u| allowed.contains(&u.as_str()));
                match fine && usages.iter().any(|u| u == "client auth") {
                    true => Ok(()),
                    false => Err("invalid usages for client certificate: client auth is required, beside it only key encipherment and digital signature are allowed".to_owned()),
                }
            }
            Self::KubeletClient => {
                check_node(request)?;
                for (count, what) in [
                    (request.dns_names, "DNS"),
                    (request.emails, "email"),
                    (request.addresses, "IP"),
                    (request.uris, "URI"),
                ] {
                    if count > 0 {
                        return Err(format!("{what} subjectAltNames are not allowed"));
                    }
                }
                check_usages(usages, "client auth")
            }
            Self::KubeletServing => {
                if request.dns_names + request.addresses == 0 {
                    return Err("DNS or IP subjectAltName is required".to_owned());
                }
                check_node(request)?;
                for (count, what) in [(request.emails, "email"), (request.uris, "URI")] {
                    if count > 0 {
                        return Err(format!("{what} subjectAltNames are not allowed"));
                    }
                }
                check_usages(usages, "server auth")
            }
        }
    }
}

fn check_node(request: &Request) -> Result<(), String> {
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    match request.common_name.as_deref().is_some_and(|n| n.starts_with("system:node:")) {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node: ".to_owned()),
    }
}

/// A key that cannot encipher (of an elliptic curve) need not say that it does.
fn check_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut given: Vec<&str> = usages.iter().map(String::as_str).filter(|u| *u != "key encipherment").collect();
    given.sort_unstable();
    given.dedup();
    let mut wanted = [purpose, "digital signature"];
    wanted.sort_unstable();
    match given == wanted {
        true => Ok(()),
        false => Err(format!("usages did not match [{} key encipherment]", wanted.join(" "))),
    }
}

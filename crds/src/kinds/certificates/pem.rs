//! Requests and certificates in PEM: whether they are what they claim to be, in the words of Go's parser where it can be
//! known.

use x509_parser::{
    certification_request::X509CertificationRequest,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};

const CERTIFICATE: &str = "CERTIFICATE";
const REQUEST: &str = "CERTIFICATE REQUEST";

/// A certificate request that is signed with its own key.
pub fn request(pem: &[u8]) -> Result<(), String> {
    let block = Pem::iter_from_buffer(pem).find_map(Result::ok).filter(|block| block.label == REQUEST);
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (rest, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|_| "asn1: structure error: malformed request")?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    request.verify_signature().map_err(|_| "x509: signature verification failure".to_owned())
}

/// Nothing, or one certificate at least and nothing else.
pub fn certificates(pem: &[u8]) -> Result<(), String> {
    if pem.is_empty() {
        return Ok(());
    }
    let blocks: Vec<Pem> = Pem::iter_from_buffer(pem).filter_map(Result::ok).collect();
    for block in &blocks {
        if block.label != CERTIFICATE {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        X509Certificate::from_der(&block.contents).map_err(|_| "x509: malformed certificate")?;
    }
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate() {
        assert_eq!(certificates(b""), Ok(()));
        assert_eq!(certificates(b"hello"), Err("must contain at least one CERTIFICATE PEM block".to_owned()));
        let key = b"-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        assert_eq!(certificates(key), Err("only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"".to_owned()));
        assert_eq!(request(key), Err("PEM block type must be CERTIFICATE REQUEST".to_owned()));
    }
}

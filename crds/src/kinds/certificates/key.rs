//! Public keys that certificates are made for: which are good enough, and whether somebody has the private one.

use x509_parser::{
    der_parser::{asn1_rs::BitString, oid::Oid},
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519},
    prelude::FromDer,
    public_key::PublicKey,
    verify::verify_signature,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

/// Algorithms as DER has them: ECDSA with SHA-256, Ed25519, and RSA-PSS with SHA-256 throughout.
const ECDSA: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA_PSS: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f, 0x30, 0x0d,
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09,
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x01, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x20,
];
const OID_EC_P224: &str = "1.3.132.0.33";
const RSA_BITS: [usize; 2] = [3072, 4096];

/// What there is to say against a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Weakness {
    /// It cannot be read.
    Malformed,
    Curve(&'static str),
    Modulus(usize),
    /// Neither Ed25519, ECDSA nor RSA.
    Unknown,
}

/// A key as it is within requests and certificates.
pub fn parse(der: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    SubjectPublicKeyInfo::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, key)| key)
}

fn curve<'a>(key: &'a SubjectPublicKeyInfo) -> Option<Oid<'a>> {
    key.algorithm.parameters.as_ref()?.as_oid().ok()
}

fn is_ec(key: &SubjectPublicKeyInfo) -> bool {
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
}

fn is_ed25519(key: &SubjectPublicKeyInfo) -> bool {
    key.algorithm.algorithm == OID_SIG_ED25519
}

pub fn check(key: &SubjectPublicKeyInfo) -> Result<(), Weakness> {
    if is_ed25519(key) {
        return Ok(());
    }
    if is_ec(key) {
        return match curve(key) {
            Some(curve) if [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].contains(&curve) => Ok(()),
            Some(curve) if curve.to_id_string() == OID_EC_P224 => Err(Weakness::Curve("P-224")),
            _ => Err(Weakness::Malformed),
        };
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if RSA_BITS.contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(rsa)) => Err(Weakness::Modulus(rsa.key_size())),
        Ok(_) => Err(Weakness::Unknown),
        Err(_) => Err(Weakness::Malformed),
    }
}

pub fn same(a: &SubjectPublicKeyInfo, b: &SubjectPublicKeyInfo) -> bool {
    a.algorithm.algorithm == b.algorithm.algorithm
        && (!is_ec(a) || curve(a) == curve(b))
        && a.subject_public_key.data == b.subject_public_key.data
}

/// Whether the message is signed with the private key.
pub fn has_signed(key: &SubjectPublicKeyInfo, message: &[u8], signature: &[u8]) -> bool {
    let algorithm = match () {
        () if is_ed25519(key) => ED25519,
        () if is_ec(key) => ECDSA,
        () => RSA_PSS,
    };
    let Ok((_, algorithm)) = AlgorithmIdentifier::from_der(algorithm) else { return false };
    verify_signature(key, &algorithm, &BitString::new(0, signature), message).is_ok()
}

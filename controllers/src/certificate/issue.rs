//! Makes certificates: the request's subject and key as they were encoded, under our name.

use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey as _};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, pem::parse_x509_pem, prelude::FromDer as _,
};
use yasna::{DERWriter, Tag, models::ObjectIdentifier};

use super::{Signable, request::Request};
use crate::runtime::clock::after;

/// Why a certificate could not be made: the signing key is at fault, not the request.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("the signer's certificate cannot be read: {0}")]
    Certificate(String),
    #[error("the signer's key cannot be used")]
    Key(#[from] rcgen::Error),
    #[error("the signer's key is of an unknown algorithm")]
    Algorithm,
}

/// Clocks of other machines may be a little behind.
const BACKDATED_SECONDS: i64 = 300;
const SHORTEST_SECONDS: i64 = 600;

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

/// Bits of the key usage, in their order.
const USAGES: [&str; 9] = [
    "digital signature",
    "content commitment",
    "key encipherment",
    "data encipherment",
    "key agreement",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
];

const PURPOSES: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// The certificate as PEM. The same request always gets the same serial number.
pub fn issue(seen: &Signable, request: &Request) -> Result<String, IssueError> {
    let unreadable = |e: &dyn std::fmt::Display| IssueError::Certificate(e.to_string());
    let (_, pem) = parse_x509_pem(seen.signer.certificate_pem.as_bytes()).map_err(|e| unreadable(&e))?;
    let (_, authority) = X509Certificate::from_der(&pem.contents).map_err(|e| unreadable(&e))?;
    let key = KeyPair::from_pem(&seen.signer.key_pem)?;
    let algorithm = algorithm(&key)?;
    let body = yasna::construct_der(|writer| write_body(writer, seen, request, &authority, &algorithm));
    let signature = key.sign(&body)?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            writer.next().write_der(&algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(to_pem(&der))
}

/// When a certificate (as PEM) ends.
pub fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn write_body(
    writer: DERWriter<'_>,
    seen: &Signable,
    request: &Request,
    authority: &X509Certificate<'_>,
    algorithm: &[u8],
) {
    let usages = seen.csr.spec.usages.as_deref().unwrap_or_default();
    writer.write_sequence(|writer| {
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
        writer.next().write_bigint_bytes(&serial(seen), true);
        writer.next().write_der(algorithm);
        writer.next().write_der(authority.subject().as_raw());
        writer.next().write_sequence(|writer| {
            let (from, to) = validity(seen, authority);
            writer.next().write_der(&time(from));
            writer.next().write_der(&time(to));
        });
        writer.next().write_der(&request.subject);
        writer.next().write_der(&request.public_key);
        writer.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|writer| {
                if let Some(bits) = key_usage(usages) {
                    extension(writer.next(), KEY_USAGE, true, &bits);
                }
                if let Some(purposes) = purposes(usages) {
                    extension(writer.next(), EXTENDED_KEY_USAGE, false, &purposes);
                }
                extension(writer.next(), BASIC_CONSTRAINTS, true, &yasna::construct_der(|w| w.write_sequence(|_| {})));
                if let Some(id) = key_identifier(authority) {
                    let value = yasna::construct_der(|w| {
                        w.write_sequence(|w| w.next().write_tagged_implicit(Tag::context(0), |w| w.write_bytes(&id)));
                    });
                    extension(writer.next(), AUTHORITY_KEY, false, &value);
                }
                if let Some(names) = &request.alternative_names {
                    extension(writer.next(), ALTERNATIVE_NAMES, false, names);
                }
            });
        });
    });
}

fn extension(writer: DERWriter<'_>, id: &[u64], critical: bool, value: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(id));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(value);
    });
}

/// A positive number of 16 bytes that nobody can choose and that no other request has.
fn serial(seen: &Signable) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(seen.csr.metadata.uid.as_deref().unwrap_or_default());
    digest.update(&seen.csr.spec.request.0);
    let mut serial = digest.finalize()[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn validity(seen: &Signable, authority: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let longest = i64::try_from(seen.duration.as_secs()).unwrap_or(i64::MAX);
    let asked = seen.csr.spec.expiration_seconds.map_or(longest, i64::from);
    let seconds = asked.clamp(SHORTEST_SECONDS, longest.max(SHORTEST_SECONDS));
    let authority_ends = Timestamp::from_second(authority.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    (after(seen.now, -BACKDATED_SECONDS), after(seen.now, seconds).min(authority_ends))
}

/// Two digits for the year until 2049, four from then on.
fn time(at: Timestamp) -> Vec<u8> {
    let (tag, format) = match at.strftime("%Y").to_string().as_str() < "2050" {
        true => (0x17, "%y%m%d%H%M%SZ"),
        false => (0x18, "%Y%m%d%H%M%SZ"),
    };
    let text = at.strftime(format).to_string();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[tag, length], text.as_bytes()].concat()
}

fn key_usage(usages: &[String]) -> Option<Vec<u8>> {
    let set = |u: &String| USAGES.iter().position(|name| name == u || *name == "digital signature" && u == "signing");
    let bits: Vec<usize> = usages.iter().filter_map(set).collect();
    let last = *bits.iter().max()?;
    let mut bytes = vec![0_u8; last / 8 + 1];
    for bit in bits {
        bytes[bit / 8] |= 0x80 >> (bit % 8);
    }
    Some(yasna::construct_der(|writer| writer.write_bitvec_bytes(&bytes, last + 1)))
}

fn purposes(usages: &[String]) -> Option<Vec<u8>> {
    let mut ids: Vec<&[u64]> =
        PURPOSES.iter().filter(|(name, _)| usages.iter().any(|u| u == name)).map(|(_, id)| *id).collect();
    ids.dedup();
    let write = |writer: DERWriter<'_>| {
        writer.write_sequence(|writer| {
            for id in &ids {
                writer.next().write_oid(&ObjectIdentifier::from_slice(id));
            }
        });
    };
    (!ids.is_empty()).then(|| yasna::construct_der(write))
}

fn key_identifier(authority: &X509Certificate<'_>) -> Option<Vec<u8>> {
    authority.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// The algorithm identifier of the key's signatures.
fn algorithm(key: &KeyPair) -> Result<Vec<u8>, IssueError> {
    let known: [(_, &[u64], bool); 4] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[1, 2, 840, 10045, 4, 3, 2], false),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[1, 2, 840, 10045, 4, 3, 3], false),
        (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
        (&rcgen::PKCS_RSA_SHA256, &[1, 2, 840, 113_549, 1, 1, 11], true),
    ];
    let used = key.algorithm();
    let (_, id, null) = known.into_iter().find(|(a, ..)| *a == used).ok_or(IssueError::Algorithm)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&ObjectIdentifier::from_slice(id));
            if null {
                writer.next().write_null();
            }
        });
    }))
}

fn to_pem(der: &[u8]) -> String {
    let encoded = serde_json::to_value(k8s_openapi::ByteString(der.to_vec())).unwrap_or_default();
    let encoded = encoded.as_str().unwrap_or_default();
    let lines: Vec<&str> =
        (0..encoded.len()).step_by(64).filter_map(|i| encoded.get(i..(i + 64).min(encoded.len()))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

//! A document as it is kept: compressed, with the hash that tells it from others.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::Value;
use sha2::{Digest, Sha512};

use super::gnostic3;

#[derive(Debug)]
pub struct Document {
    gzip: Bytes,
    etag: String,
}

impl Document {
    pub(crate) fn json(value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let etag: String = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Self::with_etag(&bytes, &etag)
    }

    pub(super) fn with_etag(bytes: &[u8], etag: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
        Self { gzip: written.unwrap_or_default().into(), etag: etag.to_owned() }
    }

    /// Upper-case hex of the SHA-512 of the JSON form, without the quotes of the header.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    pub fn gzip(&self) -> Bytes {
        self.gzip.clone()
    }

    pub fn bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        match GzDecoder::new(&*self.gzip).read_to_end(&mut bytes) {
            Ok(_) => bytes.into(),
            Err(_) => Bytes::new(),
        }
    }

    /// OpenAPI v3 as gnostic's protobuf. It is hardly ever asked for, and so it is not kept; its tag is that of the JSON, as
    /// upstream has it.
    pub(super) fn v3_protobuf(&self) -> Self {
        let json = serde_json::from_slice(&self.bytes()).unwrap_or_default();
        Self::with_etag(&gnostic3::document(&json), &self.etag)
    }

    /// Where the index says that this document is.
    pub(super) fn url(&self, root: &str) -> String {
        format!("/openapi/v3/{root}?hash={}", self.etag)
    }
}

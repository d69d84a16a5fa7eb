//! Continue tokens: where a list in pages goes on, and at which revision.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use store::Revision;

const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

/// A decoded token.
#[derive(Debug, PartialEq, Eq)]
pub struct Continue {
    /// The key of the last object that was listed, below the kind's prefix and the namespace.
    pub after: String,
    /// None: the list is to go on with what is there now, as it could not be kept consistent.
    pub revision: Option<Revision>,
}

/// The token that follows `after`.
pub fn encode(after: &str, revision: Option<Revision>) -> String {
    let rv = revision.map_or(-1, |r| i64::try_from(r).unwrap_or(i64::MAX));
    let token = Token { v: VERSION.into(), rv, start: format!("{after}\0") };
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Reads a token; the error is upstream's words.
pub fn decode(token: &str) -> Result<Continue, String> {
    const INVALID: &str = "continue key is not valid";
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|e| format!("{INVALID}: {}", illegal_base64(&e)))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|e| format!("{INVALID}: {e}"))?;
    if token.v != VERSION {
        return Err(format!("{INVALID}: server does not recognize this encoded version {}", token.v));
    }
    if token.rv == 0 {
        return Err(format!("{INVALID}: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    if token.start.is_empty() {
        return Err(format!("{INVALID}: encoded start key empty (version meta.k8s.io/v1)"));
    }
    let escapes = token.start.split('/').any(|part| matches!(part, "" | "." | ".."));
    if escapes {
        return Err(format!("{INVALID}: {}", token.start));
    }
    let after = token.start.trim_end_matches('\0').to_owned();
    Ok(Continue { after, revision: Revision::try_from(token.rv).ok() })
}

/// Go's words for text that is not base64.
fn illegal_base64(error: &base64::DecodeError) -> String {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let at = match error {
        InvalidByte(at, _) => *at,
        InvalidLastSymbol(..) | InvalidLength(_) | InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for revision in [Some(7), None] {
            let token = encode("ns/name", revision);
            assert_eq!(decode(&token), Ok(Continue { after: "ns/name".into(), revision }));
        }
    }

    #[test]
    fn what_is_refused() {
        for (token, want) in [
            (r#"{"v":"v0","rv":1,"start":"a"}"#, "server does not recognize this encoded version v0"),
            (r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#, "incorrect encoded start resourceVersion"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#, "encoded start key empty"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#, "../a"),
        ] {
            let error = decode(&BASE64_URL_SAFE_NO_PAD.encode(token)).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}

//! What upstream's client makes of an answer: its body, or words for one that is no success.

use bytes::Bytes;
use crds::field::quote;
use http::{HeaderMap, header};
use serde::Deserialize;

/// So much of an answer that is no success is told.
const TOLD_BYTES_MAX: usize = 2048;

/// Whether the body is meant to be read by people.
pub(super) fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.is_empty() || kind.trim_start().starts_with("text/")
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    kind: String,
    api_version: String,
    status: String,
    message: String,
}

pub(super) fn body(code: u16, is_text: bool, body: Bytes) -> Result<Bytes, String> {
    if (200..=206).contains(&code) {
        if body.is_empty() {
            return Err(format!("0-length response with status code: {code} and content type: "));
        }
        return Ok(body);
    }
    // A Status tells more than its code.
    let status: Status = serde_json::from_slice(&body).unwrap_or_default();
    if status.kind == "Status" && status.api_version == "v1" && status.status != "Success" {
        return Err(status.message);
    }
    let told = &body[..body.len().min(TOLD_BYTES_MAX)];
    let told = if is_text { String::from_utf8_lossy(told).trim().to_owned() } else { "unknown".to_owned() };
    Err(generic(code, &told))
}

/// For each code what upstream's client says, whatever the server said.
fn generic(code: u16, told: &str) -> String {
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 415 => told.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 if matches!(told, "" | "unknown") => {
            "the server was unable to respond with a content type that the client supports".to_owned()
        }
        406 => told.to_owned(),
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the \
                request"
            .to_owned(),
        500.. => {
            format!("an error on the server ({}) has prevented the request from succeeding", quote(told))
        }
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

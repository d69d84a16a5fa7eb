//! `/statusz` and `/flagz`: since when the server runs, what it serves, and with which flags it was started.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    call::Call,
    codec::{
        answer::{self, Answer},
        negotiate,
    },
    error::{ApiError, Result},
};

const NAME: &str = "apiserver";
/// The first is the one that is not deprecated.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// First parts of paths that are no pages about the server.
const NO_PAGES: [&str; 5] = [".well-known", "api", "apis", "openapi", "openid"];
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
/// What the server is written in has no such version.
const GO_VERSION: &str = "none";

/// The flags of a server, with their values; those that were not given with their defaults.
pub type Flags = BTreeMap<String, String>;

/// What a page tells programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    kind: &'static str,
    api_version: String,
    metadata: Metadata,
    #[serde(flatten)]
    fields: T,
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    start_time: String,
    uptime_seconds: i64,
    go_version: &'static str,
    binary_version: &'static str,
    emulation_version: &'static str,
    paths: Vec<String>,
}

#[derive(Serialize)]
struct Flagged<'a> {
    flags: &'a Flags,
}

/// `paths`: all that the index tells.
pub fn status(call: &Call, started: Timestamp, now: Timestamp, paths: &[String]) -> Result<Answer> {
    let uptime_seconds = now.duration_since(started).as_secs().max(0);
    let binary_version = super::path::VERSION.trim_start_matches('v');
    let emulation_version = binary_version.rsplit_once('.').map_or(binary_version, |(minor, _)| minor);
    let pages: BTreeSet<&str> = paths.iter().filter_map(|path| path.split('/').nth(1)).collect();
    let pages = pages.into_iter().filter(|page| !page.is_empty() && !NO_PAGES.contains(page));
    let paths: Vec<String> = pages.map(|page| format!("/{page}")).collect();
    let text = format!(
        "\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: {GO_VERSION}\nBinary version: {binary_version}\n\
         Emulation version: {emulation_version}\nPaths: {}\n",
        started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        uptime_seconds / 3600,
        uptime_seconds / 60 % 60,
        uptime_seconds % 60,
        paths.join(" "),
    );
    let start_time = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let go_version = GO_VERSION;
    let status = Status { start_time, uptime_seconds, go_version, binary_version, emulation_version, paths };
    page(call, "Statusz", status, &text)
}

pub fn flags(call: &Call, flags: &Flags) -> Result<Answer> {
    let text: String = flags.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    page(call, "Flagz", Flagged { flags }, &text)
}

/// `text`: what the page tells people.
fn page(call: &Call, kind: &'static str, fields: impl Serialize, text: &str) -> Result<Answer> {
    let called = kind.to_lowercase();
    let Some((form, version)) = negotiate::page(&call.headers, &call.query, kind, &VERSIONS)? else {
        return Ok(answer::plain(StatusCode::OK, format!("\n{NAME} {called}\n{WARNING}\n{text}")));
    };
    let api_version = format!("{}/{version}", negotiate::PAGES);
    let page = Page { kind, api_version, metadata: Metadata { name: NAME }, fields };
    let json = serde_json::to_vec(&page).map_err(ApiError::internal)?;
    let mut answer = answer::json_text(StatusCode::OK, form, json)?;
    let media = format!("{};g={};v={version};as={kind}", form.media.name(), negotiate::PAGES);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::try_from(media).map_err(ApiError::internal)?);
    if version != VERSIONS[0] {
        let why = format!("This version of the {called} endpoint is deprecated. Please use a newer version.");
        answer.headers_mut().extend(crate::warning::headers(&[why]).into_iter().map(|why| (header::WARNING, why)));
    }
    Ok(answer)
}

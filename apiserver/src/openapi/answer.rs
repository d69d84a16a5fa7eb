//! The HTTP side: which form a client wants, whether it has it already, and for how long it may keep it.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION,
        VARY,
    },
};
use jiff::{Timestamp, ToSpan, tz::TimeZone};

use super::{Document, OpenApi};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// As clients before 1.27 ask for it; Go cannot parse the `@` in a Content-Type.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const JSON: &str = "application/json";

/// Answers a GET of `/openapi/v2`, `/openapi/v3` or `/openapi/v3/…`; none where there is no such document.
pub fn answer(
    openapi: &OpenApi,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    now: Timestamp,
) -> Option<Response<Bytes>> {
    match path.strip_prefix("/openapi/")? {
        "v2" => Some(match choose(headers, &[JSON, V2_PROTOBUF_OLD, V2_PROTOBUF]) {
            None => compressible(vary(plain(StatusCode::NOT_ACCEPTABLE))),
            Some(JSON) => compressible(vary(send(openapi.v2(), JSON, headers))),
            Some(_) => compressible(vary(send(openapi.v2_protobuf(), V2_PROTOBUF, headers))),
        }),
        "v3" => Some(merged(openapi.index(), headers)),
        rest => {
            let root = rest.strip_prefix("v3/")?;
            let Some(document) = openapi.v3(root) else { return Some(plain(StatusCode::NOT_FOUND)) };
            Some(match choose(headers, &[JSON, V3_PROTOBUF_OLD, V3_PROTOBUF]) {
                None => vary(plain(StatusCode::NOT_ACCEPTABLE)),
                Some(JSON) => versioned(document, JSON, root, query, headers, now),
                Some(_) => versioned(&document.v3_protobuf(), V3_PROTOBUF, root, query, headers, now),
            })
        }
    }
}

/// A document under its hash never changes; under a stale hash it has moved.
fn versioned(
    document: &Document,
    media: &'static str,
    root: &str,
    query: &str,
    headers: &HeaderMap,
    now: Timestamp,
) -> Response<Bytes> {
    let hash = query.split('&').find_map(|pair| pair.strip_prefix("hash=")).filter(|hash| !hash.is_empty());
    let Some(hash) = hash else { return vary(send(document, media, headers)) };
    if hash != document.etag() {
        let mut response = vary(plain(StatusCode::MOVED_PERMANENTLY));
        set(&mut response, LOCATION, &document.url(root));
        set(&mut response, CONTENT_TYPE, media);
        set(&mut response, ETAG, &quoted(document));
        return response;
    }
    let mut response = vary(send(document, media, headers));
    set(&mut response, CACHE_CONTROL, "public, immutable");
    if let Ok(later) = now.to_zoned(TimeZone::UTC).checked_add(1.year()) {
        set(&mut response, EXPIRES, &later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }
    response
}

/// Answers with a document that is not one of ours alone.
pub fn merged(document: &Document, headers: &HeaderMap) -> Response<Bytes> {
    // As upstream, which does not say what it is, nor in which state.
    let mut response = send(document, "text/plain; charset=utf-8", headers);
    response.headers_mut().remove(ETAG);
    response
}

fn quoted(document: &Document) -> String {
    format!("\"{}\"", document.etag())
}

fn send(document: &Document, media: &'static str, headers: &HeaderMap) -> Response<Bytes> {
    let etag = quoted(document);
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|tag| matches!(tag.trim().trim_start_matches("W/"), "*") || tag.trim() == etag)
    });
    if known {
        let mut response = plain(StatusCode::NOT_MODIFIED);
        set(&mut response, ETAG, &etag);
        return response;
    }
    let zipped = headers.get_all(ACCEPT_ENCODING).iter().any(|v| v.to_str().is_ok_and(|v| v.contains("gzip")));
    let mut response = Response::new(if zipped { document.gzip() } else { document.bytes() });
    set(&mut response, CONTENT_TYPE, media);
    set(&mut response, ETAG, &etag);
    if zipped {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

/// The first form offered that the client's first fitting clause takes.
fn choose(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let accept = if accept.is_empty() { "*/*".to_owned() } else { accept.join(",") };
    let mut clauses: Vec<(f32, &str)> = accept.split(',').map(clause).collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.iter().find_map(|(_, wanted)| offers.iter().find(|offer| fits(wanted, offer)).copied())
}

fn clause(text: &str) -> (f32, &str) {
    let mut parts = text.split(';');
    let media = parts.next().unwrap_or_default().trim();
    let quality = parts.find_map(|p| p.trim().strip_prefix("q=")).and_then(|q| q.trim().parse().ok());
    (quality.unwrap_or(1.0), media)
}

fn fits(wanted: &str, offer: &str) -> bool {
    let (Some((kind, sub)), Some((offer_kind, offer_sub))) = (wanted.split_once('/'), offer.split_once('/')) else {
        return false;
    };
    (kind == "*" || kind == offer_kind) && (sub == "*" || sub == offer_sub)
}

fn plain(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

fn vary(mut response: Response<Bytes>) -> Response<Bytes> {
    set(&mut response, VARY, "Accept");
    response
}

/// As upstream, of version 2 alone.
fn compressible(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// The values are ours and fit into a header; one that did not would be left out.
fn set(response: &mut Response<Bytes>, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

//! Headers on their way through the apiserver: what is for this hop only, what is secret, what is added.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What names the user to this server, and must not reach another.
const CREDENTIALS: [HeaderName; 1] = [header::AUTHORIZATION];
const IMPERSONATE: &str = "impersonate-";
/// The WebSocket way of sending a token.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Headers between two neighbours only.
const HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Answers of a proxied server about other origins are not the apiserver's.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// What a header lists, in all its lines.
pub(crate) fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    words(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

pub(crate) fn remove_credentials(headers: &mut HeaderMap) {
    let impersonation = headers.keys().filter(|name| name.as_str().starts_with(IMPERSONATE));
    for name in impersonation.cloned().chain(CREDENTIALS).collect::<Vec<_>>() {
        headers.remove(name);
    }
    let offered: Vec<_> = words(headers, header::SEC_WEBSOCKET_PROTOCOL).collect();
    if offered.iter().any(|protocol| protocol.starts_with(BEARER_PROTOCOL)) {
        let kept = offered.into_iter().filter(|protocol| !protocol.starts_with(BEARER_PROTOCOL));
        let kept = HeaderValue::from_str(&kept.collect::<Vec<_>>().join(", "));
        headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if let Ok(kept) = kept {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
        }
    }
}

pub(crate) fn remove_hop(headers: &mut HeaderMap) {
    let listed: Vec<String> = words(headers, header::CONNECTION).map(str::to_lowercase).collect();
    for name in HOP.into_iter().chain(listed.iter().map(String::as_str)) {
        headers.remove(name);
    }
}

pub(crate) fn remove_cors(headers: &mut HeaderMap) {
    for name in CORS {
        headers.remove(name);
    }
}

pub(crate) fn add_forwarded_for(headers: &mut HeaderMap, client: Option<IpAddr>) {
    const NAME: &str = "x-forwarded-for";
    let Some(client) = client else { return };
    let before = headers.get_all(NAME).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<String> = before.map(str::to_owned).chain([client.to_string()]).collect();
    if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(NAME, all);
    }
}

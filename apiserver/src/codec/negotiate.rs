//! Which media type and shape an answer gets, and which a body has.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;

use super::{Form, Media, Shape};
use crate::{
    error::{ApiError, Result},
    request::Query,
};

const ALL: [Media; 3] = [Media::Json, Media::Yaml, Media::Protobuf];

fn accept(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default()
}

/// One clause of an Accept header.
struct Clause<'a> {
    kind: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

fn clause(text: &str) -> Clause<'_> {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let mut clause = Clause { kind, params: Vec::new(), quality: 1.0 };
    for (name, value) in parts.filter_map(|p| p.split_once('=')) {
        match name.trim() {
            "q" => clause.quality = value.trim().parse().unwrap_or(1.0),
            name => clause.params.push((name, value.trim().trim_matches('"'))),
        }
    }
    clause
}

/// The clauses by their weight; of equal ones the more specific first.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<_> = accept.split(',').map(clause).filter(|c| !c.kind.is_empty()).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.kind.contains('*').cmp(&b.kind.contains('*'))));
    clauses
}

/// What an endpoint can answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Objects, their metadata and tables.
    Resource,
    /// The same of custom resources, which have no protobuf form.
    CustomResource,
    /// Objects and their metadata: what is answered and not kept has no table.
    Question,
    /// Only the object as it is: discovery, versions.
    Plain,
}

impl Offer {
    fn shape(self, media: Media, params: &[(&str, &str)]) -> Option<Shape> {
        let param = |name: &str| params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        if param("sv").is_some_and(|v| !v.is_empty()) || param("stream").is_some_and(|v| v != "watch" && !v.is_empty())
        {
            return None;
        }
        let converts = ["as", "g", "v"].iter().any(|name| param(name).is_some());
        if !converts {
            return (self != Self::CustomResource || media != Media::Protobuf).then_some(Shape::Object);
        }
        let meta = param("g") == Some("meta.k8s.io") && matches!(param("v"), Some("v1" | "v1beta1"));
        match (self, param("as")) {
            (Self::Plain, _) => None,
            (_, Some("PartialObjectMetadata")) if meta => Some(Shape::PartialMetadata),
            (_, Some("PartialObjectMetadataList")) if meta => Some(Shape::PartialMetadataList),
            (Self::Question, Some("Table")) => None,
            (_, Some("Table")) if meta && media != Media::Protobuf => Some(Shape::Table),
            _ => None,
        }
    }
}

/// What upstream's router knows of the routes for objects, for logs, and of those that can be watched.
pub const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
pub const LOGS: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
pub const STREAMS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// What go-restful, upstream's router, says of a route that offers these, before anything else is asked.
pub fn routable(headers: &HeaderMap, offered: &[&str]) -> Result<()> {
    let accept = accept(headers);
    let known = |clause: Clause| clause.kind == "*/*" || offered.contains(&clause.kind);
    if accept.is_empty() || clauses(accept).into_iter().any(known) {
        return Ok(());
    }
    let why = format!("406: Not Acceptable\n\nAvailable representations: {}", offered.join(", "));
    Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", why).with_details(StatusDetails::default()))
}

/// What a watch gets that wants YAML.
pub fn not_acceptable_stream() -> ApiError {
    let names = [Media::Json, Media::Protobuf].map(|media| format!("{};stream=watch", media.name()));
    not_acceptable(&names.join(", "))
}

fn not_acceptable(names: &str) -> ApiError {
    unservable(format!("only the following media types are accepted: {names}"))
}

/// An object cannot be given in the shape that was asked for.
pub fn unservable(why: String) -> ApiError {
    ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", why)
}

pub fn accepted(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Form> {
    let pretty = is_pretty(headers, query);
    let accept = accept(headers);
    if accept.is_empty() || accept == "application/json" {
        return Ok(Form { pretty, ..Form::JSON });
    }
    for clause in clauses(accept) {
        for media in ALL {
            if !covers(clause.kind, media.name()) {
                continue;
            }
            if let Some(shape) = offer.shape(media, &clause.params) {
                let pretty = pretty || clause.params.contains(&("pretty", "1"));
                return Ok(Form { media, shape, pretty });
            }
        }
    }
    // As upstream: even those that custom resources are not served as.
    Err(not_acceptable(&ALL.map(Media::name).join(", ")))
}

/// The group of what the pages about a server tell programs.
pub const PAGES: &str = "config.k8s.io";

/// How a page about the server is given: to people as text (none), to programs that say so as this kind, in a version.
pub fn page<'a>(
    headers: &HeaderMap,
    query: &Query,
    kind: &str,
    versions: &[&'a str],
) -> Result<Option<(Form, &'a str)>> {
    let accept = accept(headers);
    if accept.trim().is_empty() {
        return Ok(None);
    }
    let pretty = is_pretty(headers, query);
    for clause in clauses(accept) {
        let param = |name: &str| clause.params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        if ["sv", "stream"].into_iter().any(|name| param(name).is_some_and(|value| !value.is_empty())) {
            continue;
        }
        let converts = ["as", "g", "v"].iter().any(|name| param(name).is_some());
        let known = versions.iter().find(|version| param("v") == Some(**version));
        if let Some(version) = known.filter(|_| param("as") == Some(kind) && param("g") == Some(PAGES)) {
            let media = [Media::Json, Media::Yaml].into_iter().find(|media| covers(clause.kind, media.name()));
            if let Some(media) = media {
                let pretty = pretty || clause.params.contains(&("pretty", "1"));
                return Ok(Some((Form { media, pretty, ..Form::JSON }, *version)));
            }
        } else if !converts && covers(clause.kind, "text/plain") {
            return Ok(None);
        }
    }
    Err(not_acceptable(&format!("{}, {}, text/plain", Media::Json.name(), Media::Yaml.name())))
}

/// Whether a type, or the types of a wildcard, are among these.
fn covers(wanted: &str, kind: &str) -> bool {
    let group = wanted.strip_suffix('*').filter(|group| group.ends_with('/'));
    wanted == kind || wanted == "*/*" || group.is_some_and(|group| kind.starts_with(group))
}

fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.first("pretty").filter(|p| !p.is_empty()) {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    [b"curl".as_slice(), b"Wget", b"Mozilla/5.0"].iter().any(|human| agent.starts_with(human))
}

/// The media type of a body; without one it is JSON.
pub fn sent(headers: &HeaderMap, custom: bool) -> Result<Media> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() {
        return Ok(Media::Json);
    }
    let offered = ALL.iter().filter(|m| !custom || **m != Media::Protobuf);
    if let Some(media) = offered.clone().find(|m| m.name() == kind) {
        return Ok(*media);
    }
    let names: Vec<_> = offered.map(|m| m.name()).collect();
    Err(unsupported(&names))
}

/// What a body of an unknown type gets.
pub fn unsupported(accepted: &[&str]) -> ApiError {
    let why = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &str, offer: Offer) -> Option<(Media, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        accepted(&headers, &Query::default(), offer).ok().map(|f| (f.media, f.shape))
    }

    #[test]
    fn accept() {
        let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
        for (accept, want) in [
            ("", Some((Media::Json, Shape::Object))),
            ("*/*", Some((Media::Json, Shape::Object))),
            ("application/*", Some((Media::Json, Shape::Object))),
            ("text/*", None),
            ("text/html", None),
            ("application/yaml;q=0.9, application/json;q=0.5", Some((Media::Yaml, Shape::Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Media::Protobuf, Shape::Object))),
            (table, Some((Media::Json, Shape::Table))),
            ("application/json;as=Table;g=meta.k8s.io;v=v7,application/json", Some((Media::Json, Shape::Object))),
            ("application/json;as=Gadget;g=meta.k8s.io;v=v1", None),
            ("application/json;stream=watch", Some((Media::Json, Shape::Object))),
        ] {
            assert_eq!(form(accept, Offer::Resource), want, "{accept}");
        }
        assert_eq!(form(table, Offer::Plain), None);
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(form(both, Offer::CustomResource), Some((Media::Json, Shape::Object)));
    }
}

//! Paths that are no resources: health, version, metrics, the index; discovery and OpenAPI are asked from here.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    auth::issuer,
    call::Call,
    codec::{
        Form,
        answer::{self, Answer},
        body::Body,
        gzip,
        negotiate::{self, Offer},
    },
    discovery::{AGGREGATED, Aggregated, Documents},
    error::{ApiError, Result},
    flow::{self, Flow},
    openapi::{self, CustomTypes, OpenApi},
    pipeline::Apiserver,
    registry::Table,
    route, zpages,
};

pub const VERSION: &str = "v1.36.3";

const JSON: &str = "application/json";
/// The form of metrics that Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const STARTED: HeaderName = HeaderName::from_static("process-start-time-unix");

/// The paths that neither discovery nor health knows.
const OTHERS: [&str; 12] = [
    "/.well-known/openid-configuration",
    "/api",
    "/apis/",
    "/flagz",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/statusz",
    "/version",
];

pub async fn answer(server: &Apiserver, call: &mut Call) -> Result<Answer> {
    let path = call.info.path.clone();
    let answered = match path.as_str() {
        "/" | "/index.html" => Some(index(server)?),
        "/flagz" => Some(zpages::flags(call, &server.flags)?),
        "/statusz" => Some(zpages::status(call, server.started, server.world.now(), &paths(server)?)?),
        "/metrics" | "/metrics/slis" => Some(metrics(server, call)?),
        "/debug/api_priority_and_fairness/dump_priority_levels" => fairness(server, flow::dump::levels),
        "/debug/api_priority_and_fairness/dump_queues" => fairness(server, flow::dump::queues),
        _ => match path.split('/').nth(1).unwrap_or_default() {
            "healthz" | "livez" | "readyz" => health(server, call, &path),
            "version" => Some(version(call)?),
            "api" | "apis" => discovery(server, call)?,
            "openapi" => openapi(server, call).await?,
            ".well-known" | "openid" => openid(server, call)?,
            _ => None,
        },
    };
    Ok(answered.unwrap_or_else(not_found))
}

/// Whether this is the path of a document that can be read, and nothing else, with or without a `/` at its end.
fn is_document(call: &Call, path: &str, media: &str) -> Result<bool> {
    match call.info.path.strip_prefix(path) {
        Some("" | "/") => only_read(call, &[media]).map(|()| true),
        Some(below) if below.starts_with('/') => Err(route::not_found()),
        _ => Ok(false),
    }
}

/// What upstream routes by its method; the other paths do the same whatever it is.
fn only_read(call: &Call, offered: &[&str]) -> Result<()> {
    if call.method == Method::GET { negotiate::routable(&call.headers, offered) } else { Err(route::not_allowed()) }
}

fn metrics(server: &Apiserver, call: &Call) -> Result<Answer> {
    let of_health = call.info.path != "/metrics";
    let text = match call.method {
        Method::DELETE => {
            if of_health {
                server.health.reset()
            } else {
                server.metrics.reset()
            }
            return Ok(answer::plain(StatusCode::OK, "metrics reset\n"));
        }
        _ if of_health => server.health.indicators(),
        _ => server.metrics.text(server).map_err(ApiError::internal)?,
    };
    let mut answer = answer::with(StatusCode::OK, HeaderValue::from_static(METRICS), text);
    answer.headers_mut().insert(STARTED, HeaderValue::from(server.started.as_second()));
    Ok(if gzip::is_accepted(&call.headers) { gzip::whole(answer) } else { answer })
}

/// A table of what flow control does, if it does anything.
fn fairness(server: &Apiserver, table: fn(&Flow) -> String) -> Option<Answer> {
    server.flow.is_fair().then(|| answer::plain(StatusCode::OK, table(&server.flow)))
}

/// Which paths there are beside those of the kinds.
fn index(server: &Apiserver) -> Result<Answer> {
    let text = serde_json::to_string_pretty(&json!({"paths": paths(server)?})).map_err(ApiError::internal)?;
    Ok(answer::with(StatusCode::OK, HeaderValue::from_static(JSON), text))
}

fn paths(server: &Apiserver) -> Result<Vec<String>> {
    let made = server.discovery.made(server.world.registry.table())?;
    let mut paths: Vec<String> = OTHERS.map(str::to_owned).to_vec();
    paths.extend(made.documents.paths().map(str::to_owned));
    paths.extend(server.health.paths());
    paths.sort_unstable();
    Ok(paths)
}

/// What Go's own server says.
pub fn not_found() -> Answer {
    answer::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn health(server: &Apiserver, call: &Call, path: &str) -> Option<Answer> {
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    server.health.answer(path, call.query.first("verbose").is_some(), &excluded)
}

/// How others come to trust the tokens of service accounts.
fn openid(server: &Apiserver, call: &Call) -> Result<Option<Answer>> {
    let issuer = &server.access.authenticator.issuer;
    let (media, text) = if !issuer.is_discoverable() {
        return Ok(None);
    } else if is_document(call, "/.well-known/openid-configuration", JSON)? {
        (JSON, serde_json::to_string(&issuer.configuration()))
    } else if is_document(call, "/openid/v1/jwks", issuer::KEYS_CONTENT_TYPE)? {
        (issuer::KEYS_CONTENT_TYPE, serde_json::to_string(&issuer.keys()))
    } else {
        return Ok(None);
    };
    let mut answer = answer::with(StatusCode::OK, HeaderValue::from_static(media), text.map_err(ApiError::internal)?);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(issuer::CACHE_CONTROL));
    Ok(Some(answer))
}

fn version(call: &Call) -> Result<Answer> {
    is_document(call, "/version", JSON)?;
    let info = Info::own();
    // As upstream, whatever the client would rather have.
    let text = serde_json::to_string_pretty(&info).map_err(ApiError::internal)?;
    Ok(answer::with(StatusCode::OK, HeaderValue::from_static(JSON), text))
}

/// What metrics tell of the build.
pub fn build() -> [(&'static str, String); 9] {
    let info = Info::own();
    [
        ("build_date", info.build_date.to_owned()),
        ("compiler", info.compiler.to_owned()),
        ("git_commit", info.git_commit.to_owned()),
        ("git_tree_state", info.git_tree_state.to_owned()),
        ("git_version", info.git_version.to_owned()),
        ("go_version", info.go_version.to_owned()),
        ("major", info.major.to_owned()),
        ("minor", info.minor.to_owned()),
        ("platform", info.platform),
    ]
}

/// What `/version` tells, in upstream's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    major: &'static str,
    minor: &'static str,
    emulation_major: &'static str,
    emulation_minor: &'static str,
    min_compatibility_major: &'static str,
    min_compatibility_minor: &'static str,
    git_version: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

impl Info {
    fn own() -> Self {
        Self {
            major: "1",
            minor: "36",
            emulation_major: "1",
            emulation_minor: "36",
            min_compatibility_major: "1",
            min_compatibility_minor: "35",
            git_version: VERSION,
            git_commit: "",
            git_tree_state: "clean",
            build_date: "1970-01-01T00:00:00Z",
            go_version: "none",
            compiler: "rustc",
            platform: format!("{}/{}", std::env::consts::OS, platform()),
        }
    }
}

/// The machine as Go names it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The documents that tell of the kinds, made anew when those change.
#[derive(Default)]
pub struct Discovery {
    made: ArcSwapOption<Made>,
}

struct Made {
    table: Arc<Table>,
    documents: Documents,
    openapi: OpenApi,
}

impl Discovery {
    fn made(&self, table: Arc<Table>) -> Result<Arc<Made>> {
        let before = self.made.load_full();
        if let Some(made) = before.as_ref().filter(|made| Arc::ptr_eq(&made.table, &table)) {
            return Ok(made.clone());
        }
        let documents = Documents::new(table.all()).map_err(ApiError::internal)?;
        let openapi = OpenApi::new(
            table.all(),
            Arc::new(CustomTypes(table.all().to_vec())),
            before.as_deref().map(|made| &made.openapi),
        );
        let made = Arc::new(Made { table, documents, openapi });
        self.made.store(Some(made.clone()));
        Ok(made)
    }
}

fn discovery(server: &Apiserver, call: &Call) -> Result<Option<Answer>> {
    let path = call.info.path.trim_end_matches('/');
    let table = server.world.registry.table();
    if call.info.is_resource && !table.is_built_in(&call.info.group) {
        // Custom resources are routed by what is asked: what is not found is no path at all.
        return Ok(None);
    }
    let made = server.discovery.made(table.clone())?;
    let documents = &made.documents;
    let only_ours = match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        ["api"] => true,
        ["api", _] | ["apis", "apiregistration.k8s.io"] => documents.plain(path).is_some(),
        ["apis", group, _] => table.is_built_in(group) && documents.plain(path).is_some(),
        // Other servers may have a part in these.
        _ => false,
    };
    if only_ours {
        only_read(call, negotiate::OBJECTS)?;
    }
    let merged = match path {
        "/apis" => server.aggregator.documents(&server.world, documents)?,
        _ => None,
    };
    if wants_aggregated(call)
        && let Some(aggregated) = merged.as_ref().map(|(_, merged)| &**merged).or(documents.aggregated(path))
    {
        return Ok(Some(aggregated_answer(call, aggregated)));
    }
    let json = match path {
        _ if merged.is_some() => merged.map(|(plain, _)| plain).unwrap_or_default(),
        _ if path.split('/').count() == 3
            && let Some(group) = path.strip_prefix("/apis/")
            && let Some(group) = server.aggregator.group(&server.world, documents, group)? =>
        {
            group.to_string().into()
        }
        "/api" => Documents::versions(call.header(header::HOST)).map_err(ApiError::internal)?,
        _ => match documents.plain(path) {
            Some(json) => json.clone(),
            None if path.starts_with("/api/") => return Err(route::not_found()),
            None if call.info.is_resource || path.split('/').count() <= 3 => return Ok(None),
            None => return unknown_version(server, path),
        },
    };
    let form = negotiate::accepted(&call.headers, &call.query, Offer::Plain)?;
    if form == Form::JSON {
        let json_type = HeaderValue::from_static(JSON);
        return Ok(Some(answer::with(StatusCode::OK, json_type, json)));
    }
    let value: Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
    answer::value(StatusCode::OK, form, &value).map(Some)
}

/// A document is built when it is first asked for, which takes a while: not on the thread that serves others.
async fn openapi(server: &Apiserver, call: &mut Call) -> Result<Option<Answer>> {
    let table = server.world.registry.table();
    if let Some(remote) = server.aggregator.openapi_of(&server.world, &table, &call.info.path) {
        return Ok(Some(server.aggregator.answer(&server.world, call, &remote).await));
    }
    let made = server.discovery.made(table)?;
    if call.info.path == "/openapi/v3"
        && let Some(index) = server.aggregator.openapi_index(&server.world, made.openapi.index())
    {
        return Ok(Some(openapi::merged(&index, &call.headers).map(Body::from)));
    }
    let (uri, headers, now) = (call.uri.clone(), call.headers.clone(), (server.world.clock)());
    let answered = tokio::task::spawn_blocking(move || {
        openapi::answer(&made.openapi, uri.path(), uri.query().unwrap_or_default(), &headers, now)
    });
    Ok(answered.await.map_err(ApiError::internal)?.map(|answer| answer.map(Body::from)))
}

/// An unknown version of a known group is a Status, everything else the text of Go's server.
fn unknown_version(server: &Apiserver, path: &str) -> Result<Option<Answer>> {
    let group = path.split('/').nth(2).unwrap_or_default();
    if server.world.registry.table().has_group(group) { Err(route::not_found()) } else { Ok(None) }
}

/// Whether the first discovery form that the client takes is the aggregated one.
fn wants_aggregated(call: &Call) -> bool {
    let first = call.header(header::ACCEPT).split(',').next().unwrap_or_default().to_owned();
    let has = |param: &str| first.split(';').any(|part| part.trim() == param);
    has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
}

fn aggregated_answer(call: &Call, aggregated: &Aggregated) -> Answer {
    let known = aggregated.is_known(&call.headers);
    let (code, body) =
        if known { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, aggregated.json.clone()) };
    let mut answer = answer::with(code, HeaderValue::from_static(AGGREGATED), body);
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&aggregated.etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(Aggregated::CACHE_CONTROL));
    answer
}

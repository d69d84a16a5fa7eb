//! The documents against those of a stock server, whose prose was taken out.

use std::{fs, io::Read, path::Path, sync::Arc};

use crds::kinds::KINDS;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

fn openapi() -> OpenApi {
    let kinds: Vec<_> = KINDS.iter().cloned().map(Arc::new).collect();
    OpenApi::new(&kinds, Arc::new(BuiltIn), None)
}

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi").join(name);
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Descriptions are text; a property of that name is a schema.
fn without_prose(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, value| name != "description" || !value.is_string());
            members.values_mut().for_each(without_prose);
        }
        Value::Array(items) => items.iter_mut().for_each(without_prose),
        _ => {}
    }
}

fn differences(at: &str, ours: &Value, stock: &Value, found: &mut Vec<String>) {
    match (ours, stock) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let here = format!("{at} > {key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&here, a, b, found),
                    (Some(a), None) => found.push(format!("{here}: ours alone: {a:.200}")),
                    (None, b) => found.push(format!("{here}: missing: {:.200}", b.unwrap_or(&Value::Null).to_string())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| differences(&format!("{at}[{i}]"), a, b, found));
        }
        _ if ours != stock => found.push(format!("{at}: {ours} instead of {stock}")),
        _ => {}
    }
}

fn check(what: &str, mut ours: Value, stock: &Value) -> Vec<String> {
    without_prose(&mut ours);
    let mut found = Vec::new();
    differences(what, &ours, stock, &mut found);
    found
}

#[test]
fn v3_equals_the_recording() {
    let openapi = openapi();
    let index: Value = {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi/v3-index.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let roots: Vec<_> = openapi.v3.keys().cloned().collect();
    assert_eq!(serde_json::to_value(&roots).unwrap(), index);
    let mut found = Vec::new();
    for root in &roots {
        let name = format!("v3/{}.json.gz", root.replace('/', "__"));
        found.extend(check(root, openapi.v3_value(root), &recorded(&name)));
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(40)].join("\n"));
}

#[test]
fn v2_equals_the_recording() {
    let found = check("v2", openapi().v2_value(), &recorded("v2.json.gz"));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(40)].join("\n"));
}

#[test]
fn described() {
    let document = openapi().v3_value("api/v1");
    let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    assert!(pod["description"].as_str().unwrap().starts_with("Pod is a collection"));
    let get = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/status"]["get"];
    assert_eq!(get["description"], "read status of the specified Pod");
    assert_eq!(get["responses"]["401"]["description"], "Unauthorized");
}

#[test]
fn protobuf_holds_the_document() {
    use crds::schema::protobuf::wire::fields;
    let openapi = openapi();
    let document = openapi.v2_protobuf();
    assert_eq!(document.etag(), openapi.v2().etag());
    let bytes = document.bytes();
    let parts: Vec<_> = fields("Document", &bytes).collect::<Result<_, _>>().unwrap();
    let definitions = parts.iter().find(|part| part.number == 9).unwrap().bytes("definitions").unwrap();
    assert_eq!(
        fields("Definitions", definitions).count(),
        openapi.v2_value()["definitions"].as_object().unwrap().len()
    );
}

fn ask(path: &str, query: &str, headers: &[(&'static str, &str)]) -> http::Response<bytes::Bytes> {
    let headers = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap()));
    answer(&openapi(), path, query, &headers.collect(), "2026-01-02T03:04:05Z".parse().unwrap()).unwrap()
}

#[test]
fn conditional_and_negotiated() {
    let index: Value = serde_json::from_slice(ask("/openapi/v3", "", &[]).body()).unwrap();
    let url = index["paths"]["version"]["serverRelativeURL"].as_str().unwrap();
    let (path, query) = url.split_once('?').unwrap();
    let first = ask(path, query, &[]);
    assert_eq!(
        (first.status(), &first.headers()["cache-control"]),
        (http::StatusCode::OK, &"public, immutable".parse().unwrap())
    );
    assert_eq!(first.headers()["expires"], "Sat, 02 Jan 2027 03:04:05 GMT");
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(ask(path, "", &[("if-none-match", &etag)]).status(), 304);
    let moved = ask(path, "hash=old", &[]);
    assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (301, url));
    let zipped = ask(path, query, &[("accept-encoding", "gzip")]);
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert!(zipped.body().len() < first.body().len());
    assert_eq!(ask("/openapi/v2", "", &[("accept", "text/html")]).status(), 406);
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    assert_eq!(
        ask("/openapi/v2", "", &[("accept", accept)]).headers()["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert_eq!(ask("/openapi/v3/apis/nothing", "", &[]).status(), 404);
    for accept in [
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    ] {
        let binary = ask(path, query, &[("accept", accept)]);
        assert_eq!(binary.headers()["content-type"], "application/com.github.proto-openapi.spec.v3.v1.0+protobuf");
        assert_eq!(binary.headers()["etag"], etag.as_str());
        // A field of it: the version of OpenAPI.
        assert!(binary.body().windows(7).any(|bytes| bytes == b"\x0a\x053.0.0"));
    }
    assert_eq!(ask(path, query, &[("accept", "text/html")]).status(), 406);
}

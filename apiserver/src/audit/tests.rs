//! What a policy lets the log tell of requests to a whole server in this process.

use std::{path::Path, sync::Arc};

use crds::user::User;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower_service::Service;

use super::{Audit, Level, Log, Policy, log};
use crate::{
    pipeline::{Apiserver, tests},
    request::{Query, RequestInfo},
    start::Guards,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(rules: Value) -> Policy {
    let file = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitManagedFields": true, "rules": rules});
    Policy::parse(file.to_string().as_bytes()).unwrap()
}

async fn server(path: &Path, rules: Value) -> Arc<Apiserver> {
    let options = log::Options { path: Some(path.to_owned()), ..log::Options::default() };
    let audit = Some(Audit::new(policy(rules), Log::open(&options).unwrap().unwrap()));
    tests::server(tests::memory(), Guards { audit, ..Guards::default() }).await
}

async fn send(server: &Arc<Apiserver>, user: &str, method: &str, path: &str, body: Value) -> StatusCode {
    let groups: &[&str] = if user == "admin" { &[User::MASTERS] } else { &[] };
    let mut service = server.service(User::named(user, groups));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", media).header("audit-id", "id");
    let answer = service.call(request.header("user-agent", "tester").body(Full::from(body)).unwrap()).await.unwrap();
    let code = answer.status();
    answer.into_body().collect().await.unwrap();
    code
}

async fn told(server: &Apiserver, path: &Path) -> Vec<Value> {
    server.audit.as_ref().unwrap().flush().await;
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_level_tells_more_and_none_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rules = json!([
        {"level": "None", "resources": [{"resources": ["namespaces"]}]},
        {"level": "Metadata", "resources": [{"resources": ["secrets"]}], "omitStages": ["RequestReceived"]},
        {"level": "Request", "verbs": ["patch"], "omitStages": ["RequestReceived"]},
        {"level": "RequestResponse", "users": ["admin"]},
        {"level": "Metadata"},
    ]);
    let server = server(&path, rules).await;
    send(&server, "admin", "POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
    let secret = json!({"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}});
    send(&server, "admin", "POST", "/api/v1/namespaces/default/secrets", secret).await;
    send(&server, "admin", "POST", MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    send(&server, "admin", "PATCH", &format!("{MAPS}/a"), json!({"data": {"k": "w"}})).await;
    send(&server, "eve", "GET", &format!("{MAPS}/a"), Value::Null).await;

    let told = told(&server, &path).await;
    let stages: Vec<_> = told.iter().map(|e| format!("{} {} {}", e["level"], e["verb"], e["stage"])).collect();
    assert_eq!(
        stages.iter().map(|s| s.replace('"', "")).collect::<Vec<_>>(),
        [
            "Metadata create ResponseComplete",
            "RequestResponse create RequestReceived",
            "RequestResponse create ResponseComplete",
            "Request patch ResponseComplete",
            "Metadata get RequestReceived",
            "Metadata get ResponseComplete",
        ]
    );
    let [of_secret, _, created, patched, _, refused] = told.as_slice() else { unreachable!() };
    assert_eq!(of_secret["objectRef"]["name"], "s", "the body completes what the path does not name");
    assert!(of_secret["requestObject"].is_null() && of_secret["responseObject"].is_null());
    assert!(!of_secret.to_string().contains("aHVudGVyMg"));
    assert_eq!(created["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(created["responseObject"]["metadata"]["namespace"], "default");
    assert!(created["responseObject"]["metadata"]["managedFields"].is_null());
    assert_eq!(created["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(created["user"], json!({"username": "admin", "groups": ["system:masters"]}));
    assert_eq!((&created["userAgent"], &created["auditID"]), (&json!("tester"), &json!("id")));
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(patched["requestObject"], json!({"data": {"k": "w"}}));
    assert!(patched["responseObject"].is_null());
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    let status = &refused["responseStatus"];
    assert_eq!(
        (&status["status"], &status["reason"], &status["code"]),
        (&json!("Failure"), &json!("Forbidden"), &json!(403))
    );
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let server = server(&path, json!([{"level": "RequestResponse"}])).await;
    let code = send(&server, "admin", "GET", &format!("{MAPS}?watch=1&timeoutSeconds=1"), Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let told = told(&server, &path).await;
    let stages: Vec<_> = told.iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert!(told.iter().all(|event| event["responseObject"].is_null()));
}

#[test]
fn the_first_rule_that_matches_counts() {
    let policy = policy(json!([
        {"level": "Request", "userGroups": ["admins"], "resources": [{"group": "apps", "resources": ["*/scale"]}]},
        {"level": "Metadata", "namespaces": ["kube-system"], "resources": [{"resources": ["pods"], "resourceNames": ["a"]}]},
        {"level": "RequestResponse", "resources": [{"resources": ["pods/*"]}]},
        {"level": "Metadata", "nonResourceURLs": ["/healthz*"]},
    ]));
    for (groups, uri, want) in [
        (vec!["admins"], "/apis/apps/v1/namespaces/x/deployments/d/scale", Level::Request),
        (vec![], "/apis/apps/v1/namespaces/x/deployments/d/scale", Level::None),
        (vec![], "/api/v1/namespaces/kube-system/pods/a", Level::Metadata),
        (vec![], "/api/v1/namespaces/kube-system/pods/b", Level::RequestResponse),
        (vec![], "/api/v1/namespaces/x/pods/b/log", Level::RequestResponse),
        (vec![], "/healthz/etcd", Level::Metadata),
        (vec![], "/livez", Level::None),
    ] {
        let uri: http::Uri = uri.parse().unwrap();
        let info = RequestInfo::new(&http::Method::GET, &uri, &Query::default());
        assert_eq!(policy.decide(&User::named("u", &groups), &info).level, want, "{uri}");
    }
    let refused = Policy::parse(br#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": []}"#).unwrap_err();
    assert_eq!(refused.to_string(), "loaded illegal policy with 0 rules");
}

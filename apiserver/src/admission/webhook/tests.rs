//! The whole server with webhooks that listen on loopback.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    backend::tests::{Serve, Stub},
    pipeline::{Apiserver, tests::Client},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Webhooks by the paths of their URLs, and what they were asked.
struct Hooked {
    apiserver: Arc<Apiserver>,
    client: Client,
    stub: Stub,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hooked {
    /// `answer` makes the response of a review of the path and the request.
    async fn new(answer: fn(&str, &Value) -> Value) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let serve: Serve = Arc::new(move |parts, body| {
            let mut review: Value = serde_json::from_slice(body).unwrap();
            let request = review["request"].take();
            let mut response = answer(parts.uri.path(), &request);
            response["uid"] = request["uid"].clone();
            seen.lock().push(json!({"path": parts.uri.to_string(), "request": request}));
            review["response"] = response;
            Response::new(Full::new(Bytes::from(review.to_string())))
        });
        let stub = Stub::start(&["127.0.0.1"], serve).await;
        let (apiserver, client) = Client::new().await;
        Self { apiserver, client, stub, asked }
    }

    async fn configure(&self, resource: &str, name: &str, hooks: Value) {
        let kind = match resource {
            "mutatingwebhookconfigurations" => "MutatingWebhookConfiguration",
            _ => "ValidatingWebhookConfiguration",
        };
        let api_version = "admissionregistration.k8s.io/v1";
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": {"name": name}, "webhooks": hooks});
        let path = format!("/apis/{api_version}/{resource}");
        let (code, made) = self.client.send("POST", &path, object).await;
        assert_eq!(code, 201, "{made}");
        self.apiserver.world.cache.wait_until_current().await.unwrap();
    }

    /// A webhook for everything about ConfigMaps, with these fields instead.
    fn hook(&self, path: &str, fields: Value) -> Value {
        let mut hook = json!({
            "name": format!("{path}.hooks.dev"),
            "clientConfig": {
                "url": format!("https://{}/{path}", self.stub.address),
                "caBundle": BASE64_STANDARD.encode(&self.stub.authority),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (name, value) in fields.as_object().unwrap() {
            hook[name] = value.clone();
        }
        hook
    }

    fn paths(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock());
        let path = |call: Value| call["path"].as_str().unwrap().split('?').next().unwrap().to_owned();
        asked.into_iter().map(path).collect()
    }
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(operations.to_string())})
}

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}})
}

#[tokio::test]
async fn a_refusal_and_what_was_asked() {
    let hooked = Hooked::new(|_, request| match request["operation"].as_str() {
        Some("DELETE") => json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "stay"}}),
        _ => json!({"allowed": true, "warnings": ["careful"]}),
    })
    .await;
    let hook = hooked.hook("check", json!({"timeoutSeconds": 5}));
    hooked.configure("validatingwebhookconfigurations", "c", json!([hook])).await;
    let (code, _) = hooked.client.send("POST", &format!("{MAPS}?fieldManager=me"), map("a")).await;
    assert_eq!(code, 201);
    let call = hooked.asked.lock().remove(0);
    assert_eq!(call["path"], "/check?timeout=5s");
    let request = &call["request"];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(
        (&request["name"], &request["namespace"], &request["dryRun"]),
        (&json!("a"), &json!("default"), &json!(false))
    );
    assert_eq!((&request["object"]["metadata"]["name"], &request["oldObject"]), (&json!("a"), &Value::Null));
    assert_eq!(
        (&request["options"]["kind"], &request["options"]["fieldManager"]),
        (&json!("CreateOptions"), &json!("me"))
    );
    assert_eq!(request["userInfo"], json!({"username": "admin", "groups": ["system:masters"]}));

    let (code, status) = hooked.client.send("DELETE", &format!("{MAPS}/a"), Value::Null).await;
    let words = "admission webhook \"check.hooks.dev\" denied the request: stay";
    assert_eq!((code.as_u16(), &status["reason"], &status["message"]), (403, &json!("Forbidden"), &json!(words)));
    let (_, status) = hooked.client.send("DELETE", MAPS, Value::Null).await;
    assert_eq!(status["message"], words);
    let names: Vec<Value> = hooked.asked.lock().drain(..).map(|call| call["request"]["name"].clone()).collect();
    assert_eq!(names, [json!("a"), Value::Null], "a deletecollection tells no names");
}

#[tokio::test]
async fn changes_are_seen_by_those_that_want_them_again() {
    let hooked = Hooked::new(|path, request| match path {
        "/count" => {
            let seen = request["object"]["data"].as_object().map_or(0, |data| data.len());
            patch(json!([{"op": "add", "path": "/metadata/annotations", "value": {"seen": seen.to_string()}}]))
        }
        _ => patch(json!([{"op": "add", "path": "/data", "value": {"a": "b"}}])),
    })
    .await;
    let again = hooked.hook("count", json!({"reinvocationPolicy": "IfNeeded"}));
    let hooks = json!([again, hooked.hook("add", json!({}))]);
    hooked.configure("mutatingwebhookconfigurations", "c", hooks).await;
    let (code, made) = hooked.client.send("POST", MAPS, map("a")).await;
    assert_eq!((code.as_u16(), &made["data"]), (201, &json!({"a": "b"})));
    assert_eq!(made["metadata"]["annotations"], json!({"seen": "1"}));
    assert_eq!(hooked.paths(), ["/count", "/add", "/count"]);
}

#[tokio::test]
async fn failures_and_those_who_are_not_asked() {
    let hooked = Hooked::new(|_, _| json!({"allowed": false})).await;
    let nobody = |name: &str, fields: Value| {
        let mut hook = hooked.hook(name, fields);
        hook["clientConfig"] = json!({"service": {"namespace": "default", "name": "none", "path": "/x"}});
        hook
    };
    let hooks = json!([
        nobody("lost", json!({"failurePolicy": "Ignore"})),
        nobody("gone", json!({"objectSelector": {"matchLabels": {"fail": "yes"}}})),
        hooked.hook("elsewhere", json!({"namespaceSelector": {"matchLabels": {"no": "such"}}})),
        hooked.hook(
            "effects",
            json!({
                "objectSelector": {"matchLabels": {"deny": "yes"}},
                "sideEffects": "NoneOnDryRun",
            })
        ),
    ]);
    hooked.configure("validatingwebhookconfigurations", "c", hooks).await;
    let create = async |name: &str, labels: Value| {
        let mut map = map(name);
        map["metadata"]["labels"] = labels;
        let (code, answer) = hooked.client.send("POST", MAPS, map).await;
        (code.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(create("a", json!({})).await.0, 201);
    let words = "Internal error occurred: failed calling webhook \"gone.hooks.dev\": failed to call webhook: Post \
                 \"https://none.default.svc:443/x?timeout=10s\": service \"none\" not found";
    assert_eq!(create("b", json!({"fail": "yes"})).await, (500, words.to_owned()));
    let words = "admission webhook \"effects.hooks.dev\" denied the request without explanation";
    assert_eq!(create("c", json!({"deny": "yes"})).await, (400, words.to_owned()));
    assert_eq!(hooked.paths(), ["/effects"]);
    let (code, _) = hooked
        .client
        .send("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/c", Value::Null)
        .await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn another_version_of_the_resource() {
    let hooked = Hooked::new(|_, _| {
        patch(json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 7}]))
    })
    .await;
    let rules = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"], "operations": ["CREATE"]}]);
    let exact = hooked.hook("exact", json!({"rules": rules, "matchPolicy": "Exact"}));
    let hooks = json!([exact, hooked.hook("any", json!({"rules": rules}))]);
    hooked.configure("mutatingwebhookconfigurations", "c", hooks).await;
    let scaler = json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}},
    });
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let (code, made) = hooked.client.send("POST", path, scaler).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 7);
    let asked = hooked.asked.lock();
    assert_eq!(asked.len(), 1);
    let request = &asked[0]["request"];
    assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
}

#[tokio::test]
async fn a_webhook_that_never_answers() {
    let (apiserver, client) = Client::new().await;
    // It accepts connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/slow", silent.local_addr().unwrap());
    let rules = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE"]}]);
    let hook = json!({
        "name": "slow.hooks.dev", "clientConfig": {"url": url}, "rules": rules, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
    });
    let object = json!({"metadata": {"name": "c"}, "webhooks": [hook]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(client.send("POST", path, object).await.0, 201);
    apiserver.world.cache.wait_until_current().await.unwrap();
    let (code, status) = client.send("POST", MAPS, map("a")).await;
    let words = format!("Post \"{url}?timeout=1s\": context deadline exceeded");
    assert!(code == 500 && status["message"].as_str().unwrap().ends_with(&words), "{status}");
}

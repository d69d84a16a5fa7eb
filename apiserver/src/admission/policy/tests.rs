//! The whole server with policies.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::pipeline::{Apiserver, tests::Client};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

async fn make(apiserver: &Arc<Apiserver>, client: &Client, resource: &str, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let (code, made) = client.send("POST", &format!("{GROUP}/{resource}"), object).await;
    assert_eq!(code, 201, "{made}");
    apiserver.world.cache.wait_until_current().await.unwrap();
}

fn about(resource: &str) -> Value {
    json!({"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE", "UPDATE"]},
    ]})
}

async fn create(client: &Client, name: &str, data: Value) -> (StatusCode, Value) {
    client.send("POST", MAPS, json!({"metadata": {"name": name}, "data": data})).await
}

#[tokio::test]
async fn a_policy_denies_with_its_own_words() {
    let (apiserver, client) = Client::new().await;
    let spec = json!({
        "matchConstraints": about("configmaps"),
        "variables": [{"name": "count", "expression": "has(object.data) ? size(object.data) : 0"}],
        "matchConditions": [{"name": "named", "expression": "object.metadata.name != 'free'"}],
        "validations": [
            {"expression": "variables.count < 2", "messageExpression": "'not ' + string(variables.count)"},
            {"expression": "object.data['k'] != 'x' || authorizer.path('/x').check('get').allowed() == false",
             "message": "no x", "reason": "Forbidden"},
        ],
    });
    make(&apiserver, &client, "validatingadmissionpolicies", "p", spec).await;
    assert_eq!(create(&client, "unbound", json!({"a": "1", "b": "2"})).await.0, 201);
    let binding = json!({"policyName": "p", "validationActions": ["Deny"]});
    make(&apiserver, &client, "validatingadmissionpolicybindings", "b", binding).await;
    let (code, status) = create(&client, "a", json!({"a": "1", "k": "2"})).await;
    let words = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not 2";
    assert_eq!((code.as_u16(), &status["reason"]), (422, &json!("Invalid")));
    assert_eq!(status["message"], format!("configmaps \"a\" is forbidden: {words}"));
    assert_eq!(status["details"]["causes"], json!([{ "message": words }]));
    let (code, status) = create(&client, "a", json!({"k": "x"})).await;
    assert_eq!((code.as_u16(), &status["reason"]), (403, &json!("Forbidden")));
    let (_, status) = create(&client, "a", json!({"a": "1"})).await;
    let words = status["message"].as_str().unwrap();
    assert!(words.ends_with("resulted in error: no such key: k"), "{words}");
    assert_eq!(create(&client, "free", json!({"a": "1", "b": "2"})).await.0, 201);
    assert_eq!(create(&client, "b", json!({"k": "1"})).await.0, 201);
}

#[tokio::test]
async fn parameters_of_a_binding() {
    let (apiserver, client) = Client::new().await;
    let spec = json!({
        "matchConstraints": about("secrets"),
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.type == params.data.type", "message": "another type"}],
    });
    make(&apiserver, &client, "validatingadmissionpolicies", "p", spec).await;
    let reference = json!({"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"});
    let binding = json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": reference});
    make(&apiserver, &client, "validatingadmissionpolicybindings", "b", binding).await;
    let secret = async |kind: &str| {
        let secret = json!({"metadata": {"name": "s"}, "type": kind});
        client.send("POST", "/api/v1/namespaces/default/secrets?dryRun=All", secret).await
    };
    let (_, status) = secret("x").await;
    let words = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(status["message"].as_str().unwrap().ends_with(words), "{status}");
    assert_eq!(create(&client, "params", json!({"type": "x"})).await.0, 201);
    apiserver.world.cache.wait_until_current().await.unwrap();
    assert_eq!(secret("x").await.0, 201);
    assert_eq!(secret("y").await.0, 422);
}

#[tokio::test]
async fn mutations_see_one_another() {
    let (apiserver, client) = Client::new().await;
    let spec = |mutations: Value| {
        json!({
            "matchConstraints": about("configmaps"), "reinvocationPolicy": "Never", "mutations": mutations,
        })
    };
    let apply = "Object{data: {'a': '1'}}";
    let patch = "has(object.data) && 'a' in object.data ? [JSONPatch{op: 'add', path: '/data/b', value: object.data['a'] + '2'}] : []";
    let mutations = json!([
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}},
    ]);
    make(&apiserver, &client, "mutatingadmissionpolicies", "p", spec(mutations)).await;
    make(&apiserver, &client, "mutatingadmissionpolicybindings", "b", json!({"policyName": "p"})).await;
    let (code, made) = create(&client, "m", json!({"own": "x"})).await;
    assert_eq!((code.as_u16(), &made["data"]), (201, &json!({"own": "x", "a": "1", "b": "12"})), "{made}");

    let broken = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/data/none'}]"}}]);
    make(&apiserver, &client, "mutatingadmissionpolicies", "q", spec(broken)).await;
    make(&apiserver, &client, "mutatingadmissionpolicybindings", "q", json!({"policyName": "q"})).await;
    let (code, status) = create(&client, "n", json!({})).await;
    let words = "policy 'q' with binding 'q' denied request: JSON Patch: error in remove for path: '/data/none': Unable to \
                 remove nonexistent key: none: missing value";
    assert_eq!((code.as_u16(), &status["reason"], &status["message"]), (403, &json!("Invalid"), &json!(words)));
}

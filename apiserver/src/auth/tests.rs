use std::collections::HashMap;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, DnType, IsCa, Issuer as Signer, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::{certificate::Trust, impersonate::Impersonation, issuer::Issuer, *};
use crate::{
    authorize::{Attributes, Authorize, Decision, Resource, Target, Why},
    error::Subject,
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const URL: &str = "https://kubernetes.default.svc.cluster.local";

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW.as_second() + seconds).unwrap()
}

/// A cluster as authentication sees it.
#[derive(Default)]
struct Objects(Mutex<HashMap<(String, String, String), Value>>);

impl Objects {
    fn put(&self, resource: &str, namespace: &str, name: &str, object: Value) {
        let mut object = object;
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        self.0.lock().insert((resource.into(), namespace.into(), name.into()), object);
    }

    fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.0.lock().remove(&(resource.into(), namespace.into(), name.into()));
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.0.lock().get(&(resource.into(), namespace.into(), name.into())).cloned()
    }
}

impl Lookup for Objects {
    async fn bound(&self, resource: &str, namespace: &str, name: &str) -> Option<Bound> {
        let object = self.get(resource, namespace, name)?;
        let deleted_at = object["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse().ok());
        Some(Bound { uid: object["metadata"]["uid"].as_str()?.to_owned(), deleted_at })
    }

    async fn object(&self, resource: &str, namespace: &str, name: &str) -> Result<Value> {
        let on = Subject { group: "", resource, name };
        self.get(resource, namespace, name).ok_or_else(|| ApiError::not_found(on))
    }
}

fn objects() -> Objects {
    let it = Objects::default();
    it.put("serviceaccounts", "ns", "sa", json!({"metadata": {"uid": "sa-uid"}}));
    it.put("serviceaccounts", "ns", "other", json!({"metadata": {"uid": "other-uid"}}));
    it.put(
        "pods",
        "ns",
        "p",
        json!({"metadata": {"uid": "p-uid"}, "spec": {"serviceAccountName": "sa", "nodeName": "n"}}),
    );
    it.put("nodes", "", "n", json!({"metadata": {"uid": "n-uid"}}));
    it.put("secrets", "ns", "s", json!({"metadata": {"uid": "s-uid"}}));
    it
}

fn authenticator() -> Authenticator {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    Authenticator::new(Issuer::new(&[URL.to_owned()], &[], &key, &[]).unwrap())
}

async fn request(it: &Authenticator, objects: &Objects, spec: Value) -> Result<Value> {
    token_request::create(&it.issuer, objects, "ns", "sa", json!({"spec": spec}), NOW, "id".into()).await
}

async fn token(it: &Authenticator, objects: &Objects, spec: Value) -> String {
    request(it, objects, spec).await.unwrap()["status"]["token"].as_str().unwrap().to_owned()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

async fn who(it: &Authenticator, objects: &Objects, pairs: &[(&str, &str)]) -> Result<Arc<User>> {
    it.authenticate(&Peer::Nobody, &headers(pairs), objects, NOW).await
}

#[tokio::test]
async fn credentials_in_headers() {
    let (it, objects) = (authenticator(), objects());
    let good = token(&it, &objects, json!({})).await;
    let encoded = format!("{WEBSOCKET_TOKEN}{}", BASE64_URL_SAFE_NO_PAD.encode(&good));
    let bearer = format!("bearer {good}");
    let (sa, anonymous) = ("system:serviceaccount:ns:sa", "system:anonymous");
    let with_protocol = format!("{encoded}, v5.channel.k8s.io");
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[], anonymous),
        (&[("authorization", &bearer)], sa),
        (&[("authorization", "Bearer abc")], ""),
        (&[("authorization", "Basic YTpi")], anonymous),
        (&[("authorization", "Bearer ")], anonymous),
        (&[("upgrade", "websocket"), ("sec-websocket-protocol", &with_protocol)], sa),
        (&[("upgrade", "websocket"), ("sec-websocket-protocol", &encoded)], ""),
        (&[("sec-websocket-protocol", &with_protocol)], anonymous),
    ];
    for (pairs, name) in cases {
        match who(&it, &objects, pairs).await {
            Ok(user) => assert_eq!(user.name, name, "{pairs:?}"),
            Err(error) => assert_eq!((error.reason(), name), ("Unauthorized", ""), "{pairs:?}"),
        }
    }
}

#[tokio::test]
async fn tokens_tell_what_they_are_bound_to() {
    let (it, objects) = (authenticator(), objects());
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    for (reference, extra) in [
        (Value::Null, vec![]),
        (
            json!({"kind": "Pod", "apiVersion": "v1", "name": "p"}),
            vec![("pod-name", "p"), ("pod-uid", "p-uid"), ("node-name", "n"), ("node-uid", "n-uid")],
        ),
        (
            json!({"kind": "Node", "apiVersion": "v1", "name": "n", "uid": "n-uid"}),
            vec![("node-name", "n"), ("node-uid", "n-uid")],
        ),
        (json!({"kind": "Secret", "apiVersion": "v1", "name": "s"}), vec![]),
    ] {
        let token = token(&it, &objects, json!({"boundObjectRef": reference})).await;
        let user = it.token(&token, it.issuer.audiences(), &objects, NOW).await.unwrap().unwrap().user;
        let mut wanted: std::collections::BTreeMap<_, _> =
            extra.into_iter().map(|(k, v)| (key(k), vec![v.to_owned()])).collect();
        wanted.insert(CREDENTIAL_ID.into(), vec!["JTI=id".into()]);
        assert_eq!(user.extra, wanted);
        assert_eq!((user.uid.as_str(), user.name.as_str()), ("sa-uid", "system:serviceaccount:ns:sa"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    }
}

#[tokio::test]
async fn tokens_end() {
    type Change = fn(&Objects) -> Timestamp;
    let deleting =
        |seconds: i64| json!({"metadata": {"uid": "p-uid", "deletionTimestamp": later(seconds).to_string()}});
    let cases: [(&str, Change, &str); 7] = [
        ("in time", |_| later(600), ""),
        ("after its time", |_| later(3661), "service account token has expired"),
        ("before its time", |_| later(-61), "service account token is not valid yet"),
        (
            "pod gone",
            |o| {
                o.remove("pods", "ns", "p");
                NOW
            },
            "service account token has been invalidated",
        ),
        (
            "account gone",
            |o| {
                o.remove("serviceaccounts", "ns", "sa");
                NOW
            },
            "serviceaccounts \"sa\" not found",
        ),
        (
            "another pod",
            |o| {
                o.put("pods", "ns", "p", json!({"metadata": {"uid": "new"}}));
                NOW
            },
            "pod UID (new) does not match service account pod ref claim (p-uid)",
        ),
        (
            "another account",
            |o| {
                o.put("serviceaccounts", "ns", "sa", json!({"metadata": {"uid": "new"}}));
                NOW
            },
            "service account UID (new) does not match claim (sa-uid)",
        ),
    ];
    let spec = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    for (case, change, wanted) in cases {
        let (it, objects) = (authenticator(), objects());
        let token = token(&it, &objects, spec.clone()).await;
        assert!(it.token(&token, it.issuer.audiences(), &objects, NOW).await.is_ok(), "{case}");
        let now = change(&objects);
        let told = it.token(&token, it.issuer.audiences(), &objects, now).await.err().unwrap_or_default();
        assert_eq!(told, wanted, "{case}");
    }
    for (seconds, ok) in [(-30, true), (-61, false)] {
        let (it, objects) = (authenticator(), objects());
        let token = token(&it, &objects, spec.clone()).await;
        objects.put("pods", "ns", "p", deleting(seconds));
        assert_eq!(it.token(&token, it.issuer.audiences(), &objects, NOW).await.is_ok(), ok, "{seconds}");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (it, objects) = (authenticator(), objects());
    let foreign = token(&authenticator(), &objects, json!({})).await;
    let told = it.token(&foreign, it.issuer.audiences(), &objects, NOW).await.unwrap_err();
    assert_eq!(told, "invalid signature, no keys found");
    let good = token(&it, &objects, json!({})).await;
    let (body, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode([7; 64]));
    assert!(it.token(&forged, it.issuer.audiences(), &objects, NOW).await.is_err());
    let none = format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), body.split_once('.').unwrap().1);
    assert_eq!(it.token(&none, it.issuer.audiences(), &objects, NOW).await, Ok(None));
}

#[tokio::test]
async fn token_requests() {
    let (it, objects) = (authenticator(), objects());
    let plain = request(&it, &objects, json!({})).await.unwrap();
    assert_eq!(plain["spec"], json!({"audiences": [URL], "boundObjectRef": null, "expirationSeconds": 3600}));
    assert_eq!(plain["status"]["expirationTimestamp"], later(3600).to_string());
    assert_eq!(plain["metadata"]["uid"], "sa-uid");
    let reference = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    let invalid =
        |text: &str| format!("TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: {text}");
    for (spec, message) in [
        (json!({"expirationSeconds": 599}), invalid("Invalid value: 599: may not specify a duration less than 10 minutes")),
        (json!({"expirationSeconds": 4_294_967_297_i64}), invalid("Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds")),
        (reference("Pod", "none", ""), "pods \"none\" not found".into()),
        (reference("Pod", "p", "x"), "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated".into()),
        (reference("ConfigMap", "p", ""), "cannot bind token to object of type /v1, Kind=ConfigMap".into()),
    ] {
        assert_eq!(request(&it, &objects, spec).await.unwrap_err().message(), message);
    }
    let other = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}});
    let error = token_request::create(&it.issuer, &objects, "ns", "other", other, NOW, "id".into()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name."
    );
    let named = json!({"metadata": {"name": "x"}, "spec": {}});
    let error = token_request::create(&it.issuer, &objects, "ns", "sa", named, NOW, "id".into()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "TokenRequest.authentication.k8s.io \"sa\" is invalid: metadata.name: Invalid value: \"x\": must match the service account name if specified"
    );
}

#[tokio::test]
async fn the_tokens_of_volumes_outlive_their_time() {
    let (it, objects) = (authenticator(), objects());
    let spec = json!({"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    let answer = request(&it, &objects, spec).await.unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], later(3607).to_string());
    let token = answer["status"]["token"].as_str().unwrap();
    let verified = it.issuer.verify(token, it.issuer.audiences()).unwrap().unwrap();
    assert_eq!(verified.claims.kubernetes.warnafter, Some(NOW.as_second() + 3607));
    assert!(it.token(token, it.issuer.audiences(), &objects, later(86_400)).await.is_ok());
}

#[tokio::test]
async fn token_reviews() {
    let (it, objects) = (authenticator(), objects());
    let vault = token(&it, &objects, json!({"audiences": ["vault", "other"]})).await;
    let review = async |token: &str, audiences: Value| {
        let review = json!({"metadata": {}, "spec": {"token": token, "audiences": audiences}});
        review::token(&it, &objects, review, NOW).await.map(|answer| answer["status"].clone())
    };
    let status = review(&vault, json!(["vault", "nobody"])).await.unwrap();
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(status["user"]["username"], "system:serviceaccount:ns:sa");
    assert_eq!(
        review(&vault, json!(["nobody"])).await.unwrap(),
        json!({"error": "[invalid bearer token, token audiences [\"vault\" \"other\"] is invalid for the target audiences [\"nobody\"]]", "user": {}})
    );
    assert_eq!(review("  ", Value::Null).await.unwrap()["user"]["username"], "system:anonymous");
    assert_eq!(review("garbage", Value::Null).await.unwrap(), json!({"error": "invalid bearer token", "user": {}}));
    assert_eq!(
        review("", Value::Null).await.unwrap_err().message(),
        "token is required for TokenReview in authentication"
    );
}

#[test]
fn others_can_verify_our_tokens() {
    let it = authenticator();
    let keys = serde_json::to_value(it.issuer.keys()).unwrap();
    assert_eq!((&keys["keys"][0]["alg"], &keys["keys"][0]["crv"]), (&json!("ES256"), &json!("P-256")));
    let jwk = serde_json::from_value(keys["keys"][0].clone()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let signed = it.issuer.sign(token::Claims { exp: Some(4_000_000_000), ..token::Claims::default() }).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_issuer(&[URL]);
    jsonwebtoken::decode::<token::Claims>(&signed, &key, &validation).unwrap();
    let configuration = serde_json::to_value(it.issuer.configuration()).unwrap();
    assert_eq!(configuration["issuer"], URL);
    assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

struct Signed {
    ca: String,
    leaf: CertificateDer<'static>,
}

fn signed(names: &[(DnType, &str)]) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let signer = Signer::new(params, key);
    let mut leaf = CertificateParams::default();
    leaf.custom_extensions = Vec::<CustomExtension>::new();
    leaf.not_after = rcgen::date_time_ymd(2030, 1, 1);
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    names.iter().for_each(|(kind, name)| leaf.distinguished_name.push(kind.clone(), *name));
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &signer).unwrap();
    Signed { ca, leaf: leaf.der().clone() }
}

#[test]
fn certificates_name_users() {
    let uid = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
    let it = signed(&[(DnType::CommonName, "ann"), (DnType::OrganizationName, "devs"), (uid, "42")]);
    let trust = Trust::new(&it.ca).unwrap();
    let peer = trust.peer(std::slice::from_ref(&it.leaf), NOW);
    let user = peer.user(NOW).unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "42"));
    assert_eq!(user.groups, ["devs", "system:authenticated"]);
    let [id] = user.extra[CREDENTIAL_ID].as_slice() else { panic!("one id") };
    assert_eq!(id.strip_prefix("X509SHA256=").map(str::len), Some(64));

    let in_2031 = "2031-01-01T00:00:00Z".parse().unwrap();
    assert!(peer.user(in_2031).is_err());
    assert!(matches!(trust.peer(std::slice::from_ref(&it.leaf), in_2031), Peer::Refused(_)));
    assert!(matches!(Trust::new(&signed(&[]).ca).unwrap().peer(&[it.leaf], NOW), Peer::Refused(_)));
    let nameless = signed(&[(DnType::OrganizationName, "devs")]);
    assert!(matches!(Trust::new(&nameless.ca).unwrap().peer(&[nameless.leaf], NOW), Peer::Nobody));
    assert!(matches!(trust.peer(&[], NOW), Peer::Nobody));
}

#[tokio::test]
async fn tokens_from_a_file_and_of_machines() {
    let (mut it, objects) = (authenticator(), objects());
    it.static_tokens = static_token::StaticTokens::parse("secret,ann,1,\"devs, ops\"\nplain,bob,2\n").unwrap();
    assert!(static_token::StaticTokens::parse("a,b").is_err());
    let ann = who(&it, &objects, &[("authorization", "Bearer secret")]).await.unwrap();
    assert_eq!((ann.name.as_str(), ann.groups.len()), ("ann", 3));

    let encode = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    let data = json!({"token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
        "usage-bootstrap-authentication": encode("true"), "expiration": encode(&later(60).to_string())});
    let secret = json!({"type": "bootstrap.kubernetes.io/token", "data": data});
    objects.put("secrets", "kube-system", "bootstrap-token-abcdef", secret);
    let bearer = [("authorization", "Bearer abcdef.0123456789abcdef")];
    assert!(who(&it, &objects, &bearer).await.is_err());
    it.bootstrap_tokens = true;
    assert_eq!(who(&it, &objects, &bearer).await.unwrap().name, "system:bootstrap:abcdef");
    assert!(it.authenticate(&Peer::Nobody, &headers(&bearer), &objects, later(61)).await.is_err());
}

/// Allows what is listed: verb, resource with subresource, name.
struct Listed(&'static [(&'static str, &'static str, &'static str)]);

impl Authorize for Listed {
    fn decide(&self, attributes: &Attributes) -> Decision {
        let Target::Resource(on) = attributes.target else { return Decision::NoOpinion(String::new()) };
        let resource = if on.subresource.is_empty() {
            on.resource.to_owned()
        } else {
            format!("{}/{}", on.resource, on.subresource)
        };
        if self.0.contains(&(attributes.verb, &resource, on.name)) {
            Decision::Allow(Why::default())
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

#[test]
fn headers_ask_for_users() {
    let told = |pairs: &[(&str, &str)]| impersonate::wanted(&headers(pairs)).map_err(|e| e.message().to_owned());
    assert_eq!(told(&[]), Ok(None));
    let user = told(&[
        ("impersonate-user", "paul"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-extra-acme.com%2fproject", "x%20y"),
    ]);
    let user = user.unwrap().unwrap();
    assert_eq!((user.groups.len(), &user.extra["acme.com/project"][0]), (2, &"x%20y".to_owned()));
    for (pairs, printed) in [
        (
            &[("impersonate-group", "devs")][..],
            r#"Name:"", UID:"", Groups:[]string{"devs"}, Extra:map[string][]string(nil)"#,
        ),
        (&[("impersonate-uid", "5")], r#"Name:"", UID:"5", Groups:[]string(nil), Extra:map[string][]string(nil)"#),
        (
            &[("impersonate-extra-a", "b")],
            r#"Name:"", UID:"", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{"b"}}"#,
        ),
    ] {
        assert_eq!(
            told(pairs).unwrap_err(),
            format!("requested &user.DefaultInfo{{{printed}}} without impersonating a user name")
        );
    }
}

fn wanted(name: &str, groups: &[&str]) -> User {
    User::named(name, groups)
}

fn list_pods(user: &User) -> Attributes<'_> {
    Attributes::resource(user, "list", Resource { resource: "pods", ..Resource::default() })
}

#[test]
fn impersonation_in_the_old_way() {
    let may = Listed(&[
        ("impersonate", "users", "paul"),
        ("impersonate", "groups", "devs"),
        ("impersonate", "userextras/scopes", "view"),
        ("impersonate", "serviceaccounts", "sa"),
    ]);
    let (it, imp) = (Impersonation::default(), wanted("imp", &[]));
    let try_it = |user: &User| it.impersonate(&may, user, &list_pods(&imp)).map_err(|e| e.message().to_owned());
    let first = try_it(&wanted("peter", &[])).unwrap_err();
    assert!(first.contains("cannot impersonate-on:user-info:list resource \"pods\""), "{first}");

    assert_eq!(try_it(&wanted("paul", &["devs"])).unwrap().groups, ["devs", "system:authenticated"]);
    let then = try_it(&wanted("peter", &[])).unwrap_err();
    assert!(
        then.starts_with("users \"peter\" is forbidden: User \"imp\" cannot impersonate resource \"users\""),
        "{then}"
    );
    let account = try_it(&wanted("system:serviceaccount:ns:sa", &[])).unwrap();
    assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    let scoped = User { extra: [("scopes".to_owned(), vec!["edit".to_owned()])].into(), ..wanted("paul", &[]) };
    let told = try_it(&scoped).unwrap_err();
    assert!(told.starts_with("userextras.authentication.k8s.io \"edit\" is forbidden"), "{told}");
    assert_eq!(try_it(&wanted("paul", &["system:unauthenticated"])).unwrap_err().split(' ').next(), Some("groups"));
}

#[test]
fn constrained_impersonation() {
    let may = Listed(&[
        ("impersonate-on:user-info:list", "pods", ""),
        ("impersonate:user-info", "users", "cora"),
        ("impersonate:user-info", "groups", "*"),
        ("impersonate-on:associated-node:list", "pods", ""),
        ("impersonate:associated-node", "nodes", "*"),
    ]);
    let extra = [("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])].into();
    let agent = User { extra, ..wanted("system:serviceaccount:ns:agent", &[]) };
    let it = Impersonation::default();
    let try_it = |user: &User| it.impersonate(&may, user, &list_pods(&agent)).map_err(|e| e.message().to_owned());
    assert_eq!(try_it(&wanted("cora", &[])).unwrap().groups, ["system:authenticated"]);
    assert_eq!(try_it(&wanted("cora", &["a", "b", "c", "d"])).unwrap().groups.len(), 5);
    for (user, told) in [
        (wanted("carl", &[]), "cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\""),
        (wanted("cora", &["system:masters"]), "impersonating the system:masters group is not allowed"),
        (wanted("system:node:n2", &[]), "cannot impersonate-on:arbitrary-node:list"),
    ] {
        let error = try_it(&user).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let node = try_it(&wanted("system:node:n1", &[])).unwrap();
    assert_eq!(node.groups, ["system:nodes", "system:authenticated"]);
}

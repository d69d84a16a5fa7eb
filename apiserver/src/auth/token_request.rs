//! The `token` subresource of service accounts: a token on request, for some time, bound to an object or not.

use crds::field::{Error, path_segment, quote};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Lookup,
    issuer::Issuer,
    token::{Claims, Kubernetes, Reference},
};
use crate::error::{ApiError, Result, Subject};

const GROUP: &str = "authentication.k8s.io";
const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// What the tokens of pods' volumes are requested with; such a token lives longer than it says, so that clients that
/// do not read it again can be found (by `warnafter`) rather than cut off.
const SECONDS_WATCHED: i64 = 3607;
const SECONDS_EXTENDED: i64 = 365 * 24 * 3600;

/// What upstream fills in before anyone owns a field.
pub fn set_defaults(request: &mut Value) {
    request["spec"]["expirationSeconds"] = seconds(request).into();
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Answers a TokenRequest for this service account. `id` tells the token from all others.
pub async fn create(
    issuer: &Issuer,
    lookup: &impl Lookup,
    namespace: &str,
    name: &str,
    mut request: Value,
    now: Timestamp,
    id: String,
) -> Result<Value> {
    check_names(&request, namespace, name)?;
    let account = lookup.object("serviceaccounts", namespace, name).await?;
    prepare(issuer, &mut request, &account, now)?;
    let reference = &request["spec"]["boundObjectRef"];
    let bound =
        if reference.is_object() { bind(lookup, namespace, name, reference).await? } else { Kubernetes::default() };
    let own = Kubernetes { namespace: namespace.to_owned(), serviceaccount: reference_to(&account), ..bound };
    let claims = claims(issuer, &request, own, now, id);
    let token = issuer.sign(claims).map_err(|e| ApiError::internal(format!("failed to generate token: {e}")))?;
    let ends = now.saturating_add(SignedDuration::from_secs(seconds(&request)));
    let ends = ends.map_err(ApiError::internal)?;
    request["status"] = json!({"expirationTimestamp": rfc3339(ends), "token": token});
    Ok(request)
}

fn invalid(name: &str, error: Error) -> ApiError {
    ApiError::invalid(GROUP, "TokenRequest", name, &[error])
}

/// Names in the body must be those of the URL.
fn check_names(request: &Value, namespace: &str, name: &str) -> Result<()> {
    for (field, is, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let given = text(&request["metadata"], field);
        if !given.is_empty() && given != is {
            let why = format!("must match the service account {what} if specified");
            return Err(invalid(name, Error::invalid(format!("metadata.{field}"), given, why)));
        }
    }
    Ok(())
}

/// Fills in what was left out, and validates.
fn prepare(issuer: &Issuer, request: &mut Value, account: &Value, now: Timestamp) -> Result<()> {
    let (uid, of_account) = (text(&request["metadata"], "uid"), text(&account["metadata"], "uid"));
    if !uid.is_empty() && uid != of_account {
        let on = Subject { group: GROUP, resource: "TokenRequest", name: text(&account["metadata"], "name") };
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({of_account})"
        );
        return Err(ApiError::conflict(on, why));
    }
    for field in ["name", "namespace", "uid"] {
        request["metadata"][field] = account["metadata"][field].clone();
    }
    request["metadata"]["creationTimestamp"] = rfc3339(now).into();
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(issuer.audiences());
    }
    request["spec"]["expirationSeconds"] = seconds(request).into();
    if request["spec"]["boundObjectRef"].is_null() {
        // Upstream shows it even when it is not there.
        request["spec"]["boundObjectRef"] = Value::Null;
    }
    let path = "spec.expirationSeconds";
    match seconds(request) {
        n if n < SECONDS_MIN => {
            Err(invalid("", Error::invalid(path, n, "may not specify a duration less than 10 minutes")))
        }
        n if n > SECONDS_MAX => {
            Err(invalid("", Error::invalid(path, n, "may not specify a duration larger than 2^32 seconds")))
        }
        _ => Ok(()),
    }
}

fn seconds(request: &Value) -> i64 {
    request["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT)
}

fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn reference_to(object: &Value) -> Reference {
    Reference { name: text(&object["metadata"], "name").to_owned(), uid: text(&object["metadata"], "uid").to_owned() }
}

/// Group and version as upstream splits them; both empty if it is nonsense.
fn group_version(api_version: &str) -> (&str, &str) {
    match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [version] => ("", version),
        [group, version] => (group, version),
        _ => ("", ""),
    }
}

/// A name that no object can have is not looked for.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(ApiError::bad_request("Name parameter required."));
    }
    match path_segment(name).as_slice() {
        [] => Ok(()),
        wrong => {
            let why = format!("Name parameter invalid: {}: {}", quote(name), wrong.join(";"));
            Err(ApiError::bad_request(why))
        }
    }
}

/// What the token is to be bound to.
async fn bind(lookup: &impl Lookup, namespace: &str, account: &str, reference: &Value) -> Result<Kubernetes> {
    let (kind, name) = (text(reference, "kind"), text(reference, "name"));
    let (group, version) = group_version(text(reference, "apiVersion"));
    let (resource, namespace) = match (group, kind) {
        ("", "Pod") => ("pods", namespace),
        ("", "Secret") => ("secrets", namespace),
        ("", "Node") => ("nodes", ""),
        _ => {
            let what = format!("{group}/{version}, Kind={kind}");
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {what}")));
        }
    };
    check_name(name)?;
    let object = lookup.object(resource, namespace, name).await?;
    let mut bound = Kubernetes::default();
    if kind == "Pod" {
        if text(&object["spec"], "serviceAccountName") != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                quote(account)
            )));
        }
        bound.node = node_of(lookup, text(&object["spec"], "nodeName")).await?;
    }
    let uid = text(reference, "uid");
    if !uid.is_empty() && uid != text(&object["metadata"], "uid") {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(Subject { group, resource: kind, name }, why));
    }
    let to = Some(reference_to(&object));
    match kind {
        "Pod" => bound.pod = to,
        "Secret" => bound.secret = to,
        _ => bound.node = to,
    }
    Ok(bound)
}

/// The name of a pod's node stays even if there is no such Node.
async fn node_of(lookup: &impl Lookup, name: &str) -> Result<Option<Reference>> {
    if name.is_empty() {
        return Ok(None);
    }
    match lookup.object("nodes", "", name).await {
        Ok(node) => Ok(Some(reference_to(&node))),
        Err(e) if e.reason() == "NotFound" => Ok(Some(Reference { name: name.to_owned(), uid: String::new() })),
        Err(e) => Err(ApiError::internal(e)),
    }
}

fn claims(issuer: &Issuer, request: &Value, mut kubernetes: Kubernetes, now: Timestamp, id: String) -> Claims {
    let now = now.as_second();
    let audiences = request["spec"]["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let aud: Vec<String> = audiences.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let mut lives = seconds(request);
    if kubernetes.pod.is_some() && lives == SECONDS_WATCHED && aud.iter().all(|a| issuer.audiences().contains(a)) {
        kubernetes.warnafter = Some(now + lives);
        lives = SECONDS_EXTENDED;
    }
    Claims {
        sub: format!("system:serviceaccount:{}:{}", kubernetes.namespace, kubernetes.serviceaccount.name),
        aud,
        exp: Some(now.saturating_add(lives)),
        iat: Some(now),
        nbf: Some(now),
        jti: Some(id),
        iss: String::new(),
        kubernetes,
    }
}

//! `AdmissionReview`: what a webhook is asked, and what its answer must hold to.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use crds::{
    field::quote,
    kind::{Definition, Gvk},
    schema::decode,
    user::User,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    admission::{Attributes, rule::Matched},
    error::{ApiError, Result},
};

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first that is known of those that a webhook takes.
    pub fn first(versions: &[String]) -> Option<Self> {
        versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: UserInfo<'a>,
    object: Option<&'a Value>,
    old_object: Option<&'a Value>,
    dry_run: bool,
    options: Value,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

#[derive(Serialize)]
struct UserInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> From<&'a Gvk> for Kind<'a> {
    fn from(gvk: &'a Gvk) -> Self {
        Self { group: &gvk.group, version: &gvk.version, kind: &gvk.kind }
    }
}

impl<'a> From<&'a Definition> for Resource<'a> {
    fn from(definition: &'a Definition) -> Self {
        Self { group: &definition.gvk.group, version: &definition.gvk.version, resource: &definition.plural }
    }
}

impl<'a> From<&'a User> for UserInfo<'a> {
    fn from(user: &'a User) -> Self {
        Self { username: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra }
    }
}

/// What is asked, without the objects and the id: as expressions see it.
pub fn request_of(attributes: &Attributes, matched: &Matched) -> Result<Value> {
    let request = serde_json::to_value(Request::new("", attributes, matched, None, None));
    let mut request = request.map_err(ApiError::internal)?;
    if let Some(request) = request.as_object_mut() {
        ["uid", "object", "oldObject"].iter().for_each(|name| drop(request.remove(*name)));
    }
    Ok(request)
}

impl<'a> Request<'a> {
    fn new(
        uid: &'a str,
        attributes: &'a Attributes,
        matched: &'a Matched,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> Self {
        Self {
            uid,
            kind: (&matched.kind).into(),
            resource: (&*matched.definition).into(),
            sub_resource: &attributes.subresource,
            request_kind: (&attributes.kind).into(),
            request_resource: (&*attributes.definition).into(),
            request_sub_resource: &attributes.subresource,
            name: &attributes.name,
            namespace: &attributes.namespace,
            operation: attributes.operation.name(),
            user_info: (&*attributes.user).into(),
            object,
            old_object: old,
            dry_run: attributes.dry_run,
            options: attributes.options.object(),
        }
    }
}

/// The question, with the objects in the version that the webhook wants.
pub fn question(
    version: Version,
    uid: &str,
    attributes: &Attributes,
    matched: &Matched,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Bytes> {
    let review = Review {
        kind: KIND,
        api_version: version.api_version(),
        request: Request::new(uid, attributes, matched, object, old),
    };
    serde_json::to_vec(&review).map(Bytes::from).map_err(ApiError::internal)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    kind: String,
    api_version: String,
    response: Option<Response>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Status>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// An answer that holds to the rules.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub allowed: bool,
    pub status: Option<Status>,
    /// The text of a patch; only of webhooks that change.
    pub patch: Vec<u8>,
    pub patch_type: String,
    pub audit_annotations: BTreeMap<String, String>,
    pub warnings: Vec<String>,
}

/// Why an answer cannot be used.
pub enum Invalid {
    /// It could not be read.
    Undecodable(String),
    /// It breaks a rule.
    Response(String),
}

/// Reads an answer. `mutates`: the webhook may change the object.
pub fn verdict(version: Version, uid: &str, mutates: bool, body: &[u8]) -> std::result::Result<Verdict, Invalid> {
    let undecodable = |why: String| Invalid::Undecodable(why);
    let parsed = decode::any(body);
    let parsed = parsed.map_err(|why| undecodable(format!("couldn't get version/kind; json parse error: {why}")))?;
    let reply: Reply = serde_json::from_value(parsed.value).map_err(|why| undecodable(why.to_string()))?;
    let broken = |why: &str| Err(Invalid::Response(why.to_owned()));
    let Some(response) = reply.response else { return broken("webhook response was absent") };
    let patch = BASE64_STANDARD.decode(response.patch.unwrap_or_default());
    let patch = patch.map_err(|why| undecodable(format!("illegal base64 data: {why}")))?;
    let mut verdict = Verdict {
        allowed: response.allowed,
        status: response.status,
        patch: Vec::new(),
        patch_type: String::new(),
        audit_annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    };
    if version == Version::V1beta1 {
        // It was never checked, and is a JSON patch whatever it says.
        if mutates && !patch.is_empty() {
            verdict.patch = patch;
            verdict.patch_type = "JSONPatch".to_owned();
        }
        return Ok(verdict);
    }
    if response.uid != uid {
        return broken(&format!("expected response.uid={}, got {}", quote(uid), quote(&response.uid)));
    }
    if reply.api_version != version.api_version() || reply.kind != KIND {
        let given = match reply.api_version.split_once('/') {
            Some((group, version)) => format!("{group}/{version}, Kind={}", reply.kind),
            None => format!("/{}, Kind={}", reply.api_version, reply.kind),
        };
        return broken(&format!("expected webhook response of {GROUP}/v1, Kind={KIND}, got {given}"));
    }
    match (mutates, patch.is_empty(), response.patch_type) {
        (false, false, _) => return broken("validating webhook may not return response.patch"),
        (false, true, Some(_)) => return broken("validating webhook may not return response.patchType"),
        (true, false, None) => return broken("webhook returned response.patch but not response.patchType"),
        (true, true, Some(_)) => return broken("webhook returned response.patchType but not response.patch"),
        (true, false, Some(kind)) if kind.is_empty() => {
            return broken("webhook returned invalid response.patchType of \"\"");
        }
        (_, _, kind) => (verdict.patch, verdict.patch_type) = (patch, kind.unwrap_or_default()),
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(version: Version, mutates: bool, response: Value) -> std::result::Result<Verdict, String> {
        let reply = json!({"apiVersion": version.api_version(), "kind": KIND, "response": response});
        verdict(version, "u", mutates, reply.to_string().as_bytes()).map_err(|invalid| match invalid {
            Invalid::Undecodable(why) | Invalid::Response(why) => why,
        })
    }

    #[test]
    fn answers_that_break_a_rule() {
        for (mutates, response, want) in [
            (true, Value::Null, "webhook response was absent"),
            (true, json!({"uid": "x"}), "expected response.uid=\"u\", got \"x\""),
            (true, json!({"uid": "u", "patch": "W10="}), "webhook returned response.patch but not response.patchType"),
            (false, json!({"uid": "u", "patch": "W10="}), "validating webhook may not return response.patch"),
            (false, json!({"uid": "u", "patchType": "x"}), "validating webhook may not return response.patchType"),
        ] {
            assert_eq!(read(Version::V1, mutates, response).unwrap_err(), want);
        }
        let other = verdict(Version::V1, "u", true, br#"{"response":{"uid":"u"}}"#).err();
        let Some(Invalid::Response(why)) = other else { unreachable!("it names no kind") };
        assert_eq!(why, "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=");
    }

    #[test]
    fn the_old_version_is_checked_less() {
        let verdict = read(Version::V1beta1, true, json!({"uid": "x", "allowed": true, "patch": "W10="})).unwrap();
        assert_eq!((verdict.allowed, &*verdict.patch, &*verdict.patch_type), (true, &b"[]"[..], "JSONPatch"));
        assert!(read(Version::V1beta1, false, json!({"patch": "W10="})).unwrap().patch.is_empty());
    }
}

//! `ConversionReview`: what a webhook is asked, and what is made of its answer.

use bytes::Bytes;
use crds::field::{self, Errors, Path};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Why an answer cannot be used.
type Refusal = String;

/// A form of review that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta1,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Review {
    kind: String,
    api_version: String,
    response: Option<Response>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    converted_objects: Option<Vec<Value>>,
    result: Outcome,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    status: Option<String>,
    message: Option<String>,
}

impl Version {
    /// The first that a definition lists and we know.
    pub fn first(listed: &[String]) -> Option<Self> {
        listed.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        })
    }

    const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "apiextensions.k8s.io/v1",
            Self::V1Beta1 => "apiextensions.k8s.io/v1beta1",
        }
    }

    pub fn request(self, uid: &str, api_version: &str, objects: &[&Value]) -> Bytes {
        let request = json!({"uid": uid, "desiredAPIVersion": api_version, "objects": objects});
        let response = json!({"uid": "", "convertedObjects": null, "result": {"metadata": {}}});
        let review = json!({
            "kind": "ConversionReview", "apiVersion": self.api_version(), "request": request, "response": response,
        });
        review.to_string().into()
    }

    /// The objects of an answer.
    pub fn converted(self, answer: &[u8], uid: &str) -> Result<Vec<Value>, Refusal> {
        let review: Review = serde_json::from_slice(answer).map_err(|why| why.to_string())?;
        if self == Self::V1 && (review.kind != "ConversionReview" || review.api_version != self.api_version()) {
            let (wanted, version, kind) = (self.api_version(), review.api_version, review.kind);
            return Err(format!(
                "expected webhook response of {wanted}, Kind=ConversionReview, got {version}, Kind={kind}"
            ));
        }
        let response = review.response.ok_or("no response provided")?;
        if self == Self::V1 && response.uid != uid {
            let (wanted, got) = (field::quote(uid), field::quote(&response.uid));
            return Err(format!("expected response.uid={wanted}, got {got}"));
        }
        let status = response.result.status.unwrap_or_default();
        if status == "Success" {
            return Ok(response.converted_objects.unwrap_or_default());
        }
        let message = response.result.message.filter(|message| !message.is_empty());
        Err(message.unwrap_or_else(|| format!("response.result.status was '{status}', not 'Success'")))
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Group, version and kind as Go prints them.
pub fn told_kind(object: &Value) -> String {
    format!("{}, Kind={}", text(object, "/apiVersion"), text(object, "/kind"))
}

/// A converted object with the metadata of the original, of which a webhook may change labels and annotations alone.
pub fn checked(original: &Value, mut converted: Value, api_version: &str) -> Result<Value, Refusal> {
    let got = text(&converted, "/apiVersion");
    if got != api_version {
        return Err(format!(
            "invalid object at index 0: invalid groupVersion (expected {api_version}, received {got})"
        ));
    }
    let (wanted, got) = (text(original, "/kind"), text(&converted, "/kind"));
    if got != wanted {
        return Err(format!("invalid object at index 0: invalid kind (expected {wanted}, received {got})"));
    }
    for (what, path) in [("name", "/metadata/name"), ("namespace", "/metadata/namespace"), ("UID", "/metadata/uid")] {
        let (wanted, got) = (text(original, path), text(&converted, path));
        if got != wanted {
            return Err(format!("invalid object: must have the same {what}: {wanted} != {got}"));
        }
    }
    let metadata = metadata(original, &converted).map_err(|why| format!("invalid metadata: {why}"))?;
    converted["metadata"] = metadata;
    Ok(converted)
}

fn metadata(original: &Value, converted: &Value) -> Result<Value, Refusal> {
    let answered = converted.get("metadata").ok_or("missing metadata in converted object")?;
    let answered = answered.as_object().ok_or_else(|| {
        format!("invalid metadata of type {} in converted object", crds::custom::number::go_type(answered))
    })?;
    let mut metadata = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for name in ["labels", "annotations"] {
        match answered.get(name) {
            None | Some(Value::Null) => drop(metadata.remove(name)),
            Some(Value::Object(texts)) => {
                same_or_valid(name, metadata.get(name), texts)?;
                metadata.insert(name.to_owned(), Value::Object(texts.clone()));
            }
            Some(other) => {
                let kind = crds::custom::number::go_type(other);
                return Err(format!("invalid metadata.{name} of type {kind} in converted object"));
            }
        }
    }
    Ok(Value::Object(metadata))
}

fn same_or_valid(name: &str, original: Option<&Value>, texts: &Map<String, Value>) -> Result<(), Refusal> {
    if let Some((key, other)) = texts.iter().find(|(_, value)| !value.is_string()) {
        let kind = crds::custom::number::go_type(other);
        return Err(format!("metadata.{name}[{key}] must be a string, but is {kind} in converted object"));
    }
    if original.and_then(Value::as_object) == Some(texts) {
        return Ok(());
    }
    let texts = texts.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    let (root, mut errors) = (Path::new("metadata"), Errors::new());
    if name == "labels" {
        crds::meta::labels(Some(&texts), root.child("labels"), &mut errors);
    } else {
        crds::meta::annotations(Some(&texts), root.child("annotation"), &mut errors);
    }
    match &errors[..] {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        all => Err(format!("[{}]", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let told = |answer: Value| Version::V1.converted(answer.to_string().as_bytes(), "u").unwrap_err();
        let review = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let wrong = json!({"kind": "ConversionReview", "apiVersion": "g/v2"});
        let want = "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got g/v2, \
                    Kind=ConversionReview";
        assert_eq!(told(wrong), want);
        assert_eq!(told(review(Value::Null)), "no response provided");
        assert_eq!(told(review(json!({"uid": "v"}))), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(told(review(json!({"uid": "u"}))), "response.result.status was '', not 'Success'");
        let failed = json!({"uid": "u", "result": {"status": "Failure", "message": "no"}});
        assert_eq!(told(review(failed)), "no");
        let done = review(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(Version::V1.converted(done.to_string().as_bytes(), "u").unwrap(), [json!({})]);
    }

    #[test]
    fn metadata_is_the_originals() {
        let original =
            json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "a", "uid": "u", "generation": 3}});
        let answer = |metadata: Value| json!({"kind": "K", "apiVersion": "g/v2", "metadata": metadata, "spec": 1});
        let good = answer(json!({"name": "a", "uid": "u", "labels": {"x": "y"}, "generation": 9}));
        let want = json!({"name": "a", "uid": "u", "labels": {"x": "y"}, "generation": 3});
        assert_eq!(checked(&original, good, "g/v2").unwrap(), answer(want));
        let other = checked(&original, answer(json!({"name": "b", "uid": "u"})), "g/v2").unwrap_err();
        assert_eq!(other, "invalid object: must have the same name: a != b");
        let label = answer(json!({"name": "a", "uid": "u", "labels": {"x": 1}}));
        let want = "invalid metadata: metadata.labels[x] must be a string, but is int64 in converted object";
        assert_eq!(checked(&original, label, "g/v2").unwrap_err(), want);
    }
}

//! One call of a webhook: the question, the answer, and what becomes of the request.

use std::time::Duration;

use crds::field::quote;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::Value;

use super::{Hook, review};
use crate::{
    admission::{Attributes, rule::Matched},
    error::ApiError,
    world::World,
};

/// What a webhook that allows a request has said.
#[derive(Debug, Default)]
pub struct Answer {
    pub patch: Vec<u8>,
    pub patch_type: String,
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum CallFailure {
    /// The webhook could not be asked, or did not answer as it must: its failure policy decides.
    Calling(String),
    /// It says no, or must not be asked.
    Refused(ApiError),
}

impl CallFailure {
    /// What a failure to call is told as.
    pub fn told(name: &str, why: &str) -> ApiError {
        ApiError::internal(format!("failed calling webhook {}: {why}", quote(name)))
    }
}

/// What an answer says beside its verdict: the `Warning` headers and audit annotations of the request.
#[derive(Debug, Default)]
pub struct Remarks {
    pub warnings: Vec<String>,
    pub audit_annotations: Vec<(String, String)>,
}

/// A question to a webhook; `object` and `old` are in the version that it wants.
pub struct Question<'a> {
    pub hook: &'a Hook,
    pub mutates: bool,
    pub attributes: &'a Attributes,
    pub matched: &'a Matched,
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
    pub wait_max: Duration,
}

impl Question<'_> {
    /// Asks. What the webhook remarks counts whatever it decides.
    pub async fn call(&self, world: &World) -> (Result<Answer, CallFailure>, Remarks) {
        let mut remarks = Remarks::default();
        let verdict = match self.ask(world).await {
            Ok(verdict) => verdict,
            Err(failure) => return (Err(failure), remarks),
        };
        let name = &self.hook.name;
        let annotations = verdict.audit_annotations.into_iter();
        remarks.audit_annotations = annotations.map(|(key, value)| (format!("{name}/{key}"), value)).collect();
        remarks.warnings = verdict.warnings;
        if !verdict.allowed {
            return (Err(CallFailure::Refused(denied(name, verdict.status))), remarks);
        }
        (Ok(Answer { patch: verdict.patch, patch_type: verdict.patch_type }), remarks)
    }

    async fn ask(&self, world: &World) -> Result<review::Verdict, CallFailure> {
        let Self { hook, attributes, .. } = *self;
        if attributes.dry_run && !hook.allows_dry_run {
            let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
            return Err(CallFailure::Refused(ApiError::bad_request(why)));
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            return Err(CallFailure::Calling(why.to_owned()));
        };
        hook.webhook.usable().map_err(|why| CallFailure::Calling(format!("could not get REST client: {why}")))?;
        let uid = world.random.uid();
        let question = review::question(version, &uid, attributes, self.matched, self.object, self.old);
        let question = question.map_err(CallFailure::Refused)?;
        let failed = |why: String| CallFailure::Calling(format!("failed to call webhook: {why}"));
        let body = hook.webhook.post(world, question, hook.timeout.min(self.wait_max)).await;
        let body = body.map_err(|why| failed(why.to_string()))?;
        review::verdict(version, &uid, self.mutates, &body).map_err(|invalid| match invalid {
            review::Invalid::Undecodable(why) => failed(why),
            review::Invalid::Response(why) => CallFailure::Calling(format!("received invalid webhook response: {why}")),
        })
    }
}

/// The webhook's own Status, made a refusal.
fn denied(name: &str, status: Option<Status>) -> ApiError {
    let mut status = status.unwrap_or_default();
    let by = format!("admission webhook {} denied the request", quote(name));
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    status.message = Some(match given(&status.message).or_else(|| given(&status.reason)) {
        Some(why) => format!("{by}: {why}"),
        None => format!("{by} without explanation"),
    });
    status.code = Some(status.code.unwrap_or_default().max(i32::from(StatusCode::BAD_REQUEST.as_u16())));
    if matches!(status.status.as_deref(), None | Some("" | "Success")) {
        status.status = Some("Failure".to_owned());
    }
    ApiError::of(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let told = |status: Option<Status>| {
            let error = denied("a.b.c", status);
            (error.code().as_u16(), error.message().to_owned())
        };
        let by = "admission webhook \"a.b.c\" denied the request";
        let status = |code: i32, reason: &str, message: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some(Status { code: Some(code), reason: text(reason), message: text(message), ..Default::default() })
        };
        assert_eq!(told(None), (400, format!("{by} without explanation")));
        assert_eq!(told(status(200, "", "no")), (400, format!("{by}: no")));
        assert_eq!(told(status(403, "Forbidden", "")), (403, format!("{by}: Forbidden")));
        assert_eq!(told(status(500, "x", "why")), (500, format!("{by}: why")));
    }
}

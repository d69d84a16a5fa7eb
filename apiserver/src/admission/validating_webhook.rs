//! ValidatingAdmissionWebhook: all webhooks that a request is the business of are asked at once, and each may refuse it.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use tokio::time::Instant;

use super::{
    Attributes, Plugin,
    version::convert_some,
    webhook::{self, CallFailure, Hooks, Question, REQUEST_WAIT_MAX},
};
use crate::{authorize::Authorize, error::Result, metrics::elsewhere, world::World};

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io";

pub struct ValidatingAdmissionWebhook {
    authorizer: Arc<dyn Authorize>,
    hooks: Hooks<ValidatingWebhookConfiguration>,
}

impl ValidatingAdmissionWebhook {
    /// The authorizer is what match conditions may ask.
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer, hooks: Hooks::default() }
    }
}

impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        !webhook::is_exempt(attributes)
    }

    fn changes(&self) -> bool {
        false
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut relevant = Vec::new();
            for hook in self.hooks.current(world) {
                let Some(matched) = hook.matched(attributes, &self.authorizer, world).await? else { continue };
                let (from, to) = (&attributes.kind, &matched.kind);
                let object = convert_some(attributes.object.as_ref(), from, to, world).await?;
                let old = convert_some(attributes.old.as_deref(), from, to, world).await?;
                relevant.push((hook, matched, object, old));
            }
            if relevant.is_empty() {
                return Ok(());
            }
            let deadline = Instant::now() + REQUEST_WAIT_MAX;
            let seen = &*attributes;
            let calls = relevant.iter().map(|(hook, matched, object, old)| {
                let wait_max = deadline.saturating_duration_since(Instant::now());
                let (object, old) = (object.as_ref(), old.as_ref());
                let question = Question { hook, mutates: false, attributes: seen, matched, object, old, wait_max };
                async move { question.call(world).await }
            });
            let answers = elsewhere::wait(join_all(calls)).await;
            let mut refusal = None;
            for (at, ((hook, ..), (answer, remarks))) in relevant.iter().zip(answers).enumerate() {
                attributes.warnings.extend(remarks.warnings);
                attributes.audit_annotations.extend(remarks.audit_annotations);
                let error = match answer {
                    Ok(_) => continue,
                    Err(CallFailure::Calling(why)) if hook.ignores_failure => {
                        tracing::warn!(webhook = hook.name, why, "a webhook failed, which it is allowed to");
                        let key = format!("{FAILED_OPEN}/round_0_index_{at}");
                        attributes.audit_annotations.insert(key, hook.name.clone());
                        continue;
                    }
                    Err(CallFailure::Calling(why)) => CallFailure::told(&hook.name, &why),
                    Err(CallFailure::Refused(error)) => error,
                };
                refusal.get_or_insert(error);
            }
            refusal.map_or(Ok(()), Err)
        })
    }
}

//! MutatingAdmissionWebhook: webhooks are asked one after the other, and each may change what the next one sees.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Attributes, Plugin,
    rule::Matched,
    version::{convert, convert_some, set_defaults},
    webhook::{self, Answer, CallFailure, Hook, Hooks, Question, REQUEST_WAIT_MAX},
};
use crate::{
    authorize::Authorize,
    codec::decode,
    error::{ApiError, Result},
    metrics::elsewhere,
    patch,
    world::World,
};

const NAME: &str = "MutatingAdmissionWebhook";
const MUTATION: &str = "mutation.webhook.admission.k8s.io";
const PATCH: &str = "patch.webhook.admission.k8s.io";

pub struct MutatingAdmissionWebhook {
    authorizer: Arc<dyn Authorize>,
    hooks: Hooks<MutatingWebhookConfiguration>,
}

impl MutatingAdmissionWebhook {
    /// The authorizer is what match conditions may ask.
    pub fn new(authorizer: Arc<dyn Authorize>) -> Self {
        Self { authorizer, hooks: Hooks::default() }
    }
}

impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        !webhook::is_exempt(attributes)
    }

    // Defaults are set after each patch.
    fn changes(&self) -> bool {
        false
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hooks = self.hooks.current(world);
            if hooks.is_empty() {
                return Ok(());
            }
            attributes.reinvocation.enter(NAME, attributes.object.as_ref());
            let deadline = Instant::now() + REQUEST_WAIT_MAX;
            // On the heap: most requests come here for nothing, and the rest of it is large.
            let admitted = Box::pin(dispatch(&hooks, attributes, &self.authorizer, deadline, world)).await;
            attributes.reinvocation.leave(NAME, attributes.object.as_ref());
            admitted
        })
    }
}

async fn dispatch(
    hooks: &[Arc<Hook>],
    attributes: &mut Attributes,
    authorizer: &Arc<dyn Authorize>,
    deadline: Instant,
    world: &World,
) -> Result<()> {
    let round = u8::from(attributes.reinvocation.is_running());
    for (at, hook) in hooks.iter().enumerate() {
        let Some(matched) = hook.matched(attributes, authorizer, world).await? else { continue };
        // In the second round nobody is called for the first time, whatever matches by now.
        if !attributes.reinvocation.calls(NAME, &hook.id) {
            continue;
        }
        let place = format!("round_{round}_index_{at}");
        let called = call(hook, attributes, &matched, &place, deadline, world).await;
        let changed = matches!(called, Ok(true));
        let mutation =
            json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}).to_string();
        attributes.audit_annotations.insert(format!("{MUTATION}/{place}"), mutation);
        if changed {
            attributes.reinvocation.changed(NAME);
        }
        if hook.is_reinvocable {
            attributes.reinvocation.called(NAME, &hook.id);
        }
        match called {
            Ok(_) => {}
            Err(CallFailure::Calling(why)) if hook.ignores_failure => {
                tracing::warn!(webhook = hook.name, why, "a webhook failed, which it is allowed to");
                attributes.audit_annotations.insert(format!("failed-open.{MUTATION}/{place}"), hook.name.clone());
                if Instant::now() >= deadline {
                    let why = "Timeout: request did not complete within requested timeout";
                    return Err(ApiError::new(http::StatusCode::GATEWAY_TIMEOUT, "Timeout", why)
                        .with_details(Default::default()));
                }
            }
            Err(CallFailure::Calling(why)) => return Err(CallFailure::told(&hook.name, &why)),
            Err(CallFailure::Refused(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the webhook has changed the object.
async fn call(
    hook: &Hook,
    attributes: &mut Attributes,
    matched: &Matched,
    place: &str,
    deadline: Instant,
    world: &World,
) -> std::result::Result<bool, CallFailure> {
    let refused = CallFailure::Refused;
    let (from, to) = (&attributes.kind, &matched.kind);
    let object = convert_some(attributes.object.as_ref(), from, to, world).await.map_err(refused)?;
    let old = convert_some(attributes.old.as_deref(), from, to, world).await.map_err(refused)?;
    let wait_max = deadline.saturating_duration_since(Instant::now());
    let (object, old) = (object.as_ref(), old.as_ref());
    let question = Question { hook, mutates: true, attributes, matched, object, old, wait_max };
    let (answer, remarks) = elsewhere::wait(question.call(world)).await;
    attributes.warnings.extend(remarks.warnings);
    attributes.audit_annotations.extend(remarks.audit_annotations);
    let Some((patched, patch)) = patched(hook, matched, object, answer?)? else { return Ok(false) };
    let patch = json!({
        "configuration": hook.configuration,
        "webhook": hook.name,
        "patch": patch,
        "patchType": "JSONPatch",
    });
    attributes.audit_annotations.insert(format!("{PATCH}/{place}"), patch.to_string());
    let changed = object != Some(&patched);
    if changed {
        let mut patched = patched;
        set_defaults(&mut patched, &matched.kind, world).map_err(|e| refused(ApiError::internal(e)))?;
        attributes.object = Some(convert(&patched, to, &attributes.kind, world).await.map_err(refused)?);
        attributes.sent = Arc::new(attributes.sent.read_again());
    }
    Ok(changed)
}

/// The object with the webhook's patch, and the patch; none if there is none.
fn patched(
    hook: &Hook,
    matched: &Matched,
    object: Option<&Value>,
    answer: Answer,
) -> std::result::Result<Option<(Value, Value)>, CallFailure> {
    if answer.patch.is_empty() {
        return Ok(None);
    }
    let undecodable =
        |why: &str| CallFailure::Calling(format!("received undecodable patch in webhook response: {why}"));
    let patch: Value = serde_json::from_slice(&answer.patch).map_err(|why| undecodable(&why.to_string()))?;
    let Some(operations) = patch.as_array() else {
        return Err(undecodable("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
    };
    if operations.is_empty() {
        return Ok(None);
    }
    let internal = |why: String| CallFailure::Refused(ApiError::internal(why));
    let Some(object) = object else {
        let name = crds::field::quote(&hook.name);
        return Err(internal(format!(
            "admission webhook {name} attempted to modify the object, which is not supported for this operation"
        )));
    };
    if answer.patch_type != "JSONPatch" {
        let kind = crds::field::quote(&answer.patch_type);
        return Err(CallFailure::Calling(format!("unsupported patch type {kind}")));
    }
    let patched = patch::operations(object.clone(), &patch).map_err(internal)?;
    let (patched, _) = decode::value(&patched, &matched.kind).map_err(internal)?;
    Ok(Some((patched, patch)))
}

//! `serviceaccounts/token`: a token on request.

use std::sync::Arc;

use crds::kind::{Definition, Facts, Gvk};
use http::StatusCode;
use serde_json::Value;

use crate::{
    admission::Operation,
    auth::token_request,
    call::Call,
    codec::{answer::Answer, decode, sent::Sent, typed},
    error::{ApiError, Result},
    metadata,
    options::WriteOptions,
    pipeline::Apiserver,
    route::{self, Target},
    verbs,
    write::Shown,
};

const KIND: Gvk = Gvk {
    group: std::borrow::Cow::Borrowed("authentication.k8s.io"),
    version: std::borrow::Cow::Borrowed("v1"),
    kind: std::borrow::Cow::Borrowed("TokenRequest"),
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    if call.info.verb != "create" {
        return Err(route::not_allowed());
    }
    let form = verbs::form(call, &target.definition)?;
    let media = verbs::sent(call, &target.definition)?;
    let options = WriteOptions::from_query(&call.query, "CreateOptions", false)?;
    let body = call.read_body().await?;
    let decoded = decode::object(&body, media, &KIND, options.field_validation)?;
    call.warnings.extend(decoded.warnings);
    call.audit.request_object(&decoded.object);
    let mut request = decoded.object;
    metadata::match_namespace(&mut request, &call.info.namespace)?;
    let sent = Sent::of(&request);
    typed::canonical_form(&KIND, &mut request);
    token_request::set_defaults(&mut request);
    sent.fill_nulls(&mut request);
    let definition = Arc::new(Definition { gvk: KIND, facts: Facts::built_in(&KIND), ..(*target.definition).clone() });
    let request = admitted(server, call, target, &definition, request, options).await?;
    let now = server.world.now();
    let issuer = &server.access.authenticator.issuer;
    let id = server.world.random.uid();
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let answered = token_request::create(issuer, &*server.world, namespace, name, request, now, id).await?;
    verbs::shown(server, call, StatusCode::CREATED, form, &definition, &Shown::Value(answered))
}

/// The request after field ownership and admission, which sees a TokenRequest of a service account.
async fn admitted(
    server: &Apiserver,
    call: &mut Call,
    target: &Target,
    definition: &Arc<Definition>,
    mut request: Value,
    options: WriteOptions,
) -> Result<Value> {
    let name = call.info.name.clone();
    let mut writer = verbs::writer(server, call, target, &name, options);
    writer.definition = definition.clone();
    writer.track(&mut request, None);
    writer.definition = target.definition.clone();
    let mut attributes = writer.attributes(Operation::Create, Some(request), None);
    attributes.kind = KIND;
    let mut admitted = server.admission.admit(&mut attributes, &server.world).await;
    if admitted.is_ok() {
        admitted = server.admission.validate(&mut attributes, &server.world).await;
    }
    call.warnings.append(&mut attributes.warnings);
    call.audit.annotate_all(&attributes.audit_annotations);
    admitted?;
    attributes.object.ok_or_else(|| ApiError::internal("admission took the request away"))
}

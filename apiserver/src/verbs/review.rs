//! POST of a question: kinds that are answered and not kept.

use crds::kind::Definition;
use http::StatusCode;
use serde_json::Value;

use crate::{
    auth, authorize,
    call::Call,
    codec::{Form, answer::Answer},
    error::Result,
    pipeline::Apiserver,
    route::Target,
    write::{Shown, Writer},
};

/// Whether objects of this kind are questions.
pub fn is_question(definition: &Definition) -> bool {
    matches!(&*definition.gvk.group, "authentication.k8s.io" | "authorization.k8s.io")
}

pub async fn answer(
    server: &Apiserver,
    call: &mut Call,
    target: &Target,
    form: Form,
    object: Value,
    options: crate::options::WriteOptions,
) -> Result<Answer> {
    let mut writer: Writer = super::writer(server, call, target, "", options);
    let asked = writer.consider(object).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    let asked = asked?;
    let (user, now) = (call.user.as_ref(), server.world.now());
    let (authenticator, authorizer) = (&server.access.authenticator, &*server.access.authorizer);
    let answered = match &*target.definition.plural {
        "tokenreviews" => auth::review::token(authenticator, &*server.world, asked, now).await?,
        "selfsubjectreviews" => auth::review::own(user, now),
        "subjectaccessreviews" => authorize::review::subject(authorizer, asked)?,
        "localsubjectaccessreviews" => authorize::review::local(authorizer, &call.info.namespace, asked)?,
        "selfsubjectaccessreviews" => authorize::review::own(authorizer, user, asked)?,
        "selfsubjectrulesreviews" => authorize::review::own_rules(authorizer, user, &asked)?,
        _ => return Err(crate::route::not_allowed()),
    };
    super::shown(server, call, StatusCode::CREATED, form, &target.definition, &Shown::Value(answered))
}

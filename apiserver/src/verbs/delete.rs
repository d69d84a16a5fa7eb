//! DELETE of one object.

use crds::kind::DeleteAnswer;
use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    call::Call,
    codec::{
        Form,
        answer::{self, Answer},
    },
    error::Result,
    options::WriteOptions,
    pipeline::Apiserver,
    route::Target,
    write::Deleted,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let form = super::form(call, &target.definition)?;
    let options = super::delete_options(call).await?;
    if target.definition.orphans_by_default && options.propagation().is_none() {
        call.warnings.extend(target.definition.rules.orphaning_warning().map(str::to_owned));
    }
    let mut writer = super::writer(server, call, target, &call.info.name, WriteOptions::default());
    let deleted = writer.delete(&options).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    let deleted = deleted?;
    let later = !deleted.gone && options.orphan_dependents == Some(false);
    let code = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
    told(server, call, code, form, target, &deleted)
}

/// The object while it is still there; what is gone is told by a Status, or for some kinds by the object it was.
fn told(
    server: &Apiserver,
    call: &Call,
    code: StatusCode,
    form: Form,
    target: &Target,
    deleted: &Deleted,
) -> Result<Answer> {
    let (definition, name) = (&target.definition, call.info.name.as_str());
    let over = deleted.gone || deleted.pending;
    if !over || definition.delete_answer == DeleteAnswer::Object {
        return super::shown(server, call, code, form, definition, &deleted.shown);
    }
    let mut details = Map::new();
    for (field, value) in
        [("name", name), ("group", &definition.gvk.group), ("kind", &definition.plural), ("uid", &deleted.uid)]
    {
        if !value.is_empty() {
            details.insert(field.to_owned(), value.into());
        }
    }
    answer::success(code, form, Value::Object(details))
}

//! POST of a new object.

use http::StatusCode;

use crate::{
    call::Call, codec::answer::Answer, error::Result, metadata, options::WriteOptions, pipeline::Apiserver,
    route::Target, subresource,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    if definition.gvk == subresource::binding::gvk() {
        return subresource::binding::answer(server, call, target).await;
    }
    let form = super::form(call, definition)?;
    super::sent(call, definition)?;
    let options = WriteOptions::from_query(&call.query, "CreateOptions", false)?;
    let mut object = super::read_object(call, target, options.field_validation).await?;
    metadata::wipe(&mut object);
    metadata::match_namespace(&mut object, &call.info.namespace_of(definition))?;
    if super::review::is_question(&target.definition) {
        return super::review::answer(server, call, target, form, object, options).await;
    }
    let name = metadata::text(&object, "name").to_owned();
    let mut writer = super::writer(server, call, target, &name, options);
    let written = writer.create(object).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    super::shown(server, call, StatusCode::CREATED, form, definition, &written?.shown)
}

//! PUT of an object, or of a part of it.

use http::StatusCode;

use crate::{
    call::Call, codec::answer::Answer, error::Result, metadata, options::WriteOptions, pipeline::Apiserver,
    route::Target, write::Missing,
};

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = &target.definition;
    let form = super::form(call, definition)?;
    let options = WriteOptions::from_query(&call.query, "UpdateOptions", false)?;
    let mut object = super::read_object(call, target, options.field_validation).await?;
    metadata::match_namespace(&mut object, &call.info.namespace_of(definition))?;
    metadata::match_name(&object, &call.info.name)?;
    let written = {
        let may_create = || server.access.may(call, "create");
        let creates = definition.create_on_update && target.subresource.is_none();
        let missing = if creates { Missing::Create(&may_create) } else { Missing::NotFound };
        let mut writer = super::writer(server, call, target, &call.info.name, options);
        let written = writer.update(&mut |_| Ok(object.clone()), &missing).await;
        let warnings = std::mem::take(&mut writer.warnings);
        (written, warnings)
    };
    call.warnings.extend(written.1);
    let written = written.0?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    super::shown(server, call, code, form, definition, &written.shown)
}

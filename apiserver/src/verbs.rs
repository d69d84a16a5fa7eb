//! What can be done with objects: one file a verb.

use crds::kind::{Definition, Subresource};
use futures::FutureExt;
use http::StatusCode;
use serde_json::Value;

use crate::{
    cache::list::Listing,
    call::Call,
    codec::{
        Form, Media, Shape,
        answer::{self, Answer},
        decode,
        negotiate::{self, Offer},
        typed,
    },
    error::Result,
    options::{DeleteOptions, FieldValidation, WriteOptions},
    pipeline::Apiserver,
    route::Target,
    subresource,
    table::{self, IncludeObject, Printer},
    write::{Shown, Writer},
};

pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod get;
pub mod list;
pub mod patch;
pub mod review;
pub mod update;
pub mod watch;

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    match &target.subresource {
        None | Some(Subresource::Status) => {}
        Some(Subresource::Scale(paths)) => return subresource::scale::answer(server, call, target, paths).await,
        Some(Subresource::Other { name, .. }) => return subresource::answer(server, call, target, name).await,
    }
    object(server, call, target).await
}

/// A verb on the object itself, or on a subresource that is the object seen in part.
pub async fn object(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    match call.info.verb.as_str() {
        "get" => get::answer(server, call, target).await,
        "list" => list::answer(server, call, target).await,
        "watch" => watch::answer(server, call, target).await,
        "create" => create::answer(server, call, target).await,
        "update" => update::answer(server, call, target).boxed().await,
        "patch" => patch::answer(server, call, target).boxed().await,
        "delete" => delete::answer(server, call, target).await,
        "deletecollection" => delete_collection::answer(server, call, target).boxed().await,
        _ => Err(crate::route::not_allowed()),
    }
}

pub fn form(call: &Call, definition: &Definition) -> Result<Form> {
    if !definition.is_custom() {
        let streams = matches!(call.info.verb.as_str(), "list" | "watch");
        negotiate::routable(&call.headers, if streams { negotiate::STREAMS } else { negotiate::OBJECTS })?;
    }
    let offer = match definition.is_custom() {
        true => Offer::CustomResource,
        false if review::is_question(definition) => Offer::Question,
        false => Offer::Resource,
    };
    negotiate::accepted(&call.headers, &call.query, offer)
}

pub fn sent(call: &Call, definition: &Definition) -> Result<Media> {
    negotiate::sent(&call.headers, definition.is_custom())
}

/// The printer of tables, as the query wants them.
pub fn printer<'a>(server: &Apiserver, call: &Call, definition: &'a Definition) -> Result<Printer<'a>> {
    let include = IncludeObject::parse(call.query.first("includeObject").unwrap_or_default())?;
    Ok(Printer { definition, include, describe, now: server.world.now() })
}

/// The description of a field, without the list of values that OpenAPI puts behind it.
pub fn describe(ty: &str, field: &str) -> &'static str {
    let prose = crds::schema::prose::of_field(ty, field);
    prose.split("\n\nPossible enum values:").next().unwrap_or(prose)
}

/// One object, in whatever shape.
pub fn shown(
    server: &Apiserver,
    call: &Call,
    code: StatusCode,
    form: Form,
    definition: &Definition,
    shown: &Shown,
) -> Result<Answer> {
    if form.shape != Shape::Table {
        return answer::object(code, form, definition, shown);
    }
    let printer = printer(server, call, definition)?;
    let table = match shown {
        Shown::Stored(object) => printer.print_one(object, true)?,
        Shown::Value(value) => printer.print_value(value)?,
    };
    answer::json_text(code, form, table)
}

/// Many objects, in whatever shape.
pub fn listed(
    server: &Apiserver,
    call: &Call,
    form: Form,
    definition: &Definition,
    listing: Listing,
) -> Result<Answer> {
    if form.shape != Shape::Table {
        return answer::list(form, definition, listing);
    }
    let metadata = table::Metadata {
        resource_version: listing.version(),
        next: listing.next,
        remaining_item_count: listing.remaining.map(|remaining| remaining as u64),
    };
    let table = printer(server, call, definition)?.print(&listing.objects, &metadata, true)?;
    answer::json_text(StatusCode::OK, form, table)
}

/// A writer for the object of the call.
pub fn writer<'a>(
    server: &'a Apiserver,
    call: &'a Call,
    target: &Target,
    name: &'a str,
    options: WriteOptions,
) -> Writer<'a> {
    Writer {
        world: &server.world,
        admission: &server.admission,
        definition: target.definition.clone(),
        subresource: &call.info.subresource,
        namespace: &call.info.namespace,
        name,
        is_one_of_many: false,
        user: call.user.clone(),
        manager: call.manager(&options.field_manager),
        options,
        scale: None,
        tracks_fields: true,
        verb: &call.info.verb,
        authorizer: &server.access.authorizer,
        warnings: Vec::new(),
        audit: call.audit.clone(),
    }
}

/// The object in the body of a call.
pub async fn read_object(call: &mut Call, target: &Target, validation: FieldValidation) -> Result<Value> {
    let media = sent(call, &target.definition)?;
    let body = call.read_body().await?;
    let decoded = match target.definition.is_custom() {
        true => decode::custom(&body, media, &target.definition, validation)?,
        false => decode::object(&body, media, &target.definition.gvk, validation)?,
    };
    call.warnings.extend(decoded.warnings);
    audit_object(call, &target.definition, &decoded.object);
    Ok(decoded.object)
}

/// Tells the audit log of the object that was sent; as upstream, with its defaults.
pub fn audit_object(call: &Call, definition: &Definition, object: &Value) {
    if !call.audit.is_on() {
        return;
    }
    if !call.audit.wants_request() {
        return call.audit.request_object(object);
    }
    let mut shown = object.clone();
    if let Err(error) = definition.rules.set_defaults(&mut shown) {
        tracing::debug!(%error, "an object that has no defaults is told as it was sent");
    }
    typed::canonical(definition, &mut shown);
    call.audit.request_object(&shown);
}

/// The options of a DELETE: from the body if there is one, else from the query.
pub async fn delete_options(call: &mut Call) -> Result<DeleteOptions> {
    let body = call.read_body().await?;
    if body.is_empty() {
        return DeleteOptions::from_query(&call.query);
    }
    let media = negotiate::sent(&call.headers, false)?;
    let options = decode::delete_options(&body, media)?;
    if call.audit.wants_request() {
        let mut told = options.object();
        told["kind"] = "DeleteOptions".into();
        told["apiVersion"] = call.info.group_version().into();
        call.audit.request_object(&told);
    }
    options.validated()
}

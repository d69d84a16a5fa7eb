//! PATCH of an object, or of a part of it, in each of the four kinds of patch.

use std::sync::Arc;

use crds::{
    field::{self, Path},
    kind::{Definition, Gvk, ScalePaths},
    schema::{Schema, TypeId, encode},
};
use http::{StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails;
use serde_json::Value;

use crate::{
    apply,
    call::Call,
    codec::{answer::Answer, decode, negotiate, typed},
    error::{ApiError, Result},
    metadata,
    options::{FieldValidation, WriteOptions},
    patch::{self, opened, opened::Opened},
    pipeline::Apiserver,
    route::Target,
    write::{Missing, Writer, Written},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Json, Self::Merge, Self::Strategic, Self::Apply];

    const fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// The kind of patch that a body is; custom resources have no strategic merge.
pub fn kind_of(call: &Call, definition: &Definition) -> Result<Kind> {
    let sent = call.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let custom = definition.is_custom();
    let offered: Vec<_> = Kind::ALL.into_iter().filter(|kind| !custom || *kind != Kind::Strategic).collect();
    let found = offered.iter().find(|kind| kind.media() == sent).copied();
    found.ok_or_else(|| {
        if custom {
            return negotiate::unsupported(&offered.iter().map(|kind| kind.media()).collect::<Vec<_>>());
        }
        // The words of go-restful, which routes upstream's own kinds.
        let why = "415: Unsupported Media Type";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", why)
            .with_details(StatusDetails::default())
    })
}

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target) -> Result<Answer> {
    let definition = target.definition.clone();
    kind_of(call, &definition)?;
    let form = super::form(call, &definition)?;
    let written = write(server, call, target, &definition.gvk, None).await?;
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    super::shown(server, call, code, form, &definition, &written.shown)
}

/// Writes the patched object, or the object behind its patched Scale; `gvk` is the kind that is patched.
pub async fn write(
    server: &Apiserver,
    call: &mut Call,
    target: &Target,
    gvk: &Gvk,
    scale: Option<ScalePaths>,
) -> Result<Written> {
    let kind = kind_of(call, &target.definition)?;
    let body = call.read_body().await?;
    let options = WriteOptions::from_query(&call.query, "PatchOptions", kind == Kind::Apply)?;
    let (parsed, strict) = parse(kind, &body)?;
    call.audit.patch(&parsed);
    let definition = scale.is_none().then(|| target.definition.clone());
    let patch = Patch { kind, gvk, definition, validation: options.field_validation, body: parsed, strict };
    let namespace = call.info.namespace_of(&target.definition).into_owned();
    let name = call.info.name.clone();
    let force = options.force.unwrap_or_default();
    let mut warnings = Vec::new();
    let (written, told) = {
        let may_create = || server.access.may(call, "create");
        let creates = kind == Kind::Apply && target.subresource.is_none();
        let missing = if creates { Missing::Create(&may_create) } else { Missing::NotFound };
        let mut writer = super::writer(server, call, target, &name, options.clone());
        writer.tracks_fields = kind != Kind::Apply;
        writer.scale = scale.clone();
        let mut applier = super::writer(server, call, target, &name, options);
        applier.scale = scale;
        let mut source = |old: Option<&Value>| {
            let (mut object, told) = match kind {
                Kind::Apply => (patch.laid(old, &applier, force)?, patch.repeated()?),
                _ => patch.applied(old)?,
            };
            warnings = told;
            metadata::match_namespace(&mut object, &namespace)?;
            metadata::match_name(&object, &name)?;
            Ok(object)
        };
        let written = writer.update(&mut source, &missing).await;
        let told = std::mem::take(&mut writer.warnings);
        (written, told)
    };
    call.warnings.extend(warnings);
    call.warnings.extend(told);
    written
}

/// The patch, and what a strict decoder says of it.
fn parse(kind: Kind, body: &[u8]) -> Result<(Value, Vec<String>)> {
    if kind == Kind::Apply {
        let why = |why| ApiError::bad_request(format!("error decoding YAML: error converting YAML to JSON: {why}"));
        return decode::yaml(body).map_err(why);
    }
    let decoded = crds::schema::decode::any(body).map_err(|why| match kind {
        Kind::Json | Kind::Merge => ApiError::bad_request(format!("error decoding patch: {why}")),
        Kind::Strategic | Kind::Apply => ApiError::bad_request(why.to_string()),
    })?;
    let strict = match kind {
        Kind::Json => decoded.strict.into_iter().map(|found| format!("json patch {found}")).collect(),
        _ => decoded.strict,
    };
    Ok((decoded.value, strict))
}

struct Patch<'a> {
    kind: Kind,
    gvk: &'a Gvk,
    /// None where it is not the object itself that is patched.
    definition: Option<Arc<Definition>>,
    validation: FieldValidation,
    body: Value,
    strict: Vec<String>,
}

impl Patch<'_> {
    fn schema(&self) -> Result<(&Schema, TypeId)> {
        let own = self.definition.as_ref().map(|definition| definition.facts.get());
        own.unwrap_or_else(|| typed::type_of(self.gvk))
            .ok_or_else(|| ApiError::internal(format!("no schema for {}", self.gvk.kind)))
    }

    /// A server-side apply.
    fn laid(&self, live: Option<&Value>, applier: &Writer<'_>, force: bool) -> Result<Value> {
        let (schema, ty) = self.schema()?;
        let object = applier.with_manager(force, |manager| apply::apply(schema, ty, live, &self.body, manager))?;
        // What Go would hold of it: no nulls.
        let checked = self.decoded(&object).map_err(|why| match &self.definition {
            Some(definition) if definition.is_custom() => ApiError::bad_request(why),
            _ => self.unconvertible(&why),
        })?;
        let mut object = checked.0;
        self.accept(&mut object).map_err(|why| {
            let applied = apply::described(&self.body);
            ApiError::unknown(format!("failed to convert to unversioned ({applied}): {why}"))
        })?;
        Ok(object)
    }

    /// What strict validation says of keys that are given twice, once the apply has succeeded.
    fn repeated(&self) -> Result<Vec<String>> {
        if self.strict.is_empty() || self.validation == FieldValidation::Ignore {
            return Ok(Vec::new());
        }
        let lines = self.strict.join("\n  ");
        let why = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {lines}");
        match self.validation {
            FieldValidation::Strict => Err(ApiError::bad_request(format!("error strict decoding YAML: {why}"))),
            _ => Ok(vec![why]),
        }
    }

    /// The patched object and what strict validation warns of.
    fn applied(&self, old: Option<&Value>) -> Result<(Value, Vec<String>)> {
        let Some(old) = old else {
            // Only an apply creates.
            return Ok((self.body.clone(), Vec::new()));
        };
        let mut strict = self.strict.clone();
        let patched = match self.kind {
            Kind::Json => {
                strict.extend(patch::unknown_members(&self.body));
                patch::json(old.clone(), &self.body)?
            }
            Kind::Merge | Kind::Apply => patch::merge(old.clone(), &self.body)?,
            Kind::Strategic => {
                let (schema, ty) = self.schema()?;
                patch::strategic(schema, ty, old.clone(), &self.body)?
            }
        };
        self.checked(patched, old, strict)
    }

    fn decoded(&self, object: &Value) -> std::result::Result<(Value, Vec<String>), String> {
        match self.definition.as_deref().filter(|definition| definition.is_custom()) {
            Some(definition) => decode::custom_value(object, definition),
            None if matches!(self.kind, Kind::Strategic | Kind::Apply) => decode::converted(object, self.gvk),
            None => decode::value(object, self.gvk),
        }
    }

    /// What is told of an apply whose result does not fit the kind: what was applied, not what came out.
    fn unconvertible(&self, why: &str) -> ApiError {
        let of = apply::gvk(&self.body);
        let applied = apply::described(&self.body);
        let why = format!(
            "failed to convert new object ({applied}) to proper version: unable to convert unstructured object to {of}: {why}"
        );
        ApiError::unknown(why)
    }

    /// Whether what has been converted rather than read is of the kind.
    fn accept(&self, object: &mut Value) -> std::result::Result<(), String> {
        match &self.definition {
            Some(definition) if definition.is_custom() => Ok(()),
            _ => decode::accept(self.gvk, object),
        }
    }

    /// Unknown fields and wrong types that the patch has brought in.
    fn checked(&self, patched: Value, old: &Value, strict: Vec<String>) -> Result<(Value, Vec<String>)> {
        let invalid = |why: String| self.invalid(&patched, old, &why);
        let (mut object, unknown) = self.decoded(&patched).map_err(invalid)?;
        let found: Vec<String> = strict.into_iter().chain(unknown).collect();
        if self.validation == FieldValidation::Strict && !found.is_empty() {
            let why = format!("strict decoding error: {}", found.join(", "));
            return Err(invalid(why));
        }
        if self.kind == Kind::Strategic {
            self.accept(&mut object).map_err(ApiError::unknown)?;
        }
        Ok((object, if self.validation == FieldValidation::Ignore { Vec::new() } else { found }))
    }

    fn invalid(&self, patched: &Value, old: &Value, why: &str) -> ApiError {
        ApiError::invalid("", "", "", &[field::Error::invalid(Path::new("patch"), self.shown(patched, old), why)])
    }

    /// The patch, or what it has made of the object that was there.
    fn shown(&self, patched: &Value, old: &Value) -> String {
        let opened = match self.kind {
            Kind::Strategic => return patch::print::plain(&self.body),
            Kind::Json => Opened::by_operations(&self.body),
            Kind::Merge | Kind::Apply => Opened::by_merge(old, &self.body),
        };
        let is_custom = self.definition.as_ref().is_some_and(|definition| definition.is_custom());
        match self.schema() {
            Ok((schema, ty)) if !is_custom => opened::text(schema, ty, patched, &opened),
            // Nothing is declared that would set an order.
            _ => String::from_utf8_lossy(&encode::any(patched)).into_owned(),
        }
    }
}

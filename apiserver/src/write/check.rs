//! What a write must hold to, whatever the kind: metadata, versions, and then the kind's own rules.

use crds::{
    field::{Error, Errors},
    kind::{Definition, Gvk, Request, Rights},
    kinds::resource::request::ADMIN_ACCESS_LABEL,
    meta::{self, Rule},
};
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use super::{Current, Writer};
use crate::{
    authorize::{Attributes, Authorize, Resource},
    codec::{sent::Sent, typed},
    error::{ApiError, Result},
    metadata,
};

impl Writer<'_> {
    fn request(&self, has_own_labels: bool) -> Request<'_> {
        // A Scale is written by the rules of the object itself.
        let subresource = if self.scale.is_some() { "" } else { self.subresource };
        let is_admin_namespace = self.definition.gvk.group == "resource.k8s.io" && self.is_admin_namespace();
        let request = Request::new(&self.user, self.world.now(), subresource);
        Request { is_admin_namespace, has_own_labels, verb: self.verb, rights: self, ..request }
    }

    fn is_admin_namespace(&self) -> bool {
        let namespace = self.world.get::<Namespace>("", self.namespace).ok().flatten();
        let labels = namespace.as_ref().and_then(|namespace| namespace.metadata.labels.as_ref());
        labels.and_then(|labels| labels.get(ADMIN_ACCESS_LABEL)).is_some_and(|value| value == "true")
    }

    /// The namespace that the object must be in; a Namespace is not in itself.
    fn expected_namespace(&self) -> &str {
        if self.definition.namespaced { self.namespace } else { "" }
    }

    fn refuse(&self, object: &Value, errors: &Errors) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let gvk = &self.definition.gvk;
        // A custom resource may say that it is of another kind, and is told so by that name.
        let own = object.get("kind").and_then(Value::as_str).filter(|_| self.definition.is_custom());
        let kind = own.unwrap_or(&gvk.kind);
        Err(ApiError::invalid(&gvk.group, kind, metadata::text(object, "name"), errors))
    }

    /// A custom resource must say what it is; nothing else is looked at before that.
    fn same_kind(&self, object: &Value) -> Result<()> {
        let gvk = &self.definition.gvk;
        let given = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        if !self.definition.is_custom() || given == gvk.kind {
            return Ok(());
        }
        self.refuse(object, &Error::invalid("kind", given, format!("must be {}", gvk.kind)).into())
    }

    pub(super) fn before_create(&mut self, object: &mut Value, sent: &Sent) -> Result<()> {
        metadata::match_namespace(object, self.expected_namespace())?;
        self.same_kind(object)?;
        let definition = self.definition.clone();
        let mut errors = Errors::new();
        let rule = Rule {
            namespaced: definition.namespaced,
            standard_finalizers: wants_standard_finalizers(&definition),
            checks_prefix: definition.checks_prefix,
            validate_name: &|name| definition.rules.validate_name(name, object),
        };
        let own_meta = metadata::read_to_check(object)?;
        if definition.checks_metadata {
            meta::create(&own_meta, &rule, &mut errors);
        }
        let managed = metadata::take_managed(object);
        sent.restore(object);
        let warnings =
            definition.rules.create(object, &self.request(sent.has_labels), &mut errors).map_err(undecodable)?;
        typed::canonical(&definition, object);
        metadata::generation(&definition, object, None);
        self.refuse(object, &errors)?;
        if definition.checks_metadata {
            meta::segments(&own_meta, &mut errors);
        } else {
            meta::create_any(&own_meta, definition.namespaced, &mut errors);
        }
        self.refuse(object, &errors)?;
        metadata::put_managed(object, managed);
        self.warnings.extend(warnings);
        Ok(())
    }

    pub(super) fn before_update(&mut self, object: &mut Value, old: &Value, sent: &Sent) -> Result<()> {
        metadata::match_namespace(object, self.expected_namespace())?;
        self.same_kind(object)?;
        if let (Some(new), Some(old)) = (metadata::fields(object), old.get("metadata").and_then(Value::as_object)) {
            meta::keep(new, old);
        }
        let managed = metadata::take_managed(object);
        let definition = self.definition.clone();
        // What the kind prepares is part of what is checked, so its errors are put behind those of the metadata.
        let mut of_kind = Errors::new();
        sent.restore(object);
        let warnings = definition.rules.update(object, old, &self.request(true), &mut of_kind).map_err(undecodable)?;
        typed::canonical(&definition, object);
        metadata::generation(&definition, object, Some(old));
        metadata::put_managed(object, managed);
        let (new_meta, old_meta) = (metadata::read_to_check(object)?, metadata::read_unmanaged(old)?);
        let mut errors = Errors::new();
        meta::update(&new_meta, &old_meta, definition.namespaced, &mut errors);
        if definition.checks_changes {
            meta::update_again(&new_meta, &old_meta, wants_standard_finalizers(&definition), &mut errors);
        }
        errors.append(&mut of_kind);
        self.refuse(object, &errors)?;
        self.warnings.extend(warnings);
        Ok(())
    }

    /// A uid in the object is a precondition.
    pub(super) fn same_uid(&self, object: &Value, there: &Current) -> Result<()> {
        self.precondition("UID", metadata::text(object, "uid"), metadata::text(&there.value, "uid"))
    }

    /// A precondition of the object, unless none is wanted, in the words of upstream's storage.
    pub(crate) fn precondition(&self, what: &str, wanted: &str, found: &str) -> Result<()> {
        if wanted.is_empty() || wanted == found {
            return Ok(());
        }
        // What is only tried does not come to the store, which has a prefix of its own; that of custom resources tells keys
        // without it.
        let is_bare = self.options.dry_run || self.definition.is_custom();
        let key = self.key(self.name);
        let key = if is_bare { key.strip_prefix("/registry").unwrap_or(&key) } else { &key };
        let why = unmet(what, wanted, found);
        Err(ApiError::conflict(
            self.subject(),
            format!("StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"),
        ))
    }

    /// A new object has no version; one that says no number is not taken for one, and what is only tried has no store.
    pub(super) fn refuse_version(&self, object: &Value) -> Result<()> {
        if self.options.dry_run || !matches!(metadata::revision(object), Ok(Some(_))) {
            return Ok(());
        }
        let why = "resourceVersion should not be set on objects to be created";
        Err(ApiError::unknown(why))
    }

    /// A resourceVersion in the object must be the stored one's; some kinds insist on one.
    pub(super) fn check_version(&self, object: &mut Value, there: &Current) -> Result<()> {
        let given = metadata::revision(object)?;
        match given {
            Some(revision) if revision != there.entry.modified => Err(ApiError::modified(self.subject())),
            Some(_) => Ok(()),
            None if !self.definition.unconditional_update => {
                let (group, name) = (&self.definition.gvk.group, self.name);
                Err(ApiError::invalid(group, &self.definition.plural, name, &metadata::version_required()))
            }
            None => {
                if let Some(metadata) = metadata::fields(object) {
                    metadata.insert("resourceVersion".into(), there.entry.modified.to_string().into());
                }
                Ok(())
            }
        }
    }
}

impl Rights for Writer<'_> {
    fn require(&self, verb: &str, subresource: &str, namespace: &str, name: &str) -> std::result::Result<(), String> {
        let Gvk { group, version, .. } = &self.definition.gvk;
        let resource = &self.definition.plural;
        let on = Resource { group, version, resource, subresource, namespace, name, ..Resource::default() };
        let required = self.authorizer.require(&Attributes::resource(&self.user, verb, on));
        required.map_err(|refusal| refusal.message().to_owned())
    }
}

/// A precondition that does not hold, as upstream's storage tells it.
pub(super) fn unmet(what: &str, wanted: &str, found: &str) -> String {
    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}")
}

/// Objects are checked against the schema before; what still cannot be decoded is told as it is.
fn undecodable(error: serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", error.to_string())
}

fn wants_standard_finalizers(definition: &Definition) -> bool {
    !definition.is_custom() && meta::wants_standard_finalizers(&definition.gvk.group)
}

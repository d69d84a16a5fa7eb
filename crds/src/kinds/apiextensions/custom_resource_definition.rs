//! CustomResourceDefinition (apiextensions.k8s.io/v1).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionNames,
        CustomResourceDefinitionSpec, CustomResourceDefinitionStatus, WebhookConversion,
    },
};
use serde_json::Value;

use super::{approval, condition, schema, version};
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{About, Generation, Kind, Request, Subresource},
    kinds::{admissionregistration::target, certificates::pem},
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
/// Keeps a definition until its instances are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const PORT: i32 = 443;

impl Kind for CustomResourceDefinition {
    const ABOUT: About = About {
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: &[Subresource::Status],
        generation: Generation::Spec,
        unconditional_update: false,
        storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
        tells_empty: true,
        ..About::new("customresourcedefinitions", "customresourcedefinition")
    };

    fn validate_name_of(name: &str, object: &Value) -> Vec<String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let mut wrong = field::dns_subdomain(name);
        if name != format!("{}.{}", text("/spec/names/plural"), text("/spec/group")) {
            wrong.push("must be spec.names.plural+\".\"+spec.group".to_owned());
        }
        wrong
    }

    fn set_defaults(&mut self) {
        let names = &mut self.spec.names;
        if !names.kind.is_empty() {
            names.singular.or_set(&names.kind.to_lowercase());
            names.list_kind.or_set(&format!("{}List", names.kind));
        }
        let conversion = self
            .spec
            .conversion
            .get_or_insert_with(|| CustomResourceConversion { strategy: "None".to_owned(), webhook: None });
        // Upstream does not hold a webhook of which nothing is said.
        conversion.webhook.take_if(|webhook| *webhook == WebhookConversion::default());
        let service =
            conversion.webhook.as_mut().and_then(|w| w.client_config.as_mut()).and_then(|c| c.service.as_mut());
        if let Some(service) = service {
            service.port.get_or_insert(PORT);
        }
        let status = self.status.get_or_insert_default();
        if status.stored_versions.items().is_empty() {
            let stored = self.spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone());
            status.stored_versions = stored.map(|name| vec![name]);
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(CustomResourceDefinitionStatus::default());
        remember_stored(self);
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
        remember_stored(self);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        // As upstream, which takes metadata through the status, too: the finalizer goes this way.
        self.spec.clone_from(&old.spec);
    }

    fn begin_deletion(&mut self, now: Timestamp) -> bool {
        let finalizers = self.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let pending = condition::condition(condition::TERMINATING, "True", "InstanceDeletionPending", message);
        condition::set(self, pending, now);
        true
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let known = old.map(unknown_formats).unwrap_or_default();
        let mut new = unknown_formats(self);
        new.retain(|format| !known.contains(format));
        new.iter().map(|format| format!("unrecognized format {}", field::quote(format))).collect()
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        validate_whole(self, None, request, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        validate_whole(self, Some(old), request, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        if let Some(names) = self.status.as_ref().and_then(|status| status.accepted_names.as_ref()) {
            validate_names(names, &STATUS.child("acceptedNames"), errors);
        }
    }
}

/// Formats that are told of, each once, in the order in which they are come upon.
fn unknown_formats(definition: &CustomResourceDefinition) -> Vec<String> {
    let mut found = Vec::new();
    for version in &definition.spec.versions {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(Ok(Value::Object(schema))) = schema.map(serde_json::to_value) {
            schema::unknown_formats(&schema, &mut found);
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|format| seen.insert(format.clone()));
    found
}

fn remember_stored(definition: &mut CustomResourceDefinition) {
    let stored = definition.spec.versions.iter().find(|version| version.storage).map(|version| version.name.clone());
    let versions = definition.status.get_or_insert_default().stored_versions.get_or_insert_default();
    versions.extend(stored.filter(|name| !versions.contains(name)).into_iter().collect::<Vec<_>>());
}

fn validate_whole(
    new: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
    request: &Request,
    errors: &mut Errors,
) {
    let has_list = request.sent.pointer("/spec/versions").is_some_and(Value::is_array);
    validate_spec(&new.spec, has_list, errors);
    if let Some(conversion) = &new.spec.conversion {
        if conversion.strategy != "None" && new.spec.preserve_unknown_fields == Some(true) {
            let path = SPEC.child("conversion");
            let why = "must be None if spec.preserveUnknownFields is true";
            errors.push(Error::invalid(path.child("strategy"), conversion.strategy.as_str(), why));
        }
        validate_conversion(conversion, &SPEC.child("conversion"), old.is_none_or(may_have_any_bundle), errors);
    }
    if let Some(old) = old {
        validate_change(new, old, errors);
    }
    if let Some(names) = new.status.as_ref().and_then(|status| status.accepted_names.as_ref()) {
        validate_names(names, &STATUS.child("acceptedNames"), errors);
    }
    validate_stored(new, errors);
    approval::validate(new, old, errors);
    if new.spec.preserve_unknown_fields == Some(true)
        && old.is_none_or(|o| o.spec.preserve_unknown_fields != Some(true))
    {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.push(Error::invalid(SPEC.child("preserveUnknownFields"), true, why));
    }
}

fn validate_change(new: &CustomResourceDefinition, old: &CustomResourceDefinition, errors: &mut Errors) {
    let conditions = old.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    let names = SPEC.child("names");
    if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        equal::immutable(&new.spec.scope, &old.spec.scope, SPEC.child("scope"), errors);
        equal::immutable(&new.spec.names.kind, &old.spec.names.kind, names.child("kind"), errors);
    }
    equal::immutable(&new.spec.group, &old.spec.group, SPEC.child("group"), errors);
    equal::immutable(&new.spec.names.plural, &old.spec.names.plural, names.child("plural"), errors);
}

fn validate_stored(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let path = STATUS.child("storedVersions");
    let stored = definition.status.as_ref().map(|status| status.stored_versions.items()).unwrap_or_default();
    if stored.is_empty() {
        errors.push(Error::invalid(path, Value::Null, "must have at least one stored version"));
        return;
    }
    let mut missing: BTreeMap<&str, usize> = stored.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    for version in &definition.spec.versions {
        // As upstream, which finds each name but once.
        let is_stored = missing.remove(version.name.as_str()).is_some();
        if version.storage && !is_stored {
            errors.push(Error::invalid(path, stored, format!("must have the storage version {}", version.name)));
        }
    }
    for (name, i) in missing {
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
             a storage migration ensures no data remains persisted in {name} and removes {name} from \
             status.storedVersions"
        );
        errors.push(Error::invalid(path.index(i), name, why));
    }
}

/// `has_list`: whether there is a list of versions, which may be empty.
fn validate_spec(spec: &CustomResourceDefinitionSpec, has_list: bool, errors: &mut Errors) {
    let (path, group) = (SPEC.child("group"), spec.group.as_str());
    let wrong = field::dns_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(path, group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(path, group, "should be a domain with at least one dot"));
    }
    match spec.scope.as_str() {
        "" => errors.push(Error::required(SPEC.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        scope => errors.push(Error::not_supported(SPEC.child("scope"), scope, &["Cluster", "Namespaced"])),
    }
    version::validate_all(spec, has_list, errors);
    let names_path = SPEC.child("names");
    let names = &spec.names;
    for (name, value) in [
        ("plural", names.plural.as_str()),
        ("singular", names.singular.text()),
        ("kind", names.kind.as_str()),
        ("listKind", names.list_kind.text()),
    ] {
        if value.is_empty() {
            errors.push(Error::required(names_path.child(name), ""));
        }
    }
    validate_names(names, &names_path, errors);
    version::validate_shared(&spec.versions, errors);
}

fn bundle(definition: &CustomResourceDefinition) -> Option<&ByteString> {
    let config = definition.spec.conversion.as_ref()?.webhook.as_ref()?.client_config.as_ref()?;
    config.ca_bundle.as_ref().filter(|bundle| !bundle.0.is_empty())
}

/// A definition that is in use keeps a bundle that can be read.
fn may_have_any_bundle(definition: &CustomResourceDefinition) -> bool {
    let is_broken = bundle(definition).is_some_and(|bundle| pem::certificates(&bundle.0).is_err());
    is_broken || !condition::is_true(definition, condition::ESTABLISHED)
}

fn validate_names(names: &CustomResourceDefinitionNames, path: &Path, errors: &mut Errors) {
    let list_kind = names.list_kind.text();
    for (name, value, any_case) in [
        ("plural", names.plural.as_str(), false),
        ("singular", names.singular.text(), false),
        ("kind", names.kind.as_str(), true),
        ("listKind", list_kind, true),
    ] {
        let wrong = field::dns_1035_label(&if any_case { value.to_lowercase() } else { value.to_owned() });
        if !value.is_empty() && !wrong.is_empty() {
            let case = if any_case { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(Error::invalid(path.child(name), value, format!("{case}{}", wrong.join(","))));
        }
    }
    labels(names.short_names.items(), &path.child("shortNames"), errors);
    if !names.kind.is_empty() && names.kind == list_kind {
        errors.push(Error::invalid(path.child("listKind"), list_kind, "kind and listKind may not be the same"));
    }
    labels(names.categories.items(), &path.child("categories"), errors);
}

fn labels(values: &[String], path: &Path, errors: &mut Errors) {
    for (i, value) in values.iter().enumerate() {
        let wrong = field::dns_1035_label(value);
        if !wrong.is_empty() {
            errors.push(Error::invalid(path.index(i), value.as_str(), wrong.join(",")));
        }
    }
}

fn validate_conversion(
    conversion: &CustomResourceConversion,
    path: &Path,
    may_have_any_bundle: bool,
    errors: &mut Errors,
) {
    let (config_path, versions_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let config = conversion.webhook.as_ref().and_then(|webhook| webhook.client_config.as_ref());
    let versions = conversion.webhook.as_ref().map(|w| w.conversion_review_versions.as_slice()).unwrap_or_default();
    match conversion.strategy.as_str() {
        "" => errors.push(Error::required(path.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(Error::not_supported(path.child("strategy"), other, &["None", "Webhook"])),
    }
    if conversion.strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        for (path, is_set) in [(config_path, config.is_some()), (versions_path, !versions.is_empty())] {
            if is_set {
                errors.push(Error::forbidden(path, why));
            }
        }
        return;
    }
    match config.map(|config| (&config.url, &config.service)) {
        None => errors.push(Error::required(config_path, "required when strategy is set to Webhook")),
        Some((Some(url), None)) => target::validate_url(url, &config_path.child("url"), errors),
        Some((None, Some(service))) => {
            let (route, port) = (service.path.as_deref(), service.port.unwrap_or(PORT));
            let path = config_path.child("service");
            target::validate_service(&service.name, &service.namespace, route, port, &path, errors);
        }
        Some(_) => errors.push(Error::required(config_path, "exactly one of url or service is required")),
    }
    let bundle = config.and_then(|config| config.ca_bundle.as_ref()).filter(|bundle| !bundle.0.is_empty());
    if let Some(bundle) = bundle.filter(|bundle| !may_have_any_bundle && pem::certificates(&bundle.0).is_err()) {
        let shown = serde_json::to_value(bundle).unwrap_or_default();
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(Error::invalid(config_path.child("caBundle"), shown, why));
    }
    validate_review_versions(versions, &versions_path, errors);
}

fn validate_review_versions(versions: &[String], path: &Path, errors: &mut Errors) {
    if versions.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let mut seen = HashSet::new();
    for (i, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.push(Error::invalid(path.index(i), version.as_str(), "duplicate version"));
        } else {
            extend(errors, path.index(i), version, field::dns_1035_label(version));
        }
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(&version.as_str())) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(Error::invalid(*path, versions, why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(storage: &[&str]) -> CustomResourceDefinition {
        let version = |name: &&str| json!({"name": name, "served": true, "storage": true});
        let versions: Vec<_> = storage.iter().map(version).collect();
        let spec =
            json!({"group": "g.io", "scope": "Cluster", "names": {"plural": "ps", "kind": "P"}, "versions": versions});
        serde_json::from_value(json!({"metadata": {"name": "ps.g.io"}, "spec": spec})).unwrap()
    }

    #[test]
    fn names_follow_from_the_spec() {
        let object = serde_json::to_value(definition(&["v1"])).unwrap();
        let wrong = |name| CustomResourceDefinition::validate_name_of(name, &object);
        assert!(wrong("ps.g.io").is_empty());
        assert_eq!(wrong("x"), ["must be spec.names.plural+\".\"+spec.group"]);
        assert_eq!(wrong("X").len(), 2);
    }

    #[test]
    fn each_stored_version_is_found_once() {
        let mut twice = definition(&["v1", "v1"]);
        twice.status = Some(CustomResourceDefinitionStatus {
            stored_versions: Some(vec!["v1".to_owned(), "v0".to_owned()]),
            ..Default::default()
        });
        let mut errors = Errors::new();
        validate_stored(&twice, &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "status.storedVersions: Invalid value: [\"v1\",\"v0\"]: must have the storage version v1");
        assert!(told.len() == 2 && told[1].starts_with("status.storedVersions[1]: Invalid value: \"v0\": missing"));
    }

    #[test]
    fn a_webhook_of_which_nothing_is_said_is_none() {
        let mut one = definition(&["v1"]);
        let webhook = Some(WebhookConversion::default());
        one.spec.conversion = Some(CustomResourceConversion { strategy: "None".to_owned(), webhook });
        one.set_defaults();
        assert!(one.spec.conversion.is_some_and(|conversion| conversion.webhook.is_none()));
    }
}

//! The options of requests, from the query or from a body, with upstream's errors.

use crds::{
    field::{self, Errors},
    kind::Definition,
    selector::{self, FieldTerm, Selector},
    syntax,
};
use serde_json::{Value, json};
use store::Revision;

use crate::{
    cache::list::Freshness,
    error::{ApiError, Result},
    request::Query,
};

mod delete;

pub use delete::{DeleteOptions, Propagation};

/// Of lists, watches and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: Selector,
    pub fields: Vec<FieldTerm>,
    pub watch: bool,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u64>,
    pub limit: usize,
    pub token: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub send_initial_events: Option<bool>,
}

/// Of creates, updates and patches.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// Empty where not given.
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: Option<bool>,
}

/// What becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

fn invalid_options(kind: &str, errors: &Errors) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("meta.k8s.io", kind, "", errors))
}

fn integer(query: &Query, name: &str) -> Result<Option<i64>> {
    let Some(text) = query.first(name) else { return Ok(None) };
    syntax::go_int(text).map(Some).map_err(ApiError::bad_request)
}

impl ListOptions {
    pub fn from_query(query: &Query, definition: &Definition, watch: bool) -> Result<Self> {
        let text = |name: &str| query.first(name).unwrap_or_default().to_owned();
        let bad = |error: selector::SelectorError| ApiError::bad_request(error.to_string());
        let mut options = Self {
            labels: selector::parse(&text("labelSelector")).map_err(bad)?,
            fields: selector::parse_fields(&text("fieldSelector")).map_err(bad)?,
            watch: watch || query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: integer(query, "timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()),
            limit: integer(query, "limit")?.and_then(|l| usize::try_from(l).ok()).unwrap_or_default(),
            token: text("continue"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            send_initial_events: query.first("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
        };
        options.default_initial_events();
        invalid_options("ListOptions", &options.validate())?;
        for term in &options.fields {
            check_field(definition, &term.path)?;
        }
        Ok(options)
    }

    /// A watch without a version that sets a match is upstream's legacy form of a streaming list.
    fn default_initial_events(&mut self) {
        let legacy = matches!(self.resource_version.as_str(), "" | "0");
        if self.watch && self.send_initial_events.is_none() && self.resource_version_match.is_empty() && legacy {
            self.send_initial_events = Some(true);
            self.resource_version_match = "NotOlderThan".to_owned();
        }
    }

    fn validate(&self) -> Errors {
        const MATCH: &str = "resourceVersionMatch";
        let mut errors = Errors::new();
        let wanted = self.resource_version_match.as_str();
        let mut forbid = |path: &str, why: &str| errors.push(field::Error::forbidden(path, why));
        if self.watch {
            if self.send_initial_events.is_some() && wanted != "NotOlderThan" {
                forbid(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if !wanted.is_empty() {
                if self.send_initial_events.is_none() {
                    forbid(MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
                }
                if wanted != "NotOlderThan" {
                    errors.push(field::Error::not_supported(MATCH, wanted, &["NotOlderThan"]));
                }
                if !self.token.is_empty() {
                    let why = "resourceVersionMatch is forbidden when continue is provided";
                    errors.push(field::Error::forbidden(MATCH, why));
                }
            }
            return errors;
        }
        if !wanted.is_empty() {
            if self.resource_version.is_empty() {
                forbid(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.token.is_empty() {
                forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !matches!(wanted, "Exact" | "NotOlderThan") {
                errors.push(field::Error::not_supported(MATCH, wanted, &["Exact", "NotOlderThan", ""]));
            }
            if wanted == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(field::Error::forbidden(MATCH, why));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(field::Error::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    /// How new a list has to be.
    pub fn freshness(&self) -> Result<Freshness> {
        let revision = parse_revision(&self.resource_version)
            .map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))?;
        Ok(match (revision, self.resource_version_match.as_str()) {
            (None, _) => Freshness::Latest,
            (Some(revision), "Exact") => Freshness::Exact(revision),
            (Some(0), _) => Freshness::Any,
            (Some(revision), "") if self.limit > 0 && self.token.is_empty() => Freshness::Exact(revision),
            (Some(revision), _) => Freshness::AtLeast(revision),
        })
    }
}

/// A resourceVersion as a client gives it; none if it is empty.
pub fn parse_revision(text: &str) -> std::result::Result<Option<Revision>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let quoted = || field::quote(text);
    go_uint(text).map(Some).map_err(|why| format!("resourceVersion: Invalid value: {}: {why}", quoted()))
}

/// A whole number; the error is Go's.
pub fn go_uint(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| {
        let range = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let why = if range { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {}: {why}", field::quote(text))
    })
}

/// What a watch or a GET gets for a resourceVersion that is no number: an error that is no Status upstream.
pub fn revision_or_500(text: &str) -> Result<Option<Revision>> {
    parse_revision(text).map_err(ApiError::unknown)
}

/// Whether a field can be selected by. Core kinds with own conversions word the refusal differently.
fn check_field(definition: &Definition, path: &str) -> Result<()> {
    let is_placed = definition.namespaced || !definition.is_custom();
    let known = path == "metadata.name" || (path == "metadata.namespace" && is_placed);
    if known || definition.selectable.iter().any(|p| p == path) {
        return Ok(());
    }
    let own = definition.selectable.iter().any(|p| !p.starts_with("metadata."));
    if own || definition.is_custom() {
        return Err(ApiError::bad_request(format!("field label not supported: {path}")));
    }
    Err(ApiError::bad_request(format!(
        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        field::quote(path)
    )))
}

impl WriteOptions {
    /// `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn from_query(query: &Query, kind: &str, is_apply: bool) -> Result<Self> {
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        let field_manager = query.first("fieldManager").unwrap_or_default();
        let validation = query.first("fieldValidation").unwrap_or_default();
        let force = query.first("force").filter(|_| kind == "PatchOptions").map(|_| query.flag("force"));
        let mut errors = Errors::new();
        if is_apply && field_manager.is_empty() {
            errors.push(field::Error::required("fieldManager", "is required for apply patch"));
        }
        if !is_apply && force.is_some() {
            errors.push(field::Error::forbidden("force", "may not be specified for non-apply patch"));
        }
        crds::meta::field_manager(field_manager, field::Path::new("fieldManager"), &mut errors);
        validate_dry_run(&dry_run, &mut errors);
        let field_validation = match validation {
            "Ignore" => FieldValidation::Ignore,
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(field::Error::not_supported("fieldValidation", other, &known));
                FieldValidation::Warn
            }
        };
        invalid_options(kind, &errors)?;
        let dry_run = !dry_run.is_empty();
        Ok(Self { dry_run, field_manager: field_manager.to_owned(), field_validation, force })
    }

    /// As admission sees them.
    pub fn object(&self, kind: &str) -> Value {
        let mut object = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            object["dryRun"] = json!(["All"]);
        }
        if let Some(force) = self.force {
            object["force"] = force.into();
        }
        if !self.field_manager.is_empty() {
            object["fieldManager"] = self.field_manager.clone().into();
        }
        let validation = match self.field_validation {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        };
        object["fieldValidation"] = validation.into();
        object
    }
}

fn validate_dry_run(dry_run: &[&str], errors: &mut Errors) {
    if dry_run.iter().any(|value| *value != "All") {
        errors.push(field::Error::not_supported("dryRun", json!(dry_run), &["All"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_maps() -> Definition {
        Definition::of::<k8s_openapi::api::core::v1::ConfigMap>()
    }

    #[test]
    fn list_options() {
        for (query, want) in [
            ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
            ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch"),
            ("labelSelector=a%20b", "found 'b'"),
            ("fieldSelector=spec.x%3D1", "\"spec.x\" is not a known field selector"),
        ] {
            let error = ListOptions::from_query(&Query::parse(query), &config_maps(), false).unwrap_err();
            assert!(error.message().contains(want), "{query}: {error}");
        }
        let options =
            ListOptions::from_query(&Query::parse("limit=5&resourceVersion=7"), &config_maps(), false).unwrap();
        assert_eq!(options.freshness().unwrap(), Freshness::Exact(7));
    }

    #[test]
    fn write_options() {
        for (query, want) in [
            ("dryRun=maybe", "dryRun: Unsupported value: [\"maybe\"]: supported values: \"All\""),
            ("fieldValidation=Lenient", "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""),
        ] {
            let error = WriteOptions::from_query(&Query::parse(query), "CreateOptions", false).unwrap_err();
            assert!(error.message().contains(want), "{query}: {error}");
        }
        assert!(WriteOptions::from_query(&Query::parse("dryRun=All"), "CreateOptions", false).unwrap().dry_run);
    }
}

//! Namespace (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use serde_json::{Value, json};

use crate::{
    field::{self, Error, Errors, Path},
    given::{Items, Text},
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request, Subresource, Verb, column, text},
    meta, table,
};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const SPEC: Path = Path::new("spec");

impl Kind for Namespace {
    const ABOUT: About = About {
        short_names: &["ns"],
        verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch],
        subresources: &[
            Subresource::Other { name: "finalize", kind: ("", "v1", "Namespace"), verbs: &["update"] },
            Subresource::Status,
        ],
        columns: &[NAME, column("Status", "string", "", 0, text("The status of the namespace")), AGE],
        delete_answer: DeleteAnswer::Object,
        selectable: &["status.phase", "name"],
        checks_changes: false,
        ..About::new("namespaces", "namespace")
    };

    fn validate_name(name: &str) -> Vec<String> {
        field::dns_label(name)
    }

    fn set_defaults(&mut self) {
        label(self);
        self.status.get_or_insert_default().phase.or_set("Active");
    }

    fn prepare_create(&mut self, _request: &Request) {
        label(self);
        self.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), ..NamespaceStatus::default() });
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == "kubernetes") {
            finalizers.push("kubernetes".to_owned());
        }
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        label(self);
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        meta::update_of(self, old, errors);
    }

    fn prepare_subresource(&mut self, old: &Self, request: &Request) {
        if request.subresource == "finalize" {
            self.status.clone_from(&old.status);
        } else {
            self.spec.clone_from(&old.spec);
        }
        label(self);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        for finalizer in finalizers(self) {
            meta::finalizer(finalizer, SPEC.child("finalizers"), errors);
        }
    }

    fn validate_subresource(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::update_of(self, old, errors);
        if request.subresource == "finalize" {
            let path = SPEC.child("finalizers");
            for (i, finalizer) in finalizers(self).iter().enumerate() {
                meta::finalizer(finalizer, path.index(i), errors);
            }
            return;
        }
        let phase = phase(self);
        let (only, when) = match self.metadata.deletion_timestamp {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        if phase != only {
            let why = format!("may only be '{only}' if `deletionTimestamp` is {when}");
            errors.push(Error::invalid(Path::new("status").child("Phase"), phase, why));
        }
    }

    fn selectable(&self, path: &str) -> String {
        match path {
            "status.phase" => phase(self).to_owned(),
            "name" => self.metadata.name.text().to_owned(),
            _ => String::new(),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(phase(self)), json!(table::age(&self.metadata, now))]
    }

    /// Its content goes first: whoever sees to that takes its finalizer out of the spec.
    fn is_held(&self) -> bool {
        self.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| !f.is_empty())
    }

    fn begin_deletion(&mut self, _now: jiff::Timestamp) -> bool {
        self.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        true
    }
}
fn label(namespace: &mut Namespace) {
    if let Some(name) = namespace.metadata.name.clone().filter(|n| !n.is_empty()) {
        namespace.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().map(|s| s.phase.text()).unwrap_or_default()
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().map(|s| s.finalizers.items()).unwrap_or_default()
}

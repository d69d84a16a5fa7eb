//! ServiceAccount (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use serde_json::{Value, json};

use crate::{
    field::Errors,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request, Subresource},
    meta, table,
};

const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

impl Kind for ServiceAccount {
    const ABOUT: About = About {
        short_names: &["sa"],
        subresources: &[Subresource::Other {
            name: "token",
            kind: ("authentication.k8s.io", "v1", "TokenRequest"),
            verbs: &["create"],
        }],
        columns: &[NAME, AGE],
        delete_answer: DeleteAnswer::Object,
        ..About::new("serviceaccounts", "serviceaccount")
    };

    fn prepare_create(&mut self, _request: &Request) {
        reduce(self);
    }

    fn prepare_update(&mut self, _old: &Self, _request: &Request) {
        reduce(self);
    }

    fn validate_update(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let enforces = |account: &Self| account.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(ENFORCE));
        if !enforces(self) || old.is_some_and(enforces) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(table::age(&self.metadata, now))]
    }
}

/// Of its Secrets only the names are kept.
fn reduce(account: &mut ServiceAccount) {
    for secret in account.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..ObjectReference::default() };
    }
}

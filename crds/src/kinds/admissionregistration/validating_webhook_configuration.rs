//! ValidatingWebhookConfiguration (admissionregistration.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::Value;

use super::webhook::{self, Defaults, Hook};
use crate::{
    duration,
    field::Errors,
    given::Items,
    kind::{AGE, About, Generation, Kind, NAME, Request, column, text},
    meta,
};

impl Kind for ValidatingWebhookConfiguration {
    const ABOUT: About = About {
        categories: &["api-extensions"],
        columns: &[
            NAME,
            column(
                "Webhooks",
                "integer",
                "",
                0,
                text("Webhooks indicates the number of webhooks registered in this configuration"),
            ),
            AGE,
        ],
        generation: Generation::Own,
        unconditional_update: false,
        checks_changes: false,
        ..About::new("validatingwebhookconfigurations", "validatingwebhookconfiguration")
    };

    fn set_defaults(&mut self) {
        for hook in self.webhooks.iter_mut().flatten() {
            hook.set_defaults();
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.metadata.generation = Some(1);
    }

    /// Upstream takes what is empty for a change of what is not there.
    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        if self.webhooks != old.webhooks {
            meta::count_up(&mut self.metadata, &old.metadata);
        }
    }

    fn validate_create(&self, request: &Request, errors: &mut Errors) {
        webhook::validate(&webhook::as_sent(hooks(self), request.sent), None, errors);
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        webhook::validate(&webhook::as_sent(hooks(self), request.sent), Some(&hooks(old)), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        webhook::name_warning(self.metadata.name.as_deref())
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().unwrap_or_default().into(),
            self.webhooks.as_ref().map_or(0, Vec::len).into(),
            duration::since(self.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }
}

fn hooks(configuration: &ValidatingWebhookConfiguration) -> Vec<Hook<'_>> {
    configuration.webhooks.items().iter().map(Hook::from).collect()
}

//! PodTemplate (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Errors, Path},
    kind::{About, DeleteAnswer, Generation, Kind, NAME, Request, column, text},
    pod::{template, validate},
    table,
};

impl Kind for PodTemplate {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Containers", "string", "", 0, text("Names of each container in the template.")),
            column("Images", "string", "", 0, text("Images referenced by each container in the template.")),
            column("Pod Labels", "string", "", 0, text("The labels for the pod template.")),
        ],
        generation: Generation::Spec,
        delete_answer: DeleteAnswer::Object,
        ..About::new("podtemplates", "podtemplate")
    };

    fn set_defaults(&mut self) {
        template::set_defaults(self.template.get_or_insert_default());
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.template.iter_mut().for_each(|t| template::prepare(t, None));
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.template.iter_mut().for_each(|t| template::prepare(t, old.template.as_ref()));
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        if let Some(template) = &self.template {
            validate::template(template, &Path::new("template"), errors);
        }
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        self.validate_create(request, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        if old.is_some_and(|old| equal::same(&self.template, &old.template)) {
            return Vec::new();
        }
        template::warnings(self.template.as_ref(), &Path::new("template"))
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let (names, images) = template::cells(self.template.as_ref());
        let labels = self.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
        vec![json!(self.metadata.name), json!(names), json!(images), json!(table::labels(labels))]
    }
}

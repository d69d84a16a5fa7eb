//! IngressClass (networking.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference};
use serde_json::{Value, json};

use super::reference;
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::Text,
    kind::{AGE, About, Generation, Kind, NAME, Request, column, text},
    meta, syntax, table,
};

const SPEC: Path = Path::new("spec");
const CONTROLLER_LENGTH_MAX: usize = 250;
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

impl Kind for IngressClass {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Controller", "string", "", 0, text("Controller that is responsible for handling this class")),
            column("Parameters", "string", "", 0, text("A reference to a resource with additional parameters")),
            AGE,
        ],
        generation: Generation::Spec,
        ..About::new("ingressclasses", "ingressclass")
    };

    fn set_defaults(&mut self) {
        let parameters = self.spec.as_mut().and_then(|spec| spec.parameters.as_mut());
        if let Some(parameters) = parameters {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let none = Default::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let (path, controller) = (SPEC.child("controller"), spec.controller.text());
        if controller.len() > CONTROLLER_LENGTH_MAX {
            errors.push(Error::too_long(path, CONTROLLER_LENGTH_MAX as i64));
        }
        syntax::domain_path(controller, &path, errors);
        if let Some(parameters) = &spec.parameters {
            validate_parameters(parameters, &SPEC.child("parameters"), errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        let controller = |class: &Self| class.spec.as_ref().and_then(|s| s.controller.clone()).unwrap_or_default();
        equal::immutable(&controller(self), &controller(old), SPEC.child("controller"), errors);
        meta::create_of(self, errors);
        self.validate_create(request, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = Default::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let is_default = self.metadata.annotations.as_ref().and_then(|a| a.get(DEFAULT)).is_some_and(|v| v == "true");
        let mark = if is_default { " (default)" } else { "" };
        let parameters = spec.parameters.as_ref().map_or_else(
            || "<none>".to_owned(),
            |p| {
                let group = p.api_group.as_ref().map(|group| format!(".{group}")).unwrap_or_default();
                format!("{}{group}/{}", p.kind, p.name)
            },
        );
        vec![
            json!(format!("{}{mark}", self.metadata.name.text())),
            json!(spec.controller.text()),
            json!(parameters),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn validate_parameters(parameters: &IngressClassParametersReference, path: &Path, errors: &mut Errors) {
    reference::validate(parameters.api_group.as_deref(), &parameters.kind, &parameters.name, path, errors);
    let namespace_path = path.child("namespace");
    match (parameters.scope.as_deref(), &parameters.namespace) {
        (None, _) => errors.push(Error::required(path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(Error::required(namespace_path, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => {
            extend(errors, namespace_path, namespace, field::dns_label(namespace));
        }
        (Some("Cluster"), None) => {}
        (Some("Cluster"), Some(_)) => {
            errors.push(Error::forbidden(namespace_path, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some(other), _) => errors.push(Error::not_supported(path.child("scope"), other, &["Cluster", "Namespace"])),
    }
}

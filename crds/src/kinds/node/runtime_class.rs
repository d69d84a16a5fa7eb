//! RuntimeClass (node.k8s.io/v1).

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ResourceRequirements, Toleration},
    node::v1::RuntimeClass,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::Items,
    kind::{AGE, About, Kind, META, NAME, Prose, Request, column},
    meta,
    pod::{validate::scheduling, warn},
    resource, table,
};

impl Kind for RuntimeClass {
    const ABOUT: About = About {
        columns: &[NAME, column("Handler", "string", "", 0, Prose::Field(META, "handler")), AGE],
        create_on_update: true,
        unconditional_update: false,
        ..About::new("runtimeclasses", "runtimeclass")
    };

    fn set_defaults(&mut self) {
        if let Some(overhead) = &mut self.overhead {
            resource::default(&mut overhead.pod_fixed);
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let path = Path::new("handler");
        match self.handler.as_str() {
            "" => errors.push(Error::required(path, "")),
            handler => extend(errors, path, handler, field::dns_label(handler)),
        }
        if let Some(overhead) = &self.overhead {
            let limits = ResourceRequirements { limits: overhead.pod_fixed.clone(), ..Default::default() };
            resource::validate_container(&limits, &BTreeSet::new(), &Path::new("overhead"), errors);
        }
        if let Some(scheduling) = &self.scheduling {
            let path = Path::new("scheduling");
            meta::labels(scheduling.node_selector.as_ref(), path.child("nodeSelector"), errors);
            validate_tolerations(scheduling.tolerations.items(), &path.child("tolerations"), errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        equal::immutable(&self.handler, &old.handler, Path::new("handler"), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let path = Path::new("scheduling");
        let path = path.child("nodeSelector");
        let labels = self.scheduling.iter().flat_map(|s| s.node_selector.iter().flatten());
        labels.filter_map(|(key, _)| warn::deprecated_label(key)).map(|words| format!("{path}: {words}")).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(self.handler), json!(table::age(&self.metadata, now))]
    }
}

fn validate_tolerations(tolerations: &[Toleration], path: &Path, errors: &mut Errors) {
    scheduling::tolerations(tolerations, path, errors);
    let mut seen = HashSet::new();
    for (i, toleration) in tolerations.iter().enumerate() {
        if !seen.insert(scheduling::untimed(toleration)) {
            errors.push(Error::duplicate(path.index(i), "").showing_struct(toleration, "Toleration"));
        }
    }
}

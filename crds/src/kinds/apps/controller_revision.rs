//! ControllerRevision (apps/v1).

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use crate::{
    field::{Error, Errors, Path, not_negative},
    kind::{AGE, About, Kind, NAME, Prose, Request, column, text},
    meta, owner, table,
};

impl Kind for ControllerRevision {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Controller", "string", "", 0, text("Controller of the object")),
            column("Revision", "string", "", 0, Prose::Field("io.k8s.api.apps.v1.ControllerRevision", "revision")),
            AGE,
        ],
        ..About::new("controllerrevisions", "controllerrevision")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        not_negative(self.revision, Path::new("revision"), errors);
        let path = Path::new("data");
        match self.data.as_ref().map(|d| &d.0) {
            None | Some(Value::Null) => errors.push(Error::required(path, "data is mandatory")),
            Some(Value::Object(_)) => {}
            Some(_) => errors.push(Error::required(path, "data must be a valid JSON object")),
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        not_negative(self.revision, Path::new("revision"), errors);
        if self.data != old.data {
            // Upstream shows the raw extension, whose bytes are not shown.
            let data = self.data.as_ref().map_or(Value::Null, |d| d.0.clone());
            errors.push(Error::invalid(Path::new("data"), data, meta::IMMUTABLE));
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let controller = owner::controller(&self.metadata).map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
                format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
            },
        );
        vec![json!(self.metadata.name), json!(controller), json!(self.revision), json!(table::age(&self.metadata, now))]
    }
}

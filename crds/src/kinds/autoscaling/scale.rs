//! Scale (autoscaling/v1): what the scale subresource of other kinds shows.

use std::sync::LazyLock;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::{Value, json};

use crate::{
    kind::{AGE, About, Definition, Kind, META, Prose, column},
    table,
};

/// No row of the kinds table: nothing is stored as this.
pub static SCALE: LazyLock<Definition> = LazyLock::new(Definition::of::<Scale>);

impl Kind for Scale {
    const ABOUT: About = About {
        columns: &[
            column("Name", "string", "", 0, Prose::Field(META, "name")),
            column("Desired", "integer", "", 0, Prose::Field("io.k8s.api.autoscaling.v1.ScaleSpec", "replicas")),
            column("Available", "integer", "", 0, Prose::Field("io.k8s.api.autoscaling.v1.ScaleStatus", "replicas")),
            AGE,
        ],
        ..About::new("scales", "scale")
    };

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let desired = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let available = self.status.as_ref().map_or(0, |status| status.replicas);
        vec![json!(self.metadata.name), json!(desired), json!(available), json!(table::age(&self.metadata, now))]
    }
}

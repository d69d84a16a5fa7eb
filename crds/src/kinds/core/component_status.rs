//! ComponentStatus (core/v1).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ComponentCondition, ComponentStatus};
use serde_json::{Value, json};

use crate::{
    given::{Items, Text},
    kind::{About, Kind, NAME, Verb, column, text},
};

impl Kind for ComponentStatus {
    const ABOUT: About = About {
        short_names: &["cs"],
        verbs: &[Verb::Get, Verb::List],
        columns: &[
            NAME,
            column("Status", "string", "", 0, text("Status of the component conditions")),
            column("Message", "string", "", 0, text("Message of the component conditions")),
            column("Error", "string", "", 0, text("Error of the component conditions")),
        ],
        ..About::new("componentstatuses", "componentstatus")
    };

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let healthy = self.conditions.items().iter().find(|condition| condition.type_ == "Healthy");
        let status = healthy.map_or("Unknown", |c| if c.status == "True" { "Healthy" } else { "Unhealthy" });
        let part =
            |part: fn(&ComponentCondition) -> &Option<String>| healthy.map_or("", |condition| part(condition).text());
        vec![json!(self.metadata.name), json!(status), json!(part(|c| &c.message)), json!(part(|c| &c.error))]
    }
}

//! DeleteOptions: from the body, or without one from the query.

use crds::field::{self, Errors};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Preconditions;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{integer, invalid_options, validate_dry_run};
use crate::{error::Result, request::Query};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub(crate) dry_run: Option<Vec<String>>,
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl DeleteOptions {
    pub fn from_query(query: &Query) -> Result<Self> {
        let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        let options = Self {
            grace_period_seconds: integer(query, "gracePeriodSeconds")?,
            preconditions: None,
            orphan_dependents: query.first("orphanDependents").map(|_| query.flag("orphanDependents")),
            propagation_policy: query.first("propagationPolicy").map(str::to_owned),
            dry_run: (!dry_run.is_empty()).then_some(dry_run),
        };
        options.validated()
    }

    pub fn validated(self) -> Result<Self> {
        let mut errors = Errors::new();
        if let Some(policy) = &self.propagation_policy {
            if self.orphan_dependents.is_some() {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(field::Error::invalid("propagationPolicy", policy.as_str(), why));
            }
            let known = ["Foreground", "Background", "Orphan", "nil"];
            if !known[..3].contains(&policy.as_str()) {
                errors.push(field::Error::not_supported("propagationPolicy", policy.as_str(), &known));
            }
        }
        let dry_run: Vec<&str> = self.dry_run.iter().flatten().map(String::as_str).collect();
        validate_dry_run(&dry_run, &mut errors);
        invalid_options("DeleteOptions", &errors)?;
        Ok(self)
    }

    pub fn dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|d| !d.is_empty())
    }

    /// What the client asked for, if anything.
    pub fn propagation(&self) -> Option<Propagation> {
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            _ => None,
        }
    }

    /// As admission sees them.
    pub fn object(&self) -> Value {
        let mut object = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_period_seconds {
            object["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(preconditions) = &self.preconditions {
            object["preconditions"] = json!(preconditions);
        }
        if let Some(orphan) = self.orphan_dependents {
            object["orphanDependents"] = orphan.into();
        }
        if let Some(policy) = &self.propagation_policy {
            object["propagationPolicy"] = policy.clone().into();
        }
        if self.dry_run() {
            object["dryRun"] = json!(["All"]);
        }
        object
    }
}

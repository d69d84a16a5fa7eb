//! How long admission takes: `apiserver_admission_controller_admission_duration_seconds`.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::histogram::Histogram,
    registry::Registry,
};

use super::{Histograms, histograms};
use crate::admission::Operation;

/// Upstream's buckets, in seconds.
const SECONDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    name: &'static str,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

/// When a plugin is asked.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Admit,
    Validate,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// The histograms of one plugin, each looked up once: by step, operation and outcome.
#[derive(Default)]
pub struct Timings([[[OnceLock<Histogram>; 2]; 4]; 2]);

/// By plugin, step, operation and outcome.
pub struct Durations(Histograms<Labels>);

impl Default for Durations {
    fn default() -> Self {
        Self(histograms(|| Histogram::new(SECONDS)))
    }
}

impl Durations {
    pub fn note(
        &self,
        timings: &Timings,
        name: &'static str,
        step: Step,
        operation: Operation,
        is_rejected: bool,
        took: Duration,
    ) {
        let found = timings.0[step as usize][operation as usize][usize::from(is_rejected)].get_or_init(|| {
            let rejected = if is_rejected { "true" } else { "false" };
            let labels = Labels { name, r#type: step.name(), operation: operation.name(), rejected };
            self.0.get_or_create(&labels).clone()
        });
        found.observe(took.as_secs_f64());
    }

    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        let help = "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)";
        registry.register("apiserver_admission_controller_admission_duration_seconds", help, self.0.clone());
        let mut out = String::new();
        text::encode_registry(&mut out, &registry)?;
        Ok(out)
    }
}

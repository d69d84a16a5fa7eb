//! SchedulingGates: a pod with gates is not queued until all of them are gone.

use crate::{
    framework::{Plugin, Refusal},
    snapshot::Pod,
};

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let gates: Vec<&str> = pod
            .spec()
            .and_then(|s| s.scheduling_gates.as_ref())
            .into_iter()
            .flatten()
            .map(|g| g.name.as_str())
            .collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Refusal::for_good(self.name(), format!("waiting for scheduling gates: [{}]", gates.join(" "))))
    }
}

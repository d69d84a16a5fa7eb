//! Deletes finished Jobs when their time to live is over.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::{
    job::{is_finished, status::true_condition},
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        clock::{after, whole_seconds},
        object::Key,
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub job: Arc<Job>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct TtlAfterFinishedController;

impl Controller for TtlAfterFinishedController {
    const NAME: &'static str = "ttl-after-finished";
    const COMPONENT: &'static str = "ttl-after-finished-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Job>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let job = view.caches.get::<Job>().get(key);
        Ok(job.map(|job| Observed { job, now: view.now }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let job = &seen.job;
        let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
        let (Some(ttl), true, None) = (ttl, is_finished(job), &job.metadata.deletion_timestamp) else {
            return Plan::default();
        };
        let end = ["Complete", "Failed"].into_iter().find_map(|kind| true_condition(job, kind));
        let Some(finished) = end.and_then(|c| c.last_transition_time.as_ref()) else {
            return Plan::default();
        };
        let expires = after(whole_seconds(finished.0), ttl.into());
        if expires > seen.now {
            return Plan::default().again_at(seen.now, expires);
        }
        // If the time to live was prolonged meanwhile, the Job is no longer as it was seen.
        Plan::of(Write::delete::<Job>(&job.metadata).propagating("Foreground").if_unchanged(&job.metadata))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::now;

    #[test]
    fn expires() {
        for (ttl, want) in [(Some(600), Ok(1)), (Some(601), Err(1)), (None, Ok(0))] {
            let job: Job = serde_json::from_value(json!({"metadata": {"name": "j"},
                "spec": {"template": {}, "ttlSecondsAfterFinished": ttl}, "status": {"conditions": [
                    {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap();
            let plan = TtlAfterFinishedController.plan(&Observed { job: Arc::new(job), now: now() });
            let got = plan.requeue_after.map_or(Ok(plan.writes().count()), |d| Err(d.as_secs()));
            assert_eq!(got, want, "{ttl:?}");
        }
    }
}

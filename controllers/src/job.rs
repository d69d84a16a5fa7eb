//! Runs a Job's pods to completion, counting each exactly once by way of a finalizer.

pub mod backoff;
pub mod index;
pub mod plan;
pub mod policy;
pub mod status;

use std::sync::Arc;

use crds::{
    condition, owner,
    selector::{Labels, Selector},
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use crate::{
    claim::Claim,
    plan::Plan,
    replica_set::orphan_keys,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

/// What keeps a finished pod until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const MANAGER: &str = "kubernetes.io/job-controller";

#[derive(Debug)]
pub enum Observed {
    Running {
        job: Arc<Job>,
        claim: Claim<Pod>,
        now: Timestamp,
    },
    /// The Job is finished, deleted or replaced: these pods still wait to be counted by it.
    Over(Vec<Arc<Pod>>),
}

#[derive(Default)]
pub struct JobController;

impl Controller for JobController {
    const NAME: &'static str = "job";
    const COMPONENT: &'static str = "job-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Job>();
        wiring.owned::<Pod, Job>();
        wiring.map::<Pod>(|caches, change| orphan_keys(caches, change, selects));
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let pods = view.caches.get::<Pod>();
        let job = view.caches.get::<Job>().get(key);
        let foreign = |j: &Job| {
            let manager = j.spec.as_ref().and_then(|s| s.managed_by.as_deref());
            manager.is_some_and(|m| m != MANAGER)
        };
        if job.as_ref().is_some_and(|j| foreign(j)) {
            return Ok(None);
        }
        let Some(job) = job.filter(|j| !is_finished(j)) else {
            let uncounted = pods.in_namespace(&key.namespace).into_iter().filter(|p| {
                let owner = owner::controller(&p.metadata).filter(|o| object::refers_to::<Job>(o));
                owner.is_some_and(|o| o.name == key.name) && object::has_finalizer(&p.metadata, FINALIZER)
            });
            let uncounted: Vec<_> = uncounted.collect();
            return Ok((!uncounted.is_empty()).then_some(Observed::Over(uncounted)));
        };
        let Some(spec) = &job.spec else {
            return Ok(None);
        };
        let selector = Selector::from_object(spec.selector.as_ref());
        let mut claim = Claim::sort(&job.metadata, &selector, pods.in_namespace(&key.namespace));
        if !claim.adopt.is_empty() && !view.may_adopt(&*job).await? {
            claim.adopt.clear();
        }
        Ok(Some(Observed::Running { job, claim, now: view.now }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        match seen {
            Observed::Over(pods) => Plan::default().together(pods.iter().map(|p| plan::release(p)).collect()),
            Observed::Running { job, claim, now } => plan::plan(job, claim, *now),
        }
    }
}

pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    condition::is_true(conditions, "Complete") || condition::is_true(conditions, "Failed")
}

fn selects(job: &Job, labels: &Labels) -> bool {
    job.spec.as_ref().is_some_and(|s| Selector::from_object(s.selector.as_ref()).matches(labels))
}

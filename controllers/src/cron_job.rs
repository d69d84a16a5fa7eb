//! Starts a CronJob's Jobs when their time comes.

pub mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};

use crate::{
    plan::Plan,
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

#[derive(Debug)]
pub struct Observed {
    pub cron: Arc<CronJob>,
    pub jobs: Vec<Arc<Job>>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct CronJobController;

impl Controller for CronJobController {
    const NAME: &'static str = "cronjob";
    const COMPONENT: &'static str = "cronjob-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<CronJob>();
        wiring.owned::<Job, CronJob>();
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(cron) = view.caches.get::<CronJob>().get(key) else {
            return Ok(None);
        };
        let mut jobs = view.caches.get::<Job>().owned_by(object::uid(&cron.metadata));
        jobs.retain(|j| crds::owner::is_controlled_by(&j.metadata, object::uid(&cron.metadata)));
        Ok(Some(Observed { cron, jobs, now: view.now }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

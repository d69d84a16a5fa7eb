//! Lists the pods behind each Service in an Endpoints object, for clients that know no slices.

pub mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};

use crate::{
    plan::Plan,
    runtime::{Controller, View, Wiring, object::Key, server::Error},
    service,
};

#[derive(Debug)]
pub enum Observed {
    Serving {
        service: Arc<Service>,
        /// Those that the Service selects and shows.
        pods: Vec<Arc<Pod>>,
        endpoints: Option<Arc<Endpoints>>,
        trigger_time: Option<Timestamp>,
    },
    /// The Service is gone.
    Left(Arc<Endpoints>),
}

#[derive(Default)]
pub struct EndpointsController;

impl Controller for EndpointsController {
    const NAME: &'static str = "endpoints";
    const COMPONENT: &'static str = "endpoint-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Service>();
        wiring.root::<Endpoints>();
        wiring.map::<Pod>(service::of_pod);
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let endpoints = view.caches.get::<Endpoints>().get(key);
        let Some(service) = view.caches.get::<Service>().get(key) else {
            // Endpoints that no controller made (as of an API server without a Service) are left alone.
            return Ok(endpoints.filter(|e| plan::is_ours(e)).map(Observed::Left));
        };
        let Some(selector) = service::selector(&service) else {
            return Ok(None);
        };
        let all = view.caches.get::<Pod>().in_namespace(&key.namespace);
        let selected =
            all.into_iter().filter(|p| selector.matches(p.metadata.labels.as_ref().unwrap_or(&Default::default())));
        let shown = selected.filter(|p| service::has_endpoint(p, service::publishes_unready(&service)));
        let pods: Vec<_> = shown.collect();
        let trigger_time = service::trigger_time(&service, &pods);
        Ok(Some(Observed::Serving { service, pods, endpoints, trigger_time }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        plan::plan(seen)
    }
}

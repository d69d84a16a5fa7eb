//! The way between a component and the API server, on which requests take their time and sometimes get lost.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apiserver::{call::BoxError, server::InProcess};
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, BodyStream, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tower::{Service, ServiceExt};

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Each way of a request takes up to so long.
    pub delay_max: Duration,
    /// Of so many requests one is lost before it arrives, and one after it was carried out; 0: none.
    pub lost_one_in: u32,
    /// A watch breaks after up to so many events; 0: none does.
    pub events_max: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self { delay_max: Duration::from_millis(20), lost_one_in: 200, events_max: 60 }
    }
}

/// Draws the fate of every request from one seed.
#[derive(Clone)]
pub struct Network {
    faults: Faults,
    fate: Arc<Mutex<StdRng>>,
}

impl Network {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self { faults, fate: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    pub fn between(&self, service: InProcess) -> Wire {
        Wire { network: self.clone(), service }
    }

    fn delay(&self) -> Duration {
        let micros = u64::try_from(self.faults.delay_max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.fate.lock().random_range(0..=micros))
    }

    fn is_lost(&self) -> bool {
        self.faults.lost_one_in > 0 && self.fate.lock().random_range(0..self.faults.lost_one_in) == 0
    }

    fn events(&self) -> Option<usize> {
        let max = self.faults.events_max;
        (max > 0).then(|| self.fate.lock().random_range(1..=max) as usize)
    }

    async fn carry(self, service: InProcess, request: Request<Body>) -> Result<Answer, BoxError> {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        tokio::time::sleep(self.delay()).await;
        if self.is_lost() {
            return Err("the request got lost".into());
        }
        let answer = service.oneshot(request).await?;
        tokio::time::sleep(self.delay()).await;
        if self.is_lost() {
            return Err("the answer got lost".into());
        }
        Ok(answer.map(|body| match self.events().filter(|_| watches) {
            None => body.boxed_unsync(),
            Some(events) => {
                let frames = BodyStream::new(body);
                let end = futures::stream::iter([Err("the watch broke".into())]);
                StreamBody::new(frames.take(events).chain(end)).boxed_unsync()
            }
        }))
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The service of one component.
#[derive(Clone)]
pub struct Wire {
    network: Network,
    service: InProcess,
}

impl Service<Request<Body>> for Wire {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.network.clone().carry(self.service.clone(), request))
    }
}

//! Keeps the conditions of APIServices true, and what the servers behind them have to discover.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use crds::{
    kind::{Definition, Kind},
    user::User,
};
use futures::{FutureExt, StreamExt, stream};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use serde_json::Value;
use tower::ServiceExt;

use super::{
    Remote,
    available::{Availability, unreachable},
    discovery,
};
use crate::{
    backend::resolve,
    cache::{Filter, changes},
    error::ApiError,
    metadata,
    pipeline::Apiserver,
};

/// What nobody tells of (a server that hangs) is found out by asking again, as upstream does.
const RESYNC: Duration = Duration::from_secs(30);
/// Changes that come together are answered together.
const SETTLE: Duration = Duration::from_millis(50);
/// A check that failed is made again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Servers that are asked at once.
const CONCURRENT: usize = 5;

/// Runs until the server is gone.
pub async fn run(apiserver: Weak<Apiserver>) {
    let Some(mut changes) = apiserver.upgrade().map(|server| Changes::of(&server)) else { return };
    loop {
        let Some(server) = apiserver.upgrade() else { return };
        let all_well = sync(&server).await;
        drop(server);
        let wait = if all_well { RESYNC } else { RETRY };
        if let Ok(false) = tokio::time::timeout(wait, changes.next()).await {
            // The history of the cache is gone: begin anew with what is there.
            let Some(server) = apiserver.upgrade() else { return };
            changes = Changes::of(&server);
        }
        tokio::time::sleep(SETTLE).await;
        changes.drain();
    }
}

/// Tells that something has changed that conditions depend on.
struct Changes(Vec<changes::Changes>);

impl Changes {
    fn of(server: &Apiserver) -> Self {
        let definitions =
            [Definition::of::<APIService>(), Definition::of::<Service>(), Definition::of::<EndpointSlice>()];
        let register = |definition: Definition| {
            let kind = server.world.cache.kind(&definition);
            kind.register(Filter::all(Arc::new(definition), ""), None, false).changes
        };
        Self(definitions.map(register).into())
    }

    /// Waits for a change; false if the watch is over.
    async fn next(&mut self) -> bool {
        futures::future::select_all(self.0.iter_mut().map(StreamExt::next)).await.0.is_some()
    }

    fn drain(&mut self) {
        for changes in &mut self.0 {
            while changes.next().now_or_never().flatten().is_some() {}
        }
    }
}

/// Looks at all APIServices once. False: some server did not answer.
async fn sync(server: &Arc<Apiserver>) -> bool {
    let world = &server.world;
    if let Err(error) = world.cache.wait_until_current().await {
        tracing::debug!(%error, "APIServices are looked at as they were");
    }
    for object in world.cache.prefix(APIService::ABOUT.storage_prefix).list("") {
        let Ok(service) = object.decode::<APIService>() else { continue };
        if service.spec.as_ref().is_none_or(|spec| spec.service.is_none()) {
            write(server, &service, &Availability::local()).await;
        }
    }
    let remotes = server.aggregator.remotes(world);
    let checks = stream::iter(remotes).map(|remote| async move {
        let availability = availability(server, &remote).await;
        if let Ok(Some(service)) = world.get::<APIService>("", &remote.name) {
            write(server, &service, &availability).await;
        }
        let version = discovery::fetch(world, &remote, availability.status == "True").await;
        (remote.name.clone(), version)
    });
    let found: BTreeMap<_, _> = checks.buffer_unordered(CONCURRENT).collect().await;
    let all_well = found.values().all(|version| version.is_current);
    server.aggregator.discovered(found);
    all_well
}

async fn availability(server: &Apiserver, remote: &Remote) -> Availability {
    let world = &server.world;
    let of = &remote.service;
    let access = |error: ApiError| Availability {
        status: "Unknown",
        reason: "ServiceAccessError",
        message: format!("service/{} in {:?} cannot be checked due to: {error}", of.name, of.namespace),
    };
    let service = match world.get::<Service>(&of.namespace, &of.name) {
        Ok(service) => service,
        Err(error) => return access(error),
    };
    let slices = match resolve::slices(world, &of.namespace, &of.name) {
        Ok(slices) => slices,
        Err(error) => return access(error),
    };
    if let Some(no) = unreachable(of, service.as_ref(), &slices) {
        return no;
    }
    let user = User::named("system:kube-aggregator", &[User::MASTERS]);
    let path = remote.path();
    let checked = match remote.fetch(world, &path, &user, "application/json").await {
        Ok(fetched) if (200..300).contains(&fetched.code.as_u16()) => Ok(()),
        Ok(fetched) => {
            let url = of.resolve(world).map(|address| format!("https://{address}{path}")).unwrap_or_default();
            let code = fetched.code.as_u16();
            Err(format!("failing or missing response from {url}: bad status from {url}: {code}"))
        }
        Err(why) => Err(why.to_string()),
    };
    Availability::checked(checked)
}

/// Writes the condition if it differs; somebody else's write in between brings us here again.
async fn write(server: &Arc<Apiserver>, service: &APIService, availability: &Availability) {
    let conditions = service.status.iter().flat_map(|status| status.conditions.clone().unwrap_or_default());
    let conditions: Vec<_> = conditions.collect();
    let Some(status) = availability.over(&conditions, &metadata::seconds(server.world.now())) else { return };
    let name = service.metadata.name.clone().unwrap_or_default();
    let Ok(mut object) = serde_json::to_value(service) else { return };
    object["status"] = status;
    match put_status(server, &name, &object).await {
        Ok(StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::CONFLICT) => {}
        Ok(code) => tracing::warn!(name, %code, "the condition of an APIService was refused"),
        Err(error) => tracing::warn!(name, %error, "the condition of an APIService cannot be written"),
    }
}

async fn put_status(server: &Arc<Apiserver>, name: &str, object: &Value) -> Result<StatusCode, http::Error> {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}/status"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "kube-apiserver")
        .body(Full::new(Bytes::from(object.to_string())))?;
    let Ok(answer) = server.own_service().oneshot(request).await;
    let code = answer.status();
    if let Err(error) = answer.into_body().collect().await {
        tracing::debug!(%error, "an answer was cut off");
    }
    Ok(code)
}

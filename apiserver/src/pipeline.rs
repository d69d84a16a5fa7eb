//! The way of every request, top to bottom: who asks, whether they may, what is done, what is answered.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;

use crate::{
    access::Access,
    admission::Chain,
    aggregate::Aggregator,
    audit::Audit,
    auth::certificate::Peer,
    call::{Call, Incoming},
    codec::{
        Form,
        answer::{self, Answer},
        body::Body,
        gzip,
        negotiate::{self, Offer},
    },
    components::Components,
    connect::{self, Connector},
    custom::CustomKinds,
    flow::Flow,
    health::Health,
    metrics::{Answered, Metrics, elsewhere},
    path::{self, Discovery},
    request::{RequestInfo, is_decodable},
    route::{self, Route},
    timeout, verbs, warning,
    world::World,
    zpages::Flags,
};

/// The API server, without sockets: it takes requests from a listener or from within the process.
pub struct Apiserver {
    pub world: Arc<World>,
    pub admission: Chain,
    pub access: Access,
    pub health: Health,
    pub discovery: Discovery,
    pub metrics: Metrics,
    /// None: nobody wants to know.
    pub audit: Option<Audit>,
    pub flow: Arc<Flow>,
    /// None: this server reaches no nodes.
    pub connector: Option<Connector>,
    pub aggregator: Aggregator,
    pub custom: Arc<CustomKinds>,
    pub components: Components,
    /// Those that it was started with.
    pub flags: Flags,
    pub started: Timestamp,
}

impl Apiserver {
    /// Answers a request, whatever happens on its way.
    pub async fn serve(&self, request: http::Request<Incoming>) -> Response<Body> {
        let begun = std::time::Instant::now();
        if !is_decodable(request.uri().path()) {
            // As Go's server, which does not come to read the rest.
            return answer::plain(StatusCode::BAD_REQUEST, "400 Bad Request".to_owned());
        }
        let mut call = Call::new(request);
        let (answered, elsewhere) = elsewhere::counted(AssertUnwindSafe(self.answer(&mut call)).catch_unwind()).await;
        let mut answer = match answered {
            Ok(answer) => call.audit.answered(answer, call.info.is_long_running(), &self.world.clock).await,
            Err(panic) => {
                tracing::error!(method = %call.method, path = call.info.path, "a request panicked");
                call.audit.panicked(said(&*panic), self.world.now()).await;
                let words = "This request caused apiserver to panic. Look in the logs for details.";
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, words)
            }
        };
        finish(&call, &mut answer);
        let code = answer.status();
        let known = self.is_served(&call.info);
        let dry_run = call.query.all("dryRun").any(|value| value == "All");
        let is_apply = call.header(header::CONTENT_TYPE).starts_with("application/apply-patch+");
        let answered = Answered { info: &call.info, known, is_apply, dry_run, took: begun.elapsed(), elsewhere };
        let answer = self.metrics.record(&answered, answer);
        let compresses = code == StatusCode::OK && matches!(call.info.verb.as_str(), "get" | "list");
        if compresses && call.info.is_resource && gzip::is_accepted(&call.headers) && !is_relayed(&answer) {
            return gzip::compressed(answer);
        }
        answer
    }

    fn is_served(&self, info: &RequestInfo) -> bool {
        let definition = self.world.registry.resource(&info.group, &info.version, &info.resource);
        let has = |part: &str| definition.as_ref().is_some_and(|d| part.is_empty() || d.has_subresource(part));
        info.is_resource && has(&info.subresource)
    }

    /// What the definition of a custom resource says of this version.
    fn custom_deprecation(&self, info: &RequestInfo) -> Option<String> {
        let definition = self.world.registry.resource(&info.group, &info.version, &info.resource)?;
        definition.custom.as_ref()?.warning.clone()
    }

    async fn answer(&self, call: &mut Call) -> Answer {
        match self.admitted(call).await {
            Ok(answer) => answer,
            Err(error) => {
                call.drain();
                // As upstream, who cannot be told in a form of theirs is told as people are.
                let form = negotiate::accepted(&call.headers, &call.query, Offer::Plain)
                    .unwrap_or(Form { pretty: true, ..Form::JSON });
                let mut answer = answer::error(form, &error);
                if call.is_refused {
                    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, answer::NO_SNIFF);
                }
                answer
            }
        }
    }

    async fn admitted(&self, call: &mut Call) -> crate::error::Result<Answer> {
        let authenticated = self.access.authenticate(call, &self.world).await;
        if let Some(audit) = &self.audit {
            call.audit = audit.begin(call, authenticated.is_ok(), self.world.now()).await;
        }
        self.metrics.authenticated(authenticated.is_ok());
        authenticated?;
        if let Some(Peer::Known { user, until }) = call.extensions.get()
            && Arc::ptr_eq(user, &call.user)
        {
            self.metrics.identified(until.duration_since(self.world.now()).as_secs_f64());
        }
        call.is_refused = true;
        self.access.impersonate(call)?;
        // As upstream, before authorization: refusals, too, are work.
        let held = match self.flow.admit(call, &self.world).await {
            Ok(held) => held,
            Err(sent_away) => return Ok(sent_away.answer()),
        };
        let answer = self.authorized(call).await?;
        Ok(held.follow(answer, &call.info))
    }

    async fn authorized(&self, call: &mut Call) -> crate::error::Result<Answer> {
        let authorized = self.access.authorize(call).await;
        self.metrics.authorized(authorized.is_ok());
        authorized?;
        call.is_refused = false;
        if connect::needs_create(&call.info) {
            self.access.may(call, "create")?;
        }
        call.warnings.extend(self.custom_deprecation(&call.info));
        timeout::check(call)?;
        let table = self.world.registry.table();
        if let Some(remote) = self.aggregator.find(&self.world, &table, &call.info.path) {
            return Ok(self.aggregator.answer(&self.world, call, &remote).await);
        }
        let route = route::find(&table, &call.method, &call.info);
        // A watch that there is not is still the GET of a list that there is.
        let is_served =
            matches!(route, Ok(Route::Resource(_))) || (call.info.verb == "watch" && !call.info.verb_in_path);
        let words = deprecation(&call.info).filter(|_| is_served);
        // As upstream, the router, which looks at the types alone, warns of nothing.
        if let Some(words) = words.filter(|_| negotiate::routable(&call.headers, negotiate::OBJECTS).is_ok()) {
            call.audit.annotate("k8s.io/deprecated", "true");
            self.metrics.deprecated(&call.info);
            call.warnings.push(words);
        }
        match route? {
            Route::Path => path::answer(self, call).await,
            Route::Resource(target) => verbs::answer(self, call, &target).await,
        }
    }
}

/// What a panic has said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

/// Other servers' answers are passed on as they are.
fn is_relayed(answer: &Answer) -> bool {
    matches!(answer.body(), Body::Relay(_))
}

/// Served, but not for ever: what upstream warns of.
const DEPRECATED: [(&str, &str); 2] = [
    ("componentstatuses", "v1 ComponentStatus is deprecated in v1.19+"),
    ("endpoints", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
];

fn deprecation(info: &RequestInfo) -> Option<String> {
    let core = info.is_resource && info.group.is_empty();
    let known = DEPRECATED.iter().find(|(resource, _)| core && info.resource == *resource);
    known.map(|(_, words)| (*words).to_owned())
}

/// Headers that every answer has.
fn finish(call: &Call, answer: &mut Answer) {
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if let Ok(mut id) = HeaderValue::from_str(&call.audit_id) {
        // It never comes again: HTTP/2 is not to remember it in place of those that do.
        id.set_sensitive(true);
        headers.insert("audit-id", id);
    }
    if let Some(row) = &call.flow {
        row.tell(headers);
    }
    for warning in warning::headers(&call.warnings) {
        headers.append(header::WARNING, warning);
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! The audit log: who asked for what, and what came of it, as far as the policy wants it told.

use std::{path::PathBuf, sync::Arc};

use crds::user::User;
use http::header;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::{
    auth::review,
    call::Call,
    codec::{answer::Answer, body::Body},
    server::Remote,
};

pub mod event;
pub mod log;
pub mod policy;

pub use event::{Event, Stage};
use event::{ObjectReference, ResponseStatus};
pub use log::{Log, LogError};
pub use policy::{Level, Policy, PolicyError};

const USER_AGENT_BYTES_MAX: usize = 1024;

/// Flags of the audit log.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// None: nothing is told.
    pub policy_file: Option<PathBuf>,
    pub log: log::Options,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit policy")]
    Policy(#[from] PolicyError),
    #[error("the audit log")]
    Log(#[from] LogError),
}

/// What decides and writes.
pub struct Audit {
    policy: Policy,
    log: Log,
}

impl Audit {
    pub fn new(policy: Policy, log: Log) -> Self {
        Self { policy, log }
    }

    /// None: there is no policy, or nowhere to write to.
    pub fn open(options: &Options) -> Result<Option<Self>, AuditError> {
        let (Some(policy), Some(log)) = (&options.policy_file, Log::open(&options.log)?) else { return Ok(None) };
        Ok(Some(Self::new(Policy::read(policy)?, log)))
    }

    /// How many events were told, and how many were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.log.told(), self.log.dropped())
    }

    /// Waits until all that was told so far is written.
    pub async fn flush(&self) {
        self.log.flush().await;
    }

    /// Begins the record of a request whose sender is known, or (not `authenticated`) has failed to make itself known.
    pub async fn begin(&self, call: &Call, authenticated: bool, now: jiff::Timestamp) -> Record {
        let nobody = User::default();
        let user = if authenticated { &*call.user } else { &nobody };
        let decision = self.policy.decide(user, &call.info);
        if decision.level == Level::None {
            return Record::default();
        }
        let event = Event {
            kind: "Event",
            api_version: policy::API_VERSION,
            level: decision.level,
            audit_id: call.audit_id.clone(),
            stage: Stage::RequestReceived,
            request_uri: call.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            verb: call.info.verb.clone(),
            user: review::info(user),
            impersonated_user: None,
            source_ips: source_ips(call),
            user_agent: user_agent(call),
            object_ref: call.info.is_resource.then(|| ObjectReference::of(&call.info)),
            response_status: (!authenticated)
                .then(|| ResponseStatus { message: Some(attempted(call)), ..ResponseStatus::default() }),
            request_object: None,
            response_object: None,
            request_received_timestamp: event::micros(now),
            stage_timestamp: event::micros(now),
            annotations: Default::default(),
        };
        let recording = Recording {
            omitted: decision.omit_stages,
            omit_managed_fields: decision.omit_managed_fields,
            level: decision.level,
            authenticated,
            event: Mutex::new(event),
            log: self.log.clone(),
        };
        let record = Record(Some(Arc::new(recording)));
        if authenticated {
            record.tell(Stage::RequestReceived, now).await;
        }
        record
    }
}

fn user_agent(call: &Call) -> String {
    let agent = call.header(header::USER_AGENT);
    if agent.len() <= USER_AGENT_BYTES_MAX {
        return agent.to_owned();
    }
    let end = agent.floor_char_boundary(USER_AGENT_BYTES_MAX);
    format!("{}...TRUNCATED", &agent[..end])
}

/// The addresses that proxies tell of, then the one that the connection comes from.
fn source_ips(call: &Call) -> Vec<String> {
    let mut ips: Vec<String> = Vec::new();
    let forwarded = call.header("x-forwarded-for").split(',').map(str::trim);
    ips.extend(forwarded.filter_map(|ip| ip.parse::<std::net::IpAddr>().ok()).map(|ip| ip.to_string()));
    let real = call.header("x-real-ip").trim().parse::<std::net::IpAddr>().map(|ip| ip.to_string());
    ips.extend(real.ok().filter(|ip| !ips.contains(ip)));
    let remote = call.extensions.get::<Remote>().map(|remote| remote.0.ip().to_canonical().to_string());
    ips.extend(remote.filter(|ip| ips.last() != Some(ip)));
    ips
}

/// With what a client has tried to make itself known.
fn attempted(call: &Call) -> String {
    let authorization = call.header(header::AUTHORIZATION);
    let scheme = authorization.split(' ').next().unwrap_or_default().to_lowercase();
    let mut methods = Vec::new();
    if matches!(scheme.as_str(), "basic" | "bearer") && authorization.trim().contains(' ') {
        methods.push(scheme.as_str());
    }
    if call.query.first("access_token").is_some_and(|token| !token.trim().is_empty()) {
        methods.push("access_token");
    }
    let peer = call.extensions.get::<crate::auth::certificate::Peer>();
    if peer.is_some_and(|peer| !matches!(peer, crate::auth::certificate::Peer::Nobody)) {
        methods.push("x509");
    }
    match methods.as_slice() {
        [] => "Authentication failed, no credentials provided".to_owned(),
        methods => format!("Authentication failed, attempted: {}", methods.join(", ")),
    }
}

/// What is told of one request; nothing if the policy does not want to know.
#[derive(Clone, Default)]
pub struct Record(Option<Arc<Recording>>);

struct Recording {
    omitted: Vec<Stage>,
    omit_managed_fields: bool,
    level: Level,
    authenticated: bool,
    event: Mutex<Event>,
    log: Log,
}

impl Record {
    fn recording(&self, level: Level) -> Option<&Recording> {
        self.0.as_deref().filter(|recording| recording.level >= level)
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the object that is sent is to be told.
    pub fn wants_request(&self) -> bool {
        self.recording(Level::Request).is_some()
    }

    /// Adds an annotation; the first value of a key stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        if let Some(recording) = &self.0 {
            recording.event.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.into());
        }
    }

    pub fn annotate_all<'a>(&self, annotations: impl IntoIterator<Item = (&'a String, &'a String)>) {
        annotations.into_iter().for_each(|(key, value)| self.annotate(key, value));
    }

    pub fn impersonated(&self, user: &User) {
        if let Some(recording) = &self.0 {
            recording.event.lock().impersonated_user = Some(review::info(user));
        }
    }

    /// The object that was sent; its names complete the reference.
    pub fn request_object(&self, object: &Value) {
        let Some(recording) = self.recording(Level::Metadata) else { return };
        let mut event = recording.event.lock();
        event.object_ref.get_or_insert_default().complete(object);
        if recording.level >= Level::Request {
            event.request_object = Some(recording.shown(object.clone()));
        }
    }

    /// The patch that was sent, as it is.
    pub fn patch(&self, patch: &Value) {
        if let Some(recording) = self.recording(Level::Request) {
            recording.event.lock().request_object = Some(patch.clone());
        }
    }

    async fn tell(&self, stage: Stage, now: jiff::Timestamp) {
        let Some(recording) = &self.0 else { return };
        if let Some(line) = recording.line(stage, now) {
            recording.log.write(line).await;
        }
    }

    /// Tells of the answer: at once, or when its stream has ended.
    pub async fn answered(&self, mut answer: Answer, long_running: bool, clock: &Clock) -> Answer {
        let Some(recording) = &self.0 else { return answer };
        let status = answer.extensions_mut().remove::<ResponseStatus>();
        let told = recording.event.lock().response_status.take().and_then(|status| status.message);
        let mut status = status.unwrap_or_default();
        // Why authentication failed says more than that it has.
        if let Some(message) = told {
            status = ResponseStatus { message: Some(message), ..ResponseStatus::default() };
        }
        status.code = answer.status().as_u16();
        recording.event.lock().response_status = Some(status);
        if !recording.authenticated {
            self.tell(Stage::ResponseStarted, clock()).await;
            return answer;
        }
        if long_running {
            self.tell(Stage::ResponseStarted, clock()).await;
            let (parts, body) = answer.into_parts();
            let end = End { record: self.clone(), clock: clock.clone() };
            return Answer::from_parts(parts, body.holding(end));
        }
        if recording.level >= Level::RequestResponse {
            let (parts, body) = answer.into_parts();
            let body = body.collected().await;
            if let Body::Full(bytes) = &body {
                let object = event::response_object(&parts.headers, bytes);
                recording.event.lock().response_object = object.map(|object| recording.shown(object));
            }
            answer = Answer::from_parts(parts, body);
        }
        self.tell(Stage::ResponseComplete, clock()).await;
        answer
    }

    /// Tells that the request's handling has failed in a way that it should not.
    pub async fn panicked(&self, why: &str, now: jiff::Timestamp) {
        let Some(recording) = &self.0 else { return };
        recording.event.lock().response_status = Some(ResponseStatus {
            status: Some("Failure".to_owned()),
            message: Some(format!("APIServer panic'd: {why}")),
            reason: Some("InternalError".to_owned()),
            code: 500,
            ..ResponseStatus::default()
        });
        self.tell(Stage::Panic, now).await;
    }
}

pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Tells that a stream has ended, when it is dropped.
struct End {
    record: Record,
    clock: Clock,
}

impl Drop for End {
    fn drop(&mut self) {
        let Some(recording) = &self.record.0 else { return };
        if let Some(line) = recording.line(Stage::ResponseComplete, (self.clock)()) {
            recording.log.write_now(line);
        }
    }
}

impl Recording {
    /// None: this stage is not told.
    fn line(&self, stage: Stage, now: jiff::Timestamp) -> Option<Vec<u8>> {
        if self.omitted.contains(&stage) {
            return None;
        }
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_timestamp = event::micros(now);
        match serde_json::to_vec(&*event) {
            Ok(mut line) => {
                line.push(b'\n');
                Some(line)
            }
            Err(error) => {
                tracing::error!(%error, "an audit event cannot be written");
                None
            }
        }
    }

    fn shown(&self, mut object: Value) -> Value {
        if self.omit_managed_fields {
            without_managed_fields(&mut object);
        }
        object
    }
}

fn without_managed_fields(object: &mut Value) {
    let fields = object.get_mut("metadata").and_then(Value::as_object_mut);
    fields.and_then(|metadata: &mut Map<_, _>| metadata.remove("managedFields"));
    for list in ["items", "rows"] {
        let items = object.get_mut(list).and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            without_managed_fields(if list == "rows" { &mut item["object"] } else { item });
        }
    }
}

#[cfg(test)]
mod tests;

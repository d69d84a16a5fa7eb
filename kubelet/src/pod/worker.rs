//! The life of one pod on this node: observe, plan, report, execute, wait; one task a pod, so nothing of it overlaps.

mod operation;

pub(crate) use operation::{remove_container, remove_group};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use self::operation::Outcome;
use super::{
    PodExt,
    observed::{Cause, Observed, Probed, State, Termination},
    plan::{self, Plan, Step},
    start::{self, Held, Prepared, Start},
    status::{self, is_terminal},
    status_of,
};
use crate::{
    agent::Agent,
    event::Severity,
    probe::{Kind, run::Probes},
    runtime::observe::Memory,
};

/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How soon a failed preparation or sandbox is tried again.
const RETRY_REFRESH: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
const RETRY_START: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

/// What others tell the worker; later news of a kind replaces earlier.
#[derive(Default)]
struct News {
    pod: Option<Arc<Pod>>,
    /// The object is gone from the API, or its manifest from the disk.
    gone: bool,
    end: Option<Termination>,
    probed: Vec<(String, Kind, bool)>,
}

/// The way to reach a worker.
#[derive(Clone, Default)]
pub struct Mailbox {
    news: Arc<Mutex<News>>,
    wake: Arc<Notify>,
}

impl Mailbox {
    pub fn update(&self, pod: Arc<Pod>) {
        self.news.lock().pod = Some(pod);
        self.wake.notify_one();
    }

    pub fn gone(&self) {
        self.news.lock().gone = true;
        self.wake.notify_one();
    }

    /// Has the pod ended by the node.
    pub fn end(&self, termination: Termination) {
        self.news.lock().end = Some(termination);
        self.wake.notify_one();
    }

    /// Something of the pod changed in the runtime.
    pub fn look(&self) {
        self.wake.notify_one();
    }

    fn probed(&self, id: &str, kind: Kind, result: bool) {
        self.news.lock().probed.push((id.to_owned(), kind, result));
        self.wake.notify_one();
    }
}

pub struct Worker {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    mailbox: Mailbox,
    gone: bool,
    seen: Observed,
    memory: Memory,
    probes: Probes,
    held: Held,
    prepared: Prepared,
    /// The one thing that is being started, and what it is called if it is a container.
    starting: Option<(BoxFuture<'static, Outcome>, Option<String>)>,
    running: FuturesUnordered<BoxFuture<'static, Outcome>>,
    refreshing: bool,
    /// When a failed refresh may be tried again.
    refresh_after: Option<Timestamp>,
    /// Names of the containers that have not ended, for those that must wait for them.
    alive: watch::Sender<BTreeSet<String>>,
    /// A write to the API is under way, or must wait until then.
    writing: bool,
    write_after: Option<Timestamp>,
    /// The status that the API holds, as far as is known.
    stored: PodStatus,
    deleted: bool,
}

impl Worker {
    pub fn new(agent: Arc<Agent>, pod: Arc<Pod>, mailbox: Mailbox) -> Self {
        let stored = status_of(&pod).into_owned();
        let seen = Observed { reported: stored.clone(), ..Default::default() };
        Self {
            held: Held::of(&agent, &pod),
            agent,
            pod,
            mailbox,
            gone: false,
            seen,
            memory: Memory::default(),
            probes: Probes::default(),
            prepared: Prepared::default(),
            starting: None,
            running: FuturesUnordered::new(),
            refreshing: false,
            refresh_after: None,
            alive: watch::Sender::new(BTreeSet::new()),
            writing: false,
            write_after: None,
            stored,
            deleted: false,
        }
    }

    /// Lives until the pod is gone from the API and from the machine.
    pub async fn run(mut self) {
        let mut first = true;
        loop {
            if let Err(error) = self.observe().await {
                debug!(pod = self.pod.title(), %error, "cannot observe a pod");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if std::mem::take(&mut first) {
                self.restore();
            }
            let now = self.agent.clock.now();
            let mut plan = plan::plan(&self.pod, &self.seen, now);
            let again = self.execute(std::mem::take(&mut plan.steps));
            self.report(now);
            self.probe();
            if again {
                continue;
            }
            if self.is_over() {
                break;
            }
            self.wait(plan, now).await;
        }
        operation::remove(&self.agent, &self.pod, &self.seen).await;
    }

    async fn observe(&mut self) -> crate::runtime::Result<()> {
        let agent = self.agent.clone();
        let (sandboxes, containers) =
            self.memory.observe(agent.runtime.as_ref(), agent.system.as_ref(), &agent.config, &self.pod).await?;
        let names = containers.iter().filter(|c| c.state != State::Exited).map(|c| c.name.clone()).collect();
        self.alive.send_if_modified(|alive| {
            let changed = *alive != names;
            *alive = names;
            changed
        });
        let there: BTreeSet<_> = containers.iter().map(|c| c.id.as_str()).collect();
        self.seen.probed.retain(|id, _| there.contains(id.as_str()));
        self.seen.actuated.retain(|id, _| there.contains(id.as_str()));
        self.seen.sandboxes = sandboxes;
        self.seen.containers = containers;
        self.seen.starting = self.starting.is_some();
        Ok(())
    }

    /// After a restart of the node agent running containers count as what they were reported to be.
    fn restore(&mut self) {
        let status = &self.seen.reported;
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        let mut probed = BTreeMap::new();
        for s in all {
            let Some((_, id)) = s.container_id.as_deref().and_then(|id| id.split_once("://")) else { continue };
            let yes = |b: bool| b.then_some(true);
            let was = Probed { startup: yes(s.started == Some(true)), liveness: None, readiness: yes(s.ready) };
            probed.insert(id.to_owned(), was);
        }
        self.seen.probed = probed;
        for c in self.seen.containers.iter().filter(|c| c.state == State::Running) {
            if let Some(resources) = &c.resources {
                self.seen.actuated.insert(c.id.clone(), resources.clone());
            }
        }
    }

    /// Starts what was planned. Says whether to plan again at once.
    fn execute(&mut self, steps: Vec<Step>) -> bool {
        let mut again = false;
        for step in steps {
            debug!(pod = self.pod.title(), ?step, "next");
            match step {
                Step::Prepare => self.begin(None, operation::prepare),
                Step::CreateSandbox { attempt, remove } => {
                    self.begin(None, move |agent, pod, _| operation::create_sandbox(agent, pod, attempt, remove));
                }
                Step::Start { role, name, restart_count, backoff } => {
                    if let Some(backoff) = backoff {
                        self.seen.backoff.insert(name.clone(), backoff);
                    }
                    let start = Start {
                        role,
                        name: name.clone(),
                        restart_count,
                        seen: self.seen.clone(),
                        volumes: self.prepared.volumes.clone(),
                        held: self.held.clone(),
                    };
                    self.begin(Some(name), move |agent, pod, _| operation::start(agent, pod, start));
                }
                Step::Hold { name, waiting } => {
                    if let Some((role, _)) = self.pod.container(&name) {
                        let message =
                            format!("Back-off restarting failed container {name} in pod {}", self.pod.title());
                        self.agent.events.container(&self.pod, role, &name, Severity::Warning, "BackOff", message);
                    }
                    self.seen.waiting.insert(name, waiting);
                }
                Step::Stop(stop) => {
                    self.seen.stopping.insert(stop.id.clone());
                    let created = self.seen.containers.iter().any(|c| c.id == stop.id && c.state == State::Created);
                    let alive = self.alive.subscribe();
                    self.running
                        .push(operation::stop(self.agent.clone(), self.pod.clone(), stop, alive, created).boxed());
                }
                Step::StopSandbox { id } => {
                    self.seen.stopping.insert(id.clone());
                    self.running.push(operation::stop_sandbox(self.agent.clone(), id).boxed());
                }
                Step::Resize { id, name, resources } => {
                    self.seen.resizing.insert(id.clone());
                    let resize = operation::resize(self.agent.clone(), self.pod.clone(), id, name, resources);
                    self.running.push(resize.boxed());
                }
                Step::Terminate(termination) => {
                    self.terminate(termination);
                    again = true;
                }
                Step::CleanUp if !self.seen.starting => {
                    self.begin(None, |agent, pod, _| operation::clean_up(agent, pod));
                }
                Step::CleanUp => {}
            }
        }
        self.seen.starting = self.starting.is_some();
        again
    }

    fn begin<F>(&mut self, name: Option<String>, make: impl FnOnce(Arc<Agent>, Arc<Pod>, (Held, start::Tokens)) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let given = (self.held.clone(), self.prepared.tokens.clone());
        self.starting = Some((make(self.agent.clone(), self.pod.clone(), given).boxed(), name));
        self.seen.starting = true;
    }

    /// The end begins, or comes sooner than was said before; what is being started is given up.
    fn terminate(&mut self, termination: Termination) {
        let sooner = self.seen.termination.as_ref().is_none_or(|t| termination.grace_seconds < t.grace_seconds);
        if !sooner {
            return;
        }
        if self.seen.termination.is_none() {
            self.starting = None;
            self.seen.starting = false;
            self.seen.termination = Some(termination);
        } else if let Some(t) = &mut self.seen.termination {
            t.grace_seconds = termination.grace_seconds;
            // Containers that are being stopped slowly are stopped again, faster.
            self.seen.stopping.clear();
        }
        if let Some(Cause::Failed { reason, message }) = self.seen.termination.as_ref().map(|t| &t.cause)
            && reason != "Evicted"
        {
            self.agent.events.pod(&self.pod, Severity::Normal, reason, message);
        }
    }

    /// Computes the status, shows it to the rest of the agent and writes it if the API has another.
    fn report(&mut self, now: Timestamp) {
        let mut seen = None;
        if let Some((_, Some(name))) = &self.starting {
            // Until its hook is through, a container is not shown as running.
            let mut copy = self.seen.clone();
            if let Some(c) = copy.containers.iter_mut().find(|c| c.name == *name && c.state == State::Running) {
                c.state = State::Created;
            }
            seen = Some(copy);
        }
        let new = status::status(&self.pod, seen.as_ref().unwrap_or(&self.seen), &self.agent.host(), now);
        self.agent.pods.publish(&self.pod, &new, &self.seen);
        self.seen.reported = new;
        if self.writing || self.gone || self.write_after.is_some_and(|after| after > now) {
            return;
        }
        if let Some(write) = operation::write(&self.agent, &self.pod, &self.stored, &self.seen.reported) {
            self.writing = true;
            self.running.push(write);
        } else if self.may_delete() {
            self.writing = true;
            self.running.push(operation::delete(self.agent.clone(), self.pod.clone()).boxed());
        }
    }

    /// The API learns that a pod is gone only after its last status and after nothing of it is left.
    fn may_delete(&self) -> bool {
        let stored = self.stored.phase.as_deref().is_some_and(is_terminal);
        self.seen.cleaned && self.pod.is_deleted() && stored && !self.pod.is_static() && !self.deleted
    }

    fn probe(&mut self) {
        let mailbox = self.mailbox.clone();
        let tell: crate::probe::run::Tell = Arc::new(move |id: &str, kind, result| mailbox.probed(id, kind, result));
        let live = self.seen.containers.iter().filter(|c| {
            let begun = !matches!(&self.starting, Some((_, Some(name))) if *name == c.name);
            begun && (self.seen.termination.is_some() || !self.seen.stopping.contains(&c.id))
        });
        let live: Vec<_> = live.cloned().collect();
        let ending = self.seen.termination.is_some();
        self.probes.sync(&self.agent, &self.pod, &live, &self.seen.probed, ending, &tell);
    }

    fn is_over(&self) -> bool {
        self.gone && self.seen.cleaned && self.starting.is_none() && self.running.is_empty()
    }

    /// Until something happens or the plan wants to be looked at again.
    async fn wait(&mut self, plan: Plan, now: Timestamp) {
        let renewal = self.prepared.tokens.values().map(|t| t.renew_at).min();
        let usable = self.seen.prepared && self.seen.termination.is_none() && !self.refreshing;
        let renewal = renewal.filter(|_| usable).max(self.refresh_after.filter(|_| usable));
        let write = self.write_after.filter(|after| *after > now);
        let at = [plan.wake_at, renewal, write].into_iter().flatten().min();
        let timer = async {
            match at {
                Some(at) => tokio::time::sleep_until(self.agent.clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        let starting = async {
            match &mut self.starting {
                Some((operation, _)) => operation.await,
                None => std::future::pending().await,
            }
        };
        let wake = self.mailbox.wake.clone();
        let mut refresh = false;
        // In a fixed order, so that a simulation repeats itself.
        let outcome = tokio::select! {
            biased;
            outcome = starting => { self.starting = None; Some(outcome) }
            Some(outcome) = self.running.next() => Some(outcome),
            () = wake.notified() => None,
            () = self.held.changed(), if usable => { refresh = true; None }
            () = timer => None,
        };
        if let Some(outcome) = outcome {
            self.learn(outcome);
        }
        let now = self.agent.clock.now();
        if usable && (refresh || renewal.is_some_and(|at| at <= now)) {
            self.refresh();
        }
        self.read_mail();
    }

    /// Brings volumes up to date beside everything else.
    fn refresh(&mut self) {
        self.refreshing = true;
        let tokens = self.prepared.tokens.clone();
        let refresh = operation::refresh(self.agent.clone(), self.pod.clone(), self.held.clone(), tokens);
        self.running.push(refresh.boxed());
    }

    fn read_mail(&mut self) {
        let news = std::mem::take(&mut *self.mailbox.news.lock());
        if let Some(pod) = news.pod {
            self.update(pod);
        }
        if news.gone && !self.gone {
            self.gone = true;
            self.terminate(Termination { cause: Cause::Deleted, grace_seconds: plan::grace(&self.pod) });
        }
        if let Some(end) = news.end {
            self.terminate(end);
        }
        for (id, kind, result) in news.probed {
            let probed = self.seen.probed.entry(id).or_default();
            match kind {
                Kind::Startup => probed.startup = Some(result),
                Kind::Liveness => probed.liveness = Some(result),
                Kind::Readiness => probed.readiness = Some(result),
            }
        }
    }

    fn update(&mut self, pod: Arc<Pod>) {
        let version = |p: &Pod| p.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        if version(&pod) < version(&self.pod) {
            return;
        }
        let changed = pod.metadata.annotations != self.pod.metadata.annotations
            || pod.metadata.labels != self.pod.metadata.labels
            || pod.spec != self.pod.spec;
        self.stored = status_of(&pod).into_owned();
        if changed {
            self.held = Held::of(&self.agent, &pod);
        }
        self.pod = pod;
        let grace = plan::grace(&self.pod);
        if self.pod.is_deleted() && self.seen.termination.as_ref().is_some_and(|t| grace < t.grace_seconds) {
            self.terminate(Termination { cause: Cause::Deleted, grace_seconds: grace });
        }
        if changed && self.seen.prepared && self.seen.termination.is_none() && !self.refreshing {
            self.refresh();
        }
    }

    fn learn(&mut self, outcome: Outcome) {
        let now = self.agent.clock.now();
        match outcome {
            Outcome::Prepared(Ok(prepared)) => {
                self.held = prepared.held.clone();
                self.prepared = prepared;
                self.seen.prepared = true;
                self.seen.prepare_after = None;
            }
            Outcome::Prepared(Err(message)) => {
                self.agent.events.pod(&self.pod, Severity::Warning, "FailedMount", message);
                self.seen.prepare_after = Some(now + RETRY_START);
            }
            Outcome::Refreshed(result) => {
                self.refreshing = false;
                match result {
                    Ok(prepared) => {
                        self.held = prepared.held.clone();
                        self.prepared = prepared;
                        self.refresh_after = None;
                    }
                    // Containers keep what they have.
                    Err(message) => {
                        self.agent.events.pod(&self.pod, Severity::Warning, "FailedMount", message);
                        self.refresh_after = Some(now + RETRY_REFRESH);
                    }
                }
            }
            Outcome::Sandbox(Ok(())) => self.seen.sandbox_after = None,
            Outcome::Sandbox(Err(message)) => {
                let message = format!("Failed to create pod sandbox: {message}");
                self.agent.events.pod(&self.pod, Severity::Warning, "FailedCreatePodSandBox", message);
                self.seen.sandbox_after = Some(now + RETRY_START);
            }
            Outcome::Started(name, Ok(started)) => {
                self.seen.waiting.remove(&name);
                self.seen.actuated.insert(started.id, started.resources);
            }
            Outcome::Started(name, Err(waiting)) => _ = self.seen.waiting.insert(name, waiting),
            Outcome::Stopped(id) => _ = self.seen.stopping.remove(&id),
            Outcome::Resized(id, result) => {
                self.seen.resizing.remove(&id);
                if let Some(resources) = result {
                    self.seen.actuated.insert(id, resources);
                }
            }
            Outcome::CleanedUp(Ok(())) => {
                self.seen.cleaned = true;
                self.probes.clear();
            }
            Outcome::CleanedUp(Err(message)) => warn!(pod = self.pod.title(), message, "cannot clean up after a pod"),
            Outcome::Written(Ok(pod)) => {
                self.writing = false;
                self.write_after = None;
                if let Some(pod) = pod {
                    self.update(Arc::new(*pod));
                }
            }
            Outcome::Written(Err(message)) => {
                debug!(pod = self.pod.title(), message, "cannot write a pod's status");
                self.writing = false;
                self.write_after = now.checked_add(jiff::SignedDuration::from_secs(1)).ok();
            }
            Outcome::Deleted(done) => {
                self.writing = false;
                self.deleted = done;
                self.write_after = now.checked_add(jiff::SignedDuration::from_secs(1)).ok();
            }
        }
    }
}

//! The loop: takes in what the watches tell, decides for one pod after the other, and has decisions carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, policy::v1::PodDisruptionBudget};
use kube::{Client, ResourceExt};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    bind::Binder,
    cache::Cache,
    decide::{Decision, Diagnosis, Nominated, decide},
    framework::ClusterEvent,
    plugins::Profile,
    preempt::{Budget, Preemption, preempt},
    queue::{Queue, Refusers},
    snapshot::{Claim, Group, Pod, Snapshot},
};

mod watch;

use watch::{Change, Object};

/// Bindings that are carried out at once.
const BINDINGS_MAX: usize = 64;
const CHANGES_MAX: usize = 4096;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a scheduler is started with.
pub struct Config {
    pub profile: Profile,
    /// Draws between equally good nodes; the same seed draws the same.
    pub seed: u64,
    /// For the times in conditions.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self { profile: Profile::default(), seed: 0, clock: Arc::new(Timestamp::now) }
    }
}

/// A running scheduler; it ends when this is dropped.
pub struct Scheduler {
    _tasks: JoinSet<()>,
}

impl Scheduler {
    pub fn start(config: Config, client: Client) -> Self {
        let mut tasks = JoinSet::new();
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let kinds = watch::start(&client, &sender, &mut tasks);
        let binder = Binder::new(client, &config.profile.scheduler_name, config.clock);
        let run = Run {
            profile: config.profile,
            seed: config.seed,
            binder,
            started: Instant::now(),
            cache: Cache::default(),
            queue: Queue::default(),
            nominated: Nominated::new(),
            budgets: BTreeMap::new(),
            classes: BTreeSet::new(),
            claims: BTreeMap::new(),
            missing: kinds,
            outcomes: sender.downgrade(),
            slots: Arc::new(Semaphore::new(BINDINGS_MAX)),
        };
        tasks.spawn(run.run(changes));
        Self { _tasks: tasks }
    }
}

struct Run {
    profile: Profile,
    seed: u64,
    binder: Binder,
    started: Instant,
    cache: Cache,
    queue: Queue,
    /// Pods that are promised a node, by its name.
    nominated: Nominated,
    budgets: BTreeMap<String, Budget>,
    /// Storage classes whose volumes are bound when a pod is.
    classes: BTreeSet<String>,
    claims: BTreeMap<(String, String), Arc<PersistentVolumeClaim>>,
    /// Kinds that have not been listed yet: before that, nothing is decided.
    missing: BTreeSet<&'static str>,
    outcomes: mpsc::WeakSender<Change>,
    slots: Arc<Semaphore>,
}

impl Run {
    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        loop {
            while let Ok(change) = changes.try_recv() {
                self.apply(change);
            }
            let now = self.now();
            if self.missing.is_empty()
                && let Some(pod) = self.queue.pop(now)
            {
                self.schedule(pod).await;
                continue;
            }
            let wake = self.queue.next_wake().map_or(Duration::from_secs(3600), |at| at.saturating_sub(now));
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Some(change) => self.apply(change),
                    None => return,
                },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn apply(&mut self, change: Change) {
        let event = match change {
            Change::Listed(kind) => {
                self.missing.remove(kind);
                return;
            }
            Change::Bound(uid) => {
                self.queue.remove(&uid);
                return;
            }
            Change::NotBound(uid) => {
                let freed = self.cache.forget(&uid);
                let now = self.now();
                let profile = &self.profile;
                self.queue.refused(&uid, Refusers::new(), now, |pod, refusers, event| {
                    may_help(profile, pod, refusers, event)
                });
                freed
            }
            Change::Set(object) => self.set(object),
            Change::Gone(object) => self.gone(object),
        };
        if let Some(event) = event {
            let now = self.now();
            let profile = &self.profile;
            self.queue.happened(&event, now, |pod, refusers, event| may_help(profile, pod, refusers, event));
        }
    }

    fn set(&mut self, object: Object) -> Option<ClusterEvent> {
        match object {
            Object::Pod(pod) => self.set_pod(Arc::new(Pod::new(pod))),
            Object::Node(node) => Some(self.cache.set_node(node)),
            Object::Namespace(namespace) => {
                self.cache.set_namespace(namespace.name_any(), Some(namespace.labels().clone()));
                Some(ClusterEvent::Other)
            }
            Object::Budget(budget) => {
                self.budgets.insert(budget.uid().unwrap_or_default(), to_budget(&budget));
                None
            }
            Object::Claim(claim) => {
                self.claims.insert((claim.namespace().unwrap_or_default(), claim.name_any()), claim.clone());
                self.set_claim(&claim);
                Some(ClusterEvent::Other)
            }
            Object::Class(class) => {
                if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") {
                    self.classes.insert(class.name_any());
                }
                let claims: Vec<_> = self.claims.values().cloned().collect();
                claims.iter().for_each(|claim| self.set_claim(claim));
                Some(ClusterEvent::Other)
            }
            other => {
                let (uid, group) = to_group(&other)?;
                self.cache.set_group(uid, group);
                None
            }
        }
    }

    fn gone(&mut self, object: Object) -> Option<ClusterEvent> {
        match object {
            Object::Pod(pod) => {
                let uid = pod.uid().unwrap_or_default();
                self.queue.remove(&uid);
                self.withdraw(&uid);
                self.cache.remove_pod(&uid)
            }
            Object::Node(node) => {
                self.cache.remove_node(&node.name_any());
                None
            }
            Object::Namespace(namespace) => {
                self.cache.set_namespace(namespace.name_any(), None);
                None
            }
            Object::Budget(budget) => {
                self.budgets.remove(&budget.uid().unwrap_or_default());
                None
            }
            Object::Claim(claim) => {
                let key = (claim.namespace().unwrap_or_default(), claim.name_any());
                self.claims.remove(&key);
                self.cache.set_claim(key.0, key.1, None);
                None
            }
            Object::Class(class) => {
                self.classes.remove(&class.name_any());
                None
            }
            other => {
                let (uid, _) = to_group(&other)?;
                self.cache.set_group(uid, None);
                None
            }
        }
    }

    fn set_pod(&mut self, pod: Arc<Pod>) -> Option<ClusterEvent> {
        if !pod.node_name().is_empty() {
            self.queue.remove(&pod.uid);
            self.withdraw(&pod.uid);
            return Some(self.cache.set_pod(pod));
        }
        let spec = pod.spec()?;
        let mine = spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == self.profile.scheduler_name;
        // A decision that is being carried out is not made again.
        if !mine || pod.is_terminating() || self.cache.is_assumed(&pod.uid) {
            if pod.is_terminating() {
                self.queue.remove(&pod.uid);
                self.withdraw(&pod.uid);
            }
            return None;
        }
        self.withdraw(&pod.uid);
        if let Some(node) =
            pod.object.status.as_ref().and_then(|s| s.nominated_node_name.clone()).filter(|n| !n.is_empty())
        {
            self.nominated.entry(node).or_default().push(pod.clone());
        }
        let gated = self.profile.plugins.iter().any(|(plugin, _)| plugin.admit(&pod).is_err());
        let now = self.now();
        self.queue.set(pod, gated, now);
        None
    }

    fn set_claim(&mut self, claim: &PersistentVolumeClaim) {
        let bound = claim.spec.as_ref().is_some_and(|s| s.volume_name.as_deref().is_some_and(|v| !v.is_empty()));
        let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or("");
        let state = match (claim.metadata.deletion_timestamp.is_some(), bound) {
            (true, _) => Claim::Deleting,
            (false, true) => Claim::Bound,
            (false, false) if self.classes.contains(class) => Claim::WaitsForPod,
            (false, false) => Claim::Unbound,
        };
        self.cache.set_claim(claim.namespace().unwrap_or_default(), claim.name_any(), Some(state));
    }

    /// Takes back the promise of a node.
    fn withdraw(&mut self, uid: &str) {
        self.nominated.retain(|_, pods| {
            pods.retain(|p| p.uid != uid);
            !pods.is_empty()
        });
    }

    async fn schedule(&mut self, pod: Arc<Pod>) {
        let snapshot = self.cache.snapshot();
        self.seed = self.seed.wrapping_add(1);
        match decide(&snapshot, &pod, &self.profile, &self.nominated, self.seed) {
            Decision::Node(node) => self.place(pod, node).await,
            Decision::Nowhere(diagnosis) => self.refuse(&pod, &snapshot, diagnosis).await,
        }
    }

    async fn place(&mut self, pod: Arc<Pod>, node: String) {
        self.cache.assume(pod.clone(), &node);
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
        let (binder, outcomes) = (self.binder.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let outcome = match binder.bind(&pod, &node).await {
                Ok(()) => Change::Bound(pod.uid.clone()),
                Err(error) => {
                    tracing::warn!(%error, pod = pod.name, node, "a pod could not be bound; it is tried again");
                    Change::NotBound(pod.uid.clone())
                }
            };
            drop(slot);
            // Without a receiver the scheduler has ended.
            if let Some(outcomes) = outcomes.upgrade() {
                outcomes.send(outcome).await.unwrap_or_else(|_| tracing::debug!("the scheduler has ended"));
            }
        });
    }

    async fn refuse(&mut self, pod: &Arc<Pod>, snapshot: &Snapshot, diagnosis: Diagnosis) {
        let mut message = if snapshot.nodes.is_empty() {
            "no nodes available to schedule pods".to_owned()
        } else {
            diagnosis.message()
        };
        let mut promised = None;
        if !snapshot.nodes.is_empty() {
            let budgets: Vec<Budget> = self.budgets.values().cloned().collect();
            match preempt(snapshot, pod, &self.profile, &self.nominated, &budgets, &diagnosis) {
                Preemption::None(why) => message = format!("{message} no new claims to deallocate, {why}"),
                Preemption::Evict { node, victims } => {
                    self.evict(pod, &node, victims);
                    promised = Some(node);
                }
            }
        }
        let now = self.now();
        let profile = &self.profile;
        self.queue.refused(&pod.uid, diagnosis.plugins(), now, |pod, refusers, event| {
            may_help(profile, pod, refusers, event)
        });
        let (binder, pod) = (self.binder.clone(), pod.clone());
        tokio::spawn(async move { binder.refuse(&pod, &message, promised.as_deref()).await });
    }

    /// Promises the node at once, so that nobody else takes what becomes free.
    fn evict(&mut self, pod: &Arc<Pod>, node: &str, victims: Vec<Arc<Pod>>) {
        self.withdraw(&pod.uid);
        let displaced = self.nominated.remove(node).unwrap_or_default();
        // Less important pods lose a promise that can no longer be kept.
        let kept = displaced.into_iter().filter(|p| p.priority >= pod.priority);
        self.nominated.insert(node.to_owned(), kept.chain([pod.clone()]).collect());
        let (binder, pod, node) = (self.binder.clone(), pod.clone(), node.to_owned());
        tokio::spawn(async move {
            for victim in victims.iter().filter(|v| !v.is_terminating()) {
                if let Err(error) = binder.evict(victim, &pod, &node).await {
                    tracing::warn!(%error, victim = victim.name, "a pod could not be preempted");
                }
            }
        });
    }
}

fn may_help(profile: &Profile, pod: &Pod, refusers: &Refusers, event: &ClusterEvent) -> bool {
    refusers.iter().any(|name| profile.plugin(name).is_none_or(|plugin| plugin.may_help(pod, event)))
}

fn to_budget(budget: &PodDisruptionBudget) -> Budget {
    let status = budget.status.as_ref();
    Budget {
        namespace: budget.namespace().unwrap_or_default(),
        selector: Selector::from_object(budget.spec.as_ref().and_then(|s| s.selector.as_ref())),
        allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
        disrupted: status
            .and_then(|s| s.disrupted_pods.as_ref())
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect(),
    }
}

/// The selector of a service or workload, by its uid; none if it selects nothing.
fn to_group(object: &Object) -> Option<(String, Option<Group>)> {
    let group = |meta: &dyn Fn() -> (String, String), owns: bool, selector: Option<Selector>| {
        let (uid, namespace) = meta();
        let group = selector.map(|selector| Group { namespace, owner: owns.then(|| uid.clone()), selector });
        Some((uid, group))
    };
    macro_rules! identity {
        ($object:expr) => {
            &|| ($object.uid().unwrap_or_default(), $object.namespace().unwrap_or_default())
        };
    }
    match object {
        Object::Service(s) => {
            let labels = s.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|labels| !labels.is_empty());
            group(identity!(s), false, labels.map(Selector::from_labels))
        }
        Object::ReplicationController(c) => {
            let labels = c.spec.as_ref().and_then(|s| s.selector.as_ref());
            group(identity!(c), true, labels.map(Selector::from_labels))
        }
        Object::ReplicaSet(s) => {
            group(identity!(s), true, s.spec.as_ref().map(|s| Selector::from_object(Some(&s.selector))))
        }
        Object::StatefulSet(s) => {
            group(identity!(s), true, s.spec.as_ref().map(|s| Selector::from_object(Some(&s.selector))))
        }
        _ => None,
    }
}

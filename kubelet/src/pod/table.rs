//! All pods of the node: which there should be, by the API and the manifests, and who looks after each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    runtime::watcher::{self, Event},
};
use parking_lot::RwLock;
use tokio::{sync::mpsc, task::JoinSet, time};
use tracing::{debug, info, warn};

use super::{
    CONFIG_HASH, CONFIG_MIRROR, PodExt, admit, manifest,
    observed::{Cause, Container, Observed, Termination},
    status_of,
    worker::{Mailbox, Worker, remove_container, remove_group},
};
use crate::{agent::Agent, event::Severity, pod::observed::POD_UID, runtime::cri::gone, system::cgroup, volume};

/// How often manifests are read and leftovers looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// What the rest of the agent may know of a pod.
pub struct Entry {
    /// With the status that the worker last computed.
    pub pod: Arc<Pod>,
    /// Newest first.
    pub containers: Vec<Container>,
    pub sandbox: Option<String>,
    pub terminating: bool,
}

/// The pods of the node as their workers see them.
#[derive(Default)]
pub struct Registry {
    entries: RwLock<BTreeMap<String, Arc<Entry>>>,
    /// What the API has for static pods, by namespace and name.
    mirrors: RwLock<BTreeMap<(String, String), Arc<Pod>>>,
    mailboxes: RwLock<BTreeMap<String, Mailbox>>,
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().to_owned(), pod.name().to_owned())
}

impl Registry {
    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(uid).cloned()
    }

    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        let named = |e: &&Arc<Entry>| e.pod.name() == name && e.pod.namespace() == namespace;
        // Of two by the same name the one that is not ending is meant.
        let found = entries.values().filter(named).min_by_key(|e| e.terminating);
        found.cloned()
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }

    pub fn mirror(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.mirrors.read().get(&key(pod)).cloned()
    }

    pub fn set_mirror(&self, mirror: Arc<Pod>) {
        self.mirrors.write().insert(key(&mirror), mirror);
    }

    /// Has a pod ended by the node.
    pub fn end(&self, uid: &str, termination: Termination) -> bool {
        let found = self.mailboxes.read().get(uid).cloned();
        found.inspect(|mailbox| mailbox.end(termination)).is_some()
    }

    pub(super) fn publish(&self, pod: &Arc<Pod>, status: &PodStatus, seen: &Observed) {
        let shown = Pod { status: Some(status.clone()), ..pod.as_ref().clone() };
        let entry = Entry {
            pod: Arc::new(shown),
            containers: seen.containers.clone(),
            sandbox: seen.sandboxes.first().map(|s| s.id.clone()),
            terminating: seen.termination.is_some(),
        };
        self.entries.write().insert(pod.uid().to_owned(), Arc::new(entry));
    }
}

/// Where pods come from and whom they are handed to.
pub struct Table {
    agent: Arc<Agent>,
    workers: JoinSet<String>,
    /// Uids that the API has named since its last complete list.
    listed: BTreeSet<String>,
    known: BTreeSet<String>,
    synced: bool,
    manifests: BTreeMap<String, Arc<Pod>>,
    /// Pods of the runtime that nobody looks after, when first seen so.
    strays: BTreeSet<String>,
}

impl Table {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            workers: JoinSet::new(),
            listed: BTreeSet::new(),
            known: BTreeSet::new(),
            synced: false,
            manifests: BTreeMap::new(),
            strays: BTreeSet::new(),
        }
    }

    /// Runs until the stream of pods ends.
    pub async fn run(
        mut self,
        pods: impl Stream<Item = Result<Event<Pod>, watcher::Error>> + Send,
        mut changed: mpsc::Receiver<String>,
    ) {
        let mut pods = std::pin::pin!(pods);
        let mut housekeeping = time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                event = pods.next() => match event {
                    Some(Ok(event)) => self.event(event),
                    Some(Err(error)) => debug!(%error, "the watch of pods broke"),
                    None => return,
                },
                Some(uid) = changed.recv() => self.changed(uid),
                Some(ended) = self.workers.join_next() => self.ended(ended),
                _ = housekeeping.tick() => self.keep_house().await,
            }
        }
    }

    fn event(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(pod.uid().to_owned());
                self.apply(pod);
            }
            Event::InitDone => {
                let gone: Vec<_> = self.known.difference(&self.listed).cloned().collect();
                gone.iter().for_each(|uid| self.gone(uid));
                self.synced = true;
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if pod.is_mirror() {
                    self.agent.pods.mirrors.write().remove(&key(&pod));
                    return;
                }
                let uid = pod.uid().to_owned();
                if let Some(mailbox) = self.mailbox(&uid) {
                    mailbox.update(Arc::new(pod));
                }
                self.gone(&uid);
            }
        }
    }

    fn mailbox(&self, uid: &str) -> Option<Mailbox> {
        self.agent.pods.mailboxes.read().get(uid).cloned()
    }

    fn gone(&mut self, uid: &str) {
        self.known.remove(uid);
        if let Some(mailbox) = self.mailbox(uid) {
            mailbox.gone();
        }
    }

    fn apply(&mut self, mut pod: Pod) {
        if pod.is_mirror() {
            let place = key(&pod);
            self.agent.pods.set_mirror(Arc::new(pod));
            // Its worker may have to tell it something.
            let original = self.manifests.values().find(|p| key(p) == place);
            if let Some(mailbox) = original.and_then(|p| self.mailbox(p.uid())) {
                mailbox.look();
            }
            return;
        }
        pod.metadata.managed_fields = None;
        self.known.insert(pod.uid().to_owned());
        match self.mailbox(pod.uid()) {
            Some(mailbox) => mailbox.update(Arc::new(pod)),
            None => self.begin(Arc::new(pod)),
        }
    }

    fn begin(&mut self, pod: Arc<Pod>) {
        let mailbox = Mailbox::default();
        // What has started here before was admitted then.
        let fresh = status_of(&pod).start_time.is_none() && !pod.is_deleted() && !pod.is_terminal();
        if let Some(refusal) = fresh.then(|| self.admit(&pod).err()).flatten() {
            self.agent.events.pod(&pod, Severity::Warning, &refusal.reason, refusal.message.clone());
            let message = format!("Pod was rejected: {}", refusal.message);
            mailbox.end(Termination { cause: Cause::Failed { reason: refusal.reason, message }, grace_seconds: 1 });
        }
        let uid = pod.uid().to_owned();
        self.agent.pods.mailboxes.write().insert(uid.clone(), mailbox.clone());
        self.agent.pods.publish(&pod, &status_of(&pod), &Observed::default());
        let worker = Worker::new(self.agent.clone(), pod, mailbox);
        self.workers.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn admit(&self, pod: &Pod) -> Result<(), admit::Refusal> {
        let node = self.agent.node.read().clone().unwrap_or_else(|| Arc::new(Node::default()));
        let entries = self.agent.pods.all();
        let others: Vec<&Pod> = entries.iter().map(|e| e.pod.as_ref()).filter(|p| !p.is_terminal()).collect();
        let pressures = self.agent.pressures.lock().clone();
        let place = admit::Place {
            node: &node,
            allocatable: &self.agent.allocatable,
            others: &others,
            allowed_sysctls: &self.agent.config.allowed_unsafe_sysctls,
            pressures: &pressures,
        };
        // Until the node is known its labels and taints cannot speak against anybody.
        if node.metadata.name.is_none() { Ok(()) } else { admit::admit(pod, &place) }
    }

    fn changed(&mut self, uid: String) {
        match self.mailbox(&uid) {
            Some(mailbox) => mailbox.look(),
            None => _ = self.strays.insert(uid),
        }
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.agent.pods.entries.write().remove(&uid);
                self.agent.pods.mailboxes.write().remove(&uid);
                self.strays.insert(uid);
            }
            Err(error) => warn!(%error, "a pod's worker broke"),
        }
    }

    async fn keep_house(&mut self) {
        if let Some(folder) = self.agent.config.static_pod_path.clone() {
            self.read_manifests(&folder).await;
        }
        if !self.synced {
            return;
        }
        let leftover = leftovers(&self.agent);
        let strays: BTreeSet<_> = std::mem::take(&mut self.strays).into_iter().chain(leftover).collect();
        for uid in strays.into_iter().filter(|uid| self.mailbox(uid).is_none()) {
            let agent = self.agent.clone();
            tokio::spawn(async move { clear(&agent, &uid).await });
        }
    }

    async fn read_manifests(&mut self, folder: &std::path::Path) {
        let now = manifest::read(self.agent.system.as_ref(), folder, &self.agent.config.node_name);
        let gone: Vec<_> = self.manifests.keys().filter(|uid| !now.contains_key(*uid)).cloned().collect();
        for uid in gone {
            if let Some(pod) = self.manifests.remove(&uid) {
                self.gone(&uid);
                delete_mirror(&self.agent, &pod).await;
            }
        }
        for (uid, pod) in now {
            if !self.manifests.contains_key(&uid) && self.mailbox(&uid).is_none() {
                let pod = Arc::new(pod);
                self.manifests.insert(uid, pod.clone());
                self.begin(pod);
            }
        }
        for pod in self.manifests.values() {
            ensure_mirror(&self.agent, pod).await;
        }
    }
}

async fn ensure_mirror(agent: &Agent, pod: &Arc<Pod>) {
    let Some(node) = agent.node.read().clone() else { return };
    if let Some(mirror) = agent.pods.mirror(pod) {
        if mirror.annotation(CONFIG_MIRROR) != pod.annotation(CONFIG_HASH) || mirror.is_deleted() {
            delete_mirror(agent, pod).await;
        }
        return;
    }
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), pod.namespace());
    match api.create(&PostParams::default(), &manifest::mirror(pod, &node)).await {
        Ok(mirror) => agent.pods.set_mirror(Arc::new(mirror)),
        Err(error) => debug!(pod = pod.title(), %error, "cannot mirror a static pod"),
    }
}

async fn delete_mirror(agent: &Agent, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), pod.namespace());
    let params = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    match api.delete(pod.name(), &params).await {
        Ok(_) => _ = agent.pods.mirrors.write().remove(&key(pod)),
        Err(error) => debug!(pod = pod.title(), %error, "cannot delete the mirror of a static pod"),
    }
}

/// Pods of which only files or groups are left.
fn leftovers(agent: &Agent) -> BTreeSet<String> {
    let dirs = agent.system.list(&agent.config.pods_dir()).unwrap_or_default();
    let mut uids: BTreeSet<_> = dirs.iter().filter_map(|d| Some(d.file_name()?.to_str()?.to_owned())).collect();
    if agent.config.cgroups_per_qos {
        for parent in cgroup::parents(&agent.config.cgroup_root) {
            let groups = agent.system.list_groups(&parent).unwrap_or_default();
            uids.extend(groups.iter().filter_map(|g| g.strip_prefix("pod")).map(str::to_owned));
        }
    }
    uids
}

/// Ends and removes all that is left of a pod that neither the API nor a manifest knows.
async fn clear(agent: &Agent, uid: &str) {
    let own = Some(uid.to_owned());
    let found = futures::try_join!(agent.runtime.list_sandboxes(own.clone()), agent.runtime.list_containers(own));
    let Ok((sandboxes, containers)) = found else { return };
    if !sandboxes.is_empty() || !containers.is_empty() {
        info!(uid, "removing a pod that nobody knows");
    }
    for c in containers {
        debug!(id = c.id, pod = c.labels.get(POD_UID), "stopping a container of an unknown pod");
        if let Err(error) = gone(agent.runtime.stop_container(c.id.clone(), 2).await) {
            debug!(%error, "cannot stop a container");
        }
        remove_container(agent, &c.id).await;
    }
    for s in sandboxes {
        for done in [agent.runtime.stop_sandbox(s.id.clone()).await, agent.runtime.remove_sandbox(s.id.clone()).await] {
            if let Err(error) = gone(done) {
                debug!(%error, "cannot remove a sandbox");
            }
        }
    }
    if let Err(error) = volume::tear_down(agent.system.as_ref(), &agent.config, uid) {
        warn!(uid, %error, "cannot unmount the volumes of an unknown pod");
        return;
    }
    if let Err(error) = agent.system.remove(&agent.config.pod_dir(uid)) {
        warn!(uid, %error, "cannot remove the files of an unknown pod");
    }
    if agent.config.cgroups_per_qos {
        for parent in cgroup::parents(&agent.config.cgroup_root) {
            if let Err(error) = remove_group(agent, &format!("{parent}/pod{uid}")).await {
                debug!(%error, "cannot remove the group of an unknown pod");
            }
        }
    }
}

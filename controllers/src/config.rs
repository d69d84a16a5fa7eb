//! What the controllers are told of their cluster.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::Client;

use crate::runtime::{clock::Clock, leader::LeaderElection};

/// The key that certificates are signed with.
#[derive(Clone)]
pub struct Signer {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Shows no key.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// Gives each controller a client with the identity of its service account in kube-system.
#[derive(Clone)]
pub struct Accounts(Arc<dyn Fn(&str) -> Client + Send + Sync>);

impl Accounts {
    /// `client` makes a client for the service account of that name.
    pub fn new(client: impl Fn(&str) -> Client + Send + Sync + 'static) -> Self {
        Self(Arc::new(client))
    }

    pub fn client(&self, name: &str) -> Client {
        (self.0)(name)
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

/// When a silent node counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct NodeTiming {
    /// After so long without a sign of life a node is unknown.
    pub grace: Duration,
    /// The same for a node that never reported.
    pub startup_grace: Duration,
    /// How often nodes are looked at.
    pub period: Duration,
}

impl Default for NodeTiming {
    fn default() -> Self {
        Self { grace: Duration::from_secs(50), startup_grace: Duration::from_secs(60), period: Duration::from_secs(5) }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub clock: Clock,
    /// Makes the order of work a function of this seed: for simulations.
    pub seed: Option<u64>,
    /// Upper bound on the workers of each controller.
    pub workers_max: usize,
    /// Controllers that do not run here.
    pub disabled: BTreeSet<String>,
    /// None: all controllers write with the rights of the one client.
    pub accounts: Option<Accounts>,
    /// None: this process is alone.
    pub leader_election: Option<LeaderElection>,
    /// The certificate authority that pods trust, as PEM; none: not published.
    pub root_ca_pem: Option<String>,
    /// None: no certificates are signed.
    pub signer: Option<Signer>,
    /// How long signed certificates hold.
    pub certificate_duration: Duration,
    /// Where nodes get their pod ranges from; none: nodes get none.
    pub cluster_cidr: Option<String>,
    /// The prefix length of a node's range.
    pub node_cidr_mask: u8,
    pub nodes: NodeTiming,
    /// Finished pods beyond this number are removed.
    pub finished_pods_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock: Clock::System,
            seed: None,
            workers_max: 10,
            disabled: BTreeSet::new(),
            accounts: None,
            leader_election: None,
            root_ca_pem: None,
            signer: None,
            certificate_duration: Duration::from_secs(365 * 24 * 3600),
            cluster_cidr: None,
            node_cidr_mask: 24,
            nodes: NodeTiming::default(),
            finished_pods_max: 12500,
        }
    }
}

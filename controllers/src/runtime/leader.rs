//! Leader election by a Lease: of several processes only the one that renews it runs the controllers.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::time::Instant;

use super::{
    clock::Clock,
    server::{Error, Server},
};
use crate::plan::Write;

const LEASE: Duration = Duration::from_secs(15);
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Where the lease is and who wants it.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    pub namespace: String,
    pub name: String,
    /// Unique to this process.
    pub identity: String,
}

pub struct Elector {
    pub server: Server,
    pub clock: Clock,
    pub election: LeaderElection,
    /// What was seen of another holder's lease, and when: clocks of different machines are never compared.
    seen: Option<(String, Instant)>,
}

impl Elector {
    pub fn new(server: Server, clock: Clock, election: LeaderElection) -> Self {
        Self { server, clock, election, seen: None }
    }

    /// Returns once the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "leader election"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the lease; returns once it was lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_WITHIN {
            tokio::time::sleep(RETRY).await;
            match self.attempt().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "leader election"),
            }
        }
    }

    /// Gives the lease up, so that another need not wait for its end.
    pub async fn release(&mut self) -> Result<(), Error> {
        let Some(mut lease) = self.fetch().await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.election.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.server.write(&Write::update(&lease)).await.map(drop)
    }

    async fn fetch(&self) -> Result<Option<Lease>, Error> {
        self.server.get(&self.election.namespace, &self.election.name).await
    }

    async fn attempt(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let Some(lease) = self.fetch().await? else {
            let metadata = ObjectMeta {
                name: Some(self.election.name.clone()),
                namespace: Some(self.election.namespace.clone()),
                ..ObjectMeta::default()
            };
            let spec = Some(claim(&self.election.identity, None, now));
            return won(self.server.write(&Write::create(&Lease { metadata, spec })).await);
        };
        let state = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != state) {
            self.seen = Some((state, Instant::now()));
        }
        let held = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        let fresh = self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() < LEASE);
        if !held.is_empty() && held != self.election.identity && fresh {
            return Ok(false);
        }
        let spec = Some(claim(&self.election.identity, lease.spec.as_ref(), now));
        won(self.server.write(&Write::update(&Lease { spec, ..lease })).await)
    }
}

fn won(result: Result<serde_json::Value, Error>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.code() == 409 => Ok(false),
        Err(e) => Err(e),
    }
}

/// The lease as we hold it from now on.
fn claim(identity: &str, old: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let ours = old.is_some_and(|o| o.holder_identity.as_deref() == Some(identity));
    let transitions = old.and_then(|o| o.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LEASE.as_secs() as i32),
        acquire_time: if ours { old.and_then(|o| o.acquire_time.clone()) } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || old.is_none() { transitions } else { transitions + 1 }),
        ..LeaseSpec::default()
    }
}

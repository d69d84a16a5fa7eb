//! Who this server is among those of its cluster: a Lease that it renews, and takes away when it ends. The Leases of
//! servers that have gone without that are taken away by the others.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use data_encoding::BASE32_NOPAD;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::ensure::{EnsureError, send};
use crate::{audit::event::micros, pipeline::Apiserver, server::InProcess};

const COLLECTION: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
const LEASE_SECONDS: i32 = 3600;
const RENEWAL: Duration = Duration::from_secs(10);
/// How often Leases of others are looked at.
const COLLECTION_PERIOD: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    host: String,
    holder: String,
}

impl Identity {
    /// `instance`: tells this run of the server from others on the same host.
    pub fn new(host: &str, instance: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [host, COMPONENT] {
            // As upstream's builder of bytes: each part after its length.
            hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let name = format!("apiserver-{}", BASE32_NOPAD.encode(&hash[..16]).to_lowercase());
        Self { holder: format!("{name}_{instance}"), host: host.to_owned(), name }
    }

    fn path(&self) -> String {
        format!("{COLLECTION}/{}", self.name)
    }

    /// The Lease, new or renewed.
    fn lease(&self, there: Option<Value>, now: Timestamp) -> Value {
        let mut lease = there.unwrap_or_else(|| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": "kube-system"},
                "spec": {"holderIdentity": self.holder},
            })
        });
        lease["spec"]["leaseDurationSeconds"] = LEASE_SECONDS.into();
        lease["spec"]["renewTime"] = micros(now).into();
        lease["metadata"]["labels"][LABEL] = COMPONENT.into();
        lease["metadata"]["labels"]["kubernetes.io/hostname"] = self.host.as_str().into();
        lease
    }
}

/// Keeps the Lease until the server ends.
pub async fn keep(server: Weak<Apiserver>, identity: Identity) {
    let mut held: Option<Value> = None;
    let mut collected: Option<Instant> = None;
    let Some(first) = server.upgrade() else { return };
    // What an earlier run has left names one that is gone.
    withdraw(&first, &identity).await;
    drop(first);
    loop {
        let Some(apiserver) = server.upgrade() else { return };
        let service = apiserver.own_service();
        let now = apiserver.world.now();
        held = match renew(&service, &identity, held, now).await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the Lease of this server is not renewed");
                None
            }
        };
        if collected.is_none_or(|last| last.elapsed() >= COLLECTION_PERIOD) {
            collected = Some(Instant::now());
            if let Err(error) = collect(&service, now).await {
                tracing::warn!(%error, "the Leases of servers that have gone are kept");
            }
        }
        drop((apiserver, service));
        tokio::time::sleep(RENEWAL).await;
    }
}

/// The Lease as it is now; none if it was changed by somebody else.
async fn renew(
    service: &InProcess,
    identity: &Identity,
    held: Option<Value>,
    now: Timestamp,
) -> Result<Option<Value>, EnsureError> {
    let path = identity.path();
    let there = match held {
        Some(held) => Some(held),
        None => send(service, Method::GET, &path, None).await?,
    };
    let (method, path) = if there.is_some() { (Method::PUT, path.as_str()) } else { (Method::POST, COLLECTION) };
    send(service, method, path, Some(identity.lease(there, now))).await
}

/// Deletes the Leases that have run out.
async fn collect(service: &InProcess, now: Timestamp) -> Result<(), EnsureError> {
    let path = format!("{COLLECTION}?labelSelector={LABEL}%3D{COMPONENT}");
    let mut leases = send(service, Method::GET, &path, None).await?.unwrap_or_default();
    let leases: Vec<Lease> = serde_json::from_value(leases["items"].take())?;
    for lease in leases.iter().filter(|lease| is_expired(lease, now)) {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let version = json!({"preconditions": {"resourceVersion": lease.metadata.resource_version}});
        send(service, Method::DELETE, &format!("{COLLECTION}/{name}"), Some(version)).await?;
    }
    Ok(())
}

/// A Lease that does not say until when it is good has run out.
fn is_expired(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let (Some(renewed), Some(seconds)) = (renewed, seconds) else { return true };
    now.duration_since(renewed.0) > SignedDuration::from_secs(seconds.into())
}

/// Takes the Lease away: the server ends.
pub async fn withdraw(apiserver: &Arc<Apiserver>, identity: &Identity) {
    if let Err(error) = send(&apiserver.own_service(), Method::DELETE, &identity.path(), None).await {
        tracing::warn!(%error, "the Lease of this server stays for a while");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_that_of_the_host() {
        assert_eq!(Identity::new("vm", "1").name, "apiserver-wlv32tlttr4jl3gtroqexyxapa");
    }

    #[test]
    fn leases_run_out() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let lease = |seconds: Value, renewed: Value| -> Lease {
            serde_json::from_value(json!({"spec": {"leaseDurationSeconds": seconds, "renewTime": renewed}})).unwrap()
        };
        let renewed = json!("2026-01-01T01:00:00.000000Z");
        assert!(!is_expired(&lease(3600.into(), renewed.clone()), now));
        assert!(is_expired(&lease(3599.into(), renewed.clone()), now));
        assert!(is_expired(&lease(Value::Null, renewed), now));
        assert!(is_expired(&Lease::default(), now));
    }
}

//! Leases: what makes keys end by themselves. They are dear, so keys that end at about the same time share one.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::member::{Failure, Members};

/// As upstream: a lease is shared for a twentieth of its time, a minute at most, and by a thousand keys.
const SHARED_SECONDS_MAX: u64 = 60;
const SHARED_PART: u64 = 20;
const KEYS_MAX: usize = 1000;
/// Of so many times to live a lease is remembered; there are two in use.
const REMEMBERED_MAX: usize = 8;

struct Lease {
    id: i64,
    until: Instant,
    keys: usize,
}

#[derive(Default)]
pub(super) struct Leases {
    /// By their seconds to live.
    recent: Mutex<BTreeMap<u64, Lease>>,
}

impl Leases {
    /// A lease that ends after this time, but not much later.
    pub async fn of(&self, members: &Members, ttl: Duration) -> Result<i64, Failure> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        let mut recent = self.recent.lock().await;
        let now = Instant::now();
        if let Some(lease) = recent.get_mut(&seconds)
            && now + Duration::from_secs(seconds) <= lease.until
            && lease.keys < KEYS_MAX
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let granted = seconds + (seconds / SHARED_PART).min(SHARED_SECONDS_MAX);
        let id = members.grant(i64::try_from(granted).unwrap_or(i64::MAX)).await?;
        if recent.len() >= REMEMBERED_MAX {
            recent.clear();
        }
        recent.insert(seconds, Lease { id, until: now + Duration::from_secs(granted), keys: 1 });
        Ok(id)
    }

    /// Leases that etcd does not know any more.
    pub async fn forget(&self, ids: &[i64]) {
        self.recent.lock().await.retain(|_, lease| !ids.contains(&lease.id));
    }
}

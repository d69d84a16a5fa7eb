//! Remembers tokens whose signature was right: to verify one takes longer than all else of a small request.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::issuer::Verified;

const ENTRIES_MAX: usize = 32_768;
const SECONDS: i64 = 60;

type Digest32 = [u8; 32];

/// Keyed by a digest, so that no token stays in memory.
#[derive(Default)]
pub struct TokenCache {
    entries: RwLock<HashMap<Digest32, (Timestamp, Arc<Verified>)>>,
}

fn key(token: &str, audiences: &[String]) -> Digest32 {
    let mut digest = Sha256::new();
    for text in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

impl TokenCache {
    pub fn get(&self, token: &str, audiences: &[String], now: Timestamp) -> Option<Arc<Verified>> {
        let entries = self.entries.read();
        let (since, verified) = entries.get(&key(token, audiences))?;
        fresh(*since, now).then(|| Arc::clone(verified))
    }

    pub fn put(&self, token: &str, audiences: &[String], verified: &Arc<Verified>, now: Timestamp) {
        let mut entries = self.entries.write();
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, (since, _)| fresh(*since, now));
        }
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key(token, audiences), (now, Arc::clone(verified)));
    }
}

fn fresh(since: Timestamp, now: Timestamp) -> bool {
    (0..SECONDS).contains(&(now.as_second() - since.as_second()))
}

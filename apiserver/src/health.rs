//! `/healthz`, `/livez`, `/readyz`: whether the server lives and may be given work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::StatusCode;

use crate::codec::answer::{self, Answer};

struct Check {
    name: &'static str,
    /// It counts for `/readyz` alone.
    ready_only: bool,
    passes: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The checks of a server.
pub struct Health {
    checks: Vec<Check>,
    ready: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(|| true)
    }
}

impl Health {
    /// `reachable`: whether the store is.
    pub fn new(reachable: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let ready = Arc::new(AtomicBool::new(false));
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = stopping.clone();
        let (synced, started) = (ready.clone(), ready.clone());
        let check = |name, ready_only, passes| Check { name, ready_only, passes };
        let checks = vec![
            check("ping", false, Box::new(|| true) as Box<dyn Fn() -> bool + Send + Sync>),
            check("log", false, Box::new(|| true)),
            check("etcd", false, Box::new(reachable)),
            check("informer-sync", true, Box::new(move || synced.load(Ordering::Acquire))),
            check("poststarthook/rbac/bootstrap-roles", false, Box::new(move || started.load(Ordering::Acquire))),
            check("shutdown", true, Box::new(move || !stops.load(Ordering::Acquire))),
        ];
        Self { checks, ready, stopping }
    }

    /// The cache follows the store, and the objects that every cluster has are there.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// From now on the server tells that it wants no new work.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Each endpoint, and each check below it.
    pub fn paths(&self) -> Vec<String> {
        let below = |endpoint: &'static str| {
            let checks = self.checks.iter().filter(move |check| endpoint == "readyz" || !check.ready_only);
            let checks = checks.map(move |check| format!("/{endpoint}/{}", check.name));
            std::iter::once(format!("/{endpoint}")).chain(checks)
        };
        ["healthz", "livez", "readyz"].into_iter().flat_map(below).collect()
    }

    /// The answer to one of the paths, or to a single check below it. None: there is no such check.
    pub fn answer(&self, path: &str, verbose: bool, excluded: &[&str]) -> Option<Answer> {
        let path = path.trim_matches('/');
        let (endpoint, single) = path.split_once('/').unwrap_or((path, ""));
        let mut checks = self.checks.iter().filter(|check| endpoint == "readyz" || !check.ready_only);
        if !single.is_empty() {
            let check = checks.find(|check| check.name == single)?;
            return Some(if (check.passes)() {
                answer::text(StatusCode::OK, "ok")
            } else {
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not ready\n")
            });
        }
        let (mut report, mut failed) = (String::new(), false);
        for check in checks {
            let name = check.name;
            if excluded.contains(&name) {
                report += &format!("[+]{name} excluded: ok\n");
            } else if (check.passes)() {
                report += &format!("[+]{name} ok\n");
            } else {
                failed = true;
                report += &format!("[-]{name} failed: reason withheld\n");
            }
        }
        for name in excluded.iter().filter(|name| !self.checks.iter().any(|check| check.name == **name)) {
            report += &format!("warn: some health checks cannot be excluded: no matches for \"{name}\"\n");
        }
        Some(if failed {
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{endpoint} check failed\n"))
        } else if verbose {
            answer::text(StatusCode::OK, format!("{report}{endpoint} check passed\n"))
        } else {
            answer::text(StatusCode::OK, "ok")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        let health = Health::default();
        let code = |path: &str| health.answer(path, false, &[]).map(|a| a.status().as_u16());
        assert_eq!(code("/readyz"), Some(500));
        health.ready();
        assert_eq!([code("/readyz"), code("/livez/ping")], [Some(200); 2]);
        assert_eq!(code("/livez/informer-sync"), None);
        assert!(health.paths().iter().all(|path| code(path).is_some()));
        health.stop();
        assert_eq!([code("/readyz"), code("/livez")], [Some(500), Some(200)]);
    }
}

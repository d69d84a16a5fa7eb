//! `/healthz`, `/livez`, `/readyz`: whether the server lives and may be given work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use http::StatusCode;

use crate::{
    codec::answer::{self, Answer},
    metrics::text::{Kind, Text},
};

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// What is up once the server is ready, under upstream's names for those parts of it that this one has, in its order.
const STARTED: [&str; 28] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

type Passes = Box<dyn Fn() -> bool + Send + Sync>;

struct Check {
    name: &'static str,
    /// It counts for `/readyz` alone.
    ready_only: bool,
    passes: Passes,
    /// By endpoint.
    told: [Told; ENDPOINTS.len()],
}

/// What an endpoint has told of a check.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    failed: AtomicU64,
    passed_last: AtomicBool,
}

impl Check {
    fn run(&self, endpoint: &str) -> bool {
        let passes = (self.passes)();
        if let Some((_, told)) = ENDPOINTS.iter().zip(&self.told).find(|(known, _)| **known == endpoint) {
            let count = if passes { &told.passed } else { &told.failed };
            count.fetch_add(1, Ordering::Relaxed);
            told.passed_last.store(passes, Ordering::Relaxed);
        }
        passes
    }
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
        let reachable = Arc::new(reachable);
        let started = || -> Passes {
            let ready = ready.clone();
            Box::new(move || ready.load(Ordering::Acquire))
        };
        let stored = || -> Passes {
            let reachable = reachable.clone();
            Box::new(move || reachable())
        };
        let check = |name, ready_only, passes| Check { name, ready_only, passes, told: Default::default() };
        let mut checks = vec![
            check("ping", false, Box::new(|| true)),
            check("log", false, Box::new(|| true)),
            check("etcd", false, stored()),
            check("etcd-readiness", true, stored()),
            check("informer-sync", true, started()),
        ];
        checks.extend(STARTED.map(|name| check(name, false, started())));
        checks.push(check("shutdown", true, Box::new(move || !stops.load(Ordering::Acquire))));
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
        ENDPOINTS.into_iter().flat_map(below).collect()
    }

    /// `/metrics/slis`: what the endpoints have told of each check.
    pub fn indicators(&self) -> String {
        let mut checks: Vec<_> = self.checks.iter().collect();
        checks.sort_by_key(|check| check.name);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut text = Text::default();
        let help = "[STABLE] This metric records the result of a single healthcheck.";
        let mut family = text.family("kubernetes_healthcheck", Kind::Gauge, help);
        for check in &checks {
            for (endpoint, told) in ENDPOINTS.iter().zip(&check.told) {
                if count(&told.passed) + count(&told.failed) > 0 {
                    let passed = u8::from(told.passed_last.load(Ordering::Relaxed));
                    family.sample(&[("name", check.name), ("type", endpoint)], passed);
                }
            }
        }
        let help = "[STABLE] This metric records the results of all healthcheck.";
        let mut family = text.family("kubernetes_healthchecks_total", Kind::Counter, help);
        for check in &checks {
            for status in ["error", "success"] {
                for (endpoint, told) in ENDPOINTS.iter().zip(&check.told) {
                    let times = count(if status == "error" { &told.failed } else { &told.passed });
                    if times > 0 {
                        family.sample(&[("name", check.name), ("status", status), ("type", endpoint)], times);
                    }
                }
            }
        }
        text.into_string()
    }

    /// Forgets what the endpoints have told.
    pub fn reset(&self) {
        for told in self.checks.iter().flat_map(|check| &check.told) {
            [&told.passed, &told.failed].into_iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
    }

    /// The answer to one of the paths, or to a single check below it. None: there is no such check.
    pub fn answer(&self, path: &str, verbose: bool, excluded: &[&str]) -> Option<Answer> {
        let path = path.strip_prefix('/')?;
        let (endpoint, single) =
            path.split_once('/').map_or((path, None), |(endpoint, single)| (endpoint, Some(single)));
        let mut checks = self.checks.iter().filter(|check| endpoint == "readyz" || !check.ready_only);
        if let Some(single) = single {
            let check = checks.find(|check| check.name == single)?;
            return Some(if (check.passes)() {
                answer::plain(StatusCode::OK, "ok")
            } else {
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not ready\n")
            });
        }
        let (mut report, mut failed) = (String::new(), false);
        for check in checks {
            let name = check.name;
            if excluded.contains(&name) {
                report += &format!("[+]{name} excluded: ok\n");
            } else if check.run(endpoint) {
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
        let indicators = health.indicators();
        assert!(indicators.contains("kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1\n"), "{indicators}");
        let failed = "kubernetes_healthchecks_total{name=\"informer-sync\",status=\"error\",type=\"readyz\"} 1\n";
        assert!(indicators.contains(failed) && !indicators.contains("informer-sync\",type=\"livez"), "{indicators}");
        health.stop();
        assert_eq!([code("/readyz"), code("/livez")], [Some(500), Some(200)]);
    }
}

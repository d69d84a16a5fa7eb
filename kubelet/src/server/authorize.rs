//! Whether the one who asks may: the cluster decides, and its decisions are remembered for a while.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, api::PostParams};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::authenticate::User;
use crate::agent::Agent;

/// How long an allowance and a refusal are remembered, and how many.
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
const MEMORY_MAX: usize = 4096;

type Key = (User, &'static str, &'static str);

pub struct Authorizer {
    agent: Arc<Agent>,
    decisions: Mutex<HashMap<Key, (bool, Instant)>>,
}

impl Authorizer {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, decisions: Mutex::default() }
    }

    /// An error tells what is refused.
    pub async fn check(&self, user: &User, method: &Method, path: &str) -> Result<(), String> {
        let verb = verb(method);
        let resources = subresources(path);
        for resource in resources {
            if self.allowed(user, verb, resource).await {
                return Ok(());
            }
        }
        let resource = resources.first().unwrap_or(&"proxy");
        Err(format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{resource}])", user.name))
    }

    async fn allowed(&self, user: &User, verb: &'static str, resource: &'static str) -> bool {
        let key = (user.clone(), verb, resource);
        if let Some((allowed, _)) = self.decisions.lock().get(&key).filter(|(_, until)| *until > Instant::now()) {
            return *allowed;
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(resource.into()),
                    name: Some(self.agent.config.node_name.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.agent.client.clone());
        // What cannot be decided is refused, and not remembered.
        let Ok(answer) = api.create(&PostParams::default(), &review).await else { return false };
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let mut decisions = self.decisions.lock();
        decisions.retain(|_, (_, until)| *until > Instant::now());
        if decisions.len() < MEMORY_MAX {
            decisions.insert(key, (allowed, Instant::now() + if allowed { ALLOWED } else { DENIED }));
        }
        allowed
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// What of a node a path is about; the finer ones first.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_are_about() {
        for (path, want) in [
            ("/exec/n/p/c", &["proxy"][..]),
            ("/pods", &["pods", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics/resource", &["metrics"]),
            ("/", &["proxy"]),
        ] {
            assert_eq!(subresources(path), want);
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST)), ("get", "create"));
    }
}

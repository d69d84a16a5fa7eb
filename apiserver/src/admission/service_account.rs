//! ServiceAccount: a pod runs as a service account that exists, with its token and its pull secrets.

use std::{collections::BTreeSet, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, PodSpec, ServiceAccount as Account};
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin, edit};
use crate::{
    error::Result,
    metadata::{self, client_name},
    random::Random,
    world::World,
};

const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const TOKEN_VOLUME: &str = "kube-api-access-";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour, and a few seconds by which the token is known to come from this plugin.
const TOKEN_SECONDS: i64 = 3607;
/// The account `default` is made by a controller right after its namespace: it is waited for.
const DEFAULT_ATTEMPTS: usize = 10;
const RETRY: Duration = Duration::from_millis(150);

#[derive(Default)]
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods", ""),
            Operation::Update => attributes.is("", "pods", "ephemeralcontainers"),
            _ => false,
        }
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(pod) = &attributes.object else { return Ok(()) };
            // The kubelet would delete a mirror pod that is not as it wrote it.
            if attributes.operation == Operation::Create && !is_mirror(pod) {
                let name = match edit::text(pod, "/spec/serviceAccountName") {
                    "" => DEFAULT.to_owned(),
                    name => name.to_owned(),
                };
                let account = account(attributes, world, &name).await?;
                if let Some(pod) = &mut attributes.object {
                    set_account(pod, &name, &account, &world.random);
                }
            }
            self.validate(attributes, world).await
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(pod) = &attributes.object else { return Ok(()) };
            if attributes.operation == Operation::Create && is_mirror(pod) {
                return check_mirror(&edit::decode(pod)?).map_err(|why| attributes.forbidden(why));
            }
            let name = edit::text(pod, "/spec/serviceAccountName");
            if name.is_empty() {
                let (namespace, pod) = (&attributes.namespace, edit::text(pod, "/metadata/name"));
                return Err(attributes.forbidden(format!("no service account specified for pod {namespace}/{pod}")));
            }
            let account = account(attributes, world, name).await?;
            if !enforces(&account) {
                return Ok(());
            }
            let pod: Pod = edit::decode(pod)?;
            let spec = pod.spec.unwrap_or_default();
            let checked = match attributes.operation {
                Operation::Create => check_secrets(&spec, &account),
                _ => check_ephemeral(&spec, &account),
            };
            checked.map_err(|why| attributes.forbidden(why))
        })
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").and_then(|annotations| annotations.get(MIRROR)).is_some()
}

/// Strconv's truth.
fn enforces(account: &Account) -> bool {
    let annotation = account.metadata.annotations.as_ref().and_then(|a| a.get(ENFORCE_MOUNTABLE));
    annotation.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

async fn account(attributes: &Attributes, world: &World, name: &str) -> Result<Account> {
    let namespace = attributes.namespace.as_str();
    if let Some(account) = world.get::<Account>(namespace, name)? {
        return Ok(account);
    }
    let refused = |why| attributes.forbidden(format!("error looking up service account {namespace}/{name}: {why}"));
    client_name(name).map_err(refused)?;
    let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(RETRY).await;
        }
        if let Some(account) = world.get_live::<Account>(namespace, name).await? {
            return Ok(account);
        }
    }
    Err(refused(format!("serviceaccount {} not found", crds::field::quote(name))))
}

fn set_account(pod: &mut Value, name: &str, account: &Account, random: &Random) {
    edit::set(pod, &["spec", "serviceAccountName"], name);
    edit::set(pod, &["spec", "serviceAccount"], name);
    let own = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool);
    if own.or(account.automount_service_account_token).unwrap_or(true) {
        mount_token(pod, random);
    }
    let pull = account.image_pull_secrets.as_deref().unwrap_or_default();
    if edit::items(pod, "/spec/imagePullSecrets").is_empty() && !pull.is_empty() {
        edit::set(pod, &["spec", "imagePullSecrets"], json!(pull));
    }
}

/// Mounts the token into every container that has nothing mounted in its place.
fn mount_token(pod: &mut Value, random: &Random) {
    let volumes = edit::items(pod, "/spec/volumes").iter().map(|volume| edit::text(volume, "/name"));
    let there = volumes.into_iter().find(|name| name.starts_with(TOKEN_VOLUME)).map(str::to_owned);
    let name = there.clone().unwrap_or_else(|| metadata::generate_name(TOKEN_VOLUME, random));
    let mut mounted = false;
    for (container, _) in edit::containers(pod) {
        let taken = edit::items(container, "/volumeMounts").iter().any(|m| edit::text(m, "/mountPath") == TOKEN_PATH);
        if taken {
            continue;
        }
        if let Some(mounts) = edit::list(container, &["volumeMounts"]) {
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
            mounted = true;
        }
    }
    if there.is_none()
        && mounted
        && let Some(volumes) = edit::list(pod, &["spec", "volumes"])
    {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

fn check_mirror(pod: &Pod) -> std::result::Result<(), &'static str> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference service accounts");
    }
    if super::pod_reference::secrets(spec) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources = spec.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    if sources.flat_map(|projected| projected.sources.iter().flatten()).any(|s| s.service_account_token.is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn account_name(account: &Account) -> &str {
    account.metadata.name.as_deref().unwrap_or_default()
}

fn mountable(account: &Account) -> BTreeSet<&str> {
    account.secrets.iter().flatten().filter_map(|secret| secret.name.as_deref()).collect()
}

fn check_secrets(spec: &PodSpec, account: &Account) -> std::result::Result<(), String> {
    let (allowed, name) = (mountable(account), account_name(account));
    for secret in spec.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()) {
        let secret = secret.secret_name.as_deref().unwrap_or_default();
        if !allowed.contains(secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference \
                 that secret"
            ));
        }
    }
    let check = |kind: &str, c: &Container| check_env(kind, &c.name, &c.env, &c.env_from, &allowed, name);
    spec.init_containers.iter().flatten().try_for_each(|c| check("init container", c))?;
    spec.containers.iter().try_for_each(|c| check("container", c))?;

    let pull: BTreeSet<_> = account.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str()).collect();
    let refused = spec.image_pull_secrets.iter().flatten().enumerate().find(|(_, s)| !pull.contains(s.name.as_str()));
    let Some((i, secret)) = refused else { return Ok(()) };
    Err(format!(
        "imagePullSecrets[{i}].name=\"{}\" is not allowed because service account {name} does not reference that \
         imagePullSecret",
        secret.name
    ))
}

fn check_ephemeral(spec: &PodSpec, account: &Account) -> std::result::Result<(), String> {
    let (allowed, name) = (mountable(account), account_name(account));
    let mut containers = spec.ephemeral_containers.iter().flatten();
    containers.try_for_each(|c| check_env("ephemeral container", &c.name, &c.env, &c.env_from, &allowed, name))
}

fn check_env(
    kind: &str,
    container: &str,
    env: &Option<Vec<EnvVar>>,
    from: &Option<Vec<EnvFromSource>>,
    allowed: &BTreeSet<&str>,
    account: &str,
) -> std::result::Result<(), String> {
    let refuse = |what: String, secret: &str| {
        Err(format!(
            "{kind} {container} with {what} referencing secret.secretName=\"{secret}\" is not allowed because service account \
             {account} does not reference that secret"
        ))
    };
    for variable in env.iter().flatten() {
        let secret = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
        if let Some(secret) = secret.filter(|secret| !allowed.contains(secret.name.as_str())) {
            return refuse(format!("envVar {}", variable.name), &secret.name);
        }
    }
    for secret in from.iter().flatten().filter_map(|source| source.secret_ref.as_ref()) {
        if !allowed.contains(secret.name.as_str()) {
            return refuse("envFrom".to_owned(), &secret.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_is() {
        let account: Account =
            edit::decode(&json!({"metadata": {"name": "a"}, "imagePullSecrets": [{"name": "reg"}]})).unwrap();
        let mut pod = json!({"spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c",
            "volumeMounts": [{"name": "e", "mountPath": TOKEN_PATH}]}, {"name": "d"}]}});
        set_account(&mut pod, "a", &account, &Random::seeded(1));
        let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(volume.starts_with(TOKEN_VOLUME) && volume.len() == TOKEN_VOLUME.len() + 5);
        let mount = json!([{"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}]);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"], mount);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "reg"}]));
        assert_eq!(pod["spec"]["serviceAccount"], "a");

        let mut quiet = json!({"spec": {"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "own"}], "containers": [{"name": "c"}]}});
        set_account(&mut quiet, "a", &account, &Random::seeded(1));
        assert_eq!(quiet["spec"].get("volumes"), None);
        assert_eq!(quiet["spec"]["imagePullSecrets"], json!([{"name": "own"}]));
    }

    #[test]
    fn only_listed_secrets() {
        let account: Account = edit::decode(&json!({"metadata": {"name": "strict", "annotations": {ENFORCE_MOUNTABLE: "true"}}, "secrets": [{"name": "ok"}]})).unwrap();
        assert!(enforces(&account));
        let check = |spec: Value| check_secrets(&edit::decode(&spec).unwrap(), &account);
        let with = |env: Value| json!({"containers": [{"name": "c", "env": env}]});
        assert_eq!(
            check(with(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "ok", "key": "k"}}}]))),
            Ok(())
        );
        for (spec, why) in [
            (
                json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
                "volume with secret.secretName=\"other\" is not allowed because service account strict does not reference that secret",
            ),
            (
                with(json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}])),
                "container c with envVar A referencing secret.secretName=\"other\" is not allowed because service account strict \
                 does not reference that secret",
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": "other"}]}),
                "imagePullSecrets[0].name=\"other\" is not allowed because service account strict does not reference that \
                 imagePullSecret",
            ),
        ] {
            assert_eq!(check(spec).unwrap_err(), why);
        }
    }

    #[test]
    fn mirror_pods() {
        let check = |spec: Value| check_mirror(&edit::decode(&json!({"metadata": {}, "spec": spec})).unwrap());
        for (spec, expected) in [
            (json!({"containers": []}), Ok(())),
            (
                json!({"containers": [], "serviceAccountName": "a"}),
                Err("a mirror pod may not reference service accounts"),
            ),
            (
                json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
                Err("a mirror pod may not reference secrets"),
            ),
            (
                json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                Err("a mirror pod may not use ServiceAccountToken volume projections"),
            ),
        ] {
            assert_eq!(check(spec), expected);
        }
    }
}

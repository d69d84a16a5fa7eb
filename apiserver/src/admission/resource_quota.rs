//! ResourceQuota: what a namespace uses stays within its quotas, and is charged to them before it is stored.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crds::{
    quota::{self, Evaluator, Object, is_terminating},
    resource::{self, Amounts},
    schema,
};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ResourceQuota as Quota;
use serde_json::{Value, json};
use store::{Compare, Entry, Op, Outcome, Txn};
use tokio::sync::Mutex;

use super::{Attributes, Operation, Plugin, edit};
use crate::{
    apply::{self, Manager, Reset},
    cache::{key_of, object::stored_value},
    codec,
    error::{ApiError, Result},
    world::World,
};

/// Charges of one namespace go one after the other; namespaces share this many locks.
const LOCKS: usize = 64;
/// Tries against others who write the same quotas: their controller, other apiservers.
const ATTEMPTS_MAX: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(10);

pub struct ResourceQuota {
    locks: [Mutex<()>; LOCKS],
}

impl Default for ResourceQuota {
    fn default() -> Self {
        Self { locks: std::array::from_fn(|_| Mutex::new(())) }
    }
}

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn changes(&self) -> bool {
        false
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        let update = attributes.operation == Operation::Update;
        if attributes.namespace.is_empty() || !(update || attributes.operation == Operation::Create) {
            return false;
        }
        match (attributes.group(), attributes.resource(), attributes.subresource.as_str()) {
            ("", "namespaces", _) => false,
            // Of a running pod only its scopes and, by resizing, its resources change.
            ("", "pods", "" | "resize") | ("", "persistentvolumeclaims", "" | "status") => true,
            ("", "services", "") | ("resource.k8s.io", "resourceclaims", "") => true,
            (_, _, subresource) => !update && subresource.is_empty(),
        }
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if world.cache.prefix("resourcequotas").list(&attributes.namespace).is_empty() {
                return Ok(());
            }
            let Some(charge) = Charge::of(attributes, world)? else { return Ok(()) };
            let charged = tokio::time::timeout(TIMEOUT, self.settle(&charge, attributes, world));
            charged.await.map_err(|_| ApiError::internal("resource quota evaluation timed out"))?
        })
    }
}

impl ResourceQuota {
    fn lock(&self, namespace: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        &self.locks[usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0)]
    }

    /// Charges all quotas at once, or none of them.
    async fn settle(&self, charge: &Charge, attributes: &Attributes, world: &World) -> Result<()> {
        let _one_at_a_time = self.lock(&attributes.namespace).lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let quotas = read(&attributes.namespace, world).await?;
            let charged =
                charge.check(quotas.iter().map(|(_, quota)| quota)).map_err(|why| attributes.forbidden(why))?;
            let changed = quotas.iter().zip(charged).filter_map(|((entry, _), used)| Some((entry, used?)));
            let changed: Vec<_> = changed.collect();
            if changed.is_empty() || attributes.dry_run {
                return Ok(());
            }
            let mut txn = Txn::default();
            for (entry, used) in changed {
                txn.compare.push(Compare { key: entry.key.clone(), modified: entry.modified });
                let value = codec::typed::json(&with_used(entry, &used, world)?).into();
                txn.ops.push(Op::Put { key: entry.key.clone(), value, ttl: None });
            }
            if let Outcome::Committed(_) = world.store.txn(txn).await.map_err(ApiError::from_store)? {
                return Ok(());
            }
        }
        let on = crate::error::Subject { group: "", resource: "resourcequotas", name: "" };
        Err(ApiError::modified(on))
    }
}

/// The quotas of a namespace as the store has them now, sorted by name.
async fn read(namespace: &str, world: &World) -> Result<Vec<(Entry, Quota)>> {
    let mut quotas = Vec::new();
    for cached in world.list::<Quota>(namespace)? {
        let key = key_of("resourcequotas", namespace, cached.metadata.name.as_deref().unwrap_or_default());
        if let Some(entry) = world.store.get(&key).await.map_err(ApiError::from_store)? {
            let quota = serde_json::from_value(stored_value(&entry)?).map_err(ApiError::internal)?;
            quotas.push((entry, quota));
        }
    }
    Ok(quotas)
}

/// The stored quota with this usage, owned as upstream's own write of the status would be.
fn with_used(entry: &Entry, used: &Amounts, world: &World) -> Result<Value> {
    let old = stored_value(entry)?;
    let mut new = old.clone();
    edit::set(&mut new, &["status", "used"], json!(resource::written(used)));
    let schema = schema::builtin();
    if let Some(ty) = schema.kind("", "v1", "ResourceQuota") {
        let manager = Manager {
            name: "kube-apiserver",
            api_version: "v1",
            kind: "ResourceQuota",
            subresource: "status",
            force: false,
            now: world.now(),
            reset: &Reset::of("", "resourcequotas", "status", true),
            versions: None,
        };
        apply::track(schema, ty, Some(&old), &mut new, &manager);
    }
    Ok(new)
}

/// What an object would use.
struct Charge {
    evaluator: Evaluator,
    object: Object,
    old: Option<Object>,
    usage: Amounts,
    /// Of what was there before, which is paid for already.
    paid: Amounts,
    /// Reports of what is do not fail for what is too much.
    is_status: bool,
}

impl Charge {
    fn of(attributes: &Attributes, world: &World) -> Result<Option<Self>> {
        let evaluator = quota::evaluator(attributes.group(), attributes.resource());
        let (Some(evaluator), Some(object)) = (evaluator, &attributes.object) else { return Ok(None) };
        let read = |object: &Value| evaluator.read(object).map_err(ApiError::internal);
        let object = read(object)?;
        let old = attributes.old.as_deref().map(read).transpose()?;
        if let (Object::Pod(new), Some(Object::Pod(old)), "") = (&object, &old, attributes.subresource.as_str())
            && is_terminating(new) == is_terminating(old)
        {
            return Ok(None);
        }
        let now = world.now();
        let usage = evaluator.usage(&object, now);
        let paid = old.as_ref().map(|old| evaluator.usage(old, now)).unwrap_or_default();
        let is_status = attributes.subresource == "status";
        Ok(Some(Self { evaluator, object, old, usage, paid, is_status }))
    }

    /// The new usage of each quota, none where it stays; or why the object does not fit.
    fn check<'q>(&self, quotas: impl Iterator<Item = &'q Quota>) -> std::result::Result<Vec<Option<Amounts>>, String> {
        let quotas: Vec<&Quota> = quotas.collect();
        let matching = |quota: &&Quota| self.evaluator.matches(quota, &self.object);
        for quota in quotas.iter().copied().filter(matching) {
            self.can_be_measured(quota)?;
        }
        let negative: Vec<_> =
            self.usage.iter().filter(|(_, a)| a.is_negative()).map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
        }
        quotas.iter().map(|quota| if matching(quota) { self.fit(quota) } else { Ok(None) }).collect()
    }

    fn can_be_measured(&self, quota: &Quota) -> std::result::Result<(), String> {
        let name = name(quota);
        let counted = self.evaluator.counted(quota);
        self.evaluator.constraints(&counted, &self.object).map_err(|why| format!("failed quota: {name}: {why}"))?;
        let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
        if counted.iter().all(|resource| used.is_some_and(|used| used.contains_key(*resource))) {
            return Ok(());
        }
        Err(format!("status unknown for quota: {name}, resources: {}", counted.join(",")))
    }

    fn fit(&self, quota: &Quota) -> std::result::Result<Option<Amounts>, String> {
        let status = quota.status.clone().unwrap_or_default();
        let (hard, used) = (resource::amounts(status.hard.as_ref()), resource::amounts(status.used.as_ref()));
        let was_counted = self.old.as_ref().is_some_and(|old| self.evaluator.matches(quota, old));
        let mut asked = Amounts::new();
        for (name, amount) in self.usage.iter().filter(|(name, _)| hard.contains_key(*name)) {
            let paid = self.paid.get(name).filter(|_| was_counted);
            let more = paid.map_or(*amount, |paid| *amount - *paid);
            if !more.is_zero() && !more.is_negative() {
                asked.insert(name.clone(), more);
            }
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let mut sum = used.clone();
        resource::add(&mut sum, &asked);
        let exceeded: Vec<_> = asked.keys().filter(|name| sum.get(*name) > hard.get(*name)).collect();
        if self.is_status || exceeded.is_empty() {
            return Ok(Some(sum));
        }
        let told = |amounts: &Amounts| {
            let told = exceeded.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)));
            told.collect::<Vec<_>>().join(",")
        };
        let (asked, used, hard) = (told(&asked), told(&used), told(&hard));
        Err(format!("exceeded quota: {}, requested: {asked}, used: {used}, limited: {hard}", name(quota)))
    }
}

fn name(quota: &Quota) -> &str {
    quota.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(status: Value) -> Quota {
        edit::decode(&json!({"metadata": {"name": "q"}, "status": status})).unwrap()
    }

    fn charge(plural: &str, object: Value, old: Option<Value>) -> Charge {
        let evaluator = quota::evaluator("", plural).unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let (object, old) = (evaluator.read(&object).unwrap(), old.map(|old| evaluator.read(&old).unwrap()));
        let usage = evaluator.usage(&object, now);
        let paid = old.as_ref().map(|old| evaluator.usage(old, now)).unwrap_or_default();
        Charge { evaluator, object, old, usage, paid, is_status: false }
    }

    fn pod(cpu: &str) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[test]
    fn pods() {
        let with =
            |used: Value| quota(json!({"hard": {"pods": "2", "requests.cpu": "1", "services": "1"}, "used": used}));
        let check = |cpu: &str, quota: &Quota| charge("pods", pod(cpu), None).check([quota].into_iter());
        let new = check("100m", &with(json!({"pods": "1", "requests.cpu": "300m", "services": "0"}))).unwrap();
        let new = new[0].as_ref().unwrap();
        assert_eq!((new["pods"].to_string(), new["requests.cpu"].to_string()), ("2".into(), "400m".into()));
        for (cpu, used, why) in [
            (
                "2",
                json!({"pods": "2", "requests.cpu": "0"}),
                "exceeded quota: q, requested: pods=1,requests.cpu=2, used: pods=2,requests.cpu=0, limited: pods=2,requests.cpu=1",
            ),
            ("100m", json!({"pods": "0"}), "status unknown for quota: q, resources: pods,requests.cpu"),
        ] {
            assert_eq!(check(cpu, &with(used)).unwrap_err(), why);
        }
        let unnamed = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}});
        let why = charge("pods", unnamed, None).check([&with(json!({}))].into_iter()).unwrap_err();
        assert_eq!(why, "failed quota: q: must specify requests.cpu for: c");
        // Without a status nobody knows what is limited.
        assert_eq!(check("9", &quota(json!({}))), Ok(vec![None]));
    }

    #[test]
    fn updates_pay_the_difference() {
        let service = |kind: &str| json!({"metadata": {}, "spec": {"type": kind, "ports": [{"port": 80}]}});
        let with = |hard: &str| {
            quota(
                json!({"hard": {"services": "1", "services.nodeports": hard}, "used": {"services": "1", "services.nodeports": "0"}}),
            )
        };
        let change = |quota: &Quota| {
            charge("services", service("NodePort"), Some(service("ClusterIP"))).check([quota].into_iter())
        };
        assert_eq!(
            change(&with("0")).unwrap_err(),
            "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0"
        );
        let new = change(&with("1")).unwrap();
        assert_eq!(new[0].as_ref().unwrap()["services.nodeports"].to_string(), "1");
        let same = charge("services", service("ClusterIP"), Some(service("NodePort")));
        assert_eq!(same.check([&with("0")].into_iter()), Ok(vec![None]));
    }
}

//! Custom resources between versions, where their definition names a webhook that converts them.
//!
//! What is read is converted before it is needed ([`prepare`]): objects keep the forms that were made of them, so that
//! lists and watches find these without waiting.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crds::{
    custom::{Custom, Family},
    kind::Definition,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::review;
use crate::{
    backend::ServicePort,
    cache::Object,
    error::{ApiError, Result},
    webhook::Webhook,
    world::World,
};

/// Objects that one call is about at most.
const BATCH: usize = 200;
const WAIT_MAX: Duration = Duration::from_secs(30);
const PORT: i32 = 443;

/// The webhooks of the families that are known.
#[derive(Default)]
pub struct Converters(Mutex<Vec<(Weak<Family>, Arc<Webhook>)>>);

impl Converters {
    fn webhook(&self, family: &Arc<Family>) -> Arc<Webhook> {
        let mut known = self.0.lock();
        // A family is gone when its definition has changed.
        known.retain(|(family, _)| family.strong_count() > 0);
        if let Some((_, webhook)) = known.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(family)) {
            return webhook.clone();
        }
        let webhook = Arc::new(webhook(family));
        known.push((Arc::downgrade(family), webhook.clone()));
        webhook
    }
}

fn webhook(family: &Family) -> Webhook {
    let config = family.conversion.webhook.as_ref().and_then(|webhook| webhook.client_config.as_ref());
    let service = config.and_then(|config| config.service.as_ref()).map(|service| {
        let port = service.port.unwrap_or(PORT);
        let port = ServicePort { namespace: service.namespace.clone(), name: service.name.clone(), port };
        (port, service.path.as_deref())
    });
    let bundle = config.and_then(|config| config.ca_bundle.as_ref()).map(|bundle| bundle.0.as_slice());
    let bundle = bundle.filter(|bundle| !bundle.trim_ascii().is_empty());
    Webhook::new(config.and_then(|config| config.url.as_deref()), service, bundle)
}

/// The family of a kind that a webhook converts.
pub fn family(definition: &Definition) -> Option<&Arc<Family>> {
    definition.custom.as_ref().map(|Custom { family, .. }| family).filter(|family| family.uses_webhook())
}

/// Makes objects ready to be shown in a version of their kind.
pub async fn prepare<'o>(
    world: &World,
    objects: impl IntoIterator<Item = &'o Arc<Object>>,
    definition: &Arc<Definition>,
) -> Result<()> {
    let Some(family) = family(definition) else { return Ok(()) };
    let due: Vec<&Arc<Object>> = objects.into_iter().filter(|object| !object.has_form(definition)).collect();
    for batch in due.chunks(BATCH) {
        let read = |object: &&Arc<Object>| family.read(object.value()?).map_err(ApiError::unknown);
        let values = batch.iter().map(read).collect::<Result<Vec<_>>>()?;
        let values = convert(world, family, values, &definition.gvk.version).await?;
        for (object, value) in batch.iter().zip(values) {
            object.remember(definition, Some(Arc::new(Object::shown(&value, object.revision)?)));
        }
    }
    Ok(())
}

/// An object in another version of its family.
pub async fn one(world: &World, family: &Arc<Family>, object: Value, version: &str) -> Result<Value> {
    let converted = convert(world, family, vec![object], version).await?;
    converted.into_iter().next().ok_or_else(|| ApiError::internal("a conversion without a result"))
}

/// Objects in one version of their family; those that are of it already stay as they are.
async fn convert(world: &World, family: &Arc<Family>, objects: Vec<Value>, version: &str) -> Result<Vec<Value>> {
    let wanted = format!("{}/{version}", family.group);
    let (mut out, mut due) = (Vec::with_capacity(objects.len()), Vec::new());
    for (i, object) in objects.into_iter().enumerate() {
        if object["apiVersion"] != wanted.as_str() {
            due.push((i, object.clone()));
        }
        out.push(object);
    }
    let Some((_, first)) = due.first() else { return Ok(out) };
    let kind = review::told_kind(first);
    let refused = |why: String| ApiError::unknown(format!("conversion webhook for {kind} failed: {why}"));

    let uid = world.random.uid();
    let objects: Vec<&Value> = due.iter().map(|(_, object)| object).collect();
    let reviews = family.conversion.webhook.as_ref().map(|webhook| webhook.conversion_review_versions.as_slice());
    let review = review::Version::first(reviews.unwrap_or_default())
        .ok_or_else(|| ApiError::unknown("no supported conversion review versions".to_owned()))?;
    let body = review.request(&uid, &wanted, &objects);
    let answer = world.converters.webhook(family).post(world, body, WAIT_MAX).await;
    let answer = answer.map_err(|why| refused(why.to_string()))?;
    let converted = review.converted(&answer, &uid).map_err(refused)?;
    if converted.len() != due.len() {
        let (given, wanted) = (converted.len(), due.len());
        return Err(ApiError::unknown(format!(
            "conversion webhook for {kind} returned {given} objects, expected {wanted}"
        )));
    }
    for ((i, original), object) in due.into_iter().zip(converted) {
        let object = review::checked(&original, object, &wanted)
            .map_err(|why| ApiError::unknown(format!("conversion webhook for {kind} returned {why}")))?;
        let object = family.receive(object).map_err(ApiError::unknown)?;
        if let Some(place) = out.get_mut(i) {
            *place = object;
        }
    }
    Ok(out)
}

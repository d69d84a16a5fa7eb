//! An object of a request in another version of its kind, for webhooks and policies that want that one.

use crds::kind::Gvk;
use serde_json::Value;

use crate::{
    codec::typed,
    custom::convert,
    error::{ApiError, Result},
    world::World,
    write::{self, converted},
};

/// The object, if there is one, in another version; the same for what has but one, as a Scale.
pub async fn convert_some(object: Option<&Value>, from: &Gvk, to: &Gvk, world: &World) -> Result<Option<Value>> {
    match object {
        Some(object) => convert(object, from, to, world).await.map(Some),
        None => Ok(None),
    }
}

/// The same for an object that there is.
pub async fn convert(object: &Value, from: &Gvk, to: &Gvk, world: &World) -> Result<Value> {
    if from == to {
        return Ok(object.clone());
    }
    let unknown = |kind: &Gvk| {
        let (api_version, kind) = (kind.api_version(), &kind.kind);
        ApiError::internal(format!("unable to convert to {api_version}, Kind={kind}: unknown kind"))
    };
    let source = world.registry.kind(from).ok_or_else(|| unknown(from))?;
    let target = world.registry.kind(to).ok_or_else(|| unknown(to))?;
    if let Some(family) = convert::family(&target) {
        return convert::one(world, family, object.clone(), &to.version).await;
    }
    let mut object = converted(object.clone(), &source, &target);
    typed::canonical(&target, &mut object);
    Ok(object)
}

/// Sets the defaults of an object that was changed; what is no kind of its own has none.
pub fn set_defaults(object: &mut Value, kind: &Gvk, world: &World) -> Result<()> {
    match world.registry.kind(kind) {
        Some(definition) => write::set_defaults(&definition, object).map(|_| ()),
        None => {
            typed::canonical_form(kind, object);
            Ok(())
        }
    }
}

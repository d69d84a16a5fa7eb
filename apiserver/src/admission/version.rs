//! An object of a request in another version of its kind, for webhooks and policies that want that one.

use crds::kind::Gvk;
use serde_json::Value;

use crate::{
    codec::typed,
    error::{ApiError, Result},
    world::World,
    write::{self, converted},
};

/// The object in another version; the same for what has but one, as a Scale.
pub fn convert(object: &Value, from: &Gvk, to: &Gvk, world: &World) -> Result<Value> {
    if from == to {
        return Ok(object.clone());
    }
    let unknown = |kind: &Gvk| {
        let (api_version, kind) = (kind.api_version(), &kind.kind);
        ApiError::internal(format!("unable to convert to {api_version}, Kind={kind}: unknown kind"))
    };
    let source = world.registry.kind(from).ok_or_else(|| unknown(from))?;
    let target = world.registry.kind(to).ok_or_else(|| unknown(to))?;
    let mut object = converted(object.clone(), &source, &target);
    typed::canonical(&target, &mut object);
    Ok(object)
}

/// Sets the defaults of an object that was changed; what is no kind of its own has none.
pub fn set_defaults(object: &mut Value, kind: &Gvk, world: &World) -> Result<()> {
    match world.registry.kind(kind) {
        Some(definition) => write::set_defaults(&definition, object),
        None => {
            typed::canonical_form(kind, object);
            Ok(())
        }
    }
}

//! The parameters that a binding gives a policy.

use crds::selector::Selector;
use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use serde_json::Value;

use super::gvk_of;
use crate::{cache::Object, world::World};

/// Each is evaluated by itself; none is a run without parameters.
type Params = Vec<Option<Value>>;

/// The parameters of a binding for a request in this namespace. The error is what is wrong with its configuration.
pub fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    world: &World,
) -> Result<Params, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let definition = world.registry.kind(&gvk_of(kind)).ok_or_else(|| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (version, kind) = (text(&kind.api_version), text(&kind.kind));
        format!("paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known")
    })?;
    let given = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    if given.is_some() && !definition.namespaced {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
    }
    let namespace = given.unwrap_or(namespace);
    if definition.namespaced && namespace.is_empty() {
        let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
        return Err(why.to_owned());
    }
    let namespace = if definition.namespaced { namespace } else { "" };
    let objects = world.cache.kind(&definition);
    let value = |object: &Object| object.value_as(&definition).map_err(|error| error.to_string());
    let found: Params = match (reference.name.as_deref().filter(|name| !name.is_empty()), &reference.selector) {
        (Some(_), Some(_)) => return Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        (Some(name), None) => {
            objects.get(namespace, name).iter().map(|object| value(object).map(Some)).collect::<Result<_, _>>()?
        }
        (None, Some(selector)) => {
            let selector = Selector::from_object(Some(selector));
            let all = objects.list(namespace);
            let selected = all.iter().filter(|object| selector.matches(&object.labels));
            selected.map(|object| value(object).map(Some)).collect::<Result<_, _>>()?
        }
        (None, None) => return Err("one of name or selector must be provided".to_owned()),
    };
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

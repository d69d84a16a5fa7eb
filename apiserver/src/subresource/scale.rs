//! `autoscaling/v1 Scale` of everything that has replicas.

use crds::{
    custom::whole_at,
    field::{self, Errors},
    kind::{Definition, Gvk, ScalePaths, Subresource, split_group_version},
    kinds::{KINDS, autoscaling::scale::SCALE},
    meta::{self, Rule},
    selector::Selector,
};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};

use crate::{
    apply,
    call::Call,
    codec::{
        Form,
        answer::Answer,
        decode,
        negotiate::{self, Offer},
    },
    custom::convert,
    error::{ApiError, Result, Subject},
    metadata,
    options::WriteOptions,
    pipeline::Apiserver,
    route::Target,
    verbs::{self, patch},
    write::{Missing, Shown},
};

pub fn gvk() -> Gvk {
    Gvk { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() }
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(object, |value, part| value.get(part))
}

/// What stands for the replicas of an object that has none, until a client has set them.
const UNSET: i64 = i32::MIN as i64;

/// The Scale of an object.
fn of(object: &Value, definition: &Definition, paths: &ScalePaths) -> Result<Value> {
    let mut meta = Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|m| m.get(name)) {
            meta.insert(name.into(), value.clone());
        }
    }
    if definition.is_custom() {
        whole_at(object, &paths.replicas).and(whole_at(object, &paths.status_replicas)).map_err(ApiError::internal)?;
    }
    let replicas = at(object, &paths.replicas).and_then(Value::as_i64).unwrap_or(0);
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    let mut status = json!({"replicas": at(object, &paths.status_replicas).and_then(Value::as_i64).unwrap_or(0)});
    let selector = selector(Some(&*paths.selector).filter(|path| !path.is_empty()).and_then(|path| at(object, path)))?;
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}))
}

/// A selector as text: of a map of labels, of a selector object, or as it is.
fn selector(found: Option<&Value>) -> Result<String> {
    Ok(match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) if fields.values().all(Value::is_string) => {
            let labels = serde_json::from_value(Value::Object(fields.clone())).map_err(ApiError::internal)?;
            Selector::from_labels(&labels).to_string()
        }
        Some(object) => {
            let selector: LabelSelector = serde::Deserialize::deserialize(object).map_err(ApiError::internal)?;
            Selector::from_object(Some(&selector)).to_string()
        }
    })
}

/// The same with the managed fields that concern it, for writes.
pub fn of_tracked(object: &Value, definition: &Definition, paths: &ScalePaths) -> Result<Value> {
    let mut scale = of(object, definition, paths)?;
    if definition.is_custom() && at(object, &paths.replicas).is_none() {
        scale["spec"]["replicas"] = UNSET.into();
    }
    let managed = apply::scale::to_scale(object, &|version| replicas_at(object, definition, version, paths));
    metadata::put_managed(&mut scale, managed);
    Ok(scale)
}

/// Where a version of the object's kind has its number of replicas; none if it is not served.
fn replicas_at(
    object: &Value,
    definition: &Definition,
    api_version: &str,
    paths: &ScalePaths,
) -> Option<Option<Vec<apply::Element>>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == api_version {
        return Some(Some(apply::scale::path(&paths.replicas)));
    }
    let (group, version) = split_group_version(api_version);
    if let Some(custom) = &definition.custom {
        let known = custom.family.version(version).filter(|_| group == definition.gvk.group)?;
        return Some(known.scale.as_ref().map(|paths| apply::scale::path(&paths.replicas)));
    }
    let known =
        KINDS.iter().find(|d| d.gvk.group == group && d.gvk.version == version && d.gvk.kind == text("kind"))?;
    let paths =
        known.subresources.iter().find_map(|s| if let Subresource::Scale(paths) = s { Some(paths) } else { None });
    Some(paths.map(|paths| apply::scale::path(&paths.replicas)))
}

/// The object with what a Scale says.
pub fn put(object: &Value, definition: &Definition, paths: &ScalePaths, scale: &Value) -> Result<Value> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if definition.is_custom() && replicas == UNSET {
        let why = format!("the spec replicas field {} cannot be empty", crds::field::quote(&paths.replicas));
        return Err(ApiError::bad_request(why));
    }
    // A custom resource is checked as a whole, its replicas with it.
    if !definition.is_custom() {
        validate(scale, replicas)?;
    }
    let mut object = object.clone();
    let mut place = &mut object;
    for part in paths.replicas.split('.').filter(|part| !part.is_empty()) {
        place = &mut place[part];
    }
    *place = replicas.into();
    let api_version = definition.gvk.api_version();
    let managed = apply::scale::to_parent(&object, &api_version, scale, &|version| {
        replicas_at(&object, definition, version, paths)
    })
    .map_err(ApiError::internal)?;
    let version = metadata::text(scale, "resourceVersion").to_owned();
    if let Some(meta) = metadata::fields(&mut object) {
        match managed {
            Some(managed) => meta.insert("managedFields".into(), managed),
            None => meta.remove("managedFields"),
        };
        // Without one it is that of the object, so that nobody need know it.
        if !version.is_empty() {
            meta.insert("resourceVersion".into(), version.into());
        }
    }
    Ok(object)
}

fn validate(scale: &Value, replicas: i64) -> Result<()> {
    let rule =
        Rule { namespaced: true, standard_finalizers: true, checks_prefix: true, validate_name: &field::dns_subdomain };
    let mut errors = Errors::new();
    meta::create(&metadata::read(scale)?, &rule, &mut errors);
    field::not_negative(replicas, "spec.replicas", &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("autoscaling", "Scale", metadata::text(scale, "name"), &errors))
}

pub async fn answer(server: &Apiserver, call: &mut Call, target: &Target, paths: &ScalePaths) -> Result<Answer> {
    let definition = target.definition.clone();
    match call.info.verb.as_str() {
        "get" => {
            let form = form(call, &definition)?;
            server.world.cache.wait_until_current().await?;
            let object = server.world.object(&definition, &call.info.namespace_of(&definition), &call.info.name);
            let on = Subject { group: &definition.gvk.group, resource: &definition.plural, name: &call.info.name };
            let object = object.ok_or_else(|| ApiError::missing(on))?;
            convert::prepare(&server.world, [&object], &definition).await?;
            let object = object.value_as(&definition)?;
            if definition.is_custom() && at(&object, &paths.replicas).is_none() {
                let why = format!("the spec replicas field {} does not exist", crds::field::quote(&paths.replicas));
                return Err(ApiError::internal(why));
            }
            shown(server, call, form, of(&object, &definition, paths)?)
        }
        "update" => update(server, call, target, paths).await,
        _ => patched(server, call, target, paths).await,
    }
}

/// A Scale has all forms, even of what has no protobuf itself.
fn form(call: &Call, definition: &Definition) -> Result<Form> {
    match definition.is_custom() {
        true => negotiate::accepted(&call.headers, &call.query, Offer::Resource),
        false => verbs::form(call, definition),
    }
}

fn shown(server: &Apiserver, call: &Call, form: Form, scale: Value) -> Result<Answer> {
    verbs::shown(server, call, StatusCode::OK, form, &SCALE, &Shown::Value(scale))
}

async fn update(server: &Apiserver, call: &mut Call, target: &Target, paths: &ScalePaths) -> Result<Answer> {
    let form = form(call, &target.definition)?;
    let options = WriteOptions::from_query(&call.query, "UpdateOptions", false)?;
    let media = negotiate::sent(&call.headers, false)?;
    let body = call.read_body().await?;
    let decoded = decode::object(&body, media, &gvk(), options.field_validation).map_err(|error| {
        // Upstream's server for custom resources does not know the kind in which it would tell what is wrong.
        let why = "no kind is registered for the type v1.Scale in scheme \"pkg/runtime/scheme.go:111\"";
        if target.definition.is_custom() { ApiError::bad_request(why) } else { error }
    })?;
    call.warnings.extend(decoded.warnings);
    call.audit.request_object(&decoded.object);
    let mut scale = decoded.object;
    metadata::match_namespace(&mut scale, &call.info.namespace_of(&target.definition))?;
    metadata::match_name(&scale, &call.info.name)?;
    let name = call.info.name.clone();
    let mut writer = verbs::writer(server, call, target, &name, options);
    writer.scale = Some(paths.clone());
    let written = writer.update(&mut |_| Ok(scale.clone()), &Missing::NotFound).await;
    let warnings = std::mem::take(&mut writer.warnings);
    call.warnings.extend(warnings);
    shown(server, call, form, of(&written?.shown.value(&target.definition)?, &target.definition, paths)?)
}

async fn patched(server: &Apiserver, call: &mut Call, target: &Target, paths: &ScalePaths) -> Result<Answer> {
    let form = form(call, &target.definition)?;
    let written = patch::write(server, call, target, &gvk(), Some(paths.clone())).await?;
    shown(server, call, form, of(&written.shown.value(&target.definition)?, &target.definition, paths)?)
}

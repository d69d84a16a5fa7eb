//! A stock kube-rs operator and its user, on the API server of `$KUBECONFIG`: each step says what it did.
//!
//! Of kube: a derived CustomResource, server-side apply, `await_condition`, the Controller with `owns`, the finalizer
//! helper, the events Recorder, a reflector over a watcher of each kind of first list, and a metadata watcher.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace},
        events::v1::Event as Told,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
    core::{ObjectMeta, PartialObjectMeta},
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        finalizer::{self, finalizer},
        reflector,
        wait::{await_condition, conditions, delete::delete_and_finalize},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

type Failure = Box<dyn Error + Send + Sync>;

const NAMESPACE: &str = "kube-rs";
const FINALIZER: &str = "lamps.example.com/switch";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "lamps.example.com", version = "v1", kind = "Lamp", namespaced)]
#[kube(
    status = "LampStatus",
    shortname = "lm",
    printcolumn = r#"{"name":"Lit","type":"boolean","jsonPath":".status.lit"}"#
)]
struct LampSpec {
    /// Watts.
    #[schemars(range(min = 1, max = 1000))]
    power: u32,
    #[serde(default = "white")]
    color: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct LampStatus {
    lit: bool,
}

fn white() -> String {
    "white".to_owned()
}

#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("{0}")]
    Finalizer(#[from] Box<finalizer::Error<Wrong>>),
    #[error("a lamp without owner references or namespace")]
    Place,
}

struct Operator {
    client: Client,
    recorder: Recorder,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let client = Client::try_default().await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(NAMESPACE.to_owned()), ..Default::default() },
        ..Default::default()
    };
    namespaces.create(&PostParams::default(), &namespace).await?;
    define(&client).await?;
    let controller = tokio::spawn(operate(client.clone()));
    let lamps = Api::<Lamp>::namespaced(client.clone(), NAMESPACE);
    reconcile(&client, &lamps).await?;
    refuse(&lamps).await?;
    watch(&client).await?;
    end(&client, &lamps).await?;
    controller.abort();
    let definitions = Api::<CustomResourceDefinition>::all(client);
    within("the definition goes", delete_and_finalize(definitions, Lamp::crd_name(), &DeleteParams::default()))
        .await??;
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    println!("ok   the definition is deleted, and is gone");
    Ok(())
}

async fn within<T>(what: &str, done: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(PATIENCE, done).await.map_err(|_| format!("{what}: not within {PATIENCE:?}").into())
}

fn check(holds: bool, what: impl std::fmt::Debug) -> Result<(), Failure> {
    match holds {
        true => Ok(()),
        false => Err(format!("not so: {what:?}").into()),
    }
}

async fn define(client: &Client) -> Result<(), Failure> {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let apply = PatchParams::apply("kube-rs").force();
    definitions.patch(Lamp::crd_name(), &apply, &Patch::Apply(Lamp::crd())).await?;
    let established = await_condition(definitions, Lamp::crd_name(), conditions::is_crd_established());
    within("the definition is established", established).await??;
    println!("ok   the derived CustomResourceDefinition is applied and established");
    Ok(())
}

/// The operator: each lamp has a bulb.
async fn operate(client: Client) {
    let lamps = Api::<Lamp>::namespaced(client.clone(), NAMESPACE);
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let reporter = Reporter { controller: "lamps".to_owned(), instance: None };
    let operator = Arc::new(Operator { recorder: Recorder::new(client.clone(), reporter), client });
    Controller::new(lamps, watcher::Config::default())
        .owns(maps, watcher::Config::default())
        .run(light, |_, _, _| Action::requeue(Duration::from_millis(100)), operator)
        .for_each(|result| async move {
            if let Err(error) = result {
                eprintln!("the controller: {error}");
            }
        })
        .await;
}

async fn light(lamp: Arc<Lamp>, operator: Arc<Operator>) -> Result<Action, Wrong> {
    let lamps = Api::<Lamp>::namespaced(operator.client.clone(), &lamp.namespace().ok_or(Wrong::Place)?);
    let done = finalizer(&lamps, FINALIZER, lamp, |event| async {
        match event {
            finalizer::Event::Apply(lamp) => apply(&lamp, &operator).await,
            finalizer::Event::Cleanup(lamp) => {
                tell(&operator, &lamp, "Unplugged").await?;
                Ok(Action::await_change())
            }
        }
    });
    done.await.map_err(|error| Box::new(error).into())
}

async fn apply(lamp: &Lamp, operator: &Operator) -> Result<Action, Wrong> {
    let maps = Api::<ConfigMap>::namespaced(operator.client.clone(), NAMESPACE);
    let lamps = Api::<Lamp>::namespaced(operator.client.clone(), NAMESPACE);
    let name = format!("{}-bulb", lamp.name_any());
    let bulb = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![lamp.controller_owner_ref(&()).ok_or(Wrong::Place)?]),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("power".to_owned(), lamp.spec.power.to_string())])),
        ..Default::default()
    };
    let manager = PatchParams::apply("lamps");
    maps.patch(&name, &manager, &Patch::Apply(bulb)).await?;
    let status = json!({"apiVersion": Lamp::api_version(&()), "kind": Lamp::kind(&()), "status": {"lit": true}});
    lamps.patch_status(&lamp.name_any(), &manager, &Patch::Apply(status)).await?;
    if lamp.status.is_none() {
        tell(operator, lamp, "Plugged").await?;
    }
    Ok(Action::await_change())
}

async fn tell(operator: &Operator, lamp: &Lamp, reason: &str) -> Result<(), Wrong> {
    let event = Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(format!("{} W", lamp.spec.power)),
        action: "Switch".to_owned(),
        secondary: None,
    };
    Ok(operator.recorder.publish(&event, &lamp.object_ref(&())).await?)
}

async fn reconcile(client: &Client, lamps: &Api<Lamp>) -> Result<(), Failure> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let made = lamps.create(&PostParams::default(), &lamp("desk", 40)).await?;
    check(made.spec.color == "white", &made.spec)?;
    let lit = await_condition(lamps.clone(), "desk", |lamp: Option<&Lamp>| {
        lamp.and_then(|lamp| lamp.status.as_ref()).is_some_and(|status| status.lit)
    });
    let lit = within("it is lit", lit).await??.ok_or("no lamp")?;
    check(lit.finalizers() == [FINALIZER], lit.finalizers())?;
    // Whoever deletes what it owns sees it again.
    let bulb = maps.get("desk-bulb").await?;
    let uid = bulb.uid().ok_or("no uid")?;
    maps.delete("desk-bulb", &DeleteParams::default()).await?;
    let again = await_condition(maps.clone(), "desk-bulb", |map: Option<&ConfigMap>| {
        map.and_then(ResourceExt::uid).is_some_and(|other| other != uid)
    });
    within("the bulb comes again", again).await??;
    lamps.patch("desk", &PatchParams::default(), &Patch::Merge(json!({"spec": {"power": 60}}))).await?;
    let brighter = await_condition(maps, "desk-bulb", |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()).is_some_and(|data| data["power"] == "60")
    });
    within("the bulb is changed", brighter).await??;
    let events = Api::<Told>::namespaced(client.clone(), NAMESPACE);
    let told = events.list(&ListParams::default().fields("regarding.name=desk,reason=Plugged")).await?;
    check(!told.items.is_empty(), &told.items)?;
    println!("ok   the Controller reconciles: what it owns, the status, a finalizer, events");
    Ok(())
}

fn lamp(name: &str, power: u32) -> Lamp {
    Lamp::new(name, LampSpec { power, color: white() })
}

async fn refuse(lamps: &Api<Lamp>) -> Result<(), Failure> {
    let refused = lamps.create(&PostParams::default(), &lamp("sun", 5000)).await;
    check(matches!(&refused, Err(kube::Error::Api(status)) if status.is_invalid()), &refused)?;
    let stolen =
        json!({"apiVersion": Lamp::api_version(&()), "kind": Lamp::kind(&()), "spec": {"power": 1, "color": "red"}});
    let refused = lamps.patch("desk", &PatchParams::apply("thief"), &Patch::Apply(&stolen)).await;
    check(matches!(&refused, Err(kube::Error::Api(status)) if status.is_conflict()), &refused)?;
    let dry = PatchParams { dry_run: true, ..PatchParams::apply("thief").force() };
    check(lamps.patch("desk", &dry, &Patch::Apply(&stolen)).await?.spec.power == 1, "a dry run")?;
    check(lamps.get("desk").await?.spec.power == 60, "a dry run changes nothing")?;
    check(lamps.get_opt("none").await?.is_none(), "a lamp that is none")?;
    println!("ok   refusals are told apart: invalid, conflict, not found; a dry run leaves nothing");
    Ok(())
}

/// Reflectors fed by lists in pages and by streaming lists, and a watcher of metadata, see the same.
async fn watch(client: &Client) -> Result<(), Failure> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let labelled = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"watched": "yes"}}, "data": {"a": value}});
    let manager = PatchParams::apply("watch");
    for number in 0..12 {
        let name = format!("watched-{number:02}");
        maps.patch(&name, &manager, &Patch::Apply(labelled(&name, "1"))).await?;
    }
    let selected = watcher::Config::default().labels("watched");
    for (kind, config) in
        [("a list in pages", selected.clone().page_size(5)), ("a streaming list", selected.clone().streaming_lists())]
    {
        let (reader, writer) = reflector::store::<ConfigMap>();
        let mut stream = watcher(maps.clone(), config).default_backoff().reflect(writer).boxed();
        let first = async {
            let mut seen = 0;
            while let Some(event) = stream.try_next().await? {
                match event {
                    watcher::Event::InitApply(_) => seen += 1,
                    watcher::Event::InitDone => break,
                    _ => {}
                }
            }
            Ok::<_, watcher::Error>(seen)
        };
        check(within(kind, first).await?? == 12, kind)?;
        check(reader.state().len() == 12, kind)?;
        maps.patch("watched-05", &manager, &Patch::Apply(labelled("watched-05", kind))).await?;
        let change = within(kind, stream.try_next()).await??.ok_or("the stream ended")?;
        let is_told = matches!(&change, watcher::Event::Apply(map) if map.name_any() == "watched-05"
            && map.data.as_ref().is_some_and(|data| data["a"] == kind));
        check(is_told, change)?;
    }
    let partials = Api::<PartialObjectMeta<ConfigMap>>::namespaced(client.clone(), NAMESPACE);
    let mut partial = watcher(partials, selected).default_backoff().boxed();
    let mut deleted = false;
    let gone = async {
        while let Some(event) = partial.try_next().await? {
            match event {
                watcher::Event::InitDone if !deleted => {
                    deleted = true;
                    maps.delete("watched-03", &DeleteParams::default())
                        .await
                        .map_err(watcher::Error::WatchStartFailed)?;
                }
                watcher::Event::Delete(object) => return Ok(object.name_any()),
                _ => {}
            }
        }
        Ok::<_, watcher::Error>(String::new())
    };
    check(within("a deletion", gone).await?? == "watched-03", "the metadata watcher tells of a deletion")?;
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("watched")).await?;
    println!("ok   watchers: pages, streaming lists, metadata; a reflector's store");
    Ok(())
}

async fn end(client: &Client, lamps: &Api<Lamp>) -> Result<(), Failure> {
    let uid = lamps.get("desk").await?.uid().ok_or("no uid")?;
    let delete = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..Default::default() };
    lamps.delete("desk", &delete).await?;
    within("it is deleted", await_condition(lamps.clone(), "desk", conditions::is_deleted(&uid))).await??;
    let bulbs = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let gone = await_condition(bulbs, "desk-bulb", |map: Option<&ConfigMap>| map.is_none());
    within("what it owned goes", gone).await??;
    println!("ok   the finalizer ends before the lamp goes, which takes its bulb");
    Ok(())
}

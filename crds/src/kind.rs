//! What the author of a kind writes, and what the rest of the house sees of it.
//!
//! A built-in kind is a Kubernetes type with an [`impl Kind`](Kind): its names, and where upstream has such rules, its
//! defaults, preparation, validation and columns. [`Definition`] is the same with the type erased; a custom resource
//! becomes a `Definition` too, and nothing above this crate can tell the two apart.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    ClusterResourceScope, Metadata, NamespaceResourceScope, Resource, SubResourceScope,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::{typed::Typed, versioned::Versioned};
use crate::{
    custom::Custom,
    field::Errors,
    schema::{self, Schema, TypeId},
    user::User,
};

mod typed;
mod versioned;

type Text = Cow<'static, str>;

/// What can be done with a kind; discovery names them in alphabetical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    pub const ALL: &[Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];
    pub const CREATE_ONLY: &[Self] = &[Self::Create];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A part of an object that is served under a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subresource {
    Status,
    /// `autoscaling/v1 Scale`, at these JSON paths of the object.
    Scale(ScalePaths),
    /// Another function of the apiserver, by its path segment: `log`, `exec`, `binding`, `token`, …
    Other {
        name: &'static str,
        /// Group, version and kind of what is sent and answered, as discovery tells them.
        kind: (&'static str, &'static str, &'static str),
        verbs: &'static [&'static str],
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub replicas: Text,
    pub status_replicas: Text,
    /// Where the selector is: an object's `matchLabels` form, a map of labels, or a text; empty where there is none.
    pub selector: Text,
}

impl ScalePaths {
    /// The paths of a built-in kind.
    pub const fn new(replicas: &'static str, status_replicas: &'static str, selector: &'static str) -> Self {
        Self {
            replicas: Cow::Borrowed(replicas),
            status_replicas: Cow::Borrowed(status_replicas),
            selector: Cow::Borrowed(selector),
        }
    }
}

/// When `metadata.generation` counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    None,
    /// 1 at creation, one more with every change outside metadata and status.
    Spec,
    /// Kept by the kind's own `prepare_*`.
    Own,
}

/// What a DELETE answers once the object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteAnswer {
    Status,
    Object,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Text,
    pub kind: Text,
    pub format: Text,
    pub prose: Prose,
    /// Greater than 0: shown only by `-o wide`.
    pub priority: i32,
}

/// What a column's description is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prose {
    Text(Text),
    /// The description of this field of this type (`io.k8s.api.core.v1.PodStatus`, `podIP`).
    Field(&'static str, &'static str),
}

/// A column of a built-in kind: name, type, format, priority, description.
pub const fn column(
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
    prose: Prose,
) -> Column {
    Column { name: Cow::Borrowed(name), kind: Cow::Borrowed(kind), format: Cow::Borrowed(format), prose, priority }
}

/// A description in words.
pub const fn text(words: &'static str) -> Prose {
    Prose::Text(Cow::Borrowed(words))
}

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The column that every kind's table begins with.
pub const NAME: Column = column("Name", "string", "name", 0, Prose::Field(META, "name"));

/// The column that most tables have: how long ago the object was made.
pub const AGE: Column = column("Age", "string", "", 0, Prose::Field(META, "creationTimestamp"));

/// The facts of a kind: what discovery, routing, storage and printing need to know.
#[derive(Clone, Debug)]
pub struct About {
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub verbs: &'static [Verb],
    pub subresources: &'static [Subresource],
    /// Empty: Name and Created At.
    pub columns: &'static [Column],
    pub generation: Generation,
    /// A new object that is given no name gets one.
    pub names_itself: bool,
    /// PUT to a missing name creates it.
    pub create_on_update: bool,
    /// PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    pub delete_answer: DeleteAnswer,
    /// Deletion without a propagation policy orphans the dependents.
    pub orphans_by_default: bool,
    /// Where upstream keeps it under `/registry/`: most often the plural.
    pub storage_prefix: &'static str,
    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// Lists and maps that are empty are told from those that are not there even after defaults.
    pub tells_empty: bool,
    /// The kind's own rules see to the metadata of a new object, before what is seen to for all kinds.
    pub checks_metadata: bool,
    /// A prefix that a name is made of must have the syntax of a name, too.
    pub checks_prefix: bool,
    /// The kind's own rules begin with what changes of the metadata, as the rules for all kinds do before.
    pub checks_changes: bool,
}

impl About {
    /// What most kinds are: everything but the names.
    pub const fn new(plural: &'static str, singular: &'static str) -> Self {
        Self {
            plural,
            singular,
            short_names: &[],
            categories: &[],
            verbs: Verb::ALL,
            subresources: &[],
            columns: &[],
            generation: Generation::None,
            names_itself: false,
            create_on_update: false,
            unconditional_update: true,
            delete_answer: DeleteAnswer::Status,
            orphans_by_default: false,
            storage_prefix: plural,
            selectable: &[],
            tells_empty: false,
            checks_metadata: true,
            checks_prefix: true,
            checks_changes: true,
        }
    }
}

/// What else the author of a request may do, for rules that depend on it.
pub trait Rights: Sync {
    /// Whether `verb` is allowed on this subresource of the object's resource; empty texts: in all namespaces, for all
    /// names. The error is the refusal.
    fn require(&self, verb: &str, subresource: &str, namespace: &str, name: &str) -> Result<(), String>;
}

/// Everything is allowed.
pub struct AllRights;

impl Rights for AllRights {
    fn require(&self, _: &str, _: &str, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}

/// What a rule may know of the request that it is applied for.
#[derive(Clone)]
pub struct Request<'a> {
    pub user: &'a User,
    pub rights: &'a dyn Rights,
    /// `create`, `update`, `patch`.
    pub verb: &'a str,
    pub now: Timestamp,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Whether the namespace is one whose devices may be used with admin access.
    pub is_admin_namespace: bool,
    /// Whether the author of a new object gave it labels.
    pub has_own_labels: bool,
    /// The object as JSON, for rules that tell an empty list from one that is not there where its type does not.
    pub sent: &'a Value,
}

impl<'a> Request<'a> {
    /// A request of somebody who may do anything, in a namespace of no special rights, for an object with labels of its
    /// own.
    pub fn new(user: &'a User, now: Timestamp, subresource: &'a str) -> Self {
        Self {
            user,
            rights: &AllRights,
            verb: "update",
            now,
            subresource,
            is_admin_namespace: false,
            has_own_labels: true,
            sent: &Value::Null,
        }
    }
}

/// Whether objects live in namespaces.
pub trait Scoped {
    const NAMESPACED: bool;
}

impl Scoped for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl Scoped for SubResourceScope {
    const NAMESPACED: bool = true;
}

impl Scoped for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// A built-in kind. Only [`ABOUT`](Kind::ABOUT) must be given; a rule that is not given does nothing.
///
/// Rules see typed objects, after strict decoding. `set_defaults` fills in what the author left out and must be
/// idempotent. `prepare_*` brings what clients may not choose in order: status on create, spec on status updates.
/// `validate_*` report everything that is wrong, with upstream's paths and words. Names, labels, owners and the other
/// parts of metadata are checked for all kinds alike, elsewhere; `validate_name` says which syntax a name has.
pub trait Kind:
    Resource<Scope: Scoped>
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + PartialEq
    + Send
    + Sync
    + 'static
{
    const ABOUT: About;

    /// Whole objects of other kinds are in its spec: their types tell what kind they are of, whether that was given or not.
    const HOLDS_OBJECTS: bool = false;

    /// `spec.selector` is a LabelSelector that must be given: its type cannot tell a missing one from an empty one, so
    /// an empty one is decoded with an empty map of labels.
    const NEEDS_SELECTOR: bool = false;

    fn validate_name(name: &str) -> Vec<String> {
        crate::field::dns_subdomain(name)
    }

    /// The same where what is in the object, as it was sent, says what its name must be.
    fn validate_name_of(name: &str, _object: &Value) -> Vec<String> {
        Self::validate_name(name)
    }

    /// Why an object that fits the schema cannot be read as of this kind, in upstream's words: what its conversion asks
    /// for beside.
    fn unreadable(_object: &Value) -> Option<String> {
        None
    }

    fn set_defaults(&mut self) {}

    fn prepare_create(&mut self, _request: &Request) {}

    fn prepare_update(&mut self, _old: &Self, _request: &Request) {}

    fn validate_create(&self, _request: &Request, _errors: &mut Errors) {}

    fn validate_update(&self, _old: &Self, _request: &Request, _errors: &mut Errors) {}

    /// For `/status` (and other subresources that write the object, told apart by `request.subresource`): restore from
    /// `old` all that the subresource may not change.
    fn prepare_subresource(&mut self, _old: &Self, _request: &Request) {}

    fn validate_subresource(&self, _old: &Self, _request: &Request, _errors: &mut Errors) {}

    /// How many seconds a deletion may take, where it is graceful; `requested` is what the client asked for. None: the
    /// object is deleted at once.
    fn grace_seconds(&self, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// What a DELETE that leaves the dependents alone, without having been asked to, warns of.
    const ORPHANING_WARNING: Option<&'static str> = None;

    /// Annotations that are a field inside upstream: what shows metadata alone, and tables, do not have them.
    const INNER_ANNOTATIONS: &'static [&'static str] = &[];

    /// Something beside the finalizers of the metadata still keeps the object.
    fn is_held(&self) -> bool {
        false
    }

    /// The first DELETE of an object only marks it as going, and this may mark it further; false: it deletes.
    fn begin_deletion(&mut self, _now: Timestamp) -> bool {
        false
    }

    /// `Warning` headers of a create, of what was sent and is about to be prepared; they come before [`warnings`].
    ///
    /// [`warnings`]: Kind::warnings
    fn sent_warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// `Warning` headers of a create (`old` is none) or an update.
    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        Vec::new()
    }

    /// The value of a field selector of [`About::selectable`].
    fn selectable(&self, _path: &str) -> String {
        String::new()
    }

    /// The cells under [`About::columns`].
    fn row(&self, _now: Timestamp) -> Vec<Value> {
        Vec::new()
    }
}

/// The rules of a kind on objects as JSON; what [`Kind`] and custom resources have in common.
///
/// Objects that come in have passed the strict check against the schema, so that decoding succeeds; where it does not
/// (a number out of range), the error tells why.
pub trait Rules: Send + Sync {
    fn validate_name(&self, name: &str, object: &Value) -> Vec<String>;
    /// Brings an object of a request into the kind's form where the schema's facts do not do that alone; gives the paths
    /// of unknown fields. The error says why it cannot be of this kind.
    fn accept(&self, _object: &mut Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    /// An object as it was stored, in this version. The error says why it cannot be had in it.
    fn restore(&self, object: Value) -> Result<Value, String> {
        Ok(object)
    }
    /// An object of this version as it is stored.
    fn keep(&self, object: Value) -> Result<Value, String> {
        Ok(object)
    }
    fn set_defaults(&self, object: &mut Value) -> Result<(), serde_json::Error>;
    /// Prepares and validates; gives the warnings. Errors are appended to `errors`.
    fn create(
        &self,
        object: &mut Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error>;
    /// The same for an update of the object or, with `request.subresource`, a part of it.
    fn update(
        &self,
        object: &mut Value,
        old: &Value,
        request: &Request,
        errors: &mut Errors,
    ) -> Result<Vec<String>, serde_json::Error>;
    fn selectable(&self, object: &Value, path: &str) -> String;
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value>;
    fn grace_seconds(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }
    fn orphaning_warning(&self) -> Option<&'static str> {
        None
    }
    fn inner_annotations(&self) -> &'static [&'static str] {
        &[]
    }
    fn is_held(&self, _object: &Value) -> bool {
        false
    }
    fn begin_deletion(&self, _object: &mut Value, _now: Timestamp) -> Result<bool, serde_json::Error> {
        Ok(false)
    }
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
}

impl Gvk {
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }
}

/// `apps/v1`, or `v1` of the core group.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The group, empty for the core group, and the version that an apiVersion names.
pub fn split_group_version(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

/// How a version of a kind is turned into the version that is stored, and back.
#[derive(Clone, Copy)]
pub struct Conversion {
    /// The stored version of the same kind: its group and version.
    pub stored: (&'static str, &'static str),
    pub to_stored: fn(Value) -> Value,
    pub from_stored: fn(Value) -> Value,
}

/// Where the type of a kind is told: in the built-in table, or in one of its own.
#[derive(Clone, Debug)]
pub struct Facts {
    own: Option<Arc<Schema>>,
    ty: Option<TypeId>,
}

impl Facts {
    /// The facts of a built-in type, if there are any.
    pub fn built_in(gvk: &Gvk) -> Self {
        Self { own: None, ty: schema::builtin().kind(&gvk.group, &gvk.version, &gvk.kind) }
    }

    pub const fn own(schema: Arc<Schema>, ty: TypeId) -> Self {
        Self { own: Some(schema), ty: Some(ty) }
    }

    pub fn get(&self) -> Option<(&Schema, TypeId)> {
        let schema = match &self.own {
            Some(own) => own.as_ref(),
            None => schema::builtin(),
        };
        self.ty.map(|ty| (schema, ty))
    }
}

/// A kind with its type erased: a row of the kinds table, or a version of a custom resource.
#[derive(Clone)]
pub struct Definition {
    pub gvk: Gvk,
    pub list_kind: Text,
    pub namespaced: bool,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    pub columns: Vec<Column>,
    pub selectable: Vec<Text>,
    pub generation: Generation,
    pub names_itself: bool,
    pub create_on_update: bool,
    pub unconditional_update: bool,
    pub delete_answer: DeleteAnswer,
    pub orphans_by_default: bool,
    pub storage_prefix: Text,
    pub tells_empty: bool,
    pub checks_metadata: bool,
    pub checks_prefix: bool,
    pub checks_changes: bool,
    /// The name of its type in the schema, `io.k8s.api.core.v1.Pod`.
    pub schema_name: Text,
    pub facts: Facts,
    pub conversion: Option<Conversion>,
    /// What a CustomResourceDefinition says beside; none for built-in kinds.
    pub custom: Option<Custom>,
    pub rules: Arc<dyn Rules>,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Definition").field(&self.gvk).finish()
    }
}

impl Definition {
    /// A built-in kind.
    pub fn of<K: Kind>() -> Self {
        let about = K::ABOUT;
        let borrowed = |texts: &[&'static str]| texts.iter().map(|t| Cow::Borrowed(*t)).collect();
        let gvk = Gvk { group: K::GROUP.into(), version: K::VERSION.into(), kind: K::KIND.into() };
        let facts = Facts::built_in(&gvk);
        Self {
            rules: Arc::new(Typed::<K>::new(facts.clone())),
            facts,
            gvk,
            list_kind: format!("{}List", K::KIND).into(),
            namespaced: K::Scope::NAMESPACED,
            plural: about.plural.into(),
            singular: about.singular.into(),
            short_names: borrowed(about.short_names),
            categories: borrowed(about.categories),
            verbs: about.verbs.to_vec(),
            subresources: about.subresources.to_vec(),
            columns: about.columns.to_vec(),
            selectable: borrowed(about.selectable),
            generation: about.generation,
            names_itself: about.names_itself,
            create_on_update: about.create_on_update,
            unconditional_update: about.unconditional_update,
            delete_answer: about.delete_answer,
            orphans_by_default: about.orphans_by_default,
            storage_prefix: about.storage_prefix.into(),
            tells_empty: about.tells_empty,
            checks_metadata: about.checks_metadata,
            checks_prefix: about.checks_prefix,
            checks_changes: about.checks_changes,
            schema_name: schema_name(K::GROUP, K::VERSION, K::KIND).into(),
            conversion: None,
            custom: None,
        }
    }

    /// Another version of a kind, with the same fields.
    pub fn version_of<K: Kind>(version: &'static str) -> Self {
        Self::converted::<K>(version, |object| object, |object| object)
    }

    /// Another version of a kind, with fields of its own: they are turned into those of `K`, and back.
    pub fn converted<K: Kind>(
        version: &'static str,
        to_stored: fn(Value) -> Value,
        from_stored: fn(Value) -> Value,
    ) -> Self {
        let mut it = Self::of::<K>();
        let conversion = Conversion { stored: (K::GROUP, K::VERSION), to_stored, from_stored };
        it.gvk.version = version.into();
        it.facts = Facts::built_in(&it.gvk);
        it.schema_name = schema_name(K::GROUP, version, K::KIND).into();
        it.rules = Arc::new(Versioned::new(it.rules, &it.gvk, conversion));
        it.conversion = Some(conversion);
        it
    }

    pub fn with_conversion(mut self, conversion: Conversion) -> Self {
        self.conversion = Some(conversion);
        self
    }

    /// Whether a CustomResourceDefinition made this kind.
    pub const fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresource(name).is_some()
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| match s {
            Subresource::Status => name == "status",
            Subresource::Scale(_) => name == "scale",
            Subresource::Other { name: other, .. } => name == *other,
        })
    }
}

/// The OpenAPI name of a built-in type.
fn schema_name(group: &str, version: &str, kind: &str) -> String {
    match group {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "apiextensions.k8s.io" => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}"),
        "apiregistration.k8s.io" => format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}"),
        "flowcontrol.apiserver.k8s.io" => format!("io.k8s.api.flowcontrol.{version}.{kind}"),
        "internal.apiserver.k8s.io" => format!("io.k8s.api.apiserverinternal.{version}.{kind}"),
        _ => format!("io.k8s.api.{}.{version}.{kind}", group.split('.').next().unwrap_or(group)),
    }
}

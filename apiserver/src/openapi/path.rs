//! Paths and what can be done on them: from the table of kinds.

use std::{collections::BTreeSet, sync::Arc};

use crds::{
    kind::{Definition, DeleteAnswer, Subresource, Verb},
    schema::builtin,
};

use super::{
    custom,
    operation::{ANY_MEDIA, Body, Model, OBJECT_MEDIA, Operation, PATCH_MEDIA, STREAM_MEDIA, id, tag},
    parameter::{self, Parameter, in_path, namespace, pretty},
};

#[derive(Clone, Debug)]
pub struct PathItem {
    pub path: String,
    pub operations: Vec<Operation>,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const OPENID: &str = ".well-known/openid-configuration";
const KEYS: &str = "openid/v1/jwks";

/// Where the kinds of a group and version are.
fn root_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The names of all documents.
pub fn roots(kinds: &[Arc<Definition>]) -> BTreeSet<String> {
    let fixed = [OPENID, "api", "apis", KEYS, "version"].map(str::to_owned);
    // Groups of custom resources have no document of their own.
    let groups =
        kinds.iter().filter(|k| !k.gvk.group.is_empty() && !k.is_custom()).map(|k| format!("apis/{}", k.gvk.group));
    let versions = kinds.iter().map(|k| root_of(&k.gvk.group, &k.gvk.version));
    fixed.into_iter().chain(groups).chain(versions).collect()
}

/// The paths of one document.
pub fn items(root: &str, kinds: &[Arc<Definition>]) -> Vec<PathItem> {
    let here: Vec<_> = kinds.iter().filter(|k| root_of(&k.gvk.group, &k.gvk.version) == root).collect();
    let mut items = if is_custom(root, kinds) { Vec::new() } else { vec![root_item(root, !here.is_empty())] };
    for kind in here {
        if kind.is_custom() {
            custom::paths(root, kind, &mut items);
        } else {
            Resource { root, kind }.items(&mut items);
        }
    }
    items
}

/// Whether a document is about custom resources alone.
pub fn is_custom(root: &str, kinds: &[Arc<Definition>]) -> bool {
    let mut here = kinds.iter().filter(|k| root_of(&k.gvk.group, &k.gvk.version) == root).peekable();
    here.peek().is_some() && here.all(|k| k.is_custom())
}

/// What is at the root itself: a discovery document most often.
fn root_item(root: &str, is_version: bool) -> PathItem {
    let model = |name: &str| Model::Type(name.to_owned());
    let meta = |name: &str| Model::Type(format!("{META}.{name}"));
    let (name, prose, answer) = match root {
        OPENID => (
            "ServiceAccountIssuerOpenIDConfiguration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            Model::Text,
        ),
        KEYS => (
            "ServiceAccountIssuerOpenIDKeyset",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            Model::Text,
        ),
        "version" => (
            "CodeVersion",
            "get the version information for this server",
            model("io.k8s.apimachinery.pkg.version.Info"),
        ),
        "api" => ("APIVersions", "get available API versions", meta("APIVersions")),
        "apis" => ("APIVersions", "get available API versions", meta("APIGroupList")),
        _ if is_version => ("APIResources", "get available resources", meta("APIResourceList")),
        _ => ("APIGroup", "get information of a group", meta("APIGroup")),
    };
    let (consumes, produces): (&[_], &[_]) = match root {
        OPENID => (&[], &["application/json"]),
        KEYS => (&[], &["application/jwk-set+json"]),
        "version" => (&["application/json"], &["application/json"]),
        _ => (OBJECT_MEDIA, OBJECT_MEDIA),
    };
    let operation = Operation {
        method: "get",
        id: id("get", root, name),
        tag: tag(root),
        prose: prose.to_owned(),
        consumes: consumes.to_vec(),
        produces: produces.to_vec(),
        responses: vec![(200, answer)],
        ..Operation::default()
    };
    PathItem { path: format!("/{root}/"), operations: vec![operation] }
}

/// The paths of one kind.
struct Resource<'a> {
    root: &'a str,
    kind: &'a Definition,
}

/// How an operation is named and told of.
struct Naming<'a> {
    /// `Namespaced` or nothing.
    scope: &'a str,
    /// The subresource, empty for the object itself.
    part: &'a str,
    /// `ForAllNamespaces`, `WithPath`, …
    suffix: &'a str,
}

impl Resource<'_> {
    fn can(&self, verb: Verb) -> bool {
        self.kind.verbs.contains(&verb)
    }

    fn scope(&self) -> &'static str {
        if self.kind.namespaced { "Namespaced" } else { "" }
    }

    /// A path below the root, in a namespace if the kind lives in one.
    fn path(&self, prefix: &str, suffix: &str) -> String {
        let namespace = if self.kind.namespaced { "namespaces/{namespace}/" } else { "" };
        format!("/{}/{prefix}{namespace}{}{suffix}", self.root, self.kind.plural)
    }

    fn gvk(&self) -> [String; 3] {
        let gvk = &self.kind.gvk;
        [gvk.group.to_string(), gvk.version.to_string(), gvk.kind.to_string()]
    }

    fn model(&self) -> String {
        self.kind.schema_name.to_string()
    }

    fn list_model(&self) -> String {
        let name = &*self.kind.schema_name;
        format!("{}{}", name.strip_suffix(&*self.kind.gvk.kind).unwrap_or(name), self.kind.list_kind)
    }

    fn place(&self) -> Vec<Parameter> {
        if self.kind.namespaced { vec![namespace()] } else { Vec::new() }
    }

    fn named_place(&self, kind: &str) -> Vec<Parameter> {
        let mut place = self.place();
        place.push(in_path("name", format!("name of the {kind}")));
        place
    }

    /// An operation with what all have in common.
    fn operation(&self, method: &'static str, action: &'static str, verb: &str, naming: &Naming) -> Operation {
        let name = format!("{}{}{}{}", naming.scope, self.kind.gvk.kind, title(naming.part), naming.suffix);
        // The verb of the identifier is the first word of the name: `delete` of `deletecollection`.
        let (verb, name) = match verb.strip_prefix("delete") {
            Some(rest) if !rest.is_empty() => ("delete", format!("{rest}{name}")),
            _ => (verb, name),
        };
        Operation {
            method,
            id: id(verb, self.root, &name),
            tag: tag(self.root),
            action,
            kind: Some(self.gvk()),
            consumes: ANY_MEDIA.to_vec(),
            produces: OBJECT_MEDIA.to_vec(),
            ..Operation::default()
        }
    }

    fn items(&self, items: &mut Vec<PathItem>) {
        let mut push = |path: String, operations: Vec<Operation>| {
            if !operations.is_empty() {
                items.push(PathItem { path, operations });
            }
        };
        push(self.path("", ""), self.collection());
        push(self.path("", "/{name}"), self.object());
        if self.can(Verb::Watch) && self.can(Verb::List) {
            push(self.path("watch/", ""), vec![self.watch_list(self.scope(), "", self.place())]);
        }
        if self.can(Verb::Watch) {
            push(self.path("watch/", "/{name}"), vec![self.watch()]);
        }
        if self.kind.namespaced && self.can(Verb::List) {
            let plural = &self.kind.plural;
            push(format!("/{}/{plural}", self.root), vec![self.list("", "ForAllNamespaces", Vec::new())]);
            if self.can(Verb::Watch) {
                let watch = self.watch_list("", "ForAllNamespaces", Vec::new());
                push(format!("/{}/watch/{plural}", self.root), vec![watch]);
            }
        }
        for subresource in &self.kind.subresources {
            self.subresource(subresource, &mut push);
        }
    }

    fn collection(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        if self.can(Verb::List) {
            all.push(self.list(self.scope(), "", self.place()));
        }
        if self.can(Verb::Create) {
            all.push(self.create(&self.model(), "", self.gvk(), self.place()));
        }
        if self.can(Verb::DeleteCollection) {
            all.push(self.delete_collection());
        }
        all
    }

    fn object(&self) -> Vec<Operation> {
        let place = self.named_place(&self.kind.gvk.kind);
        let mut all = Vec::new();
        if self.can(Verb::Get) {
            all.push(self.get(&self.model(), "", self.gvk(), place.clone()));
        }
        if self.can(Verb::Update) {
            all.push(self.update(&self.model(), "", self.gvk(), place.clone()));
        }
        if self.can(Verb::Patch) {
            all.push(self.patch(&self.model(), "", self.gvk(), place.clone()));
        }
        if self.can(Verb::Delete) {
            all.push(self.delete(place));
        }
        all
    }

    fn list(&self, scope: &str, suffix: &str, place: Vec<Parameter>) -> Operation {
        let verb = if self.can(Verb::Watch) { "list or watch" } else { "list" };
        Operation {
            prose: format!("{verb} objects of kind {}", self.kind.gvk.kind),
            parameters: join([place, vec![pretty()], parameter::list()]),
            produces: STREAM_MEDIA.to_vec(),
            responses: vec![(200, Model::Type(self.list_model()))],
            ..self.operation("get", "list", "list", &Naming { scope, part: "", suffix })
        }
    }

    fn watch_list(&self, scope: &str, suffix: &str, place: Vec<Parameter>) -> Operation {
        let suffix = format!("List{suffix}");
        Operation {
            prose: format!(
                "watch individual changes to a list of {}. deprecated: use the 'watch' parameter with a list operation \
                 instead.",
                self.kind.gvk.kind
            ),
            parameters: join([place, vec![pretty()], parameter::list()]),
            produces: STREAM_MEDIA.to_vec(),
            responses: vec![(200, Model::Type(format!("{META}.WatchEvent")))],
            ..self.operation("get", "watchlist", "watch", &Naming { scope, part: "", suffix: &suffix })
        }
    }

    fn watch(&self) -> Operation {
        let kind = &self.kind.gvk.kind;
        Operation {
            prose: format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation \
                 instead, filtered to a single item with the 'fieldSelector' parameter."
            ),
            parameters: join([self.named_place(kind), vec![pretty()], parameter::list()]),
            produces: STREAM_MEDIA.to_vec(),
            responses: vec![(200, Model::Type(format!("{META}.WatchEvent")))],
            ..self.operation("get", "watch", "watch", &Naming { scope: self.scope(), part: "", suffix: "" })
        }
    }

    fn get(&self, model: &str, part: &str, kind: [String; 3], place: Vec<Parameter>) -> Operation {
        Operation {
            prose: format!("read {}the specified {}", of(part), self.kind.gvk.kind),
            kind: Some(kind),
            parameters: join([place, vec![pretty()]]),
            responses: vec![(200, Model::Type(model.to_owned()))],
            ..self.operation("get", "get", "read", &Naming { scope: self.scope(), part, suffix: "" })
        }
    }

    fn create(&self, model: &str, part: &str, kind: [String; 3], place: Vec<Parameter>) -> Operation {
        let noun = &self.kind.gvk.kind;
        let part_of = if part.is_empty() { String::new() } else { format!(" {part} of") };
        let answer = || Model::Type(model.to_owned());
        Operation {
            prose: format!("create{part_of}{}{noun}", article(noun)),
            kind: Some(kind),
            parameters: join([place, vec![pretty()], parameter::create()]),
            body: Some(Body { model: model.to_owned(), required: true }),
            responses: vec![(200, answer()), (201, answer()), (202, answer())],
            ..self.operation("post", "post", "create", &Naming { scope: self.scope(), part, suffix: "" })
        }
    }

    fn update(&self, model: &str, part: &str, kind: [String; 3], place: Vec<Parameter>) -> Operation {
        let answer = || Model::Type(model.to_owned());
        Operation {
            prose: format!("replace {}the specified {}", of(part), self.kind.gvk.kind),
            kind: Some(kind),
            parameters: join([place, vec![pretty()], parameter::update()]),
            body: Some(Body { model: model.to_owned(), required: true }),
            responses: vec![(200, answer()), (201, answer())],
            ..self.operation("put", "put", "replace", &Naming { scope: self.scope(), part, suffix: "" })
        }
    }

    fn patch(&self, model: &str, part: &str, kind: [String; 3], place: Vec<Parameter>) -> Operation {
        let answer = || Model::Type(model.to_owned());
        Operation {
            prose: format!("partially update {}the specified {}", of(part), self.kind.gvk.kind),
            kind: Some(kind),
            parameters: join([place, vec![pretty()], parameter::patch()]),
            body: Some(Body { model: format!("{META}.Patch"), required: true }),
            consumes: PATCH_MEDIA.to_vec(),
            responses: vec![(200, answer()), (201, answer())],
            ..self.operation("patch", "patch", "patch", &Naming { scope: self.scope(), part, suffix: "" })
        }
    }

    fn delete(&self, place: Vec<Parameter>) -> Operation {
        let noun = &self.kind.gvk.kind;
        // A namespace's deletion is answered with the object only while its content is there; upstream tells of the end.
        let is_namespace = self.kind.gvk.group.is_empty() && noun == "Namespace";
        let answer = || match self.kind.delete_answer {
            DeleteAnswer::Object if !is_namespace => Model::Type(self.model()),
            _ => Model::Type(format!("{META}.Status")),
        };
        Operation {
            prose: format!("delete{}{noun}", article(noun)),
            parameters: join([place, vec![pretty()], parameter::delete()]),
            body: Some(Body { model: format!("{META}.DeleteOptions"), required: false }),
            responses: vec![(200, answer()), (202, answer())],
            ..self.operation("delete", "delete", "delete", &Naming { scope: self.scope(), part: "", suffix: "" })
        }
    }

    fn delete_collection(&self) -> Operation {
        let naming = Naming { scope: self.scope(), part: "", suffix: "" };
        Operation {
            prose: format!("delete collection of {}", self.kind.gvk.kind),
            parameters: join([self.place(), vec![pretty()], parameter::delete_collection()]),
            body: Some(Body { model: format!("{META}.DeleteOptions"), required: false }),
            responses: vec![(200, Model::Type(format!("{META}.Status")))],
            ..self.operation("delete", "deletecollection", "deletecollection", &naming)
        }
    }

    fn subresource(&self, subresource: &Subresource, push: &mut impl FnMut(String, Vec<Operation>)) {
        let (name, [group, version, kind], verbs): (&str, [&str; 3], &[&str]) = match subresource {
            Subresource::Status => (
                "status",
                [&self.kind.gvk.group, &self.kind.gvk.version, &self.kind.gvk.kind],
                &["get", "patch", "update"],
            ),
            Subresource::Scale(_) => ("scale", ["autoscaling", "v1", "Scale"], &["get", "patch", "update"]),
            Subresource::Other { name, kind: (group, version, kind), verbs } => (name, [group, version, kind], verbs),
        };
        let path = self.path("", &format!("/{{name}}/{name}"));
        let gvk = [group, version, kind].map(str::to_owned);
        let place = self.named_place(kind);
        if name == "log" {
            return push(path, vec![self.log(gvk, place)]);
        }
        if kind.ends_with("Options") {
            push(path.clone(), self.connect(name, &gvk, verbs, "", &place));
            if name == "proxy" {
                let below = join([place, vec![in_path("path", "path to the resource")]]);
                push(format!("{path}/{{path}}"), self.connect(name, &gvk, verbs, "WithPath", &below));
            }
            return;
        }
        let own = gvk == self.gvk();
        let model = if own { self.model() } else { model_of(&gvk) };
        let mut all = Vec::new();
        for verb in verbs {
            all.push(match *verb {
                "create" => self.create(&model, name, gvk.clone(), place.clone()),
                "get" => self.get(&model, name, gvk.clone(), place.clone()),
                "update" => self.update(&model, name, gvk.clone(), place.clone()),
                "patch" => self.patch(&model, name, gvk.clone(), place.clone()),
                _ => continue,
            });
        }
        push(path, all);
    }

    fn log(&self, kind: [String; 3], place: Vec<Parameter>) -> Operation {
        let mut operation = self.get("", "log", kind, place);
        operation.parameters.extend(parameter::options("io.k8s.api.core.v1.PodLogOptions"));
        operation.produces.insert(0, "text/plain");
        operation.responses = vec![(200, Model::Text)];
        operation
    }

    /// Whatever is proxied takes every method; a stream is opened by GET or POST.
    fn connect(
        &self,
        part: &str,
        kind: &[String; 3],
        verbs: &[&str],
        suffix: &str,
        place: &[Parameter],
    ) -> Vec<Operation> {
        let methods: &[&'static str] = if verbs.contains(&"delete") {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let one = |method: &'static str| {
            let scope = format!("{}{}", title(method), self.scope());
            Operation {
                prose: format!("connect {} requests to {part} of {}", method.to_uppercase(), self.kind.gvk.kind),
                kind: Some(kind.clone()),
                parameters: join([place.to_vec(), parameter::options(&model_of(kind))]),
                produces: ANY_MEDIA.to_vec(),
                responses: vec![(200, Model::Text)],
                ..self.operation(method, "connect", "connect", &Naming { scope: &scope, part, suffix })
            }
        };
        methods.iter().map(|method| one(method)).collect()
    }
}

/// The name of the type of a built-in kind.
fn model_of([group, version, kind]: &[String; 3]) -> String {
    builtin().kind(group, version, kind).map(|id| builtin().get(id).name.to_string()).unwrap_or_default()
}

fn join<const N: usize>(parts: [Vec<Parameter>; N]) -> Vec<Parameter> {
    parts.into_iter().flatten().collect()
}

fn title(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn of(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!("{part} of ") }
}

/// With blanks around it; a plural has none.
pub fn article(noun: &str) -> &'static str {
    if noun.ends_with('s') && !noun.ends_with("ss") {
        return " ";
    }
    if noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']) { " an " } else { " a " }
}

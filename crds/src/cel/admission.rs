//! The environment of admission: policies, and match conditions of webhooks and policies.

use std::sync::{Arc, LazyLock};

use super::{Decl, Env, ListType, Scalar, Type};

fn fields(names: &[&str], decl: fn() -> Decl) -> Vec<(String, Decl)> {
    names.iter().map(|name| ((*name).to_owned(), decl())).collect()
}

fn object(name: &str, parts: Vec<Vec<(String, Decl)>>) -> Decl {
    Decl::object(name, parts.into_iter().flatten())
}

fn one(name: &str, decl: Decl) -> Vec<(String, Decl)> {
    vec![(name.to_owned(), decl)]
}

fn texts() -> Decl {
    Decl::list(Decl::string(), ListType::Atomic)
}

fn labels() -> Decl {
    Decl::map(Decl::string(), Decl::string())
}

/// The type of `request`, whose values are the JSON of an `AdmissionRequest` without its objects.
pub fn request() -> Arc<Decl> {
    static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| {
        let kind = || {
            let parts = vec![fields(&["group", "version", "kind"], Decl::string)];
            object("kubernetes.GroupVersionKind", parts)
        };
        let resource = || {
            let parts = vec![fields(&["group", "version", "resource"], Decl::string)];
            object("kubernetes.GroupVersionResource", parts)
        };
        let user = object(
            "kubernetes.UserInfo",
            vec![
                fields(&["username", "uid"], Decl::string),
                one("groups", texts()),
                one("extra", Decl::map(Decl::string(), texts())),
            ],
        );
        let names = ["subResource", "requestSubResource", "name", "namespace", "operation"];
        Arc::new(object(
            "kubernetes.AdmissionRequest",
            vec![
                one("kind", kind()),
                one("resource", resource()),
                one("requestKind", kind()),
                one("requestResource", resource()),
                fields(&names, Decl::string),
                one("userInfo", user),
                one("dryRun", Decl::scalar(Scalar::Bool)),
                one("options", Decl::dynamic().clone()),
            ],
        ))
    });
    REQUEST.clone()
}

/// The type of `namespaceObject`.
pub fn namespace() -> Arc<Decl> {
    static NAMESPACE: LazyLock<Arc<Decl>> = LazyLock::new(|| {
        let time = || Decl::scalar(Scalar::DateTime);
        let condition = object(
            "kubernetes.NamespaceCondition",
            vec![fields(&["status", "type", "message", "reason"], Decl::string), fields(&["lastTransitionTime"], time)],
        );
        let status = object(
            "kubernetes.NamespaceStatus",
            vec![one("conditions", Decl::list(condition, ListType::Atomic)), one("phase", Decl::string())],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            vec![
                fields(&["name", "generateName", "namespace", "UID", "resourceVersion"], Decl::string),
                fields(&["labels", "annotations"], labels),
                fields(&["creationTimestamp", "deletionTimestamp"], time),
                fields(&["deletionGracePeriodSeconds", "generation"], || Decl::scalar(Scalar::Int)),
                one("finalizers", texts()),
            ],
        );
        let spec = object("kubernetes.NamespaceSpec", vec![one("finalizers", texts())]);
        let parts = vec![one("metadata", metadata), one("spec", spec), one("status", status)];
        Arc::new(object("kubernetes.Namespace", parts))
    });
    NAMESPACE.clone()
}

/// `object` and `oldObject`, which are dynamic, `request`, `namespaceObject`, and on demand `params`, `authorizer` and
/// `authorizer.requestResource`.
pub fn env(params: bool, authorizer: bool) -> Env {
    let mut env = Env::new()
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .declared("request", &request())
        .declared("namespaceObject", &namespace());
    if params {
        env = env.variable("params", Type::Dyn);
    }
    if authorizer {
        env = env
            .variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
            .variable("authorizer.requestResource", Type::object("kubernetes.authorization.ResourceCheck"));
    }
    env
}

/// The environment with the variables that a policy declared before: their names and types.
#[must_use]
pub fn with_variables(env: Env, variables: &[(String, Type)]) -> Env {
    let fields = variables.iter().map(|(name, ty)| (name.clone(), Decl::of(ty.clone())));
    env.declared("variables", &Arc::new(Decl::object("kubernetes.variables", fields)))
}

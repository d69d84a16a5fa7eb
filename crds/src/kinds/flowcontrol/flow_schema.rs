//! FlowSchema (flowcontrol.apiserver.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, FlowSchemaStatus, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    Subject,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Number, Text},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, Subresource, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const METHODS: &[&str] = &["ByNamespace", "ByUser"];
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PRECEDENCE: i32 = 1000;
const PRECEDENCE_MAX: i32 = 10_000;
const DANGLING: &str = "Dangling";

impl Kind for FlowSchema {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "PriorityLevel",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationReference", "name"),
            ),
            column(
                "MatchingPrecedence",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence"),
            ),
            column(
                "DistinguisherMethod",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.FlowSchemaSpec", "distinguisherMethod"),
            ),
            AGE,
            column(
                "MissingPL",
                "string",
                "",
                0,
                text("references a broken or non-existent PriorityLevelConfiguration"),
            ),
        ],
        generation: Generation::Spec,
        checks_changes: false,
        ..About::new("flowschemas", "flowschema")
    };

    fn set_defaults(&mut self) {
        self.spec.get_or_insert_default().matching_precedence.or_set_nonzero(PRECEDENCE);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(FlowSchemaStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let none = FlowSchemaSpec::default();
        let (spec, name) = (self.spec.as_ref().unwrap_or(&none), self.metadata.name.text());
        validate_spec(spec, name, errors);
        if mandatory(name).is_some_and(|fixed| !equal::same(spec, &fixed)) {
            let why = format!("spec of '{name}' must equal the fixed value");
            errors.push(Error::invalid(SPEC, "", why).showing_struct(spec, "io.k8s.api.flowcontrol.v1.FlowSchemaSpec"));
        }
        validate_conditions(self, errors);
    }

    fn validate_update(&self, _old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        validate_conditions(self, errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let none = FlowSchemaSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let conditions = self.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
        let dangling = conditions.iter().find(|condition| condition.type_.text() == DANGLING);
        vec![
            json!(self.metadata.name),
            json!(spec.priority_level_configuration.name),
            json!(spec.matching_precedence.unwrap_or(0)),
            json!(spec.distinguisher_method.as_ref().map_or("<none>", |method| method.type_.as_str())),
            json!(table::age(&self.metadata, now)),
            json!(dangling.map_or("?", |condition| condition.status.text())),
        ]
    }
}

/// The spec of a schema that is always there, and as it is.
fn mandatory(name: &str) -> Option<FlowSchemaSpec> {
    let (precedence, method, groups): (_, _, &[&str]) = match name {
        "exempt" => (1, Value::Null, &["system:masters"]),
        "catch-all" => (PRECEDENCE_MAX, json!({"type": "ByUser"}), &["system:unauthenticated", "system:authenticated"]),
        _ => return None,
    };
    let subjects: Vec<_> = groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
    serde_json::from_value(json!({
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": {"name": name},
        "distinguisherMethod": method,
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    }))
    .ok()
}

fn validate_spec(spec: &FlowSchemaSpec, name: &str, errors: &mut Errors) {
    let (path, precedence) = (SPEC.child("matchingPrecedence"), spec.matching_precedence.unwrap_or(0));
    if precedence <= 0 {
        errors.push(Error::invalid(path, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        errors.push(Error::invalid(path, precedence, format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && name != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(path, precedence, why));
    }
    if let Some(method) = spec.distinguisher_method.as_ref().filter(|m| !METHODS.contains(&m.type_.as_str())) {
        let path = SPEC.child("distinguisherMethod");
        let wrong = Error::not_supported(path.child("type"), "", METHODS);
        errors.push(wrong.showing_struct(method, "io.k8s.api.flowcontrol.v1.FlowDistinguisherMethod"));
    }
    let path = SPEC.child("priorityLevelConfiguration");
    match spec.priority_level_configuration.name.as_str() {
        "" => errors.push(Error::required(path.child("name"), "must reference a priority level")),
        level => extend(errors, path.child("name"), level, field::dns_subdomain(level)),
    }
    let list = SPEC.child("rules");
    for (i, rule) in spec.rules.items().iter().enumerate() {
        validate_rule(rule, &list.index(i), errors);
    }
}

fn validate_rule(rule: &PolicyRulesWithSubjects, path: &Path, errors: &mut Errors) {
    let list = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.push(Error::required(list, "subjects must contain at least one value"));
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        validate_subject(subject, &list.index(i), errors);
    }
    let (resources, others) = (rule.resource_rules.items(), rule.non_resource_rules.items());
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(*path, why));
    }
    let (resource_list, other_list) = (path.child("resourceRules"), path.child("nonResourceRules"));
    for (i, rule) in resources.iter().enumerate() {
        validate_resources(rule, &resource_list.index(i), errors);
    }
    for (i, rule) in others.iter().enumerate() {
        validate_others(rule, &other_list.index(i), errors);
    }
}

fn validate_subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    let account = subject.service_account.as_ref();
    // In the order in which those that do not fit are told.
    let parts = [
        ("ServiceAccount", "serviceAccount", account.map(|s| s.name.as_str())),
        ("User", "user", subject.user.as_ref().map(|s| s.name.as_str())),
        ("Group", "group", subject.group.as_ref().map(|s| s.name.as_str())),
    ];
    let Some((kind, part, name)) = parts.iter().find(|(kind, ..)| *kind == subject.kind) else {
        let kinds = ["Group", "ServiceAccount", "User"];
        errors.push(Error::not_supported(path.child("kind"), subject.kind.as_str(), &kinds));
        return;
    };
    let own = path.child(part);
    match name {
        None => errors.push(Error::required(own, format!("{part} is required when subject kind is '{kind}'"))),
        Some("") => errors.push(Error::required(own.child("name"), "")),
        Some(name) if *part == "serviceAccount" && *name != "*" => {
            extend(errors, own.child("name"), name, field::dns_subdomain(name));
        }
        Some(_) => {}
    }
    if let Some(account) = account.filter(|_| *part == "serviceAccount") {
        match account.namespace.as_str() {
            "" => {
                let why = "must specify namespace for service account";
                errors.push(Error::required(own.child("namespace"), why));
            }
            namespace => extend(errors, own.child("namespace"), namespace, field::dns_label(namespace)),
        }
    }
    for (other, part, _) in parts.iter().filter(|(other, _, name)| other != kind && name.is_some()) {
        let why = format!("{part} is forbidden when subject kind is not '{other}'");
        errors.push(Error::forbidden(path.child(part), why));
    }
}

/// Whether `*` is among the values, where it must stand alone.
fn is_wildcard(values: &[String], what: &str, path: &Path, errors: &mut Errors) -> bool {
    let found = values.iter().any(|value| value == "*");
    if found && values.len() > 1 {
        errors.push(Error::invalid(*path, values, format!("if '*' is present, must not specify other {what}")));
    }
    found
}

fn validate_verbs(verbs: &[String], path: &Path, errors: &mut Errors) {
    if verbs.is_empty() {
        errors.push(Error::required(*path, "verbs must contain at least one value"));
    } else if !is_wildcard(verbs, "verbs", path, errors) && !verbs.iter().all(|verb| VERBS.contains(&verb.as_str())) {
        errors.push(Error::not_supported(*path, verbs, VERBS));
    }
}

fn validate_resources(rule: &ResourcePolicyRule, path: &Path, errors: &mut Errors) {
    validate_verbs(&rule.verbs, &path.child("verbs"), errors);
    for (name, values, what, one) in [
        ("apiGroups", &rule.api_groups, "api groups", "api group"),
        ("resources", &rule.resources, "resources", "resource"),
    ] {
        let path = path.child(name);
        if values.is_empty() {
            errors.push(Error::required(path, format!("resource rules must supply at least one {one}")));
        }
        is_wildcard(values, what, &path, errors);
    }
    let (path, namespaces) = (path.child("namespaces"), rule.namespaces.items());
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(path, why));
    } else if !is_wildcard(namespaces, "namespaces", &path, errors) {
        for (i, namespace) in namespaces.iter().enumerate() {
            let wrong = field::dns_label(namespace).into_iter();
            let wrong = wrong.map(|why| format!("each member of this list must be '*' or a DNS-1123 label; {why}"));
            extend(errors, path.index(i), namespace, wrong.collect());
        }
    }
}

fn validate_others(rule: &NonResourcePolicyRule, path: &Path, errors: &mut Errors) {
    validate_verbs(&rule.verbs, &path.child("verbs"), errors);
    let (path, urls) = (path.child("nonResourceURLs"), rule.non_resource_urls.as_slice());
    if urls.is_empty() {
        errors.push(Error::required(path, "nonResourceURLs must contain at least one value"));
    } else if !is_wildcard(urls, "non-resource URLs", &path, errors) {
        for (i, url) in urls.iter().enumerate() {
            errors.extend(url_wrong(url).map(|why| Error::invalid(path.index(i), url.as_str(), why)));
        }
    }
}

fn url_wrong(url: &str) -> Option<&'static str> {
    let wildcards = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        url if !url.starts_with('/') => Some("must start with slash"),
        url if url.contains(' ') => Some("must not contain white-space"),
        url if url.contains("//") => Some("must not contain double slash"),
        url if wildcards > 1 || (wildcards == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn validate_conditions(schema: &FlowSchema, errors: &mut Errors) {
    let conditions = schema.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.text()).collect();
    super::condition::validate(&kinds, &STATUS.child("conditions"), errors);
}

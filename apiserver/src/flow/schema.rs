//! FlowSchemas, compiled: which one a request belongs to, and which flow of it. The first that matches counts.

use crds::user::User;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject as FlowSubject,
};
use sha2::{Digest, Sha256};

use crate::request::RequestInfo;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const PRECEDENCE: i32 = 1000;

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug)]
pub struct Schema {
    pub name: String,
    pub uid: String,
    /// The name of its priority level.
    pub level: String,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    Anyone,
    User(String),
    Group(String),
    /// All service accounts whose user names begin so.
    ServiceAccounts(String),
}

/// A list of names, or everything.
#[derive(Debug)]
enum Names {
    All,
    These(Vec<String>),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    /// `pods`, or `pods/log`.
    resources: Names,
    namespaces: Names,
    cluster_scope: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Names,
    paths: Vec<String>,
}

impl Names {
    /// As upstream: the star stands for all only if it stands alone.
    fn new(names: &[String]) -> Self {
        if let [star] = names
            && star == "*"
        {
            return Self::All;
        }
        Self::These(names.to_vec())
    }

    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name == wanted),
        }
    }
}

impl Schema {
    pub fn new(object: &FlowSchema) -> Self {
        let spec = object.spec.clone().unwrap_or_default();
        let distinguisher = match spec.distinguisher_method.map(|method| method.type_).as_deref() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::Nothing,
        };
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            level: spec.priority_level_configuration.name,
            precedence: spec.matching_precedence.unwrap_or(PRECEDENCE),
            distinguisher,
            rules: spec.rules.iter().flatten().map(Rule::new).collect(),
        }
    }

    /// The order in which schemas are asked.
    pub fn order(&self) -> (i32, &str) {
        (self.precedence, &self.name)
    }

    pub fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, info))
    }

    /// A number for the flow of this request: requests of one flow share a few queues.
    pub fn flow(&self, user: &User, info: &RequestInfo) -> u64 {
        let distinguished = match self.distinguisher {
            Distinguisher::Nothing => "",
            Distinguisher::User => user.name.as_str(),
            Distinguisher::Namespace => info.namespace.as_str(),
        };
        let digest = Sha256::new().chain_update(&self.name).chain_update([0]).chain_update(distinguished).finalize();
        digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

impl Rule {
    fn new(rule: &PolicyRulesWithSubjects) -> Self {
        let resource = |rule: &ResourcePolicyRule| ResourceRule {
            verbs: Names::new(&rule.verbs),
            groups: Names::new(&rule.api_groups),
            resources: Names::new(&rule.resources),
            namespaces: Names::new(rule.namespaces.as_deref().unwrap_or_default()),
            cluster_scope: rule.cluster_scope.unwrap_or_default(),
        };
        let path = |rule: &NonResourcePolicyRule| PathRule {
            verbs: Names::new(&rule.verbs),
            paths: rule.non_resource_urls.clone(),
        };
        Self {
            subjects: rule.subjects.iter().filter_map(Subject::new).collect(),
            resources: rule.resource_rules.iter().flatten().map(resource).collect(),
            paths: rule.non_resource_rules.iter().flatten().map(path).collect(),
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        if info.is_resource {
            self.resources.iter().any(|rule| rule.matches(info))
        } else {
            self.paths.iter().any(|rule| rule.matches(info))
        }
    }
}

impl Subject {
    fn new(subject: &FlowSubject) -> Option<Self> {
        let any = |name: &str| name == "*";
        Some(match subject {
            FlowSubject { user: Some(user), .. } if any(&user.name) => Self::Anyone,
            FlowSubject { group: Some(group), .. } if any(&group.name) => Self::Anyone,
            FlowSubject { user: Some(user), .. } => Self::User(user.name.clone()),
            FlowSubject { group: Some(group), .. } => Self::Group(group.name.clone()),
            FlowSubject { service_account: Some(account), .. } => {
                let of_namespace = format!("{SERVICE_ACCOUNT}{}:", account.namespace);
                if any(&account.name) {
                    Self::ServiceAccounts(of_namespace)
                } else {
                    Self::User(of_namespace + &account.name)
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::Anyone => true,
            Self::User(name) => user.name == *name,
            Self::Group(group) => user.is_in(group),
            Self::ServiceAccounts(prefix) => user.name.starts_with(prefix),
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let in_scope = match info.namespace.as_str() {
            "" => self.cluster_scope,
            namespace => self.namespaces.has(namespace),
        };
        in_scope && self.verbs.has(&info.verb) && self.groups.has(&info.group) && self.has_resource(info)
    }

    fn has_resource(&self, info: &RequestInfo) -> bool {
        if info.subresource.is_empty() {
            return self.resources.has(&info.resource);
        }
        match &self.resources {
            Names::All => true,
            Names::These(names) => names.iter().any(|name| {
                name.split_once('/').is_some_and(|(of, part)| of == info.resource && part == info.subresource)
            }),
        }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        self.verbs.has(&info.verb) && self.paths.iter().any(|path| covers(path, &info.path))
    }
}

/// A rule is for its path and, as upstream has it, for everything below that.
fn covers(rule: &str, path: &str) -> bool {
    if rule == "*" || rule == path {
        return true;
    }
    let prefix = rule.strip_suffix('*').unwrap_or(rule);
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Query;

    fn schema(subject: serde_json::Value, rule: serde_json::Value) -> Schema {
        let mut rule = rule;
        rule["subjects"] = json!([subject]);
        let object = json!({
            "metadata": {"name": "s"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [rule]},
        });
        Schema::new(&serde_json::from_value(object).unwrap())
    }

    fn info(method: &str, uri: &str) -> RequestInfo {
        RequestInfo::new(&method.parse().unwrap(), &uri.parse().unwrap(), &Query::default())
    }

    #[test]
    fn matching() {
        let alice = json!({"kind": "User", "user": {"name": "alice"}});
        let account = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}});
        let group = json!({"kind": "Group", "group": {"name": "g"}});
        let resources = |verbs: &[&str], resources: &[&str], namespaces: &[&str], cluster: bool| {
            json!({"resourceRules": [{"verbs": verbs, "apiGroups": ["*"], "resources": resources,
                "namespaces": namespaces, "clusterScope": cluster}]})
        };
        let paths = |paths: &[&str]| json!({"nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": paths}]});
        let pods = "/api/v1/namespaces/x/pods";
        for (schema, user, uri, want) in [
            (schema(alice.clone(), resources(&["list"], &["pods"], &["*"], false)), ("alice", "g"), pods, true),
            (schema(alice.clone(), resources(&["list"], &["pods"], &["*"], false)), ("bob", "g"), pods, false),
            (schema(alice.clone(), resources(&["list"], &["pods"], &["y"], false)), ("alice", "g"), pods, false),
            (schema(alice.clone(), resources(&["*"], &["pods"], &["*"], false)), ("alice", "g"), "/api/v1/pods", false),
            (schema(alice.clone(), resources(&["*"], &["pods"], &[], true)), ("alice", "g"), "/api/v1/pods", true),
            // A star beside other names is a name.
            (schema(alice.clone(), resources(&["*", "get"], &["pods"], &["*"], true)), ("alice", "g"), pods, false),
            (
                schema(group.clone(), resources(&["*"], &["pods/log"], &["*"], true)),
                ("x", "g"),
                &format!("{pods}/a/log"),
                true,
            ),
            (schema(group, resources(&["*"], &["pods"], &["*"], true)), ("x", "g"), &format!("{pods}/a/log"), false),
            (schema(account.clone(), paths(&["/healthz"])), ("system:serviceaccount:n:a", ""), "/healthz/etcd", true),
            (schema(account.clone(), paths(&["/healthz"])), ("system:serviceaccount:nn:a", ""), "/healthz", false),
            (schema(account, paths(&["/healthz"])), ("system:serviceaccount:n:a", ""), "/healthzz", false),
        ] {
            let user = User::named(user.0, &[user.1]);
            assert_eq!(schema.matches(&user, &info("GET", uri)), want, "{schema:?} {uri}");
        }
    }
}

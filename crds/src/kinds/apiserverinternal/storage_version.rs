//! StorageVersion (internal.apiserver.k8s.io/v1alpha1).

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::apiserverinternal::v1alpha1::{
    ServerStorageVersion, StorageVersion, StorageVersionCondition, StorageVersionStatus,
};
use serde_json::{Value, json};

use crate::{
    field::{self, Error, Errors, Path, extend},
    given::Items,
    kind::{AGE, About, Kind, NAME, Prose, Request, Subresource, column},
    meta, table,
};

const STATUS: Path = Path::new("status");
const STATUS_TYPE: &str = "io.k8s.api.apiserverinternal.v1alpha1.StorageVersionStatus";
/// So many servers are shown in a table.
const SHOWN_MAX: usize = 3;
const UNSET: &str = "<unset>";
const EMPTY: &str = "must be non-empty";
const API_VERSION: &str = "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or \
    '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex \
    used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?') with an optional DNS subdomain prefix and '/' (e.g. \
    'example.com/MyVersion')";

impl Kind for StorageVersion {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("CommonEncodingVersion", "string", "", 0, Prose::Field(STATUS_TYPE, "commonEncodingVersion")),
            column("StorageVersions", "string", "", 0, Prose::Field(STATUS_TYPE, "storageVersions")),
            AGE,
        ],
        unconditional_update: false,
        checks_changes: false,
        ..About::new("storageversions", "storageversion")
    };

    /// `<group>.<resource>`.
    fn validate_name(name: &str) -> Vec<String> {
        let Some((group, resource)) = name.rsplit_once('.') else {
            return vec!["name must be in the form of <group>.<resource>".to_owned()];
        };
        let group = field::dns_subdomain(group).into_iter().map(|why| format!("the group segment {why}"));
        let resource = field::dns_1035_label(resource).into_iter().map(|why| format!("the resource segment {why}"));
        group.chain(resource).collect()
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(StorageVersionStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_subresource(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        let Some(status) = &self.status else { return };
        let (servers, path) = (status.storage_versions.items(), STATUS.child("storageVersions"));
        let mut seen = HashSet::new();
        for (i, server) in servers.iter().enumerate() {
            let (path, id) = (path.index(i), server.api_server_id.as_str());
            if !seen.insert(id) {
                errors.push(Error::duplicate(path.child("apiServerID"), id));
            }
            validate_server(server, &path, errors);
        }
        validate_common(status, errors);
        validate_conditions(status.conditions.items(), errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.as_ref();
        let common = status.and_then(|status| status.common_encoding_version.as_deref());
        let servers = status.map(|status| status.storage_versions.items()).unwrap_or_default();
        vec![
            json!(self.metadata.name),
            json!(common.unwrap_or(UNSET)),
            json!(show_servers(servers)),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn show_servers(servers: &[ServerStorageVersion]) -> String {
    let shown = servers.iter().take(SHOWN_MAX).map(|s| format!("{}={}", s.api_server_id, s.encoding_version));
    let shown = shown.collect::<Vec<_>>().join(",");
    match servers.len() {
        0 => UNSET.to_owned(),
        1..=SHOWN_MAX => shown,
        count => format!("{shown} + {} more...", count - SHOWN_MAX),
    }
}

fn validate_server(server: &ServerStorageVersion, path: &Path, errors: &mut Errors) {
    let id = server.api_server_id.as_str();
    extend(errors, path.child("apiServerID"), id, field::dns_subdomain(id));
    let (encoding, decodable) = (server.encoding_version.as_str(), &server.decodable_versions);
    validate_version(encoding, &path.child("encodingVersion"), errors);
    let list = path.child("decodableVersions");
    for (i, version) in decodable.iter().enumerate() {
        validate_version(version, &list.index(i), errors);
    }
    if decodable.iter().all(|version| version != encoding) {
        let shown = if decodable.is_empty() { Value::Null } else { json!(decodable) };
        let why = format!("decodableVersions must include encodingVersion {encoding}");
        errors.push(Error::invalid(list, shown, why));
    }
    let list = path.child("servedVersions");
    let known: HashSet<&String> = decodable.iter().collect();
    for (i, version) in server.served_versions.items().iter().enumerate() {
        validate_version(version, &list.index(i), errors);
        if !known.contains(version) {
            errors.push_with(|| {
                let why = format!(
                    "individual served version : {version} must be included in decodableVersions : [{}]",
                    decodable.join(" ")
                );
                Error::invalid(list.index(i), version.as_str(), why)
            });
        }
    }
}

/// A version, with its group before it or not.
fn validate_version(api_version: &str, path: &Path, errors: &mut Errors) {
    let label = |part: &str, text: &str, wrong: fn(&str) -> Vec<String>| -> Vec<String> {
        let wrong = if text.is_empty() { vec![EMPTY.to_owned()] } else { wrong(text) };
        wrong.into_iter().map(|why| format!("{part} part: {why}")).collect()
    };
    let wrong = match api_version.split('/').collect::<Vec<_>>()[..] {
        [version] => label("version", version, field::dns_1035_label),
        [group, version] => {
            let mut wrong = label("group", group, field::dns_subdomain);
            wrong.extend(label("version", version, field::dns_1035_label));
            wrong
        }
        _ => vec![API_VERSION.to_owned()],
    };
    if !wrong.is_empty() {
        errors.push(Error::invalid(*path, api_version, wrong.join(",")));
    }
}

/// The version that all servers encode with, if there is one.
fn validate_common(status: &StorageVersionStatus, errors: &mut Errors) {
    let mut versions = status.storage_versions.items().iter().map(|server| server.encoding_version.as_str());
    let actual = versions.next().filter(|first| versions.all(|version| version == *first));
    let told = status.common_encoding_version.as_deref();
    let why = match (actual, told) {
        (None, Some(_)) => {
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting the \
             supported versions yet"
                .to_owned()
        }
        (Some(actual), None) => format!("the common encoding version is {actual}"),
        (Some(actual), Some(told)) if actual != told => format!("the actual common encoding version is {actual}"),
        _ => return,
    };
    errors.push(Error::invalid(STATUS.child("commonEncodingVersion"), json!(told), why));
}

/// Upstream leaves the name of the list out of the paths.
fn validate_conditions(conditions: &[StorageVersionCondition], errors: &mut Errors) {
    for (i, condition) in conditions.iter().enumerate() {
        let (path, kind) = (STATUS.index(i), condition.type_.as_str());
        // The last one before it.
        if let Some(other) = conditions[..i].iter().rposition(|other| other.type_ == kind) {
            let why = format!("the type of the condition is not unique, it also appears in conditions[{other}]");
            errors.push(Error::invalid(path.child("type"), kind, why));
        }
        meta::label_name(kind, path.child("type"), errors);
        meta::label_name(&condition.status, path.child("status"), errors);
        for (name, text) in [("reason", &condition.reason), ("message", &condition.message)] {
            if text.is_empty() {
                errors.push(Error::required(path.child(name), ""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn told(status: Value) -> Vec<String> {
        let (user, mut errors) = (User::default(), Errors::new());
        let version =
            StorageVersion { status: Some(serde_json::from_value(status).unwrap()), ..StorageVersion::default() };
        let request = Request::new(&user, Timestamp::UNIX_EPOCH, "status");
        version.validate_subresource(&StorageVersion::default(), &request, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn server(id: &str, encoding: &str, decodable: &[&str]) -> Value {
        json!({"apiServerID": id, "encodingVersion": encoding, "decodableVersions": decodable})
    }

    #[test]
    fn names() {
        assert_eq!(StorageVersion::validate_name("apps.deployments"), [""; 0]);
        assert_eq!(StorageVersion::validate_name("a.b.c.deployments"), [""; 0]);
        assert_eq!(StorageVersion::validate_name("pods"), ["name must be in the form of <group>.<resource>"]);
        assert_eq!(StorageVersion::validate_name("A.9").len(), 2);
    }

    #[test]
    fn servers() {
        assert_eq!(
            told(
                json!({"storageVersions": [server("a", "apps/v1", &["apps/v1"])], "commonEncodingVersion": "apps/v1"})
            ),
            [""; 0]
        );
        assert_eq!(
            told(json!({"storageVersions": [server("a", "v1", &["v1"]), server("a", "v2", &[])]})),
            [
                "status.storageVersions[1].apiServerID: Duplicate value: \"a\"",
                "status.storageVersions[1].decodableVersions: Invalid value: null: decodableVersions must include encodingVersion v2",
            ]
        );
        assert_eq!(
            told(json!({"storageVersions": [server("a", "/", &["/"])]})),
            [
                "status.storageVersions[0].encodingVersion: Invalid value: \"/\": group part: must be non-empty,version part: must be non-empty",
                "status.storageVersions[0].decodableVersions[0]: Invalid value: \"/\": group part: must be non-empty,version part: must be non-empty",
                "status.commonEncodingVersion: Invalid value: null: the common encoding version is /",
            ]
        );
        assert_eq!(
            told(json!({"commonEncodingVersion": "v1"})),
            [
                "status.commonEncodingVersion: Invalid value: \"v1\": should be nil if servers do not agree on the same encoding version, or if there is no server reporting the supported versions yet"
            ]
        );
    }

    #[test]
    fn conditions() {
        let condition = json!({"type": "AllEncodingVersionsEqual", "status": "True", "reason": "r"});
        assert_eq!(
            told(json!({"conditions": [condition, condition]})),
            [
                "status[0].message: Required value",
                "status[1].type: Invalid value: \"AllEncodingVersionsEqual\": the type of the condition is not unique, it also appears in conditions[0]",
                "status[1].message: Required value",
            ]
        );
    }

    #[test]
    fn three_servers_are_shown() {
        let servers: Vec<ServerStorageVersion> =
            ["a", "b", "c", "d", "e"].map(|id| serde_json::from_value(server(id, "v1", &["v1"])).unwrap()).to_vec();
        assert_eq!(show_servers(&[]), "<unset>");
        assert_eq!(show_servers(&servers[..1]), "a=v1");
        assert_eq!(show_servers(&servers), "a=v1,b=v1,c=v1 + 2 more...");
    }
}

//! IPAddress (networking.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::{Value, json};

use super::reference;
use crate::{
    equal,
    field::{self, Error, Errors, Path, extend},
    given::Text,
    kind::{About, Kind, NAME, Prose, Request, column},
    meta, syntax, table,
};

const SPEC: Path = Path::new("spec");

impl Kind for IPAddress {
    const ABOUT: About = About {
        short_names: &["ip"],
        columns: &[
            NAME,
            column("ParentRef", "string", "", 0, Prose::Field("io.k8s.api.networking.v1.IPAddressSpec", "parentRef")),
        ],
        checks_changes: false,
        ..About::new("ipaddresses", "ipaddress")
    };

    fn validate_name(name: &str) -> Vec<String> {
        syntax::canonical_ip(name)
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let path = SPEC.child("parentRef");
        let parent = parent(self);
        if parent == ParentReference::default() {
            errors.push(Error::required(path, ""));
            return;
        }
        let (group, namespace) = (parent.group.text(), parent.namespace.text());
        if !group.is_empty() {
            extend(errors, path.child("group"), group, field::dns_subdomain(group));
        }
        reference::segment(&parent.resource, &path.child("resource"), errors);
        reference::segment(&parent.name, &path.child("name"), errors);
        if !namespace.is_empty() {
            extend(errors, path.child("namespace"), namespace, field::path_segment(namespace));
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
        let name = "io.k8s.api.networking.v1.ParentReference";
        equal::immutable_struct(&parent(self), &parent(old), name, SPEC.child("parentRef"), errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let parent = parent(self);
        let group = Some(parent.group.text()).filter(|group| !group.is_empty());
        let resource = format!("{}{}", parent.resource, group.map(|group| format!(".{group}")).unwrap_or_default());
        let namespace = Some(parent.namespace.text()).filter(|namespace| !namespace.is_empty());
        let namespace = namespace.map(|namespace| format!("/{namespace}")).unwrap_or_default();
        let shown = format!("{}{namespace}/{}", resource.to_lowercase(), parent.name);
        let shown = if parent == ParentReference::default() { "<none>".to_owned() } else { shown };
        vec![json!(self.metadata.name), json!(shown), json!(table::age(&self.metadata, now))]
    }
}

fn parent(address: &IPAddress) -> ParentReference {
    address.spec.parent_ref.clone()
}

//! CSIStorageCapacity (storage.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Errors, Path, extend},
    kind::{About, Kind, Request},
    meta::{self, IMMUTABLE},
    pod::warn,
    quantity::Quantity,
    resource,
    selector::validate as selectors,
};

impl Kind for CSIStorageCapacity {
    const ABOUT: About = About {
        unconditional_update: false,
        checks_changes: false,
        ..About::new("csistoragecapacities", "csistoragecapacity")
    };

    fn set_defaults(&mut self) {
        for amount in [&mut self.capacity, &mut self.maximum_volume_size].into_iter().flatten() {
            *amount = Quantity::of(Some(&*amount)).into();
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        selectors::label_selector(self.node_topology.as_ref(), &Path::new("nodeTopology"), errors);
        let class = self.storage_class_name.as_str();
        extend(errors, Path::new("storageClassName"), class, field::dns_subdomain(class));
        if self.capacity.is_some() {
            let amount = Quantity::of(self.capacity.as_ref());
            resource::validate_not_negative(amount, &Path::new("capacity"), errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        meta::update_of(self, old, errors);
        if !equal::same(&self.node_topology, &old.node_topology) {
            let path = Path::new("nodeTopology");
            match &self.node_topology {
                Some(topology) => errors.push(selectors::invalid(topology, &path, IMMUTABLE)),
                None => equal::immutable(&self.node_topology, &old.node_topology, path, errors),
            }
        }
        equal::immutable(&self.storage_class_name, &old.storage_class_name, Path::new("storageClassName"), errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let path = Path::new("nodeTopology");
        let Some(topology) = &self.node_topology else { return Vec::new() };
        let (list, labels) = (path.child("matchExpressions"), path.child("matchLabels"));
        let expressions = topology.match_expressions.iter().flatten().enumerate().filter_map(|(i, expression)| {
            let words = warn::deprecated_label(&expression.key)?;
            let path = list.index(i);
            Some(format!("{}: {} is {words}", path.child("key"), expression.key))
        });
        let of_labels = topology.match_labels.iter().flatten().filter_map(|(label, _)| {
            warn::deprecated_label(label).map(|words| format!("{}: {words}", labels.child(label)))
        });
        expressions.chain(of_labels).collect()
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let capacity = self.capacity.as_ref().map_or("<unset>", |capacity| capacity.0.as_str());
        vec![json!(self.metadata.name), json!(self.storage_class_name), json!(capacity)]
    }
}

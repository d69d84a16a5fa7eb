//! CSINode (storage.k8s.io/v1).

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{self, Error, Errors, Path, extend, not_negative},
    given::Items,
    kind::{AGE, About, DeleteAnswer, Kind, NAME, Request, column, text},
    meta, table,
    volume::source,
};

const SPEC: Path = Path::new("spec");
const NODE_ID_LENGTH_MAX: usize = 256;

impl Kind for CSINode {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "Drivers",
                "integer",
                "",
                0,
                text("Drivers indicates the number of CSI drivers registered on the node"),
            ),
            AGE,
        ],
        unconditional_update: false,
        delete_answer: DeleteAnswer::Object,
        checks_changes: false,
        ..About::new("csinodes", "csinode")
    };

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let list = SPEC.child("drivers");
        let mut seen = HashSet::new();
        for (i, driver) in self.spec.drivers.iter().enumerate() {
            let is_repeated = !seen.insert(driver.name.as_str());
            validate_driver(driver, is_repeated, &list.index(i), errors);
        }
    }

    fn validate_update(&self, old: &Self, request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        self.validate_create(request, errors);
        // How many volumes fit may change.
        let fixed = |driver: &CSINodeDriver| CSINodeDriver { allocatable: None, ..driver.clone() };
        let mut named: HashMap<&str, Vec<&CSINodeDriver>> = HashMap::new();
        self.spec.drivers.iter().for_each(|driver| named.entry(&driver.name).or_default().push(driver));
        for old in &old.spec.drivers {
            for new in named.get(old.name.as_str()).into_iter().flatten() {
                let (new, old) = (fixed(new), fixed(old));
                let path = SPEC.child("drivers");
                equal::immutable_struct(&new, &old, "io.k8s.api.storage.v1.CSINodeDriver", path, errors);
            }
        }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![json!(self.metadata.name), json!(self.spec.drivers.len()), json!(table::age(&self.metadata, now))]
    }
}

fn validate_driver(driver: &CSINodeDriver, is_repeated: bool, path: &Path, errors: &mut Errors) {
    source::csi_driver(&driver.name, &path.child("name"), errors);
    let (id_path, id) = (path.child("nodeID"), driver.node_id.as_str());
    if id.is_empty() {
        errors.push(Error::required(id_path, ""));
    }
    if id.len() > NODE_ID_LENGTH_MAX {
        errors.push(Error::invalid(id_path, id, format!("must be {NODE_ID_LENGTH_MAX} characters or less")));
    }
    if let Some(count) = driver.allocatable.as_ref().and_then(|a| a.count) {
        let path = path.child("allocatable");
        not_negative(count, path.child("count"), errors);
    }
    if is_repeated {
        errors.push(Error::duplicate(path.child("name"), driver.name.as_str()));
    }
    let mut seen = HashSet::new();
    for key in driver.topology_keys.items() {
        if key.is_empty() {
            errors.push(Error::required(*path, ""));
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(*path, key.as_str()));
        }
        extend(errors, *path, key, field::qualified_name(key));
    }
}

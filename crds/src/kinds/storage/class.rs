//! What both kinds of classes have in common: who serves them, and with which parameters.

use std::collections::BTreeMap;

use crate::field::{self, Error, Errors, Path, extend};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 << 10;

pub fn validate_provisioner(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(*path, ""));
        return;
    }
    let name = name.to_lowercase();
    extend(errors, *path, &name, field::qualified_name(&name));
}

/// Keys and values; the sizes are in bytes.
pub fn validate_parameters(parameters: &BTreeMap<String, String>, path: &Path, errors: &mut Errors) {
    if parameters.len() > PARAMETERS_MAX {
        errors.push(Error::too_long(*path, PARAMETERS_MAX as i64));
        return;
    }
    if parameters.contains_key("") {
        errors.push(Error::invalid(*path, "", "field can not be empty."));
    }
    if size(parameters) > PARAMETERS_SIZE_MAX {
        errors.push(Error::too_long(*path, PARAMETERS_SIZE_MAX as i64));
    }
}

/// In bytes.
pub fn size(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len()).sum()
}

//! ResourcePoolStatusRequest (resource.k8s.io/v1alpha3).

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1alpha3::{PoolStatus, ResourcePoolStatusRequest, ResourcePoolStatusRequestStatus},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use serde_json::{Value, json};

use crate::{
    condition, declared, equal,
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    kind::{About, DeleteAnswer, Kind, NAME, Request, Subresource, column, text},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const STATUS_TYPE: &str = "io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequestStatus";
const CONDITION_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Condition";
const LIMIT: i32 = 100;
const LIMIT_MAX: i64 = 1000;
const POOLS_MAX: usize = 1000;
const CONDITIONS_MAX: usize = 10;
const VALIDATION_ERROR_LENGTH_MAX: usize = 256;

impl Kind for ResourcePoolStatusRequest {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column("Driver", "string", "", 0, text("The driver to query pools for.")),
            column("Total", "string", "", 0, text("Total number of devices across all pools.")),
            column("Available", "string", "", 0, text("Number of available devices across all pools.")),
            column("Allocated", "string", "", 0, text("Number of allocated devices across all pools.")),
            column("Unavailable", "string", "", 0, text("Number of unavailable devices across all pools.")),
            column("Errors", "string", "", 0, text("Number of pools with validation errors.")),
            column("Pools", "integer", "", 0, text("Total number of matching pools.")),
            column("Status", "string", "", 0, text("Processing status.")),
            column("Completed", "string", "", 0, text("Time since the observation completed.")),
        ],
        unconditional_update: false,
        delete_answer: DeleteAnswer::Object,
        ..About::new("resourcepoolstatusrequests", "resourcepoolstatusrequest")
    };

    fn set_defaults(&mut self) {
        self.spec.limit.get_or_insert(LIMIT);
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = None;
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let spec = &self.spec;
        declared::required(&spec.driver, declared::caseless_long_name, SPEC.child("driver"), errors);
        if let Some(name) = &spec.pool_name {
            validate_pool_name(name, &SPEC.child("poolName"), errors);
        }
        if let Some(limit) = spec.limit {
            declared::at_most(limit, LIMIT_MAX, SPEC.child("limit"), errors);
            declared::at_least(limit, 1, SPEC.child("limit"), errors);
        }
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        declared::immutable(&self.spec, &old.spec, SPEC, errors);
    }

    /// What is answered once is answered for good.
    fn validate_subresource(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        if equal::same(&self.status, &old.status) {
            return;
        }
        let Some(status) = &self.status else {
            errors.push(Error::invalid(STATUS, Value::Null, meta::IMMUTABLE));
            return;
        };
        if let Some(old) = &old.status {
            equal::immutable_struct(status, old, STATUS_TYPE, STATUS, errors);
        } else {
            condition::validate(status.conditions.items(), &STATUS.child("conditions"), errors);
        }
        validate_status(status, old.status.as_ref(), errors);
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.as_ref();
        let (state, completed) = state(status, now);
        let pools = status.filter(|_| state != "Failed").map(|status| status.pools.items());
        let sum = |count: fn(&PoolStatus) -> Option<i32>| match pools {
            None => "-".to_owned(),
            Some(pools) => pools.iter().filter_map(count).map(i64::from).sum::<i64>().to_string(),
        };
        vec![
            json!(self.metadata.name),
            json!(self.spec.driver),
            json!(sum(|pool| pool.total_devices)),
            json!(sum(|pool| pool.available_devices)),
            json!(sum(|pool| pool.allocated_devices)),
            json!(sum(|pool| pool.unavailable_devices)),
            json!(sum(|pool| pool.validation_error.as_ref().map(|_| 1))),
            json!(status.map_or(0, |status| status.pool_count)),
            json!(state),
            json!(completed),
        ]
    }
}

/// How far it has come, and how long ago it was complete.
fn state(status: Option<&ResourcePoolStatusRequestStatus>, now: Timestamp) -> (String, String) {
    let conditions = status.map(|status| status.conditions.items()).unwrap_or_default();
    let ends = |c: &&Condition| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed");
    let none = "<none>".to_owned();
    match (conditions.iter().find(ends), status) {
        (Some(end), Some(status)) if end.type_ == "Complete" => {
            let (shown, all) = (status.pools.items().len(), status.pool_count);
            let is_short = usize::try_from(all).is_ok_and(|all| all > shown);
            let state = if is_short { format!("Complete ({shown}/{all} pools)") } else { "Complete".to_owned() };
            (state, table::since(end.last_transition_time.0, now))
        }
        (Some(_), _) => ("Failed".to_owned(), none),
        (None, _) => ("Pending".to_owned(), none),
    }
}

fn validate_pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.len() > 253 {
        errors.push(Error::too_long(*path, 253));
    }
    for (i, part) in name.split('/').enumerate() {
        match part {
            "" => errors.push(Error::invalid(*path, name, format!("segment {i}: must not be empty"))),
            part => {
                let wrong = declared::long_name(part).into_iter().map(|why| format!("segment {i}: {why}")).collect();
                extend(errors, *path, part, wrong);
            }
        }
    }
}

fn validate_status(
    status: &ResourcePoolStatusRequestStatus,
    old: Option<&ResourcePoolStatusRequestStatus>,
    errors: &mut Errors,
) {
    declared::at_least(status.pool_count, 0, STATUS.child("poolCount"), errors);
    let (pools, path) = (status.pools.items(), STATUS.child("pools"));
    let is_new = old.is_none_or(|old| !equal::same(&old.pools, &status.pools));
    if is_new && field::at_most_items(pools, POOLS_MAX, &path, errors) {
        for (i, pool) in pools.iter().enumerate() {
            validate_pool(pool, &path.index(i), errors);
        }
    }
    let (conditions, path) = (status.conditions.items(), STATUS.child("conditions"));
    let is_new = old.is_none_or(|old| !equal::same(&old.conditions, &status.conditions));
    if is_new && field::at_most_items(conditions, CONDITIONS_MAX, &path, errors) {
        declared::unique(conditions, |condition| condition.type_.as_str(), CONDITION_TYPE, &path, errors);
    }
}

fn validate_pool(pool: &PoolStatus, path: &Path, errors: &mut Errors) {
    declared::required(&pool.driver, declared::caseless_long_name, path.child("driver"), errors);
    match pool.pool_name.as_str() {
        "" => errors.push(Error::required(path.child("poolName"), "")),
        name => validate_pool_name(name, &path.child("poolName"), errors),
    }
    match pool.generation {
        0 => errors.push(Error::required(path.child("generation"), "")),
        generation => declared::at_least(generation, 0, path.child("generation"), errors),
    }
    for (name, count, min) in [
        ("resourceSliceCount", pool.resource_slice_count, 1),
        ("totalDevices", pool.total_devices, 0),
        ("allocatedDevices", pool.allocated_devices, 0),
        ("availableDevices", pool.available_devices, 0),
        ("unavailableDevices", pool.unavailable_devices, 0),
    ] {
        if let Some(count) = count {
            declared::at_least(count, min, path.child(name), errors);
        }
    }
    if let Some(node) = &pool.node_name {
        extend(errors, path.child("nodeName"), node, declared::long_name(node));
    }
    if pool.validation_error.text().len() > VALIDATION_ERROR_LENGTH_MAX {
        errors.push(Error::too_long(path.child("validationError"), VALIDATION_ERROR_LENGTH_MAX as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn request(spec: Value, status: Value) -> ResourcePoolStatusRequest {
        serde_json::from_value(json!({"apiVersion": "resource.k8s.io/v1alpha3", "kind": "ResourcePoolStatusRequest",
            "metadata": {"name": "r"}, "spec": spec, "status": status}))
        .unwrap()
    }

    fn told(rule: impl FnOnce(&Request, &mut Errors)) -> Vec<String> {
        let (user, mut errors) = (User::default(), Errors::new());
        rule(&Request { user: &user, now: Timestamp::UNIX_EPOCH, subresource: "", sent: &Value::Null }, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creation() {
        for (spec, want) in [
            (json!({"driver": "GPU.example.com", "poolName": "a/b", "limit": 1000}), vec![]),
            (
                json!({"poolName": "a//b", "limit": 0}),
                vec![
                    "spec.driver: Required value",
                    "spec.poolName: Invalid value: \"a//b\": segment 1: must not be empty",
                    "spec.limit: Invalid value: 0: must be greater than or equal to 1",
                ],
            ),
            (
                json!({"driver": "d", "limit": 1001}),
                vec!["spec.limit: Invalid value: 1001: must be less than or equal to 1000"],
            ),
        ] {
            assert_eq!(told(|context, errors| request(spec, Value::Null).validate_create(context, errors)), want);
        }
    }

    #[test]
    fn a_status_is_told_once() {
        let (none, spec) = (request(json!({"driver": "d"}), Value::Null), json!({"driver": "d"}));
        let status = json!({"poolCount": 1, "pools": [{"driver": "d", "poolName": "p", "generation": 1}]});
        let first = request(spec.clone(), status);
        assert_eq!(told(|context, errors| first.validate_subresource(&none, context, errors)), [""; 0]);
        let second = request(spec.clone(), json!({"poolCount": -1}));
        let told_second = told(|context, errors| second.validate_subresource(&first, context, errors));
        assert!(told_second[0].starts_with("status: Invalid value: {") && told_second[0].ends_with(meta::IMMUTABLE));
        assert_eq!(told_second[1..], ["status.poolCount: Invalid value: -1: must be greater than or equal to 0"]);
        let wrong = request(spec, json!({"poolCount": 1, "pools": [{"totalDevices": -1, "resourceSliceCount": 0}]}));
        assert_eq!(
            told(|context, errors| wrong.validate_subresource(&none, context, errors)),
            [
                "status.pools[0].driver: Required value",
                "status.pools[0].poolName: Required value",
                "status.pools[0].generation: Required value",
                "status.pools[0].resourceSliceCount: Invalid value: 0: must be greater than or equal to 1",
                "status.pools[0].totalDevices: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn rows() {
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "r", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"});
        let pool = json!({"driver": "d", "poolName": "p", "generation": 1, "totalDevices": 3, "validationError": "x"});
        let row = |status: Value| {
            request(json!({"driver": "d"}), status).row(Timestamp::from_second(60).unwrap())[2..].to_vec()
        };
        assert_eq!(
            row(Value::Null),
            [json!("-"), json!("-"), json!("-"), json!("-"), json!("-"), json!(0), json!("Pending"), json!("<none>")]
        );
        assert_eq!(
            row(json!({"poolCount": 2, "pools": [pool], "conditions": [condition("Complete")]})),
            [
                json!("3"),
                json!("0"),
                json!("0"),
                json!("0"),
                json!("1"),
                json!(2),
                json!("Complete (1/2 pools)"),
                json!("60s")
            ]
        );
        assert_eq!(row(json!({"poolCount": 2, "pools": [pool], "conditions": [condition("Failed")]}))[0], "-");
    }
}

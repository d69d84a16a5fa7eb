//! CSIDriver (storage.k8s.io/v1).

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec, TokenRequest};
use serde_json::Value;

use crate::{
    duration, equal,
    field::{Error, Errors, Path},
    given::Items,
    kind::{AGE, About, DeleteAnswer, Generation, Kind, NAME, Prose, Request, column},
    meta,
};

const SPEC: Path = Path::new("spec");
const GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const LIFECYCLE_MODES: &[&str] = &["Persistent", "Ephemeral"];
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

impl Kind for CSIDriver {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column(
                "AttachRequired",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "attachRequired"),
            ),
            column(
                "PodInfoOnMount",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "podInfoOnMount"),
            ),
            column(
                "StorageCapacity",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "storageCapacity"),
            ),
            column(
                "TokenRequests",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "tokenRequests"),
            ),
            column(
                "RequiresRepublish",
                "boolean",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "requiresRepublish"),
            ),
            column(
                "Modes",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.storage.v1.CSIDriverSpec", "volumeLifecycleModes"),
            ),
            AGE,
        ],
        generation: Generation::Own,
        unconditional_update: false,
        delete_answer: DeleteAnswer::Object,
        ..About::new("csidrivers", "csidriver")
    };

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        for flag in [
            &mut spec.pod_info_on_mount,
            &mut spec.storage_capacity,
            &mut spec.requires_republish,
            &mut spec.se_linux_mount,
        ] {
            flag.get_or_insert(false);
        }
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.items().is_empty() {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
    }

    /// Limits that scale with the cluster are off by default.
    fn prepare_create(&mut self, _request: &Request) {
        self.spec.prevent_pod_scheduling_if_missing = None;
    }

    /// The first generation comes with the first change.
    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        if old.spec.prevent_pod_scheduling_if_missing.is_none() {
            self.spec.prevent_pod_scheduling_if_missing = None;
        }
        if !equal::same(&self.spec, &old.spec) {
            meta::count_up(&mut self.metadata, &old.metadata);
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate_spec(&self.spec, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        let (new, old) = (&self.spec, &old.spec);
        validate_spec(new, errors);
        equal::immutable(&new.attach_required, &old.attach_required, SPEC.child("attachedRequired"), errors);
        let path = SPEC.child("volumeLifecycleModes");
        equal::immutable(&new.volume_lifecycle_modes, &old.volume_lifecycle_modes, path, errors);
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let changed = old.is_none_or(|old| !equal::same(&self.spec.token_requests, &old.spec.token_requests));
        let has_tokens = !self.spec.token_requests.items().is_empty();
        let warns = changed && has_tokens && self.spec.service_account_token_in_secrets.is_none();
        warns.then(|| TOKENS_IN_SECRETS.to_owned()).into_iter().collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let audiences = |requests: &Vec<TokenRequest>| {
            requests.iter().map(|request| request.audience.as_str()).collect::<Vec<_>>().join(",")
        };
        let modes = self.spec.volume_lifecycle_modes.as_deref().unwrap_or_default().join(",");
        vec![
            self.metadata.name.clone().unwrap_or_default().into(),
            self.spec.attach_required.unwrap_or(true).into(),
            self.spec.pod_info_on_mount.unwrap_or_default().into(),
            self.spec.storage_capacity.unwrap_or_default().into(),
            self.spec.token_requests.as_ref().map_or_else(|| "<unset>".into(), audiences).into(),
            self.spec.requires_republish.unwrap_or_default().into(),
            if modes.is_empty() { "<none>".into() } else { modes.into() },
            duration::since(self.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }
}

fn validate_spec(spec: &CSIDriverSpec, errors: &mut Errors) {
    for (name, flag) in [
        ("attachedRequired", spec.attach_required),
        ("podInfoOnMount", spec.pod_info_on_mount),
        ("storageCapacity", spec.storage_capacity),
    ] {
        if flag.is_none() {
            errors.push(Error::required(SPEC.child(name), ""));
        }
    }
    if let Some(policy) = spec.fs_group_policy.as_deref().filter(|policy| !GROUP_POLICIES.contains(policy)) {
        errors.push(Error::not_supported(SPEC.child("fsGroupPolicy"), policy, GROUP_POLICIES));
    }
    validate_tokens(spec.token_requests.items(), &SPEC.child("tokenRequests"), errors);
    for mode in spec.volume_lifecycle_modes.items().iter().filter(|mode| !LIFECYCLE_MODES.contains(&mode.as_str())) {
        errors.push(Error::not_supported(SPEC.child("volumeLifecycleModes"), mode.as_str(), LIFECYCLE_MODES));
    }
    if spec.se_linux_mount.is_none() {
        errors.push(Error::required(SPEC.child("seLinuxMount"), ""));
    }
    let seconds = spec.node_allocatable_update_period_seconds.filter(|seconds| *seconds < UPDATE_PERIOD_SECONDS_MIN);
    if let Some(seconds) = seconds {
        let path = SPEC.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(Error::invalid(path, seconds, "must be greater than or equal to 10 seconds"));
    }
    if let Some(flag) = spec.service_account_token_in_secrets.filter(|_| spec.token_requests.items().is_empty()) {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Error::invalid(SPEC.child("serviceAccountTokenInSecrets"), flag, why));
    }
}

fn validate_tokens(requests: &[TokenRequest], path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        if !seen.insert(request.audience.as_str()) {
            errors.push(Error::duplicate(path.child("audience"), request.audience.as_str()));
            continue;
        }
        let path = path.child("expirationSeconds");
        match request.expiration_seconds {
            Some(seconds) if seconds < TOKEN_SECONDS_MIN => {
                errors.push(Error::invalid(path, seconds, "may not specify a duration less than 10 minutes"));
            }
            Some(seconds) if seconds > TOKEN_SECONDS_MAX => {
                errors.push(Error::invalid(path, seconds, "may not specify a duration larger than 2^32 seconds"));
            }
            _ => {}
        }
    }
}

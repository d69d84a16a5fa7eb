//! PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io/v1).

use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationSpec, PriorityLevelConfigurationStatus, QueuingConfiguration,
};
use serde_json::{Value, json};

use crate::{
    equal,
    field::{Error, Errors, Path},
    given::{Items, Number, Text},
    kind::{AGE, About, Generation, Kind, NAME, Prose, Request, Subresource, column},
    meta, table,
};

const SPEC: Path = Path::new("spec");
const STATUS: Path = Path::new("status");
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const SHARES: i32 = 30;
const HAND_SIZE: i32 = 8;
const QUEUES: i32 = 64;
const QUEUE_LENGTH: i32 = 50;
const QUEUES_MAX: i32 = 10_000_000;
const HASH_BITS_MAX: i64 = 60;

impl Kind for PriorityLevelConfiguration {
    const ABOUT: About = About {
        subresources: &[Subresource::Status],
        columns: &[
            NAME,
            column(
                "Type",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec", "type"),
            ),
            column(
                "NominalConcurrencyShares",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.LimitedPriorityLevelConfiguration", "nominalConcurrencyShares"),
            ),
            column("Queues", "string", "", 0, Prose::Field("io.k8s.api.flowcontrol.v1.QueuingConfiguration", "queues")),
            column(
                "HandSize",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.QueuingConfiguration", "handSize"),
            ),
            column(
                "QueueLengthLimit",
                "string",
                "",
                0,
                Prose::Field("io.k8s.api.flowcontrol.v1.QueuingConfiguration", "queueLengthLimit"),
            ),
            AGE,
        ],
        generation: Generation::Spec,
        checks_changes: false,
        ..About::new("prioritylevelconfigurations", "prioritylevelconfiguration")
    };

    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(SHARES);
        limited.lendable_percent.get_or_insert(0);
        if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
            queuing.hand_size.or_set_nonzero(HAND_SIZE);
            queuing.queues.or_set_nonzero(QUEUES);
            queuing.queue_length_limit.or_set_nonzero(QUEUE_LENGTH);
        }
    }

    fn prepare_create(&mut self, _request: &Request) {
        self.status = Some(PriorityLevelConfigurationStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _request: &Request) {
        self.status.clone_from(&old.status);
    }

    fn prepare_subresource(&mut self, old: &Self, _request: &Request) {
        self.spec.clone_from(&old.spec);
        meta::keep_for_status(&mut self.metadata, &old.metadata);
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        let none = PriorityLevelConfigurationSpec::default();
        let (spec, name) = (self.spec.as_ref().unwrap_or(&none), self.metadata.name.text());
        if self.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(ZERO_SHARES)) {
            let path = Path::new("metadata");
            errors
                .push(Error::forbidden(path.child("annotations"), format!("annotation '{ZERO_SHARES}' is forbidden")));
        }
        validate_spec(spec, name, errors);
        validate_mandatory(spec, name, errors);
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
        let none = PriorityLevelConfigurationSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        let limited = spec.limited.as_ref();
        let queuing = limited.and_then(|l| l.limit_response.as_ref()).and_then(|response| response.queuing.as_ref());
        let queue = |number: fn(&QueuingConfiguration) -> Option<i32>| {
            queuing.map_or(json!("<none>"), |queuing| json!(number(queuing).unwrap_or(0)))
        };
        vec![
            json!(self.metadata.name),
            json!(spec.type_),
            limited.map_or(json!("<none>"), |limited| json!(limited.nominal_concurrency_shares.unwrap_or(0))),
            queue(|queuing| queuing.queues),
            queue(|queuing| queuing.hand_size),
            queue(|queuing| queuing.queue_length_limit),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

/// Levels that are always there: of one nothing may change, of the other only how much it is given.
fn validate_mandatory(spec: &PriorityLevelConfigurationSpec, name: &str, errors: &mut Errors) {
    let (kept, what) = match name {
        "exempt" => (spec.type_ == "Exempt" && spec.limited.is_none(), " except the 'spec.exempt' field"),
        "catch-all" => {
            let fixed = json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }});
            let fixed = serde_json::from_value::<PriorityLevelConfigurationSpec>(fixed);
            (fixed.is_ok_and(|fixed| equal::same(spec, &fixed)), "")
        }
        _ => return,
    };
    if !kept {
        let why = format!("spec of '{name}'{what} must equal the fixed value");
        let wrong = Error::invalid(SPEC, "", why);
        errors.push(wrong.showing_struct(spec, "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec"));
    }
}

fn validate_spec(spec: &PriorityLevelConfigurationSpec, name: &str, errors: &mut Errors) {
    let (type_path, limited_path, exempt_path) = (SPEC.child("type"), SPEC.child("limited"), SPEC.child("exempt"));
    let kind = spec.type_.as_str();
    if (name == "exempt") != (kind == "Exempt") {
        errors.push(Error::invalid(type_path, kind, "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind {
        "Exempt" => {
            if spec.limited.is_some() {
                errors.push(Error::forbidden(limited_path, "must be nil if the type is not Limited"));
            }
            if let Some(exempt) = &spec.exempt {
                validate_exempt(exempt, &exempt_path, errors);
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                errors.push(Error::forbidden(exempt_path, "must be nil if the type is Limited"));
            }
            match &spec.limited {
                None => errors.push(Error::required(limited_path, "must not be empty when type is Limited")),
                Some(limited) => validate_limited(limited, &limited_path, errors),
            }
        }
        "" => errors.push(Error::required(type_path, "")),
        other => errors.push(Error::not_supported(type_path, other, &["Exempt", "Limited"])),
    }
}

fn not_negative(shares: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        let path = path.child("nominalConcurrencyShares");
        errors.push(Error::invalid(path, shares, "must be a non-negative integer"));
    }
}

fn validate_lendable(percent: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(percent) = percent.filter(|percent| !(0..=100).contains(percent)) {
        let why = "must be between 0 and 100, inclusive";
        errors.push(Error::invalid(path.child("lendablePercent"), percent, why));
    }
}

fn validate_exempt(exempt: &ExemptPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    not_negative(exempt.nominal_concurrency_shares, path, errors);
    validate_lendable(exempt.lendable_percent, path, errors);
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    not_negative(limited.nominal_concurrency_shares, path, errors);
    let none = LimitResponse::default();
    validate_response(limited.limit_response.as_ref().unwrap_or(&none), &path.child("limitResponse"), errors);
    validate_lendable(limited.lendable_percent, path, errors);
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.push(Error::invalid(path.child("borrowingLimitPercent"), percent, why));
    }
}

fn validate_response(response: &LimitResponse, path: &Path, errors: &mut Errors) {
    let queuing_path = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(queuing_path, why));
        }
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(queuing_path, why));
        }
        ("Queue", Some(queuing)) => validate_queuing(queuing, &queuing_path, errors),
        ("", _) => errors.push(Error::required(path.child("type"), "")),
        (other, _) => errors.push(Error::not_supported(path.child("type"), other, &["Queue", "Reject"])),
    }
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path, errors: &mut Errors) {
    let number = |number: Option<i32>| number.unwrap_or(0);
    let (length, queues, hand) =
        (number(queuing.queue_length_limit), number(queuing.queues), number(queuing.hand_size));
    let (queues_path, hand_path) = (path.child("queues"), path.child("handSize"));
    if length <= 0 {
        errors.push(Error::invalid(path.child("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(Error::invalid(queues_path, queues, "must be positive"));
    } else if queues > QUEUES_MAX {
        errors.push(Error::invalid(queues_path, queues, format!("must not be greater than {QUEUES_MAX}")));
    }
    if hand <= 0 {
        errors.push(Error::invalid(hand_path, hand, "must be positive"));
    } else if hand > queues {
        errors.push(Error::invalid(hand_path, hand, format!("should not be greater than queues ({queues})")));
    } else if hash_bits(queues, hand) > HASH_BITS_MAX {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        errors.push(Error::invalid(hand_path, hand, why));
    }
}

/// How many bits of a hash it takes to deal a hand of queues.
fn hash_bits(queues: i32, hand: i32) -> i64 {
    (f64::from(queues).log2() * f64::from(hand)).ceil() as i64
}

fn validate_conditions(level: &PriorityLevelConfiguration, errors: &mut Errors) {
    let conditions = level.status.as_ref().map(|status| status.conditions.items()).unwrap_or_default();
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.type_.text()).collect();
    super::condition::validate(&kinds, &STATUS.child("conditions"), errors);
}

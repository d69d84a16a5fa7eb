//! The environment of device selectors: `device.driver == 'x' && device.attributes['x'].model == 'a100'`.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use super::{Decl, Env, Key, Map, Scalar, Type, Value};

/// The most that a selector may cost.
pub const SELECTOR_LIMIT: u64 = 1_000_000;
/// The most characters of a selector.
pub const SELECTOR_LENGTH: usize = 10 * 1024;

const DOMAIN_LENGTH: u64 = 63;
const ID_LENGTH: u64 = 32;
const VALUE_LENGTH: u64 = 64;
const ENTRIES: u64 = 32;

/// The type of `device`.
pub fn decl() -> Arc<Decl> {
    static DEVICE: LazyLock<Arc<Decl>> = LazyLock::new(|| {
        let text = |most| Decl::string().max_elements(most);
        let by_domain = |value: Decl| {
            let inner = Decl::map(text(ID_LENGTH), value).max_elements(ENTRIES);
            Decl::map(text(DOMAIN_LENGTH), inner).max_elements(ENTRIES)
        };
        let fields = [
            ("driver", text(DOMAIN_LENGTH)),
            ("allowMultipleAllocations", Decl::scalar(Scalar::Bool).max_elements(1)),
            ("attributes", by_domain(Decl::any().max_elements(VALUE_LENGTH))),
            ("capacity", by_domain(Decl::of(Type::object("kubernetes.Quantity")))),
        ];
        let fields = fields.into_iter().map(|(name, decl)| (name.to_owned(), decl));
        Arc::new(Decl::object("kubernetes.DRADevice", fields))
    });
    DEVICE.clone()
}

/// The functions of Kubernetes, `cel.bind`, and `device`.
pub fn env() -> Env {
    Env::new().bind_macro().declared("device", &decl())
}

/// Attributes or capacities by domain and name.
pub type ByDomain<'a> = BTreeMap<String, BTreeMap<String, Value<'a>>>;

/// The value of `device`. Domains that it does not have are found, and empty.
pub fn value<'a>(driver: &str, multiple: bool, attributes: ByDomain<'a>, capacity: ByDomain<'a>) -> Value<'a> {
    let key = |name: String| Key::String(name.into());
    let entries = |values: BTreeMap<String, Value<'a>>| {
        Value::Map(Map::new(values.into_iter().map(|(name, value)| (key(name), value)).collect()))
    };
    let domains = |domains: ByDomain<'a>| {
        let domains = domains.into_iter().map(|(domain, values)| (key(domain), entries(values)));
        Value::Map(Map::Defaulting(Arc::new(domains.collect())))
    };
    let device = [
        ("driver", Value::text(driver)),
        ("allowMultipleAllocations", Value::Bool(multiple)),
        ("attributes", domains(attributes)),
        ("capacity", domains(capacity)),
    ];
    entries(device.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

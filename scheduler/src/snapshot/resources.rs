//! Resources in the units that scheduling reckons in.

use std::collections::BTreeMap;

use crds::{quantity::Quantity, resource};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

/// Processor time in thousandths, the rest in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages and the like.
    pub scalars: BTreeMap<String, i64>,
    /// How many pods; only of a node.
    pub pods: i64,
}

impl Resources {
    pub fn of(amounts: &resource::Amounts) -> Self {
        let mut resources = Self::default();
        for (name, amount) in amounts {
            resources.set(name, *amount);
        }
        resources
    }

    pub fn of_wire(list: Option<&BTreeMap<String, Wire>>) -> Self {
        Self::of(&resource::amounts(list))
    }

    fn set(&mut self, name: &str, amount: Quantity) {
        match name {
            resource::CPU => self.milli_cpu = amount.millis(),
            resource::MEMORY => self.memory = amount.units(),
            resource::EPHEMERAL_STORAGE => self.ephemeral_storage = amount.units(),
            resource::PODS => self.pods = amount.units(),
            _ => {
                self.scalars.insert(name.to_owned(), amount.units());
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let have = self.scalars.entry(name.clone()).or_default();
            *have = have.saturating_add(*amount);
        }
    }

    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.get(name).copied().unwrap_or(0)
    }

    /// Whether a pod that asks for this asks for nothing.
    pub fn is_nothing(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalars.is_empty()
    }
}

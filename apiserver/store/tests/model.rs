//! Random operations and restarts: the backends answer like a model that is too simple to be wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, executor::block_on};
use proptest::prelude::*;
use store::{
    Compare, EmbeddedStore, Entry, MemoryStore, Op, Options, Outcome, Page, Result, Retention, Revision, Store,
    StoreError, Txn,
};

/// The whole state at every revision.
#[derive(Default)]
struct Model {
    states: Vec<BTreeMap<String, Entry>>,
    oldest: Revision,
}

impl Model {
    fn new() -> Self {
        Self { states: vec![BTreeMap::new()], oldest: 0 }
    }

    fn revision(&self) -> Revision {
        self.states.len() as Revision - 1
    }

    fn now(&self) -> &BTreeMap<String, Entry> {
        &self.states[self.states.len() - 1]
    }

    fn txn(&mut self, txn: &Txn) -> Outcome {
        let modified = |key: &str| self.now().get(key).map_or(0, |entry| entry.modified);
        if txn.compare.iter().any(|compare| modified(&compare.key) != compare.modified) {
            return Outcome::Conflict(
                txn.compare.iter().map(|compare| self.now().get(&compare.key).cloned()).collect(),
            );
        }
        let revision = self.revision() + 1;
        let mut next = self.now().clone();
        for op in &txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    let created = next.get(key).map_or(revision, |entry| entry.created);
                    let entry = Entry { key: key.clone(), value: value.clone(), created, modified: revision };
                    next.insert(key.clone(), entry);
                }
                Op::Delete { key } => drop(next.remove(key)),
            }
        }
        if next == *self.now() {
            return Outcome::Committed(revision - 1);
        }
        self.states.push(next);
        Outcome::Committed(revision)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize, at: Revision) -> Page {
        let all = self.states[at as usize].values();
        let mut found = all.filter(|e| e.key.starts_with(prefix) && after.is_none_or(|after| e.key.as_str() > after));
        let entries = found.by_ref().take(if limit == 0 { usize::MAX } else { limit }).cloned().collect();
        let remaining = found.count() as u64;
        Page { entries, revision: at, more: remaining > 0, remaining }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Compares with what is there (or, if false, with something else), then writes.
    Txn {
        compare: Vec<(u8, bool)>,
        ops: BTreeMap<u8, Option<u8>>,
    },
    Range {
        prefix: u8,
        after: Option<u8>,
        limit: usize,
        back: u64,
    },
    Watch {
        prefix: u8,
        back: u64,
    },
    Compact {
        back: u64,
    },
    Restart,
}

const PREFIXES: [&str; 5] = ["", "/", "/a", "/a/", "/b/"];

fn key(number: u8) -> String {
    ["/a", "/a/", "/a/1", "/a/10", "/a/2", "/a0", "/b/1", "/b/é"][number as usize % 8].to_owned()
}

fn step() -> impl Strategy<Value = Step> {
    let ops = prop::collection::btree_map(0..8_u8, prop::option::weighted(0.7, any::<u8>()), 0..4);
    let compare = prop::collection::vec((0..8_u8, prop::bool::weighted(0.8)), 0..3);
    prop_oneof![
        12 => (compare, ops).prop_map(|(compare, ops)| Step::Txn { compare, ops }),
        4 => (0..5_u8, prop::option::of(0..8_u8), 0..4_usize, 0..12_u64)
            .prop_map(|(prefix, after, limit, back)| Step::Range { prefix, after, limit, back }),
        3 => (0..5_u8, 0..12_u64).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
        1 => (0..12_u64).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Restart),
    ]
}

/// Takes a store through the steps beside the model. `restart` gives the store that follows.
fn follow(steps: &[Step], mut store: Box<dyn Store>, mut restart: impl FnMut(Box<dyn Store>) -> Box<dyn Store>) {
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Txn { compare, ops } => {
                let txn = txn(&model, compare, ops);
                assert_eq!(block_on(store.txn(txn.clone())).unwrap(), model.txn(&txn));
            }
            Step::Range { prefix, after, limit, back } => {
                let (prefix, after) = (PREFIXES[*prefix as usize], after.map(key));
                let at = model.revision().saturating_sub(*back);
                let page = block_on(store.range(prefix, after.as_deref(), *limit, Some(at)));
                assert_same(page, at, model.oldest, || model.range(prefix, after.as_deref(), *limit, at));
            }
            Step::Watch { prefix, back } => {
                let prefix = PREFIXES[*prefix as usize];
                let after = model.revision().saturating_sub(*back);
                let seen = block_on(store.watch(prefix, after)).map(|mut watch| {
                    std::iter::from_fn(|| watch.next().now_or_never().flatten()).map(Result::unwrap).collect::<Vec<_>>()
                });
                assert_same(seen, after, model.oldest, || events(&model, prefix, after));
            }
            Step::Compact { back } => {
                let revision = model.revision().saturating_sub(*back);
                block_on(store.compact(revision)).unwrap();
                model.oldest = model.oldest.max(revision);
            }
            Step::Restart => store = restart(store),
        }
        assert_eq!(block_on(store.revision()).unwrap(), model.revision());
        assert_eq!(block_on(store.oldest()).unwrap(), model.oldest);
    }
    let now = block_on(store.range("", None, 0, None)).unwrap();
    assert_eq!(now, model.range("", None, 0, model.revision()));
}

fn assert_same<T: PartialEq + std::fmt::Debug>(
    answer: Result<T>,
    asked: Revision,
    oldest: Revision,
    expected: impl FnOnce() -> T,
) {
    match answer {
        Ok(answer) => assert_eq!(answer, expected()),
        Err(StoreError::Compacted { .. }) => assert!(asked < oldest, "{asked} is kept"),
        Err(error) => panic!("{error}"),
    }
}

fn txn(model: &Model, compare: &[(u8, bool)], ops: &BTreeMap<u8, Option<u8>>) -> Txn {
    let compare = compare.iter().map(|(number, right)| {
        let modified = model.now().get(&key(*number)).map_or(0, |entry| entry.modified);
        Compare { key: key(*number), modified: if *right { modified } else { modified + 1 } }
    });
    let ops = ops.iter().map(|(number, value)| match value {
        Some(value) => Op::Put { key: key(*number), value: Bytes::from(vec![*value; *value as usize]), ttl: None },
        None => Op::Delete { key: key(*number) },
    });
    Txn { compare: compare.collect(), ops: ops.collect() }
}

/// Batches after a revision, each in the order of its keys.
fn events(model: &Model, prefix: &str, after: Revision) -> Vec<Vec<store::Event>> {
    let changes = |revision: Revision| {
        let (old, new) = (&model.states[revision as usize - 1], &model.states[revision as usize]);
        let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let changed = keys.into_iter().filter(|key| key.starts_with(prefix) && old.get(*key) != new.get(*key));
        let event = |key: &String| store::Event {
            key: key.clone(),
            value: new.get(key).cloned(),
            previous: old.get(key).cloned(),
            revision,
        };
        changed.map(event).collect::<Vec<_>>()
    };
    (after + 1..=model.revision()).map(changes).filter(|batch| !batch.is_empty()).collect()
}

fn options() -> Options {
    // Only what the steps ask for is compacted.
    Options { retention: Retention { revisions: usize::MAX, ..Retention::default() }, ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_like_the_model(steps in prop::collection::vec(step(), 1..80)) {
        follow(&steps, Box::new(MemoryStore::new(&options())), |store| store);
    }

    #[test]
    fn embedded_is_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let open = || Box::new(EmbeddedStore::open(directory.path(), &options()).unwrap());
        follow(&steps, open(), |store| {
            drop(store);
            open()
        });
    }
}

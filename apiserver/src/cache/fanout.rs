//! Who watches a kind: an event is looked at once for all who watch the same.

use std::sync::Arc;

use store::Revision;
use tokio::time::Instant;

use super::{
    changes::{Changes, Teller},
    event::Event,
    filter::Filter,
    kind::Delivery,
};
use crate::wakes;

/// So few watchers are not searched for those who have left.
const SEARCHED_MIN: usize = 64;

#[derive(Default)]
pub struct Fanout {
    /// In the order of their first watchers, which decides who is told first.
    groups: Vec<Group>,
    count: usize,
    /// When there are so many, those who have left are searched for. An event finds them, too, but may never come.
    search_at: usize,
}

struct Group {
    filter: Filter,
    teller: Teller,
}

impl Group {
    fn tell(&mut self, events: &[Arc<Event>], now: Instant) -> Option<Instant> {
        let changes = events.iter().filter_map(|event| Some((self.filter.change(event)?, event.clone())));
        let changes: Vec<Delivery> = changes.collect();
        if changes.is_empty() { None } else { self.teller.tell(changes, now) }
    }
}

impl Fanout {
    /// A new watcher, who is told of changes after a revision.
    pub fn add(&mut self, filter: Filter, after: Revision) -> Changes {
        if self.count >= self.search_at.max(SEARCHED_MIN) {
            self.groups.iter_mut().for_each(|group| group.teller.search());
            self.settle();
            self.search_at = self.count * 2;
        }
        self.count += 1;
        if let Some(group) = self.groups.iter_mut().find(|group| group.filter == filter) {
            return group.teller.add(after);
        }
        let mut teller = Teller::default();
        let changes = teller.add(after);
        self.groups.push(Group { filter, teller });
        changes
    }

    /// Tells of events; gives the time at which those who are not woken at once are [to be woken](Self::wake_due).
    pub fn tell(&mut self, events: &[Arc<Event>], now: Instant) -> Option<Instant> {
        self.earliest(|group| group.tell(events, now))
    }

    /// Wakes those for whom it is time; gives the time of the next ones.
    pub fn wake_due(&mut self, now: Instant) -> Option<Instant> {
        self.earliest(|group| group.teller.wake_due(now))
    }

    fn earliest(&mut self, due: impl FnMut(&mut Group) -> Option<Instant>) -> Option<Instant> {
        let earliest = wakes::together(|| self.groups.iter_mut().filter_map(due).min());
        self.settle();
        earliest
    }

    fn settle(&mut self) {
        self.groups.retain(|group| group.teller.count() > 0);
        self.count = self.groups.iter().map(|group| group.teller.count()).sum();
    }

    /// How many there are; some may have left.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends all watches.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use crds::kind::Definition;
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::cache::Object;

    fn event(revision: Revision) -> Arc<Event> {
        let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b"}});
        Arc::new(Event::new(revision, Some(Arc::new(Object::of(&value, revision).unwrap())), None))
    }

    fn revisions(changes: &mut Changes) -> Vec<Revision> {
        let next = || changes.next().now_or_never().flatten();
        std::iter::from_fn(next).map(|(_, event)| event.revision).collect()
    }

    #[test]
    fn a_watcher_is_told_what_it_has_not_seen() {
        let definition = Arc::new(Definition::of::<ConfigMap>());
        let mut fanout = Fanout::default();
        let mut early = fanout.add(Filter::all(definition.clone(), ""), 0);
        let mut late = fanout.add(Filter::all(definition.clone(), ""), 1);
        let mut elsewhere = fanout.add(Filter::all(definition, "c"), 0);
        fanout.tell(&[event(1), event(2)], Instant::now());
        assert_eq!(revisions(&mut early), [1, 2]);
        assert_eq!(revisions(&mut late), [2]);
        assert!(revisions(&mut elsewhere).is_empty());
    }

    #[test]
    fn who_has_left_is_forgotten_though_nothing_changes() {
        let definition = Arc::new(Definition::of::<ConfigMap>());
        let mut fanout = Fanout::default();
        let _stays = fanout.add(Filter::all(definition.clone(), ""), 0);
        for number in 0..SEARCHED_MIN * 10 {
            drop(fanout.add(Filter::all(definition.clone(), &number.to_string()), 0));
        }
        assert!(fanout.count() <= SEARCHED_MIN, "{}", fanout.count());
    }
}

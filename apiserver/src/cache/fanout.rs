//! Who watches a kind: an event is looked at once for all who watch the same.

use std::sync::Arc;

use store::Revision;
use tokio::sync::mpsc;

use super::{event::Event, filter::Filter, kind::Delivery};

/// Changes that wait for one watcher before it is dropped.
pub const BACKLOG_EVENTS_MAX: usize = 4096;
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
    watchers: Vec<Watcher>,
}

struct Watcher {
    /// It has seen everything up to this revision.
    after: Revision,
    sender: mpsc::Sender<Delivery>,
}

impl Group {
    fn tell(&mut self, events: &[Arc<Event>]) {
        let changes = events.iter().filter_map(|event| Some((self.filter.change(event)?, event.clone())));
        let changes: Vec<Delivery> = changes.collect();
        if changes.is_empty() {
            return;
        }
        self.watchers.retain(|watcher| {
            let mut due = changes.iter().filter(|(_, event)| event.revision > watcher.after);
            // A full queue is a slow watcher, a closed one is gone: either ends the watch.
            due.all(|change| watcher.sender.try_send(change.clone()).is_ok())
        });
    }
}

impl Fanout {
    /// A new watcher, who is told of changes after a revision.
    pub fn add(&mut self, filter: Filter, after: Revision) -> mpsc::Receiver<Delivery> {
        if self.count >= self.search_at.max(SEARCHED_MIN) {
            self.groups.iter_mut().for_each(|group| group.watchers.retain(|watcher| !watcher.sender.is_closed()));
            self.settle();
            self.search_at = self.count * 2;
        }
        let (sender, changes) = mpsc::channel(BACKLOG_EVENTS_MAX);
        let watcher = Watcher { after, sender };
        match self.groups.iter_mut().find(|group| group.filter == filter) {
            Some(group) => group.watchers.push(watcher),
            None => self.groups.push(Group { filter, watchers: vec![watcher] }),
        }
        self.count += 1;
        changes
    }

    pub fn tell(&mut self, events: &[Arc<Event>]) {
        self.groups.iter_mut().for_each(|group| group.tell(events));
        self.settle();
    }

    fn settle(&mut self) {
        self.groups.retain(|group| !group.watchers.is_empty());
        self.count = self.groups.iter().map(|group| group.watchers.len()).sum();
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
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::cache::Object;

    fn event(revision: Revision) -> Arc<Event> {
        let value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"namespace": "a", "name": "b"}});
        Arc::new(Event::new(revision, Some(Arc::new(Object::of(&value, revision).unwrap())), None))
    }

    fn revisions(changes: &mut mpsc::Receiver<Delivery>) -> Vec<Revision> {
        std::iter::from_fn(|| changes.try_recv().ok()).map(|(_, event)| event.revision).collect()
    }

    #[test]
    fn a_watcher_is_told_what_it_has_not_seen() {
        let definition = Arc::new(Definition::of::<ConfigMap>());
        let mut fanout = Fanout::default();
        let mut early = fanout.add(Filter::all(definition.clone(), ""), 0);
        let mut late = fanout.add(Filter::all(definition.clone(), ""), 1);
        let mut elsewhere = fanout.add(Filter::all(definition, "c"), 0);
        fanout.tell(&[event(1), event(2)]);
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

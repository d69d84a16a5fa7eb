//! The second round of `admit`: whatever came before a webhook or a policy that changed the object sees it once more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What the first round leaves for the second.
#[derive(Clone, Debug, Default)]
pub struct Reinvocation {
    wanted: bool,
    running: bool,
    /// By plugin.
    plugins: BTreeMap<&'static str, Again>,
}

/// What a plugin that calls others knows of its calls.
#[derive(Clone, Debug, Default)]
struct Again {
    /// Called, and to be called again if something changes.
    called: BTreeSet<String>,
    /// Something has changed since they were called.
    wanted: BTreeSet<String>,
    /// The object as the plugin left it.
    left: Option<Value>,
}

impl Again {
    fn want_all(&mut self) {
        self.wanted.append(&mut self.called);
    }
}

impl Reinvocation {
    /// Whether there must be a second round, which begins now.
    pub(super) fn begin(&mut self) -> bool {
        self.running = self.wanted;
        self.running
    }

    /// Whether this is the second round.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// A plugin begins its calls: what others have changed since its last ones is a reason for new ones.
    pub(super) fn enter(&mut self, plugin: &'static str, object: Option<&Value>) {
        let running = self.running;
        let Some(again) = self.plugins.get_mut(plugin) else { return };
        if running && again.left.as_ref() != object {
            again.want_all();
        }
    }

    /// Whether the round calls this one: in the second, only those that are wanted again.
    pub(super) fn calls(&self, plugin: &'static str, id: &str) -> bool {
        !self.running || self.plugins.get(plugin).is_some_and(|again| again.wanted.contains(id))
    }

    /// A call has changed the object: all before it are wanted again.
    pub(super) fn changed(&mut self, plugin: &'static str) {
        self.wanted = true;
        self.plugins.entry(plugin).or_default().want_all();
    }

    /// A call that is repeated if something changes later.
    pub(super) fn called(&mut self, plugin: &'static str, id: &str) {
        self.plugins.entry(plugin).or_default().called.insert(id.to_owned());
    }

    /// The plugin is done.
    pub(super) fn leave(&mut self, plugin: &'static str, object: Option<&Value>) {
        let Some(again) = self.plugins.get_mut(plugin) else { return };
        again.left = object.filter(|_| !again.called.is_empty()).cloned();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLUGIN: &str = "Webhooks";

    #[test]
    fn those_before_a_change_are_called_again() {
        let mut state = Reinvocation::default();
        assert!(state.calls(PLUGIN, "a"));
        state.called(PLUGIN, "a");
        state.changed(PLUGIN);
        state.called(PLUGIN, "b");
        state.leave(PLUGIN, Some(&json!(1)));
        assert!(state.begin());
        state.enter(PLUGIN, Some(&json!(1)));
        assert!(state.calls(PLUGIN, "a"));
        assert!(!state.calls(PLUGIN, "b"), "nothing has changed since");
        state.enter(PLUGIN, Some(&json!(2)));
        assert!(state.calls(PLUGIN, "b"), "another plugin has changed the object");
    }

    #[test]
    fn nothing_changed_nothing_again() {
        let mut state = Reinvocation::default();
        state.called(PLUGIN, "a");
        state.leave(PLUGIN, Some(&json!(1)));
        assert!(!state.begin());
    }
}

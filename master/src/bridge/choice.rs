//! Which events a bridge takes, and which of their minions' grains go along.

use std::sync::Arc;

use drover_pki::MinionId;
use drover_proto::event::Event;
use serde_json::{Map, Value};

use super::{filter::Filter, sample::Sample};
use crate::registry::Registry;

/// A bridge's `filter`, `sample` and `grains`.
pub(super) struct Choice {
    pub(super) filter: Filter,
    pub(super) sample: Sample,
    /// The grains that are added to each event.
    pub(super) grains: Vec<String>,
    pub(super) registry: Registry,
    /// Of an event that has none.
    pub(super) no_grains: Arc<Map<String, Value>>,
}

impl Choice {
    /// The grains that go with an event, and nothing for one that is not taken.
    pub(super) fn choose(&self, event: &Event) -> Option<Arc<Map<String, Value>>> {
        let of = |minion: &MinionId| self.registry.grains(minion);
        let is_taken = self.filter.takes(event, &of) && self.sample.takes(event);
        is_taken.then(|| self.grains(event))
    }

    /// The grains that go with an event.
    pub(super) fn grains(&self, event: &Event) -> Arc<Map<String, Value>> {
        let Some(minion) = event.minion.as_ref().filter(|_| !self.grains.is_empty()) else {
            return self.no_grains.clone();
        };
        let Some(known) = self.registry.grains(minion) else { return self.no_grains.clone() };
        let chosen = |name: &String| Some((name.clone(), known.get(name)?.clone()));
        Arc::new(self.grains.iter().filter_map(chosen).collect())
    }
}

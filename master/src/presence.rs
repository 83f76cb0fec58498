//! Who is there: connected, stale after three missed heartbeats or an ended connection, lost when the grace is over,
//! and back. A machine; the hub feeds it signs of authenticated sessions, never addresses, and [`PresenceTask`] turns
//! what it decides into events.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use drover_pki::MinionId;
use drover_proto::event::{NewEvent, Tag};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    clock::Now,
    hub::{Sign, SignOf},
};

pub use crate::store::{PresenceEntry, PresenceState};

mod task;

pub use task::{PresenceHandle, PresenceTask};

#[cfg(test)]
mod tests;

/// The presence of every minion that was ever connected. Only those that are away have a timer.
#[derive(Debug)]
pub struct Presence {
    grace: Duration,
    minions: HashMap<MinionId, Minion>,
    timers: BTreeSet<(Instant, MinionId)>,
    changes: VecDeque<Change>,
    /// The master ends.
    is_over: bool,
}

/// What became of a minion: to be written, and mostly told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The minion.
    pub minion: MinionId,
    /// How it stands now.
    pub entry: PresenceEntry,
    /// What to tell; a minion that is connected for the first time is not told here.
    pub told: Option<Told>,
}

/// What is told of a minion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is stale, and its connection still stands or not.
    Stale {
        /// Whether the connection stands: the minion hangs, or the network swallows what it sends.
        is_open: bool,
    },
    /// The grace is over.
    Lost,
    /// It is there again.
    Back {
        /// How it stood before.
        from: PresenceState,
        /// When it was heard before that.
        last_seen: Timestamp,
    },
}

impl Change {
    /// The event that tells it.
    #[must_use]
    pub fn event(&self) -> Option<NewEvent> {
        let PresenceEntry { since, last_seen, .. } = self.entry;
        let (what, data) = match self.told? {
            Told::Stale { is_open } => {
                let reason = if is_open { "no heartbeat" } else { "the connection ended" };
                ("stale", json!({"since": since, "last_seen": last_seen, "reason": reason}))
            }
            Told::Lost => ("lost", json!({"since": since, "last_seen": last_seen})),
            Told::Back { from, last_seen } => {
                let away = since.duration_since(last_seen).as_secs().max(0);
                ("back", json!({"since": since, "from": from, "away": away}))
            }
        };
        let tag = Tag::presence(&self.minion, what);
        Some(NewEvent::new(tag, Some(self.minion.clone()), data))
    }
}

#[derive(Debug)]
struct Minion {
    state: State,
    since: Timestamp,
    last_seen: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Connected,
    /// Connected when the master ended, and not yet seen by the one that runs: nothing is told of it before the grace
    /// is over, so that a restart is not a flood.
    Awaited {
        until: Instant,
    },
    Stale {
        lost_at: Instant,
    },
    Lost,
}

impl Minion {
    const fn presence(&self) -> PresenceState {
        match self.state {
            State::Connected => PresenceState::Connected,
            State::Awaited { .. } | State::Stale { .. } => PresenceState::Stale,
            State::Lost => PresenceState::Lost,
        }
    }

    const fn entry(&self) -> PresenceEntry {
        PresenceEntry { presence: self.presence(), since: self.since, last_seen: self.last_seen }
    }

    const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Connected | State::Lost => None,
            State::Awaited { until } => Some(until),
            State::Stale { lost_at } => Some(lost_at),
        }
    }
}

impl Presence {
    /// What was written before the master started; `alive` is when the master before this one was last known to run.
    /// Who was connected then is given the grace to come back before anything is told.
    #[must_use]
    pub fn restore(
        grace: Duration,
        entries: impl IntoIterator<Item = (MinionId, PresenceEntry)>,
        alive: Option<Timestamp>,
        now: Instant,
    ) -> Self {
        let mut presence = Self {
            grace,
            minions: HashMap::new(),
            timers: BTreeSet::new(),
            changes: VecDeque::new(),
            is_over: false,
        };
        for (id, entry) in entries {
            let until = now + grace;
            let (state, last_seen) = match entry.presence {
                PresenceState::Connected => {
                    let seen = alive.map_or(entry.last_seen, |alive| alive.max(entry.last_seen));
                    (State::Awaited { until }, seen)
                }
                PresenceState::Stale => (State::Stale { lost_at: until }, entry.last_seen),
                PresenceState::Lost => (State::Lost, entry.last_seen),
            };
            let minion = Minion { state, since: entry.since, last_seen };
            presence.timers.extend(minion.due().map(|due| (due, id.clone())));
            presence.minions.insert(id, minion);
        }
        presence
    }

    /// The hub saw a sign of a minion. A connection that takes the place of an older one is no change.
    pub fn handle_sign(&mut self, sign: &SignOf, now: Instant) {
        if self.is_over {
            return;
        }
        let (id, at) = (&sign.minion, sign.at);
        match sign.sign {
            Sign::Connected if !self.minions.contains_key(id) => {
                let minion = Minion { state: State::Connected, since: at, last_seen: at };
                let entry = minion.entry();
                self.minions.insert(id.clone(), minion);
                self.changes.push_back(Change { minion: id.clone(), entry, told: None });
            }
            Sign::Connected | Sign::Heard => self.here(id, at),
            Sign::Stale => self.stale(id, true, now, at),
            Sign::Disconnected => self.stale(id, false, now, at),
        }
    }

    /// The master ends, and cuts its connections: that is nobody's absence.
    pub const fn handle_end(&mut self) {
        self.is_over = true;
    }

    /// Forgets a minion whose key was deleted.
    pub fn handle_deleted(&mut self, id: &MinionId) {
        if let Some(due) = self.minions.remove(id).and_then(|minion| minion.due()) {
            self.timers.remove(&(due, id.clone()));
        }
    }

    /// Notices who is gone for too long.
    pub fn handle_timeout(&mut self, now: Now) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now.instant) {
            let Some((_, id)) = self.timers.pop_first() else { return };
            if let Some(minion) = self.minions.get_mut(&id) {
                minion.state = State::Lost;
                minion.since = now.wall;
                self.tell(&id, Told::Lost);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// How a minion stands; `None` for one that was never connected.
    #[must_use]
    pub fn entry(&self, id: &MinionId) -> Option<PresenceEntry> {
        self.minions.get(id).map(Minion::entry)
    }

    /// How every minion stands that was ever connected.
    pub fn entries(&self) -> impl Iterator<Item = (&MinionId, PresenceEntry)> {
        self.minions.iter().map(|(id, minion)| (id, minion.entry()))
    }

    fn here(&mut self, id: &MinionId, at: Timestamp) {
        let Some(minion) = self.minions.get_mut(id) else { return };
        let (from, due) = (minion.presence(), minion.due());
        let last_seen = std::mem::replace(&mut minion.last_seen, at);
        if let Some(due) = due {
            self.timers.remove(&(due, id.clone()));
        }
        match std::mem::replace(&mut minion.state, State::Connected) {
            // An awaited one never was away, as far as anybody was told: `since` stays.
            State::Connected | State::Awaited { .. } => {}
            State::Stale { .. } | State::Lost => {
                minion.since = at;
                self.tell(id, Told::Back { from, last_seen });
            }
        }
    }

    fn stale(&mut self, id: &MinionId, is_open: bool, now: Instant, at: Timestamp) {
        let Some(minion) = self.minions.get_mut(id) else { return };
        if !matches!(minion.state, State::Connected) {
            // A silent one whose connection ends is stale already.
            return;
        }
        let lost_at = now + self.grace;
        *minion = Minion { state: State::Stale { lost_at }, since: at, last_seen: at };
        self.timers.insert((lost_at, id.clone()));
        self.tell(id, Told::Stale { is_open });
    }

    fn tell(&mut self, id: &MinionId, told: Told) {
        if let Some(entry) = self.entry(id) {
            self.changes.push_back(Change { minion: id.clone(), entry, told: Some(told) });
        }
    }
}

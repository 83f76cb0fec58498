//! When which beacon looks, and what came of it. A machine: it takes the time and the system as
//! arguments, and the minion sends its events.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::beacon::{Beacon, Look, Reading};
use crate::config::{ConfigError, Options, Timing, kind_of};
use crate::rate_cap::RateCap;
use crate::system::System;

/// All beacons of one minion.
#[derive(Debug)]
pub struct BeaconSchedule {
    entries: Vec<Entry>,
    events: VecDeque<BeaconEvent>,
    state_run: bool,
}

/// Something that a beacon tells.
#[derive(Debug, Clone, PartialEq)]
pub struct BeaconEvent {
    /// The beacon's name in the configuration.
    pub beacon: String,
    /// The end of the tag; empty for most beacons.
    pub detail: String,
    /// A map, with the names that Salt's beacon gives.
    pub data: Value,
    /// How long before the look it was; nothing for what the look itself saw.
    pub age: Duration,
}

impl BeaconEvent {
    /// The end of the event's tag, `<beacon>/<detail>`: what follows `drover/beacon/<id>/`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.beacon, self.detail)
    }
}

#[derive(Debug)]
struct Entry {
    name: String,
    beacon: Beacon,
    timing: Timing,
    /// When it looks next; never again if none.
    due: Option<Instant>,
    looked: bool,
    cap: RateCap,
    /// Whether the last look failed: a lasting failure is logged once.
    failing: bool,
    /// Whether its last look found less room than it has lines for.
    starved: bool,
}

impl BeaconSchedule {
    /// Reads the value of `beacons` in the minion's configuration, in Salt's form: a map of names,
    /// each with a list of one-key maps or with one map. Nothing configured is an empty schedule.
    ///
    /// All beacons look first at `now` and then at whole intervals from there, so that those with
    /// the same interval share one wake-up.
    ///
    /// # Errors
    /// Says which beacon or option is unknown, doubled or has a value that it cannot have.
    pub fn from_config(config: &Value, now: Instant) -> Result<Self, ConfigError> {
        let mut schedule = Self { entries: Vec::new(), events: VecDeque::new(), state_run: false };
        let beacons = match config {
            Value::Null => return Ok(schedule),
            Value::Object(beacons) => beacons,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(ConfigError::NotAMap { found: kind_of(config) });
            }
        };
        let mut enabled = true;
        for (name, value) in beacons {
            // Salt keeps the switch for all of them among them.
            match (name.as_str(), value.as_bool()) {
                ("enabled", Some(switch)) => enabled = switch,
                _ => schedule.entries.push(Entry::configure(name, value, now)?),
            }
        }
        if !enabled {
            schedule.entries.clear();
        }
        Ok(schedule)
    }

    /// Tells that a state run begins or ends. Beacons with `disable_during_state_run` look after
    /// it, at once if their time came meanwhile.
    pub fn handle_state_run(&mut self, running: bool) {
        self.state_run = running;
    }

    /// Lets every beacon look whose time has come. Lines of logs are taken as far as there is `room` for them, in bytes;
    /// the others stay where they are.
    pub fn handle_timeout(&mut self, now: Instant, system: &dyn System, room: usize) {
        self.look(now, system, room, |entry, state_run| {
            entry.next_look(state_run).is_some_and(|due| due <= now)
        });
    }

    /// Whether lines of logs wait for room, and not for their next look.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        self.entries.iter().any(|entry| entry.starved)
    }

    /// There is room again: logs that found too little go on at once.
    pub fn handle_room(&mut self, now: Instant, system: &dyn System, room: usize) {
        self.look(now, system, room, |entry, state_run| {
            entry.starved && entry.next_look(state_run).is_some()
        });
    }

    fn look(
        &mut self,
        now: Instant,
        system: &dyn System,
        room: usize,
        is_due: impl Fn(&Entry, bool) -> bool,
    ) {
        let room = Cell::new(room);
        let mut readings = Vec::new();
        for entry in &mut self.entries {
            if !is_due(entry, self.state_run) {
                continue;
            }
            entry.look(now, system, &room, &mut readings);
            for reading in readings.drain(..) {
                if entry.beacon.is_log() || entry.cap.admit(now) {
                    self.events.push_back(entry.event(reading));
                }
            }
            if let Some(count) = entry.cap.take_suppressed(now) {
                let data = json!({"suppressed": count});
                self.events
                    .push_back(entry.event(Reading { data, ..Reading::tagged("suppressed") }));
            }
        }
    }

    /// The next event to send.
    pub fn poll_event(&mut self) -> Option<BeaconEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; never, if no beacon is
    /// waiting. Changes with [`handle_timeout`](Self::handle_timeout) and
    /// [`handle_state_run`](Self::handle_state_run).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.iter().filter_map(|entry| entry.next_look(self.state_run)).min()
    }
}

impl Entry {
    fn configure(name: &str, value: &Value, now: Instant) -> Result<Self, ConfigError> {
        if !is_name(name) {
            return Err(ConfigError::BadName { name: name.to_owned() });
        }
        let mut options = Options::read(name, value)?;
        let kind = match options.take("beacon_module")? {
            None => name,
            Some(kind) => {
                let wrong = || options.wrong("beacon_module", "the name of a beacon", kind);
                kind.as_str().ok_or_else(wrong)?
            }
        };
        let beacon = Beacon::configure(kind, &mut options)?;
        let timing = Timing::take(&mut options, beacon.is_log())?;
        options.finish()?;
        beacon.check(name)?;
        Ok(Self {
            name: name.to_owned(),
            beacon,
            due: timing.enabled.then_some(now),
            timing,
            looked: false,
            cap: RateCap::new(now),
            failing: false,
            starved: false,
        })
    }

    fn next_look(&self, state_run: bool) -> Option<Instant> {
        self.due.filter(|_| !(state_run && self.timing.disable_during_state_run))
    }

    fn look(
        &mut self,
        now: Instant,
        system: &dyn System,
        room: &Cell<usize>,
        readings: &mut Vec<Reading>,
    ) {
        let look = Look { now, first: !self.looked, room };
        match self.beacon.look(system, look, readings) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => {
                debug!(
                    beacon = self.name,
                    error = &error as &dyn std::error::Error,
                    "still failing"
                );
            }
            Err(error) => {
                self.failing = true;
                warn!(
                    beacon = self.name,
                    error = &error as &dyn std::error::Error,
                    "the beacon cannot see what it watches, it tries again at every interval"
                );
            }
        }
        // Also after a failure: one broken file system must not make every look the first.
        self.looked = true;
        self.starved = self.beacon.is_log() && room.get() == 0;
        let is_over = |due: Instant| due <= now;
        if self.due.is_some_and(is_over) {
            self.due = self.due.filter(|_| !self.timing.run_once).map(|due| self.after(due, now));
        }
    }

    /// The first whole interval from `due` that lies after `now`: what was missed while the device
    /// slept or was busy is left out.
    fn after(&self, due: Instant, now: Instant) -> Instant {
        let interval = self.timing.interval;
        let late = now.saturating_duration_since(due).as_nanos();
        // invariant: an interval is at least a second, and the lateness of ten years fits.
        let missed = u32::try_from(late / interval.as_nanos()).unwrap_or(u32::MAX);
        due + interval * missed + interval
    }

    fn event(&self, reading: Reading) -> BeaconEvent {
        let Reading { detail, data, age } = reading;
        BeaconEvent { beacon: self.name.clone(), detail, data, age }
    }
}

/// The name becomes one part of the event's tag.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "_-.".contains(char))
}

#[cfg(test)]
mod tests;

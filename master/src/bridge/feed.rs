//! Which events a bridge sends next, how many at once, and when it tries again. A machine: its task reads the log and
//! asks the sink, which gives a verdict on each event. Several batches may be on their way; what is done with them may
//! come in any order, and the cursor stays before the first event that is not settled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::event::Event;
use serde_json::{Map, Value};

mod entry;
mod limits;
mod weight;

use super::{
    backoff::Backoff,
    sink::{Failure, Form, Item, Verdict},
    throttle::Throttle,
};
use entry::{Entry, Flight, Origin, Trouble};
use weight::weight;

pub use limits::{Limits, Settings};
pub(super) use weight::weigh;

/// How long a bridge waits that was turned away: somebody has to do something first.
const DENIED_PAUSE: Duration = Duration::from_secs(30);
/// Batches in a row that must be taken before larger ones are tried again.
const CLEAN: u32 = 4;

/// A batch that is to be sent now.
#[derive(Debug)]
pub struct Transmit {
    /// By which its end is told.
    pub id: u64,
    /// What is in it.
    pub items: Vec<Item>,
}

/// What became of an event that was not simply delivered.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// It was refused in every form.
    Dead {
        /// The event.
        event: Arc<Event>,
        /// Why.
        reason: String,
    },
    /// A dead letter was refused once more.
    StillDead {
        /// The event.
        event: Arc<Event>,
        /// Why.
        reason: String,
    },
    /// A dead letter was delivered after all.
    Revived {
        /// Its event.
        seq: u64,
    },
}

/// The events between the log and a sink.
#[derive(Debug)]
pub struct Feed {
    settings: Settings,
    /// The last event that was read from the log.
    read: u64,
    /// Events of the log that were read, are meant, and are not settled.
    unsettled: BTreeSet<u64>,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    /// When the oldest waiting event began to wait.
    since: Option<Instant>,
    /// Whether what waits goes without waiting for others.
    is_due: bool,
    /// What the sink asked to be given again later.
    late: Vec<Entry>,
    late_until: Option<Instant>,
    late_backoff: Backoff,
    flights: BTreeMap<u64, Flight>,
    /// The next batch's id.
    next: u64,
    /// How many events may go at once; fewer than the limit after the sink found a batch too large.
    most: usize,
    clean: u32,
    trouble: Option<Trouble>,
    backoff: Backoff,
    throttle: Option<Throttle>,
    is_stopped: bool,
    is_draining: bool,
    settled: VecDeque<Settled>,
    /// Bytes of all that is held.
    bytes: usize,
    retries: u64,
}

impl Feed {
    /// Begins after an event.
    #[must_use]
    pub fn new(settings: Settings, after: u64) -> Self {
        debug_assert!(settings.in_flight > 0 && settings.limits.events > 0, "something can go");
        Self {
            settings,
            read: after,
            unsettled: BTreeSet::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            since: None,
            is_due: false,
            late: Vec::new(),
            late_until: None,
            late_backoff: Backoff::new(!settings.seed),
            flights: BTreeMap::new(),
            next: 0,
            most: settings.limits.events,
            clean: 0,
            trouble: None,
            backoff: Backoff::new(settings.seed),
            throttle: settings.rate.map(Throttle::new),
            is_stopped: false,
            is_draining: false,
            settled: VecDeque::new(),
            bytes: 0,
            retries: 0,
        }
    }

    /// The last event that was read, from which to read on.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// The last event before which all are done with: delivered, refused for good, or not meant. The cursor.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.unsettled.first().map_or(self.read, |seq| seq - 1)
    }

    /// Events that may be sent again until now.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// How many more events are wanted: no more are held than one batch for each that may be on its way, and one more.
    #[must_use]
    pub fn room(&self) -> usize {
        let batches = self.settings.in_flight + 1;
        let limits = self.settings.limits;
        if self.is_stopped || self.bytes >= limits.bytes.saturating_mul(batches) {
            return 0;
        }
        limits.events.saturating_mul(batches).saturating_sub(self.held())
    }

    /// The bytes that are left, for who reads large events.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        let most = self.settings.limits.bytes.saturating_mul(self.settings.in_flight + 1);
        most.saturating_sub(self.bytes)
    }

    /// Takes events of the log in their order, until there is no more room; how many. `choose` gives the grains that go with
    /// one, and nothing for one that is not meant, which is done with.
    pub fn handle_events(
        &mut self,
        events: Vec<Arc<Event>>,
        mut choose: impl FnMut(&Event) -> Option<Arc<Map<String, Value>>>,
        now: Instant,
    ) -> usize {
        let mut taken = 0;
        for event in events {
            if self.room() == 0 {
                break;
            }
            debug_assert!(event.seq > self.read, "events come in the log's order");
            taken += 1;
            self.read = event.seq;
            if let Some(grains) = choose(&event) {
                self.unsettled.insert(event.seq);
                let is_retry = event.seq <= self.settings.sent_before;
                self.push(event, grains, is_retry, Origin::Log, now);
            }
        }
        taken
    }

    /// A dead letter is to be tried again, as it was.
    pub fn handle_letter(
        &mut self,
        event: Arc<Event>,
        grains: Arc<Map<String, Value>>,
        now: Instant,
    ) {
        self.push(event, grains, true, Origin::Letter, now);
        self.is_due = true;
    }

    /// The cursor is set back: all after it is read and sent again.
    pub fn handle_rewind(&mut self, after: u64) {
        debug_assert!(after <= self.read, "back, and never over what was not sent");
        self.settings.sent_before = self.settings.sent_before.max(self.read);
        self.read = after;
        self.unsettled.clear();
        let is_letter = |entry: &Entry| entry.origin == Origin::Letter;
        self.waiting.retain(is_letter);
        self.late.retain(is_letter);
        for flight in self.flights.values_mut() {
            for entry in flight.entries.iter_mut().filter(|entry| !is_letter(entry)) {
                entry.origin = Origin::Rewound;
            }
        }
        let flying = self.flights.values().flat_map(|flight| &flight.entries);
        self.waiting_bytes = self.waiting.iter().map(|entry| entry.weight).sum();
        self.bytes = self.waiting.iter().chain(&self.late).chain(flying).map(|e| e.weight).sum();
    }

    /// Nothing new is read or sent while it is stopped.
    pub const fn stop(&mut self, is_stopped: bool) {
        self.is_stopped = is_stopped;
    }

    /// Nothing more is sent while it drains; [`Self::is_quiet`] tells when all has come back.
    pub const fn drain(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// The next try is now, however long the pause was to be.
    pub fn hurry(&mut self, now: Instant) {
        if let Some(trouble) = &mut self.trouble {
            trouble.until = trouble.until.min(now);
        }
        self.late_until = self.late_until.map(|until| until.min(now));
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty()
    }

    /// How many batches are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether the sink takes nothing until somebody has done something.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.trouble.is_some_and(|trouble| trouble.is_denied)
    }

    /// A batch that is to be sent now. There may be another.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.ready_at().is_none_or(|ready| now < ready) {
            return None;
        }
        if self.late_until.is_some_and(|until| until <= now) {
            self.late_until = None;
            let late = std::mem::take(&mut self.late);
            self.put_back(late, now);
        }
        let mut most = self.most.min(self.waiting.len());
        if let Some(throttle) = &mut self.throttle {
            most = throttle.take(most, now);
        }
        let (mut entries, mut items, mut bytes) = (Vec::new(), Vec::new(), 0);
        while entries.len() < most && bytes < self.settings.limits.bytes {
            let Some(mut entry) = self.waiting.pop_front() else { break };
            bytes += entry.weight;
            self.retries += u64::from(entry.has_flown);
            entry.has_flown = true;
            items.push(entry.item.clone());
            entries.push(entry);
        }
        self.waiting_bytes -= bytes;
        self.since = (!self.waiting.is_empty()).then_some(now);
        self.is_due = self.is_due && self.waiting.iter().any(|entry| entry.has_flown);
        if entries.is_empty() {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.flights.insert(id, Flight { entries, is_probe: self.trouble.is_some() });
        Some(Transmit { id, items })
    }

    /// The sink's verdicts on a batch, one for each item in order.
    pub fn handle_verdicts(&mut self, id: u64, verdicts: Vec<Verdict>, now: Instant) {
        let flight = self.flights.get(&id);
        if flight.is_none_or(|flight| flight.entries.len() != verdicts.len()) {
            debug_assert!(flight.is_none(), "a verdict for each event");
            self.handle_failure(id, Failure::Away, "", now);
            return;
        }
        let Some(flight) = self.flights.remove(&id) else { return };
        let (mut again, mut late, mut is_taken) = (Vec::new(), Vec::new(), false);
        for (mut entry, verdict) in flight.entries.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done => {
                    is_taken = true;
                    self.settle(&entry, None);
                }
                Verdict::Later(_) => {
                    entry.item.is_retry = true;
                    late.push(entry);
                }
                // The payload's shape may be at fault; as text it has none.
                Verdict::Refused(_) if entry.item.form == Form::Whole => {
                    is_taken = true;
                    entry.item.form = Form::Text;
                    again.push(entry);
                }
                Verdict::Refused(reason) => {
                    is_taken = true;
                    self.settle(&entry, Some(reason));
                }
            }
        }
        // Where the order counts, nothing goes past what is late.
        let is_ordered = self.settings.in_flight == 1;
        if !late.is_empty() && (is_ordered || !is_taken) {
            again.append(&mut late);
            again.sort_by_key(|entry| entry.item.event.seq);
            self.trouble(flight.is_probe, None, now);
        } else {
            self.handle_taken(flight.is_probe, late.is_empty());
        }
        if !late.is_empty() {
            self.late.append(&mut late);
            if self.late_until.is_none() {
                self.late_until = Some(now + self.late_backoff.pause());
            }
        }
        self.put_back(again, now);
    }

    /// A batch was not taken as a whole, or it is not known whether it was. The reason is a dead letter's, for an event that
    /// is too large alone.
    pub fn handle_failure(&mut self, id: u64, failure: Failure, reason: &str, now: Instant) {
        match failure {
            Failure::TooLarge => {
                let Some(flight) = self.flights.get(&id) else { return };
                if flight.entries.len() <= 1 {
                    let refused = vec![Verdict::Refused(reason.to_owned()); flight.entries.len()];
                    return self.handle_verdicts(id, refused, now);
                }
                let Some(mut flight) = self.flights.remove(&id) else { return };
                // Some servers end the connection amid what is too large: others had it all when the line was cut.
                for entry in &mut flight.entries {
                    entry.item.is_retry = true;
                }
                self.most = self.most.min(flight.entries.len() / 2);
                self.clean = 0;
                self.put_back(flight.entries, now);
            }
            Failure::Away | Failure::Denied => {
                let Some(mut flight) = self.flights.remove(&id) else { return };
                for entry in &mut flight.entries {
                    entry.item.is_retry = true;
                }
                self.put_back(flight.entries, now);
                let denied = (failure == Failure::Denied).then_some(DENIED_PAUSE);
                self.trouble(flight.is_probe, denied, now);
            }
        }
    }

    /// The next event that has an end to be written down.
    pub fn poll_settled(&mut self) -> Option<Settled> {
        self.settled.pop_front()
    }

    /// When [`Self::poll_transmit`] is worth a look, where nothing comes before that.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ready_at()
    }

    /// When the next batch may go, if nothing else happens.
    fn ready_at(&self) -> Option<Instant> {
        let allowed = if self.trouble.is_some() { 1 } else { self.settings.in_flight };
        if self.is_stopped || self.is_draining || self.flights.len() >= allowed {
            return None;
        }
        let delay =
            if self.is_due || self.is_full() { Duration::ZERO } else { self.settings.limits.delay };
        let waiting = self.since.filter(|_| !self.waiting.is_empty()).map(|since| since + delay);
        let ready = waiting.into_iter().chain(self.late_until).min()?;
        let trouble = self.trouble.map(|trouble| trouble.until);
        let wanted = self.most.min(self.waiting.len() + self.late.len());
        let tokens = self.throttle.as_ref().and_then(|throttle| throttle.ready_at(wanted));
        [Some(ready), trouble, tokens].into_iter().flatten().max()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.most || self.waiting_bytes >= self.settings.limits.bytes
    }

    fn held(&self) -> usize {
        let flying: usize = self.flights.values().map(|flight| flight.entries.len()).sum();
        self.waiting.len() + self.late.len() + flying
    }

    fn push(
        &mut self,
        event: Arc<Event>,
        grains: Arc<Map<String, Value>>,
        is_retry: bool,
        origin: Origin,
        now: Instant,
    ) {
        let weight = weight(&event, &grains);
        self.bytes += weight;
        self.waiting_bytes += weight;
        self.since.get_or_insert(now);
        let item = Item { event, grains, form: Form::Whole, is_retry };
        self.waiting.push_back(Entry { item, origin, weight, has_flown: false });
    }

    /// What was sent, and is to be sent again before all else.
    fn put_back(&mut self, entries: Vec<Entry>, now: Instant) {
        for entry in entries.into_iter().rev() {
            if entry.origin == Origin::Rewound {
                self.bytes -= entry.weight;
                continue;
            }
            self.waiting_bytes += entry.weight;
            self.waiting.push_front(entry);
            self.since.get_or_insert(now);
            self.is_due = true;
        }
    }

    fn settle(&mut self, entry: &Entry, refused: Option<String>) {
        self.bytes -= entry.weight;
        let event = &entry.item.event;
        match (entry.origin, refused) {
            // It comes again, and its end is told then.
            (Origin::Rewound, _) => return,
            (Origin::Log, None) => {}
            (Origin::Letter, None) => self.settled.push_back(Settled::Revived { seq: event.seq }),
            (Origin::Letter, Some(reason)) => {
                self.settled.push_back(Settled::StillDead { event: event.clone(), reason });
            }
            (Origin::Log, Some(reason)) => {
                self.settled.push_back(Settled::Dead { event: event.clone(), reason });
            }
        }
        if entry.origin == Origin::Log {
            let was_there = self.unsettled.remove(&event.seq);
            debug_assert!(was_there, "an event is settled once");
        }
    }

    /// The sink took something.
    fn handle_taken(&mut self, is_probe: bool, is_clean: bool) {
        // What left before the trouble began does not tell that it is over.
        if is_probe {
            self.trouble = None;
        }
        if self.trouble.is_none() {
            self.backoff.reset();
        }
        if !is_clean {
            return;
        }
        if self.late.is_empty() {
            self.late_backoff.reset();
        }
        self.clean += 1;
        if self.clean >= CLEAN {
            self.clean = 0;
            self.most = self.most.saturating_mul(2).min(self.settings.limits.events);
        }
    }

    /// The sink as a whole took nothing. Several batches that fail together make one pause.
    fn trouble(&mut self, is_probe: bool, denied: Option<Duration>, now: Instant) {
        let is_news = is_probe || self.trouble.is_none();
        if !is_news && denied.is_none() {
            return;
        }
        let pause = denied.unwrap_or_else(|| self.backoff.pause());
        self.trouble = Some(Trouble { until: now + pause, is_denied: denied.is_some() });
        self.clean = 0;
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

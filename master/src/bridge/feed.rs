//! Which events a bridge sends next, how many at once, and when it tries again. A machine: its task reads the log and
//! asks the sink, which gives a verdict on each event.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use drover_proto::event::Event;
use serde_json::Value;

use super::sink::{Form, Item, Verdict};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: a server that is back is not left waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// What an event weighs beside its data, in bytes.
const ENVELOPE: usize = 320;

/// How much is sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events.
    pub events: usize,
    /// Bytes, roughly.
    pub bytes: usize,
    /// How long an event may wait for others to come along.
    pub delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 500, bytes: 4 << 20, delay: Duration::from_millis(500) }
    }
}

/// An event that was refused in every form.
#[derive(Debug, Clone, PartialEq)]
pub struct Dead {
    /// The event.
    pub event: Arc<Event>,
    /// Why.
    pub reason: String,
}

/// The events between the log and a sink.
#[derive(Debug)]
pub struct Feed {
    limits: Limits,
    /// The last event that was read from the log.
    read: u64,
    waiting: VecDeque<Item>,
    bytes: usize,
    /// When the oldest waiting event began to wait.
    since: Option<Instant>,
    /// The present batch, less what is done with; in order.
    sending: Vec<Item>,
    /// How many events may go at once; fewer than the limit after the sink found a batch too large.
    most: usize,
    pause: Option<(Duration, Instant)>,
    dead: VecDeque<Dead>,
}

impl Feed {
    /// Begins after an event.
    #[must_use]
    pub const fn new(limits: Limits, after: u64) -> Self {
        Self {
            limits,
            read: after,
            waiting: VecDeque::new(),
            bytes: 0,
            since: None,
            sending: Vec::new(),
            most: limits.events,
            pause: None,
            dead: VecDeque::new(),
        }
    }

    /// The last event that was read, from which to read on.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// Whether more events are wanted: never more than a batch waits in memory.
    #[must_use]
    pub fn wants_events(&self) -> bool {
        self.waiting.len() < self.limits.events && self.bytes < self.limits.bytes
    }

    /// The last event before which all are done with: delivered, refused for good, or not meant. The cursor.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let first = self.sending.first().or(self.waiting.front());
        first.map_or(self.read, |item| item.event.seq - 1)
    }

    /// The next events of the log; those that `is_meant` leaves out are done with.
    pub fn handle_events(
        &mut self,
        events: Vec<Arc<Event>>,
        is_meant: impl Fn(&Event) -> bool,
        now: Instant,
    ) {
        for event in events {
            debug_assert!(event.seq > self.read, "events come in the log's order");
            self.read = event.seq;
            if is_meant(&event) {
                self.bytes += weight(&event);
                self.since.get_or_insert(now);
                self.waiting.push_back(Item {
                    event,
                    grains: Arc::default(),
                    form: Form::Whole,
                    is_retry: false,
                });
            }
        }
    }

    /// The batch that is to be sent now. One that was not all done comes again, with what is left of it.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<&[Item]> {
        if self.pause.is_some_and(|(_, until)| now < until) {
            return None;
        }
        if self.sending.is_empty() {
            if !self.is_full() && self.since.is_none_or(|since| now < since + self.limits.delay) {
                return None;
            }
            self.fill(now);
        }
        (!self.sending.is_empty()).then_some(self.sending.as_slice())
    }

    /// The sink's verdicts, one for each event of the batch in order.
    pub fn handle_verdicts(&mut self, verdicts: Vec<Verdict>, now: Instant) {
        debug_assert_eq!(verdicts.len(), self.sending.len(), "a verdict for each event");
        let mut is_late = false;
        let items = std::mem::take(&mut self.sending);
        for (mut item, verdict) in items.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done => {}
                Verdict::Later(_) => {
                    is_late = true;
                    self.sending.push(item);
                }
                // The payload's shape may be at fault; as text it has none.
                Verdict::Refused(_) if item.form == Form::Whole => {
                    item.form = Form::Text;
                    self.sending.push(item);
                }
                Verdict::Refused(reason) => {
                    self.dead.push_back(Dead { event: item.event, reason });
                }
            }
        }
        if is_late {
            self.pause(now);
        } else {
            self.pause = None;
            self.most = self.most.saturating_mul(2).min(self.limits.events);
        }
    }

    /// The sink could not be asked; all of the batch is tried again.
    pub fn handle_failure(&mut self, now: Instant) {
        self.pause(now);
    }

    /// The sink found the batch too large: half of it goes next. A single event that is too large alone goes as text,
    /// or is dead.
    pub fn handle_too_large(&mut self, reason: &str, now: Instant) {
        if self.sending.len() <= 1 {
            let refused = vec![Verdict::Refused(reason.to_owned()); self.sending.len()];
            self.handle_verdicts(refused, now);
            return;
        }
        self.most = self.sending.len() / 2;
        for item in self.sending.drain(..).rev() {
            self.bytes += weight(&item.event);
            self.waiting.push_front(item);
        }
        self.since.get_or_insert(now);
    }

    /// The next event that nobody could deliver.
    pub fn poll_dead(&mut self) -> Option<Dead> {
        self.dead.pop_front()
    }

    /// When [`Self::poll_transmit`] is worth a look, where no event comes before that.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some((_, until)) = self.pause {
            return Some(until);
        }
        self.since.map(|since| since + self.limits.delay)
    }

    /// Whether no batch is on its way.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.sending.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.most || self.bytes >= self.limits.bytes
    }

    fn fill(&mut self, now: Instant) {
        let mut bytes = 0;
        while self.sending.len() < self.most && (bytes < self.limits.bytes) {
            let Some(item) = self.waiting.pop_front() else { break };
            bytes += weight(&item.event);
            self.sending.push(item);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.since = (!self.waiting.is_empty()).then_some(now);
    }

    fn pause(&mut self, now: Instant) {
        let pause = self.pause.map_or(FIRST_PAUSE, |(last, _)| (last * 2).min(LONGEST_PAUSE));
        self.pause = Some((pause, now + pause));
    }
}

/// About how many bytes an event is as JSON.
fn weight(event: &Event) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(_) => 10,
            Value::String(text) => text.len() + 3,
            Value::Array(items) => items.iter().map(of).sum::<usize>() + 2,
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| key.len() + 4 + of(value)).sum::<usize>() + 2
            }
        }
    }
    ENVELOPE + event.tag.as_str().len() + of(&event.data)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::clock::Now;

    fn event(seq: u64) -> Arc<Event> {
        Arc::new(Event {
            id: Uuid::from_u128(seq.into()),
            seq,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: if seq.is_multiple_of(2) { "even/x" } else { "odd/x" }.parse().unwrap(),
            minion: None,
            data: Value::Null,
        })
    }

    /// A feed with these events, in batches of four that wait at most a second.
    fn feed(events: std::ops::RangeInclusive<u64>) -> (Feed, Instant) {
        let limits = Limits { events: 4, bytes: 1 << 20, delay: Duration::from_secs(1) };
        let (mut feed, now) = (Feed::new(limits, events.start() - 1), Now::read().instant);
        feed.handle_events(events.map(event).collect(), |_| true, now);
        (feed, now)
    }

    fn batch(feed: &mut Feed, now: Instant) -> Vec<u64> {
        feed.poll_transmit(now).unwrap_or_default().iter().map(|item| item.event.seq).collect()
    }

    fn later() -> Verdict {
        Verdict::Later("busy".into())
    }

    fn refused() -> Verdict {
        Verdict::Refused("no".into())
    }

    #[test]
    fn a_full_batch_goes_at_once_and_a_small_one_after_its_delay() {
        let (mut feed, now) = feed(1..=6);
        assert_eq!(batch(&mut feed, now), [1, 2, 3, 4]);
        assert_eq!(feed.settled(), 0, "nothing is done with before the sink says so");
        feed.handle_verdicts(vec![Verdict::Done; 4], now);
        assert_eq!(feed.settled(), 4);
        assert!(batch(&mut feed, now).is_empty());
        assert_eq!(feed.poll_timeout(), Some(now + Duration::from_secs(1)));
        assert_eq!(batch(&mut feed, now + Duration::from_secs(1)), [5, 6]);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes() {
        let limits = Limits { events: 100, bytes: 700, delay: Duration::from_secs(1) };
        let (mut feed, now) = (Feed::new(limits, 0), Now::read().instant);
        feed.handle_events((1..=9).map(event).collect(), |_| true, now);
        assert!(!feed.wants_events());
        assert_eq!(batch(&mut feed, now), [1, 2, 3]);
    }

    #[test]
    fn only_what_is_left_of_a_batch_is_tried_again() {
        let (mut feed, now) = feed(1..=4);
        batch(&mut feed, now);
        feed.handle_verdicts(vec![Verdict::Done, later(), Verdict::Done, later()], now);
        assert_eq!(feed.settled(), 1, "the cursor stays before the first that is not done");
        assert!(batch(&mut feed, now).is_empty(), "not at once");
        let now = feed.poll_timeout().unwrap();
        assert_eq!(batch(&mut feed, now), [2, 4]);
        feed.handle_verdicts(vec![Verdict::Done; 2], now);
        assert_eq!(feed.settled(), 4);
        assert_eq!(feed.poll_timeout(), None);
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_end_with_success() {
        let (mut feed, mut now) = feed(1..=8);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(batch(&mut feed, now), [1, 2, 3, 4]);
            feed.handle_failure(now);
            let until = feed.poll_timeout().unwrap();
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
        assert_eq!(batch(&mut feed, now), [1, 2, 3, 4]);
        feed.handle_verdicts(vec![Verdict::Done; 4], now);
        assert_eq!(batch(&mut feed, now), [5, 6, 7, 8]);
    }

    #[test]
    fn a_refused_event_goes_as_text_and_then_is_dead() {
        let (mut feed, now) = feed(1..=4);
        batch(&mut feed, now);
        feed.handle_verdicts(vec![Verdict::Done, refused(), refused(), Verdict::Done], now);
        let again = feed.poll_transmit(now).unwrap();
        assert!(again.iter().all(|item| item.form == Form::Text), "at once, in the other form");
        feed.handle_verdicts(vec![Verdict::Done, refused()], now);
        assert_eq!(feed.poll_dead().unwrap().event.seq, 3);
        assert_eq!(feed.settled(), 4, "a dead one holds up nothing");
    }

    #[test]
    fn what_is_not_meant_is_done_with() {
        let limits = Limits { events: 4, ..Limits::default() };
        let (mut feed, now) = (Feed::new(limits, 0), Now::read().instant);
        feed.handle_events((1..=9).map(event).collect(), |event| event.tag.matches("even/*"), now);
        assert_eq!(feed.settled(), 1);
        assert_eq!(batch(&mut feed, now), [2, 4, 6, 8]);
        feed.handle_verdicts(vec![Verdict::Done; 4], now);
        assert_eq!(feed.settled(), 9);
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_until_it_fits() {
        let (mut feed, now) = feed(1..=4);
        assert_eq!(batch(&mut feed, now), [1, 2, 3, 4]);
        feed.handle_too_large("413", now);
        assert_eq!(batch(&mut feed, now), [1, 2]);
        feed.handle_too_large("413", now);
        assert_eq!(batch(&mut feed, now), [1]);
        feed.handle_too_large("413", now);
        assert!(feed.poll_transmit(now).unwrap()[0].form == Form::Text);
        feed.handle_too_large("413", now);
        assert_eq!(feed.poll_dead().unwrap().event.seq, 1);
        assert_eq!(batch(&mut feed, now + Duration::from_secs(1)).first(), Some(&2));
    }
}

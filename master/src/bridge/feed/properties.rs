//! Whatever a sink answers, and in whatever order: every event is settled once, the cursor passes none that is not, and
//! no more is held than is allowed.

use std::{collections::BTreeMap, num::NonZeroU32};

use proptest::prelude::*;

use super::{
    tests::{SETTINGS, event},
    *,
};
use crate::clock::Now;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// So many events come.
    Events(u64),
    /// What is due is sent.
    Send,
    /// The n-th batch on its way is answered, event by event.
    Verdicts(usize, Vec<u8>),
    /// It fails as a whole.
    Failure(usize, Failure),
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The bridge drains, or goes on.
    Drain(bool),
    /// A dead letter is tried again.
    Letter,
}

fn step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![Just(Failure::Away), Just(Failure::Denied), Just(Failure::TooLarge)];
    prop_oneof![
        3 => (1..12_u64).prop_map(Step::Events),
        5 => Just(Step::Send),
        5 => (0..4_usize, prop::collection::vec(0..6_u8, 8)).prop_map(|(n, v)| Step::Verdicts(n, v)),
        2 => (0..4_usize, failure).prop_map(|(n, failure)| Step::Failure(n, failure)),
        3 => (1..40_000_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Drain),
        1 => Just(Step::Letter),
    ]
}

/// What the other side has, and what is on its way there.
struct Receiver {
    feed: Feed,
    now: Instant,
    last: u64,
    flying: Vec<Transmit>,
    /// How often each event came to its end.
    settled: BTreeMap<u64, u32>,
    letters: (u64, u64),
}

impl Receiver {
    fn handle(&mut self, step: Step) {
        match step {
            Step::Events(count) => {
                let events = (self.last + 1..=self.last + count).map(event).collect();
                // Each seventh is not meant.
                let choose = |event: &Event| (!event.seq.is_multiple_of(7)).then(Arc::default);
                self.last += self.feed.handle_events(events, choose, self.now) as u64;
            }
            Step::Send => {
                while let Some(transmit) = self.feed.poll_transmit(self.now) {
                    assert!(!transmit.items.is_empty());
                    assert!(transmit.items.len() <= SETTINGS.limits.events);
                    self.flying.push(transmit);
                }
                let is_past = self.feed.poll_timeout().is_some_and(|due| due <= self.now);
                assert!(!is_past, "a task that waits for it would spin");
            }
            Step::Verdicts(n, kinds) if !self.flying.is_empty() => {
                let transmit = self.flying.remove(n % self.flying.len());
                let verdicts: Vec<_> = transmit.items.iter().zip(kinds).map(verdict).collect();
                for (item, verdict) in transmit.items.iter().zip(&verdicts) {
                    let is_over = match verdict {
                        Verdict::Done => true,
                        Verdict::Refused(_) => item.form == Form::Text,
                        Verdict::Later(_) => false,
                    };
                    *self.settled.entry(item.event.seq).or_default() += u32::from(is_over);
                }
                self.feed.handle_verdicts(transmit.id, verdicts, self.now);
            }
            Step::Failure(n, failure) if !self.flying.is_empty() => {
                let transmit = self.flying.remove(n % self.flying.len());
                let item = &transmit.items[0];
                let is_dead = failure == Failure::TooLarge
                    && transmit.items.len() == 1
                    && item.form == Form::Text;
                *self.settled.entry(item.event.seq).or_default() += u32::from(is_dead);
                self.feed.handle_failure(transmit.id, failure, "", self.now);
            }
            Step::Verdicts(..) | Step::Failure(..) => {}
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Drain(is_draining) => self.feed.drain(is_draining),
            Step::Letter if self.feed.room() > 0 => {
                // Letters have numbers of their own here, so that they are counted apart.
                self.letters.0 += 1;
                let letter = event(1_000_000 + self.letters.0);
                self.feed.handle_letter(letter, Arc::default(), self.now);
            }
            Step::Letter => {}
        }
        while let Some(settled) = self.feed.poll_settled() {
            let seq = match settled {
                Settled::Dead { event, .. } | Settled::StillDead { event, .. } => event.seq,
                Settled::Revived { seq } => seq,
            };
            self.letters.1 += u64::from(seq > 1_000_000);
        }
        self.check();
    }

    fn check(&self) {
        let is_over = |seq: u64| seq.is_multiple_of(7) || self.settled.get(&seq) == Some(&1);
        let first = (1..=self.last).find(|seq| !is_over(*seq));
        assert_eq!(self.feed.settled(), first.map_or(self.last, |seq| seq - 1), "the cursor");
        assert!(self.settled.values().all(|times| *times <= 1), "settled twice");
        let most = SETTINGS.limits.events * (self.feed.settings.in_flight + 1);
        assert!(self.feed.held() <= most, "{} are held", self.feed.held());
        assert!(self.flying.len() <= self.feed.settings.in_flight);
        let entries = self.feed.flights.values().flat_map(|flight| &flight.entries);
        let held = entries.chain(&self.feed.waiting).chain(&self.feed.late);
        assert_eq!(self.feed.bytes, held.map(|entry| entry.weight).sum::<usize>());
    }

    /// The server is well from now on: everything comes to its end, in time that is bounded.
    fn finish(&mut self) {
        self.handle(Step::Drain(false));
        for _ in 0..10_000 {
            self.handle(Step::Send);
            if self.flying.is_empty() {
                match self.feed.poll_timeout() {
                    Some(due) => self.now = self.now.max(due),
                    None => return,
                }
            } else {
                self.handle(Step::Verdicts(0, vec![0; 8]));
            }
        }
        panic!("it never ends");
    }
}

fn verdict((_, kind): (&Item, u8)) -> Verdict {
    match kind {
        0..=2 => Verdict::Done,
        3 | 4 => Verdict::Later("busy".into()),
        _ => Verdict::Refused("no".into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_event_is_settled_once_whatever_a_sink_answers(
        steps in prop::collection::vec(step(), 1..120),
        in_flight in 1..4_usize,
        rate in prop::option::of(1..200_u32),
    ) {
        let settings =
            Settings { in_flight, rate: rate.and_then(NonZeroU32::new), ..SETTINGS };
        let mut receiver = Receiver {
            feed: Feed::new(settings, 0),
            now: Now::read().instant,
            last: 0,
            flying: Vec::new(),
            settled: BTreeMap::new(),
            letters: (0, 0),
        };
        for step in steps {
            receiver.handle(step);
        }
        receiver.finish();
        prop_assert_eq!(receiver.feed.settled(), receiver.last);
        prop_assert_eq!(receiver.letters.0, receiver.letters.1);
        prop_assert_eq!(receiver.feed.held(), 0);
    }
}

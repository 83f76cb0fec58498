//! One connection to a broker, from CONNECT on. A machine: bytes and the time go in, bytes and events come out. An answer
//! belongs to the very message that it is for, by its packet identifier: clients of the shelf keep those to themselves,
//! and send again by themselves, which is the feed's to decide here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::{
    packet::{self, MalformedError, Message, Packet, Qos, Version},
    reason::{self, Meaning},
};

/// How many messages wait for the broker's answer where it does not say.
const WINDOW: usize = 200;
/// What a packet of a broker may be: far more than the payload of an event.
pub(super) const LARGEST: usize = 1 << 20;
/// The protocol's own limit.
const LARGEST_EVER: usize = 268_435_455;
/// How long a broker may think about our CONNECT.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The broker took the connection.
    Open,
    /// It answered to the message that was published with this ticket.
    Answered { ticket: usize, answer: Answer },
    /// It answered to the subscriptions, in their order.
    Subscribed { codes: Vec<u8> },
    /// A message of a subscription.
    Received(Received),
}

/// What a broker says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) meaning: Meaning,
    pub(super) reason: String,
}

/// A message of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// It is acknowledged by this, with QoS 1.
    pub(super) id: Option<u16>,
    pub(super) topic: String,
    /// Empty where it is larger than what we take.
    pub(super) payload: Vec<u8>,
    /// How large it is, or its packet.
    pub(super) size: usize,
    pub(super) is_retained: bool,
}

/// Why a connection is over.
#[derive(Debug, Error)]
pub enum End {
    /// It was not taken.
    #[error("the broker does not take the connection: {reason}")]
    NotTaken {
        /// What it asks of us.
        meaning: Meaning,
        /// In its words.
        reason: String,
    },
    /// The broker ended it.
    #[error("the broker ends the connection: {reason}")]
    Ended {
        /// What it asks of us.
        meaning: Meaning,
        /// In its words.
        reason: String,
    },
    /// It says nothing.
    #[error("the broker is silent")]
    Silent,
    /// It sends what is no MQTT.
    #[error("the broker sends what is no MQTT of this version")]
    Malformed(#[from] MalformedError),
    /// It answers what was not asked.
    #[error("the broker's {0} is out of turn")]
    OutOfTurn(&'static str),
}

impl End {
    /// Whether somebody must change something before it can be otherwise.
    #[must_use]
    pub const fn wants_operator(&self) -> bool {
        match self {
            Self::NotTaken { meaning, .. } | Self::Ended { meaning, .. } => {
                matches!(meaning, Meaning::Denied)
            }
            Self::Silent | Self::Malformed(_) | Self::OutOfTurn(_) => false,
        }
    }
}

pub(super) struct Session {
    version: Version,
    is_open: bool,
    /// Messages that wait for an answer: tickets by packet identifier.
    waiting: BTreeMap<u16, usize>,
    window: usize,
    largest: usize,
    /// How many bytes of what is too large are still to come.
    skips: usize,
    takes_qos_1: bool,
    retains: bool,
    last_id: u16,
    out: Vec<u8>,
    events: VecDeque<Event>,
    keep_alive: Duration,
    /// When bytes last went to the broker, and when a packet last came from it.
    sent_at: Instant,
    heard_at: Instant,
    /// It was asked for a sign of life, and has given none yet.
    is_asked: bool,
}

impl Session {
    /// A connection that begins with these bytes of a CONNECT. Packet identifiers go on from `last_id`, and no packet of
    /// ours is larger than `largest`, or what the broker says.
    pub(super) fn new(
        version: Version,
        connect: Vec<u8>,
        keep_alive: Duration,
        last_id: u16,
        largest: Option<usize>,
        now: Instant,
    ) -> Self {
        Self {
            version,
            is_open: false,
            waiting: BTreeMap::new(),
            window: WINDOW,
            largest: largest.unwrap_or(LARGEST_EVER),
            skips: 0,
            takes_qos_1: true,
            retains: true,
            last_id,
            out: connect,
            events: VecDeque::new(),
            keep_alive,
            sent_at: now,
            heard_at: now,
            is_asked: false,
        }
    }

    /// Takes the packets that are whole.
    pub(super) fn handle_bytes(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<(), End> {
        loop {
            let skipped = self.skips.min(bytes.len());
            bytes.advance(skipped);
            self.skips -= skipped;
            if skipped > 0 {
                self.heard_at = now;
            }
            let Some(packet) = packet::read(bytes, self.version, LARGEST)? else { return Ok(()) };
            self.handle_packet(packet, now)?;
        }
    }

    /// Asks a broker that is quiet for a sign of life, and gives up one that gives none.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), End> {
        if now >= self.silent_at() {
            return Err(End::Silent);
        }
        if self.is_open && now >= self.ping_at() {
            packet::write_pingreq(&mut self.out);
            self.is_asked = true;
            self.sent_at = now;
        }
        Ok(())
    }

    /// Whether the broker may be given another message now.
    pub(super) fn has_room(&self) -> bool {
        self.is_open && self.waiting.len() < self.window
    }

    /// Publishes a message. What this broker never takes is answered at once, and so is QoS 0.
    pub(super) fn publish(&mut self, ticket: usize, message: &Message) {
        debug_assert!(self.has_room());
        if let Some(answer) = self.refusal(message) {
            return self.events.push_back(Event::Answered { ticket, answer });
        }
        match message.qos {
            Qos::AtMostOnce => {
                message.write(self.version, 0, &mut self.out);
                let answer = Answer { meaning: Meaning::Done, reason: String::new() };
                self.events.push_back(Event::Answered { ticket, answer });
            }
            Qos::AtLeastOnce => {
                let id = self.next_id();
                message.write(self.version, id, &mut self.out);
                self.waiting.insert(id, ticket);
            }
        }
    }

    /// Subscribes to topic filters.
    pub(super) fn subscribe<'a>(&mut self, filters: impl Iterator<Item = (&'a str, Qos)>) {
        let id = self.next_id();
        packet::write_subscribe(self.version, id, filters, &mut self.out);
    }

    /// What was received is durable.
    pub(super) fn acknowledge(&mut self, id: u16) {
        packet::write_puback(id, &mut self.out);
    }

    /// Leaves in order.
    pub(super) fn disconnect(&mut self) {
        packet::write_disconnect(&mut self.out);
    }

    /// What is to be sent.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.out.is_empty() {
            return None;
        }
        self.sent_at = now;
        Some(std::mem::take(&mut self.out))
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        if self.is_open { self.silent_at().min(self.ping_at()) } else { self.silent_at() }
    }

    /// The broker wants to hear from us, and we from it: one that has nothing to answer says nothing by itself.
    fn ping_at(&self) -> Instant {
        let last = if self.is_asked { self.sent_at } else { self.sent_at.min(self.heard_at) };
        last + self.keep_alive
    }

    fn silent_at(&self) -> Instant {
        self.heard_at + if self.is_open { self.keep_alive * 2 } else { PATIENCE }
    }

    /// The last packet identifier that was given.
    pub(super) fn last_id(&self) -> u16 {
        self.last_id
    }

    fn handle_packet(&mut self, packet: Packet, now: Instant) -> Result<(), End> {
        if self.is_open {
            self.heard_at = now;
            self.is_asked = false;
        }
        match packet {
            Packet::Connack { code, properties } if !self.is_open => {
                let (meaning, words) = reason::of_connack(self.version, code);
                if meaning != Meaning::Done {
                    let reason = with(words, properties.reason);
                    return Err(End::NotTaken { meaning, reason });
                }
                if let Some(seconds) = properties.keep_alive.filter(|seconds| *seconds > 0) {
                    self.keep_alive = Duration::from_secs(seconds.into());
                }
                if let Some(most) = properties.receive_maximum {
                    self.window = usize::from(most.max(1)).min(WINDOW);
                }
                if let Some(largest) = properties.largest {
                    let largest = usize::try_from(largest).unwrap_or(LARGEST_EVER);
                    self.largest = self.largest.min(largest);
                }
                self.takes_qos_1 = properties.maximum_qos != Some(0);
                self.retains = properties.retains != Some(false);
                self.is_open = true;
                (self.sent_at, self.heard_at) = (now, now);
                self.events.push_back(Event::Open);
            }
            Packet::Connack { .. } => return Err(End::OutOfTurn("second CONNACK")),
            Packet::Disconnect { code, reason } => {
                let (meaning, words) = reason::meaning(code);
                return Err(End::Ended { meaning, reason: with(words, reason) });
            }
            _ if !self.is_open => return Err(End::OutOfTurn("packet before its CONNACK")),
            Packet::Publish { id, topic, payload, is_retained } => {
                let size = payload.len();
                let received = Received { id, topic, payload, size, is_retained };
                self.events.push_back(Event::Received(received));
            }
            Packet::TooLarge { id, topic, size, rest } => {
                self.skips = rest;
                let (payload, is_retained) = (Vec::new(), false);
                let received = Received { id, topic, payload, size, is_retained };
                self.events.push_back(Event::Received(received));
            }
            Packet::Puback { id, code, reason } => {
                let ticket = self.waiting.remove(&id).ok_or(End::OutOfTurn("PUBACK"))?;
                let (meaning, words) = reason::meaning(code);
                let answer = Answer { meaning, reason: with(words, reason) };
                self.events.push_back(Event::Answered { ticket, answer });
            }
            Packet::Suback { codes } => self.events.push_back(Event::Subscribed { codes }),
            Packet::Pingresp => {}
        }
        Ok(())
    }

    fn refusal(&self, message: &Message) -> Option<Answer> {
        let answer = |meaning, reason| Some(Answer { meaning, reason });
        let size = message.size(self.version);
        if size > self.largest {
            let most = self.largest;
            return answer(Meaning::Refused, format!("its {size} bytes are more than {most}"));
        }
        // What was configured is at fault, and no event.
        if message.qos == Qos::AtLeastOnce && !self.takes_qos_1 {
            return answer(Meaning::Denied, "it takes QoS 0 alone: `qos: 0`".to_owned());
        }
        if message.is_retained && !self.retains {
            return answer(Meaning::Denied, "it retains no messages".to_owned());
        }
        None
    }

    /// An identifier that no message in flight has: the window is far smaller than their number.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn with(words: &str, reason: Option<String>) -> String {
    match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{words} ({reason})"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time begins at some instant")]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(30);

    fn open(version: Version, connack: &[u8]) -> (Session, Instant) {
        let now = Instant::now();
        let mut session = Session::new(version, vec![1], KEEP_ALIVE, 0, None, now);
        session.handle_bytes(&mut connack.into(), now).unwrap();
        assert_eq!(session.poll_event(), Some(Event::Open));
        session.poll_transmit(now);
        (session, now)
    }

    fn message(payload: &[u8]) -> Message {
        let (topic, payload) = ("a/b".to_owned(), payload.to_vec());
        Message { topic, payload, qos: Qos::AtLeastOnce, is_retained: false, is_again: false }
    }

    #[test]
    fn an_answer_belongs_to_the_message_that_it_is_for() {
        let (mut session, now) = open(Version::V5, &[0x20, 3, 0, 0, 0]);
        for ticket in 0..3 {
            session.publish(ticket, &message(b"x"));
        }
        let mut answers = BytesMut::from(&[0x40, 2, 0, 3, 0x40, 3, 0, 1, 0x97][..]);
        session.handle_bytes(&mut answers, now).unwrap();
        let mut answered = Vec::new();
        while let Some(Event::Answered { ticket, answer }) = session.poll_event() {
            answered.push((ticket, answer.meaning));
        }
        assert_eq!(answered, [(2, Meaning::Done), (0, Meaning::Later)]);
        let again = session.handle_bytes(&mut BytesMut::from(&[0x40, 2, 0, 3][..]), now);
        assert!(matches!(again, Err(End::OutOfTurn("PUBACK"))));
    }

    #[test]
    fn no_more_than_the_broker_wants_is_on_its_way() {
        let (mut session, now) = open(Version::V5, &[0x20, 6, 0, 0, 3, 33, 0, 2]);
        session.publish(0, &message(b"x"));
        session.publish(1, &message(b"x"));
        assert!(!session.has_room());
        session.handle_bytes(&mut BytesMut::from(&[0x40, 2, 0, 1][..]), now).unwrap();
        assert!(session.has_room());
    }

    #[test]
    fn what_the_broker_never_takes_is_refused_before_it_is_sent() {
        // Packets of 20 bytes, no retained messages.
        let (mut session, now) = open(Version::V5, &[0x20, 10, 0, 0, 7, 39, 0, 0, 0, 20, 37, 0]);
        session.publish(0, &message(&[b'x'; 20]));
        session.publish(1, &Message { is_retained: true, ..message(b"x") });
        for expected in [
            (Meaning::Refused, "its 30 bytes are more than 20"),
            // No event is at fault: among the dead letters they would be lost.
            (Meaning::Denied, "it retains no messages"),
        ] {
            let Some(Event::Answered { answer, .. }) = session.poll_event() else {
                panic!("answer")
            };
            assert_eq!((answer.meaning, &*answer.reason), expected);
        }
        assert_eq!(session.poll_transmit(now), None);
    }

    #[test]
    fn a_message_that_is_too_large_is_passed_over_and_costs_no_memory() {
        let (mut session, now) = open(Version::V3, &[0x20, 2, 0, 0]);
        let mut bytes = BytesMut::from(&[0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a', 0, 7][..]);
        session.handle_bytes(&mut bytes, now).unwrap();
        let Some(Event::Received(received)) = session.poll_event() else { panic!("a message") };
        assert_eq!((received.id, received.size), (Some(7), LARGEST_EVER + 5));
        let mut left = LARGEST_EVER + 5 - 10;
        while left > 0 {
            let count = left.min(16 << 20);
            bytes.resize(count, 0x33);
            session.handle_bytes(&mut bytes, now).unwrap();
            assert!(bytes.is_empty());
            left -= count;
        }
        session.handle_bytes(&mut BytesMut::from(&[0x32, 5, 0, 1, b'b', 0, 8][..]), now).unwrap();
        let Some(Event::Received(received)) = session.poll_event() else { panic!("a message") };
        assert_eq!((received.id, &*received.topic), (Some(8), "b"), "what comes after it");
    }

    #[test]
    fn a_broker_that_is_quiet_is_asked_and_then_given_up() {
        let (mut session, mut now) = open(Version::V3, &[0x20, 2, 0, 0]);
        now += KEEP_ALIVE;
        assert_eq!(session.poll_timeout(), now);
        session.handle_timeout(now).unwrap();
        assert_eq!(session.poll_transmit(now), Some(vec![0xc0, 0]));
        session.handle_bytes(&mut BytesMut::from(&[0xd0, 0][..]), now).unwrap();
        now += KEEP_ALIVE;
        session.handle_timeout(now).unwrap();
        now += KEEP_ALIVE;
        assert!(matches!(session.handle_timeout(now), Err(End::Silent)));
    }

    #[test]
    fn a_broker_that_is_only_told_things_is_asked_whether_it_lives() {
        let (mut session, mut now) = open(Version::V3, &[0x20, 2, 0, 0]);
        let mut asked = 0;
        for second in 0..300 {
            now += Duration::from_secs(1);
            // Nobody answers to QoS 0, and there is always something to send.
            session.publish(second, &Message { qos: Qos::AtMostOnce, ..message(b"x") });
            session.handle_timeout(now).unwrap();
            let sent = session.poll_transmit(now).unwrap();
            if sent.ends_with(&[0xc0, 0]) {
                asked += 1;
                session.handle_bytes(&mut BytesMut::from(&[0xd0, 0][..]), now).unwrap();
            }
        }
        assert!((9..=11).contains(&asked), "every 30 seconds, and not {asked} times in 300");
    }

    #[test]
    fn a_broker_that_refuses_says_why() {
        let now = Instant::now();
        for (version, connack, said) in [
            (Version::V3, &[0x20, 2, 0, 5][..], "not authorized"),
            (Version::V5, &[0x20, 7, 0, 0x86, 4, 31, 0, 1, b'x'], "bad user name or password (x)"),
        ] {
            let mut session = Session::new(version, vec![], KEEP_ALIVE, 0, None, now);
            let Err(End::NotTaken { meaning, reason }) =
                session.handle_bytes(&mut connack.into(), now)
            else {
                panic!("it is refused")
            };
            assert_eq!((meaning, &*reason), (Meaning::Denied, said));
        }
    }

    #[test]
    fn packet_identifiers_are_used_again_when_they_are_free() {
        let (mut session, now) = open(Version::V3, &[0x20, 2, 0, 0]);
        session.last_id = u16::MAX - 1;
        for ticket in 0..2 {
            session.publish(ticket, &message(b"x"));
        }
        assert_eq!(session.waiting.keys().copied().collect::<Vec<_>>(), [1, u16::MAX]);
        session.last_id = 0;
        session.publish(2, &message(b"x"));
        assert_eq!(session.last_id(), 2);
        assert!(session.poll_transmit(now).is_some());
    }
}

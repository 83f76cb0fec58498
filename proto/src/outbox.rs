//! What a minion keeps until its master has it: numbered, bounded, in memory as encoded items. It lives across
//! connections; [`crate::session::minion`] sends from it and acknowledges into it (docs/protocol.md §5).
//!
//! When an item happened is kept on the monotonic clock and becomes a time of day as it is sent: a device that boots in
//! 1970 learns the time only when it connects.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    codec::{self, MAX_FRAME},
    job::Return,
    message::{OutboxEvent, OutboxItem},
};

/// The path of the event that tells of what was dropped.
pub const DROPPED: &str = "outbox/dropped";

/// The bytes that an outbox holds where nothing else is configured.
pub const DEFAULT_LIMIT: usize = 4 << 20;

/// The most that a frame has around its item: the names, a number of nine bytes and a time with nanoseconds.
const FRAME: usize = 64;

/// The outbox of one boot.
#[derive(Debug)]
pub struct Outbox {
    /// Go first when room is needed.
    events: VecDeque<Entry>,
    /// Returns, and the gap while there is one: go last.
    kept: VecDeque<Entry>,
    size: usize,
    limit: usize,
    last: u64,
    acknowledged: u64,
    /// Dropped, and in no gap entry yet.
    dropped: Dropped,
    /// The number of the gap entry that waits to be acknowledged; there is one at most.
    gap: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    happened: Instant,
    /// As it stands in the frame.
    item: Bytes,
}

/// What of a frame goes before its item.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Outbox(Numbered),
}

#[derive(Serialize)]
struct Numbered {
    number: u64,
    at: Timestamp,
    /// Its place: one byte, the last.
    item: (),
}

#[derive(Debug, Default)]
struct Dropped {
    events: u64,
    returns: u64,
}

/// The master acknowledged a number that was never given.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("acknowledged outbox entry {acknowledged}, but the last one is {last}")]
pub struct NeverSent {
    /// What it acknowledged.
    pub acknowledged: u64,
    /// The last number given.
    pub last: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl Outbox {
    /// An outbox of a boot that begins, holding at most `limit` bytes of frames.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            events: VecDeque::new(),
            kept: VecDeque::new(),
            size: 0,
            limit,
            last: 0,
            acknowledged: 0,
            dropped: Dropped { events: 0, returns: 0 },
            gap: None,
        }
    }

    /// Takes an item and gives its number. Makes room by dropping the oldest events, then the oldest returns; what
    /// is dropped becomes part of the next [`DROPPED`] event.
    ///
    /// An event that no frame can carry is dropped itself (`None`); of such a return the value is replaced by a
    /// sentence that says so, since somebody waits for it.
    pub fn push(&mut self, item: OutboxItem, happened: Instant) -> Option<u64> {
        let is_return = matches!(item, OutboxItem::Return(_));
        let Some(item) = fitting(item).filter(|item| item.len() + FRAME <= self.limit) else {
            self.dropped.count(is_return);
            return None;
        };
        self.last += 1;
        let entry = Entry { number: self.last, happened, item };
        self.make_room(entry.size());
        self.size += entry.size();
        let queue = if is_return { &mut self.kept } else { &mut self.events };
        queue.push_back(entry);
        Some(self.last)
    }

    /// The frame of the first entry after `number`, and its own number. `wall` is the time of day at `now`. The gap,
    /// where there is one, is written down as the newest entry when it is asked for.
    pub fn next_after(
        &mut self,
        number: u64,
        wall: Timestamp,
        now: Instant,
    ) -> Option<(u64, Bytes)> {
        self.write_gap(now);
        let next = |queue| first_after(queue, number);
        let entry = match (next(&self.events), next(&self.kept)) {
            (Some(event), Some(kept)) => {
                Some(if event.number < kept.number { event } else { kept })
            }
            (event, kept) => event.or(kept),
        }?;
        Some((entry.number, entry.frame(wall, now)))
    }

    /// Lets go of everything up to `through`: the master's store has it.
    ///
    /// # Errors
    /// When that number was never given. Nothing changes then.
    pub fn acknowledge(&mut self, through: u64) -> Result<(), NeverSent> {
        if through > self.last {
            return Err(NeverSent { acknowledged: through, last: self.last });
        }
        for queue in [&mut self.events, &mut self.kept] {
            while let Some(entry) = queue.pop_front_if(|entry| entry.number <= through) {
                self.size -= entry.size();
            }
        }
        self.gap.take_if(|gap| *gap <= through);
        self.acknowledged = self.acknowledged.max(through);
        Ok(())
    }

    /// The last number that the master's store is known to have, with all before it.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len() + self.kept.len()
    }

    /// Whether everything was acknowledged, the news of any gap too.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.dropped.is_empty()
    }

    /// The bytes of its frames, at most.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The bytes that it holds before it drops anything.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    fn make_room(&mut self, needed: usize) {
        while self.size + needed > self.limit {
            if let Some(entry) = self.events.pop_front() {
                self.size -= entry.size();
                self.dropped.events += 1;
                continue;
            }
            let gap = self.gap;
            let Some(at) = self.kept.iter().position(|entry| Some(entry.number) != gap) else {
                return;
            };
            if let Some(entry) = self.kept.remove(at) {
                self.size -= entry.size();
                self.dropped.returns += 1;
            }
        }
    }

    /// The gap entry may go over the limit: it is one, and small.
    fn write_gap(&mut self, now: Instant) {
        if self.dropped.is_empty() || self.gap.is_some() {
            return;
        }
        let Dropped { events, returns } = std::mem::take(&mut self.dropped);
        let data = json!({ "count": events + returns, "returns": returns });
        let item = OutboxItem::Agent(OutboxEvent { path: DROPPED.to_owned(), data });
        self.last += 1;
        let entry = Entry { number: self.last, happened: now, item: encode(&item) };
        self.size += entry.size();
        self.kept.push_back(entry);
        self.gap = Some(self.last);
    }
}

impl Entry {
    fn size(&self) -> usize {
        self.item.len() + FRAME
    }

    fn frame(&self, wall: Timestamp, now: Instant) -> Bytes {
        let age = SignedDuration::try_from(now.saturating_duration_since(self.happened));
        let at = age.ok().and_then(|age| wall.checked_sub(age).ok()).unwrap_or(wall);
        let head = Head::Outbox(Numbered { number: self.number, at, item: () });
        let mut frame =
            rmp_serde::to_vec_named(&head).expect("a number and a time have a MessagePack form");
        frame.pop();
        frame.extend_from_slice(&self.item);
        debug_assert!(frame.len() <= self.size());
        Bytes::from(frame)
    }
}

fn first_after(queue: &VecDeque<Entry>, number: u64) -> Option<&Entry> {
    queue.get(queue.partition_point(|entry| entry.number <= number))
}

impl Dropped {
    const fn count(&mut self, is_return: bool) {
        if is_return {
            self.returns += 1;
        } else {
            self.events += 1;
        }
    }

    const fn is_empty(&self) -> bool {
        self.events == 0 && self.returns == 0
    }
}

/// The encoded item, cut down where a master could not take it as it is. Sending it anyway would end the connection, on
/// this one and on each one after it.
fn fitting(item: OutboxItem) -> Option<Bytes> {
    let encoded = codec::is_shallow(payload(&item)).then(|| encode(&item));
    let reason = match encoded {
        Some(encoded) if encoded.len() + FRAME <= MAX_FRAME => return Some(encoded),
        Some(encoded) => {
            let size = encoded.len() + FRAME;
            format!("its {size} bytes are more than the {MAX_FRAME} of one message")
        }
        None => format!("its data is nested deeper than {} levels", codec::MAX_VALUE_DEPTH),
    };
    match item {
        OutboxItem::Return(Return { jid, fun, value: _, retcode }) => {
            let value = Value::from(format!("the return cannot be sent: {reason}"));
            let retcode = if retcode == 0 { 1 } else { retcode };
            Some(encode(&OutboxItem::Return(Return { jid, fun, value, retcode })))
        }
        OutboxItem::Beacon(_)
        | OutboxItem::App(_)
        | OutboxItem::Agent(_)
        | OutboxItem::Progress(_) => None,
    }
}

const fn payload(item: &OutboxItem) -> &Value {
    match item {
        OutboxItem::Beacon(event) | OutboxItem::App(event) | OutboxItem::Agent(event) => {
            &event.data
        }
        OutboxItem::Return(given) => &given.value,
        OutboxItem::Progress(progress) => &progress.data,
    }
}

fn encode(item: &OutboxItem) -> Bytes {
    codec::encode(item).expect("every outbox item has a MessagePack form")
}

#[cfg(test)]
mod tests;

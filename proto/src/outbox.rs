//! What a minion keeps until its master has it: numbered, bounded, in memory as encoded frames. It lives across
//! connections; [`crate::session::minion`] sends from it and acknowledges into it (docs/protocol.md §5).

use std::collections::VecDeque;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    codec::{self, MAX_FRAME},
    job::Return,
    message::{FromMinion, OutboxEntry, OutboxEvent, OutboxItem},
};

/// The path of the event that tells of what was dropped.
pub const DROPPED: &str = "outbox/dropped";

/// The bytes that an outbox holds where nothing else is configured.
pub const DEFAULT_LIMIT: usize = 4 << 20;

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
    frame: Bytes,
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
    pub fn push(&mut self, item: OutboxItem, at: Timestamp) -> Option<u64> {
        let is_return = matches!(item, OutboxItem::Return(_));
        let number = self.last + 1;
        let Some(frame) = fitting(item, number, at).filter(|frame| frame.len() <= self.limit)
        else {
            self.dropped.count(is_return);
            return None;
        };
        self.last = number;
        self.make_room(frame.len());
        self.size += frame.len();
        let queue = if is_return { &mut self.kept } else { &mut self.events };
        queue.push_back(Entry { number, frame });
        Some(number)
    }

    /// The first frame after `number`, and its own number. The gap, where there is one, is written down as the newest
    /// entry when it is asked for.
    pub fn next_after(&mut self, number: u64, now: Timestamp) -> Option<(u64, Bytes)> {
        self.write_gap(now);
        let next = |queue: &VecDeque<Entry>| {
            let entry = queue.get(queue.partition_point(|entry| entry.number <= number))?;
            Some((entry.number, entry.frame.clone()))
        };
        match (next(&self.events), next(&self.kept)) {
            (Some(event), Some(kept)) => Some(if event.0 < kept.0 { event } else { kept }),
            (event, kept) => event.or(kept),
        }
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
                self.size -= entry.frame.len();
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

    /// The bytes of its frames.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    fn make_room(&mut self, needed: usize) {
        while self.size + needed > self.limit {
            if let Some(entry) = self.events.pop_front() {
                self.size -= entry.frame.len();
                self.dropped.events += 1;
                continue;
            }
            let gap = self.gap;
            let Some(at) = self.kept.iter().position(|entry| Some(entry.number) != gap) else {
                return;
            };
            if let Some(entry) = self.kept.remove(at) {
                self.size -= entry.frame.len();
                self.dropped.returns += 1;
            }
        }
    }

    /// The gap entry may go over the limit: it is one, and small.
    fn write_gap(&mut self, now: Timestamp) {
        if self.dropped.is_empty() || self.gap.is_some() {
            return;
        }
        let Dropped { events, returns } = std::mem::take(&mut self.dropped);
        let data = json!({ "count": events + returns, "returns": returns });
        let item = OutboxItem::Agent(OutboxEvent { path: DROPPED.to_owned(), data });
        self.last += 1;
        let number = self.last;
        let frame = encode(item, number, now);
        self.size += frame.len();
        self.kept.push_back(Entry { number, frame });
        self.gap = Some(number);
    }
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

/// The item's frame, cut down where a master could not take it as it is. Sending it anyway would end the connection,
/// on this one and on each one after it.
fn fitting(item: OutboxItem, number: u64, at: Timestamp) -> Option<Bytes> {
    let frame = codec::is_shallow(payload(&item)).then(|| encode(item.clone(), number, at));
    let reason = match frame {
        Some(frame) if frame.len() <= MAX_FRAME => return Some(frame),
        Some(frame) => {
            format!("its {} bytes are more than the {MAX_FRAME} of one message", frame.len())
        }
        None => format!("its data is nested deeper than {} levels", codec::MAX_VALUE_DEPTH),
    };
    match item {
        OutboxItem::Return(Return { jid, fun, value: _, retcode }) => {
            let value = Value::from(format!("the return cannot be sent: {reason}"));
            let retcode = if retcode == 0 { 1 } else { retcode };
            Some(encode(OutboxItem::Return(Return { jid, fun, value, retcode }), number, at))
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

fn encode(item: OutboxItem, number: u64, at: Timestamp) -> Bytes {
    codec::encode(&FromMinion::Outbox(OutboxEntry { number, at, item }))
        .expect("every outbox entry has a MessagePack form")
}

#[cfg(test)]
mod tests;

//! The event log's values: several events in one, each with a header from which retention knows age and bytes
//! without reading what it removes. And the newest events, kept decoded for the readers at the end of the log.

use std::{collections::VecDeque, sync::Arc};

use drover_proto::event::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// No more events than this share one value.
pub(super) const MOST_EVENTS: usize = 256;
/// A value is closed when it is longer than this. sled rewrites a leaf as a whole, so values stay small.
const LONGEST: usize = 16 << 10;
const HEADER: usize = 16;

/// Memory that the newest events take, which are kept decoded: about ten times what they take on the disk.
const RECENT_BYTES: usize = 16 << 20;

/// One event as it lies in a chunk, without its seq: microseconds since 1970 for its times.
#[derive(Deserialize)]
struct Stored(Uuid, i64, Option<i64>, String, Option<String>, Value);

#[derive(Serialize)]
struct Storing<'a>(Uuid, i64, Option<i64>, &'a str, Option<&'a str>, &'a Value);

/// A chunk being written.
pub(super) struct Chunk {
    /// The seq of its first event.
    pub(super) first: u64,
    bytes: Vec<u8>,
    count: usize,
    newest: Timestamp,
}

impl Chunk {
    pub(super) fn new(first: u64) -> Self {
        Self { first, bytes: vec![0; HEADER], count: 0, newest: Timestamp::UNIX_EPOCH }
    }

    pub(super) fn push(&mut self, event: &Event) {
        debug_assert_eq!(event.seq, self.first + self.count as u64, "seqs have no gaps");
        let stored = Storing(
            event.id,
            event.ts.as_microsecond(),
            event.at.map(Timestamp::as_microsecond),
            event.tag.as_str(),
            event.minion.as_ref().map(|minion| minion.as_str()),
            &event.data,
        );
        rmp_serde::encode::write(&mut self.bytes, &stored)
            .expect("JSON values have a MessagePack form, and a vector takes every byte");
        self.count += 1;
        self.newest = self.newest.max(event.ts);
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= MOST_EVENTS || self.bytes.len() >= LONGEST
    }

    /// The value, given how many bytes of the log went before it.
    pub(super) fn close(mut self, offset: u64) -> Vec<u8> {
        self.bytes[..8].copy_from_slice(&offset.to_be_bytes());
        self.bytes[8..16].copy_from_slice(&self.newest.as_microsecond().to_be_bytes());
        self.bytes
    }
}

/// What stands before a chunk's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the log before this chunk.
    pub(super) offset: u64,
    /// When its newest event was appended.
    pub(super) newest: Timestamp,
}

/// A value of the log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the event log is damaged at seq {seq}")]
pub struct Damaged {
    /// The first event of the damaged value.
    pub seq: u64,
}

pub(super) fn header(first: u64, value: &[u8]) -> Result<Header, Damaged> {
    let word = |at: usize| value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    let (Some(offset), Some(newest)) = (word(0), word(8)) else {
        return Err(Damaged { seq: first });
    };
    Ok(Header {
        offset: u64::from_be_bytes(offset),
        newest: time(i64::from_be_bytes(newest)).ok_or(Damaged { seq: first })?,
    })
}

/// The events of a chunk.
pub(super) fn events(first: u64, value: &[u8]) -> Result<Vec<Event>, Damaged> {
    let mut rest = value.get(HEADER..).ok_or(Damaged { seq: first })?;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let seq = first + events.len() as u64;
        let stored = Stored::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok();
        events.push(stored.and_then(|stored| restore(seq, stored)).ok_or(Damaged { seq })?);
    }
    Ok(events)
}

fn restore(seq: u64, stored: Stored) -> Option<Event> {
    let Stored(id, ts, at, tag, minion, data) = stored;
    Some(Event {
        id,
        seq,
        ts: time(ts)?,
        at: at.map(|at| time(at).ok_or(())).transpose().ok()?,
        tag: tag.parse().ok()?,
        minion: minion.map(|minion| minion.parse()).transpose().ok()?,
        data,
    })
}

fn time(microseconds: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(microseconds).ok()
}

/// A time as the log keeps it.
pub(super) fn to_microsecond(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The newest events, at most [`RECENT_BYTES`] of them.
#[derive(Default)]
pub(super) struct Recent {
    events: VecDeque<(usize, Arc<Event>)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, event: Arc<Event>) {
        let taken = memory(&event);
        self.bytes += taken;
        self.events.push_back((taken, event));
        while self.bytes > RECENT_BYTES {
            self.bytes -= self.events.pop_front().map_or(self.bytes, |(taken, _)| taken);
        }
    }

    /// Lets go of what comes before `first`, which retention has removed.
    pub(super) fn forget_before(&mut self, first: u64) {
        while let Some((taken, _)) = self.events.pop_front_if(|(_, event)| event.seq < first) {
            self.bytes -= taken;
        }
    }

    /// Up to `limit` events after `seq`, or `None` where they are not all here.
    pub(super) fn after(&self, seq: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front()?.1.seq;
        let skip = usize::try_from((seq + 1).checked_sub(first)?).ok()?;
        Some(self.events.iter().skip(skip).take(limit).map(|(_, event)| event.clone()).collect())
    }
}

/// About how many bytes of memory an event takes.
fn memory(event: &Event) -> usize {
    size_of::<(usize, Event)>() + event.tag.as_str().len() + behind(&event.data)
}

/// About how many bytes a value takes beside itself.
fn behind(value: &Value) -> usize {
    /// What a map and the allocator keep for an entry or a text beside it.
    const KEPT: usize = 16;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => KEPT + text.len(),
        Value::Array(values) => values.iter().map(|value| size_of::<Value>() + behind(value)).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| KEPT * 2 + size_of::<(String, Value)>() + key.len() + behind(value))
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> Event {
        Event {
            id: Uuid::from_u128(seq.into()),
            seq,
            ts: Timestamp::from_microsecond(1_763_865_425_000_000 + i64::try_from(seq).unwrap())
                .unwrap(),
            at: seq.is_multiple_of(2).then_some(Timestamp::UNIX_EPOCH),
            tag: "drover/beacon/a/load".parse().unwrap(),
            minion: seq.is_multiple_of(3).then(|| "a".parse().unwrap()),
            data: serde_json::json!({"1m": 0.5, "deep": [null, {"x": seq}]}),
        }
    }

    #[test]
    fn a_chunk_reads_as_it_was_written() {
        let mut chunk = Chunk::new(7);
        let written: Vec<_> = (7..12).map(event).collect();
        for event in &written {
            chunk.push(event);
        }
        let value = chunk.close(99);
        assert_eq!(events(7, &value).unwrap(), written);
        let newest = written.last().unwrap().ts;
        assert_eq!(header(7, &value).unwrap(), Header { offset: 99, newest });
    }

    #[test]
    fn a_damaged_chunk_is_an_error_and_no_panic() {
        let mut chunk = Chunk::new(1);
        chunk.push(&event(1));
        let value = chunk.close(0);
        for length in (0..value.len()).filter(|&length| length != HEADER) {
            assert!(events(1, &value[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn recent_events_are_bounded_by_the_memory_that_they_take() {
        let quarter = |seq| {
            let mut event = event(seq);
            event.data = Value::Null;
            event.data = "x".repeat(RECENT_BYTES / 4 - memory(&event) - 16).into();
            assert_eq!(memory(&event), RECENT_BYTES / 4);
            Arc::new(event)
        };
        let mut recent = Recent::default();
        for seq in 1..=10 {
            recent.push(quarter(seq));
        }
        assert!(recent.after(1, 10).is_none(), "no longer here");
        let last: Vec<_> = recent.after(7, 2).unwrap().iter().map(|event| event.seq).collect();
        assert_eq!(last, [8, 9]);
        assert!(recent.after(10, 2).unwrap().is_empty());
        recent.forget_before(9);
        assert!(recent.after(7, 2).is_none());
        assert_eq!((recent.after(8, 9).unwrap().len(), recent.bytes), (2, RECENT_BYTES / 2));
    }

    #[test]
    fn many_small_events_take_more_memory_than_room_on_the_disk() {
        let mut chunk = Chunk::new(1);
        chunk.push(&event(1));
        assert!(memory(&event(1)) > 4 * (chunk.bytes.len() - HEADER));
    }
}

//! The session between one minion and its master: machines without I/O, time and seeds as arguments, frames in and
//! frames out (docs/protocol.md §4). Each phase is a struct that gives the next one, so that a wrong order does not
//! compile. The shells in the agent and the master move the frames and own the sockets.

pub mod jitter;
pub mod master;
pub mod minion;

mod backoff;

use std::time::Duration;

/// How many outbox entries may be on their way without an acknowledgement. Both ends keep to it.
pub const OUTBOX_WINDOW: usize = 512;

/// How many requests for trees, blobs and pillar may be without an answer. Both ends keep to it.
pub const REQUEST_WINDOW: usize = 8;

/// How long a connection may be without its `Hello`, or its answer.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// How many heartbeats may be missed.
const MISSED_HEARTBEATS: u32 = 3;

/// The heartbeats that a master believes: a minion that asks for less is watched at this rate.
const HEARTBEAT_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(3_600));

/// After how long without a word a peer counts as silent.
fn silence(heartbeat: Duration) -> Duration {
    heartbeat.clamp(HEARTBEAT_RANGE.0, HEARTBEAT_RANGE.1) * MISSED_HEARTBEATS
}

#[cfg(test)]
mod tests;

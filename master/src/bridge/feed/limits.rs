//! What a feed goes by: how much goes at once, and how fast.

use std::{num::NonZeroU32, time::Duration};

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

/// What a feed goes by.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How large a batch is.
    pub limits: Limits,
    /// How many batches at once; 1 keeps the order.
    pub in_flight: usize,
    /// How many events a second at most.
    pub rate: Option<NonZeroU32>,
    /// The last event that may have been sent before, by an earlier run.
    pub sent_before: u64,
    /// Of the pauses' randomness.
    pub seed: u64,
}

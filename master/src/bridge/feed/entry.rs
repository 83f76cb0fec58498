//! What a feed holds: events that wait or are on their way, and why none goes.

use std::time::Instant;

use crate::bridge::sink::Item;

/// An event that is held.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) origin: Origin,
    pub(super) weight: usize,
    pub(super) has_flown: bool,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The log, behind the cursor.
    Log,
    /// A dead letter that is tried again.
    Letter,
    /// The log, before the cursor was set back: it comes again, and this time does not count.
    Rewound,
}

/// A batch that is on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) entries: Vec<Entry>,
    /// Whether it left in trouble, as the one that tries whether it is over.
    pub(super) is_probe: bool,
}

/// The sink as a whole does not take events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    pub(super) until: Instant,
    pub(super) is_denied: bool,
}

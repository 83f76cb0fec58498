//! The one place where the master's shells read the clocks. Machines are given what they say.

use std::time::Instant;

use jiff::Timestamp;

/// Both clocks at one moment: for deadlines, and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never steps back.
    pub instant: Instant,
    /// What a calendar says.
    pub wall: Timestamp,
}

impl Now {
    /// Reads them.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the shells' one place that reads the clock")]
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}

//! What of a file was passed over or lost unread, until it is told.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use super::super::Reading;

/// How often it is told.
const TELL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Dropped {
    bytes: u64,
    lines: u64,
    /// Some of the bytes were never read.
    is_uncounted: bool,
    told: Option<Instant>,
}

impl Dropped {
    /// Adds bytes, and their lines where they were counted.
    pub(super) fn add(&mut self, bytes: u64, lines: Option<u64>) {
        self.bytes += bytes;
        match lines {
            Some(lines) => self.lines += lines,
            None => self.is_uncounted |= bytes > 0,
        }
    }

    /// What is to be told now: at once, and then once a minute.
    pub(super) fn take(&mut self, path: &Path, now: Instant) -> Option<Reading> {
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL);
        if self.bytes == 0 || !is_due {
            return None;
        }
        let mut data = Map::new();
        data.insert("file".to_owned(), path.to_string_lossy().into());
        if !self.is_uncounted {
            data.insert("lines".to_owned(), self.lines.into());
        }
        data.insert("bytes".to_owned(), self.bytes.into());
        *self = Self { told: Some(now), ..Self::default() };
        Some(Reading { data: Value::Object(data), ..Reading::tagged("dropped") })
    }
}
